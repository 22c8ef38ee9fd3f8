//! Types that do not fit each other are reported at the types and fields that the user wrote.

use cqrs_core::{Aggregate, Apply, Command, Context, Envelope, Event, Handle, Handled, Project, Query, View};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "paid")]
struct Paid;

struct NoDisplay;

#[derive(Debug, thiserror::Error)]
#[error("no")]
struct No;

#[derive(Default, Clone, Aggregate)]
#[aggregate(id = NoDisplay, event = Paid, rejection = String)]
struct WrongParts;

impl Apply<Paid> for WrongParts {
    fn apply(&mut self, _: &Paid) {}
}

#[derive(Default, Clone, Aggregate)]
#[aggregate(id = u32, event = Paid, rejection = No, commands(Rename, WrongId))]
struct Order;

impl Apply<Paid> for Order {
    fn apply(&mut self, _: &Paid) {}
}

#[derive(Default, Clone, Aggregate)]
#[aggregate(id = u32, event = Paid, rejection = No)]
struct Customer;

impl Apply<Paid> for Customer {
    fn apply(&mut self, _: &Paid) {}
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Customer)]
struct Rename {
    #[command(id)]
    customer: u32,
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
struct WrongId {
    #[command(id)]
    order: String,
}

impl Handle<WrongId> for Order {
    fn handle(&self, _: &WrongId, _: &Context) -> Handled<Self> {
        Ok(Paid.into())
    }
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = No)]
struct NoAggregate {
    #[command(id)]
    order: u32,
}

#[derive(Default, Serialize, Deserialize)]
struct Summary;

impl View for Summary {
    const NAME: &'static str = "summary";
    type Of = Order;
}

impl Project<Paid> for Summary {
    fn key(_: &Envelope<Paid>) -> Option<String> {
        None
    }

    fn project(&mut self, _: &Envelope<Paid>) {}
}

#[derive(Query)]
#[query(view = Summary, answer = Summary)]
struct WrongAnswer {
    #[query(key)]
    order: u32,
}

#[derive(Query)]
#[query(view = Summary, answer = Option<Summary>)]
struct WrongKey {
    #[query(key)]
    order: Option<u32>,
}

#[derive(Query)]
#[query(view = Order, answer = u64)]
struct NoView;

fn main() {}
