//! Each mistake in `#[aggregate(…)]` is reported on its own tokens, and nothing else is.

use cqrs_core::{Aggregate, Apply, Command, Context, Event, Handle, Handled};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "paid")]
struct Paid;

#[derive(Debug, thiserror::Error)]
#[error("no")]
struct No;

#[derive(Default, Clone, Aggregate)]
struct NothingSaid;

impl Apply<Paid> for NothingSaid {
    fn apply(&mut self, _: &Paid) {}
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = NothingSaid)]
struct SayNothing {
    #[command(id)]
    id: u32,
}

impl Handle<SayNothing> for NothingSaid {
    fn handle(&self, _: &SayNothing, _: &Context) -> Handled<Self> {
        Ok(Paid.into())
    }
}

#[derive(Default, Clone, Aggregate)]
#[aggregate(name = "Order 1", ident = u32, event = "Paid", rejection, commands = Pay)]
struct WrongOptions {
    #[aggregate(id)]
    id: u32,
}

#[derive(Default, Clone, Aggregate)]
#[aggregate(id = u32, event = Paid, rejection = No, id = u64, snapshots(every = 50), commands(Pay, [Pay]), internal(Pay))]
#[aggregate(name = 1)]
struct Order;

impl Apply<Paid> for Order {
    fn apply(&mut self, _: &Paid) {}
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
struct Pay {
    #[command(id)]
    order: u32,
}

impl Handle<Pay> for Order {
    fn handle(&self, _: &Pay, _: &Context) -> Handled<Self> {
        Ok(Paid.into())
    }
}

#[derive(Default, Clone, Aggregate)]
#[aggregate(id = u32, event = Paid, rejection = No, commands(Pay; Pay), internal = Pay)]
struct Ünnamed;

impl Apply<Paid> for Ünnamed {
    fn apply(&mut self, _: &Paid) {}
}

#[derive(Default, Clone, Aggregate)]
#[aggregate = "order"]
struct NoList;

#[derive(Default, Clone, Aggregate)]
#[aggregate(id = Id)]
struct Generic<Id>(Id);

#[derive(Default, Clone, Aggregate)]
#[aggregate(id = u32, event = Paid)]
struct Borrowed<'a, T> {
    name: &'a str,
    rest: T,
}

#[derive(Clone, Copy, Aggregate)]
#[aggregate(id = u32, event = Paid, rejection = No)]
union Bits {
    signed: i8,
    unsigned: u8,
}

impl Default for Bits {
    fn default() -> Self {
        Self { signed: 0 }
    }
}

impl Apply<Paid> for Bits {
    fn apply(&mut self, _: &Paid) {}
}

#[derive(Default, Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(id = u32, event = Paid, rejection = No, snapshot(evry = 5, version = 0, version = 2, every))]
struct WrongSnapshot {
    #[serde(default, skip)]
    total: u64,
}

impl Apply<Paid> for WrongSnapshot {
    fn apply(&mut self, _: &Paid) {}
}

#[derive(Default, Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(id = u32, event = Paid, rejection = No, snapshot = 50)]
struct NoSnapshotOptions;

impl Apply<Paid> for NoSnapshotOptions {
    fn apply(&mut self, _: &Paid) {}
}

#[derive(Default, Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(id = u32, event = Paid, rejection = No, snapshot(every = 0))]
#[aggregate(snapshot())]
enum NeverSnapshot {
    #[default]
    New,
    Paid(#[serde(skip_serializing)] u64),
}

impl Apply<Paid> for NeverSnapshot {
    fn apply(&mut self, _: &Paid) {}
}

#[derive(Default, Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(id = u32, event = Paid, rejection = No, snapshot(version = 2))]
struct HowOften;

impl Apply<Paid> for HowOften {
    fn apply(&mut self, _: &Paid) {}
}

fn main() {}
