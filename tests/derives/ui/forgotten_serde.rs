//! Types that serde cannot write and read are reported where they are, and once.

use cqrs_core::{Aggregate, Apply, Command, Context, Event, Handle, Handled};
use serde::{Deserialize, Serialize};

#[derive(Event)]
#[event(name = "sent")]
struct Sent;

#[derive(Event)]
#[event(prefix = "order")]
enum OrderEvent {
    Sent,
}

#[derive(Serialize, Deserialize, Event)]
#[event(name = "paid")]
struct Paid;

#[derive(Debug, thiserror::Error)]
#[error("no")]
struct No;

#[derive(Default, Clone, Aggregate)]
#[aggregate(id = u32, event = Paid, rejection = No, commands(Pay, Payment))]
struct Order;

impl Apply<Paid> for Order {
    fn apply(&mut self, _: &Paid) {}
}

#[derive(Command)]
#[command(aggregate = Order)]
struct Pay(#[command(id)] u32);

#[derive(Command)]
#[command(aggregate = Order)]
enum Payment {
    Pay(#[command(id)] u32),
}

impl Handle<Pay> for Order {
    fn handle(&self, _: &Pay, _: &Context) -> Handled<Self> {
        Ok(Paid.into())
    }
}

impl Handle<Payment> for Order {
    fn handle(&self, _: &Payment, _: &Context) -> Handled<Self> {
        Ok(Paid.into())
    }
}

fn main() {}
