//! An aggregate that does not apply its events.

use cqrs_core::{Aggregate, Command, Context, Event, Handle, Handled};
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

fn main() {}
