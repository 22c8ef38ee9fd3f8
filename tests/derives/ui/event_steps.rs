//! A missing step is reported where its version is named.

use cqrs_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct OrderCreatedV1 {}

#[derive(Deserialize)]
struct OrderCreatedV2 {}

#[derive(Serialize, Deserialize, Event)]
#[event(prefix = "order")]
enum OrderEvent {
    #[event(version = 3, upcast(1 = OrderCreatedV1, 2 = OrderCreatedV2))]
    Created,
}

fn main() {}
