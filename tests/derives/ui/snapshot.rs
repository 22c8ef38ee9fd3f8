//! A state that is kept in snapshots has to be one that serde can write and read; that it is not is reported
//! where the attribute asks for snapshots.

use cqrs_core::{Aggregate, Apply, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "paid")]
struct Paid;

#[derive(Debug, thiserror::Error)]
#[error("no")]
struct No;

#[derive(Default, Clone, Aggregate)]
#[aggregate(id = u32, event = Paid, rejection = No, snapshot(every = 50))]
struct Order;

impl Apply<Paid> for Order {
    fn apply(&mut self, _: &Paid) {}
}

fn main() {}
