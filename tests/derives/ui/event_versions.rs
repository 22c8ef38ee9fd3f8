//! Mistakes in the versions of a stored type are reported on their own tokens.

use cqrs_core::Event;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct V1 {}

#[derive(Deserialize)]
struct V2 {}

impl From<V1> for V2 {
    fn from(_: V1) -> Self {
        Self {}
    }
}

#[derive(Serialize, Deserialize, Event)]
#[event(prefix = "order", codec = bincod, upcast(1 = V1), aliases("a"))]
enum WrongSteps {
    #[event(version = 2)]
    NoStep,
    #[event(version = 3)]
    NoSteps,
    #[event(version = 3, upcast(2 = V2))]
    Gap,
    #[event(version = 3, upcast(1 = V1, 1 = V2, 2 = V2))]
    Twice,
    #[event(version = 2, upcast(1 = V1, 2 = V2))]
    NotLower,
    #[event(upcast(1 = V1))]
    NoVersion,
    #[event(version = 2, upcast(0 = V1))]
    Zero,
    #[event(version = 2, upcast = V1)]
    NoList,
    #[event(version = 2, upcast(V1))]
    NoNumber,
    #[event(version = 4294967295, upcast(1 = V1))]
    VeryMany,
    #[event(retired = true, aliases = "order.old", upcst(1 = V1))]
    WrongWords,
}

#[derive(Serialize, Deserialize, Event)]
#[event(prefix = "order")]
enum SameNames {
    #[event(aliases("order.made", "order.made", "Order", "order.created"))]
    Created,
    #[event(aliases("order.paid"))]
    Settled,
    Paid,
}

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order.closed", version = 2, aliases("order.closed"), retired)]
struct OrderClosed {}

fn main() {
    fn is_event<E: Event>() {}
    is_event::<WrongSteps>();
    is_event::<SameNames>();
    is_event::<OrderClosed>();
}
