//! Types that are not part of a service, or cannot be part of one.

use cqrs_core::{
    Aggregate, Answer, Apply, Command, Context, Cqrs, Documents, Envelope, Error, Event, Handle, Handled, Project,
    Query, View, memory::Memory,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "paid")]
struct Paid;

#[derive(Debug, thiserror::Error)]
#[error("no")]
struct No;

#[derive(Default, Clone, Aggregate)]
#[aggregate(id = u32, event = Paid, rejection = No)]
struct Order;

impl Apply<Paid> for Order {
    fn apply(&mut self, _: &Paid) {}
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
struct Pay(#[command(id)] u32);

impl Handle<Pay> for Order {
    fn handle(&self, _: &Pay, _: &Context) -> Handled<Self> {
        Ok(Paid.into())
    }
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
struct Refund(#[command(id)] u32);

#[derive(Default, Serialize, Deserialize)]
struct Summary;

impl View for Summary {
    const NAME: &'static str = "summary";
    type Of = Order;
}

impl Project<Paid> for Summary {
    fn project(&mut self, _: &Envelope<Paid>) {}
}

#[derive(Query)]
#[query(view = Summary, answer = Option<Summary>)]
struct GetSummary(#[query(key)] u32);

#[derive(Query)]
#[query(view = Summary, answer = u64)]
struct CountSummaries;

#[derive(Query)]
#[query(view = (Another, Summary), answer = u64)]
struct CountBoth;

impl Answer<CountBoth> for (Another, Summary) {
    async fn answer(_: CountBoth, (another, _): &(Documents<Another>, Documents<Summary>)) -> Result<u64, Error> {
        Ok(another.all().await?.len() as u64)
    }
}

#[derive(Query)]
#[query(view = (Another, Summary), answer = u64)]
struct NotAnswered;

#[derive(Query)]
#[query(view = (Another, Nothing), answer = u64)]
struct WithNothing;

struct Nothing;

#[derive(Default, Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(id = u32, event = Paid, rejection = No)]
struct Another;

impl Apply<Paid> for Another {
    fn apply(&mut self, _: &Paid) {}
}

impl View for Another {
    const NAME: &'static str = "another";
    type Of = Order;
}

impl Project<Paid> for Another {
    fn project(&mut self, _: &Envelope<Paid>) {}
}

async fn not_registered() {
    let cqrs =
        Cqrs::builder(Memory::default()).aggregate::<Another>().view::<Another>().start().await.unwrap();
    let _ = cqrs.execute(Pay(1)).await;
    let _ = cqrs.query(GetSummary(1)).await;
    let _ = cqrs.query(CountBoth).await;
}

fn not_at_all() {
    let _ = Cqrs::builder(Nothing);
}

async fn empty() {
    let cqrs = Cqrs::builder(Memory::default()).start().await.unwrap();
    let _ = cqrs.execute(Pay(1)).await;
    let _ = cqrs.query(GetSummary(1)).await;
}

async fn not_said() {
    let cqrs = Cqrs::builder(Memory::default()).aggregate::<Order>().view::<Summary>().start().await.unwrap();
    let _ = cqrs.execute(Refund(1)).await;
    let _ = cqrs.query(CountSummaries).await;
    let both = Cqrs::builder(Memory::default()).view::<Summary>().view::<Another>().start().await.unwrap();
    let _ = both.query(NotAnswered).await;
}

fn not_parts() {
    let builder = Cqrs::builder(Memory::default()).aggregate::<Nothing>();
    let builder = Cqrs::builder(Memory::default()).view::<Nothing>();
    let builder = Cqrs::builder(Memory::default()).read_model(Nothing);
    let builder = Cqrs::builder(Memory::default()).policy::<Nothing>();
    let builder = Cqrs::builder(Memory::default()).event_handler(Nothing);
    let builder = Cqrs::builder(Memory::default()).interceptor(Nothing);
}

fn main() {}
