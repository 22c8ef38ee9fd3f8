//! Each mistake in `#[event(…)]` is reported on its own tokens, and nothing else is.

use cqrs_core::{Event, Events};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
enum NothingSaid {
    Created,
    Paid(u64),
}

#[derive(Serialize, Deserialize, Event)]
#[event(prefx = "order", prefix = order, name = "order", version = 2, "order", crate = 5)]
enum WrongOptions {
    Created,
}

#[derive(Serialize, Deserialize, Event)]
#[event(prefix = "Order..", prefix = "order")]
enum WrongPrefix {
    Created,
    #[event(name = "order paid", version = 0)]
    Paid(u64),
    #[event(nam = "order.moved", version = "2")]
    Moved,
    #[event(name, version)]
    Shipped,
    #[event]
    Closed,
    Opened {
        #[event(name = "at")]
        at: u64,
    },
}

#[derive(Serialize, Deserialize, Event)]
#[event(prefix = "order")]
enum SameNames {
    Paid,
    #[event(name = "order.paid")]
    Settled,
    #[event(name = "order.sent")]
    Sent,
    #[event(name = "order.sent")]
    SentAgain,
    Überwiesen,
}

#[derive(Event)]
#[event(prefix = "order")]
enum Empty {}

#[derive(Serialize, Deserialize, Event)]
#[event(prefix = "order")]
#[serde(rename_all = "snake_case", tag = "type", content = "data")]
enum Tagged {
    Created,
    #[serde(rename = "payed", skip)]
    Paid,
    #[serde(other)]
    Unknown,
}

#[derive(Clone, Serialize, Deserialize, Event)]
#[event(prefix = "order")]
#[serde(from = "String", into = "String")]
enum Converted {
    Created,
}

impl From<String> for Converted {
    fn from(_: String) -> Self {
        Self::Created
    }
}

impl From<Converted> for String {
    fn from(_: Converted) -> Self {
        String::new()
    }
}

#[derive(Serialize, Deserialize, Event)]
struct OrderPaid {
    #[event(version = 2)]
    amount: u64,
}

#[derive(Serialize, Deserialize, Event)]
#[event(prefix = "order", name = "", version = -1)]
struct OrderClosed;

#[derive(Serialize, Event)]
#[event(name = "order.named")]
struct Borrowed<'a> {
    name: &'a str,
}

#[derive(Event)]
#[event(name = "bits")]
union Bits {
    signed: i8,
    unsigned: u8,
}

fn is_event<E: Event>() {}

/// None of them is said to be no event.
fn main() {
    is_event::<NothingSaid>();
    is_event::<WrongOptions>();
    is_event::<WrongPrefix>();
    is_event::<SameNames>();
    is_event::<Empty>();
    is_event::<Tagged>();
    is_event::<Converted>();
    is_event::<OrderPaid>();
    is_event::<OrderClosed>();
    is_event::<Bits>();
    let _ = Events::from(OrderClosed);
}
