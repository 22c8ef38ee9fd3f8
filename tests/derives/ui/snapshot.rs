//! A state with snapshots must be one that serde can write and read; if it is not, that is reported where the attribute
//! asks for snapshots.

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
