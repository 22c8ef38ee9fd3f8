//! A command without a handler is reported once, where the attribute lists it.

use cqrs_core::{Aggregate, Apply, Command, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "paid")]
struct Paid;

#[derive(Debug, thiserror::Error)]
#[error("no")]
struct No;

#[derive(Default, Clone, Aggregate)]
#[aggregate(id = u32, event = Paid, rejection = No, commands(Pay))]
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

fn main() {}
