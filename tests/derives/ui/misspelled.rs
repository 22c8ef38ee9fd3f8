//! A misspelled option is one mistake: the option that was meant is not missing as well. Only options are offered that
//! are legal there.

use cqrs_core::{Aggregate, Apply, Command, Context, Envelope, Event, Handle, Handled, Project, Query, View};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(nam = "paid")]
struct Paid;

#[derive(Serialize, Deserialize, Event)]
#[event(prefx = "order")]
enum Prefix {
    One,
    #[event(vesion = 2, upcast(1 = u8))]
    Two,
    #[event(version = 2, upcst(1 = u8))]
    Three,
}

#[derive(Serialize, Deserialize, Event)]
#[event(prefix = "order", nam = "one")]
enum NoName {
    One,
}

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order", prefx = "one")]
struct NoPrefix;

#[derive(Debug, thiserror::Error)]
#[error("no")]
struct No;

#[derive(Default, Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(id = u32, event = Paid, rejecton = No, snapshot(evry = 5))]
struct Rejection;

impl Apply<Paid> for Rejection {
    fn apply(&mut self, _: &Paid) {}
}

#[derive(Default, Clone, Aggregate)]
#[aggregate(ident = u32, event = Paid, rejection = No)]
struct Id;

impl Apply<Paid> for Id {
    fn apply(&mut self, _: &Paid) {}
}

#[derive(Default, Clone, Aggregate)]
#[aggregate(id = u32, event = Paid, rejection = No, commands(Field, Variant))]
struct Order;

impl Apply<Paid> for Order {
    fn apply(&mut self, _: &Paid) {}
}

#[derive(Serialize, Deserialize, Command)]
#[command(agregate = Order)]
struct TheAggregate {
    #[command(id)]
    order: u32,
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order, sufix = "order")]
struct Field {
    #[command(ident)]
    order: u32,
}

impl Handle<Field> for Order {
    fn handle(&self, _: &Field, _: &Context) -> Handled<Self> {
        Ok(Paid.into())
    }
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order, creat, sufix = "order")]
enum Variant {
    One(#[command(ident)] u32),
    #[command(updat)]
    Two {
        #[command(key)]
        order: u32,
    },
}

impl Handle<Variant> for Order {
    fn handle(&self, _: &Variant, _: &Context) -> Handled<Self> {
        Ok(Paid.into())
    }
}

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
struct Key {
    #[query(kye)]
    order: u32,
}

#[derive(Query)]
#[query(veiw = Summary, anser = Option<Summary>)]
struct TheView {
    #[query(key)]
    order: u32,
}

fn answered<V: cqrs_core::Answer<Q>, Q: Query<View = V>>() {}

fn main() {
    answered::<Summary, Key>();
}
