//! Each mistake in `#[command(…)]` on an enum is reported on its own tokens, and nothing else is.

use cqrs_core::{Aggregate, Apply, Command, Context, Event, Handle, Handled};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "paid")]
struct Paid;

#[derive(Debug, thiserror::Error)]
#[error("no")]
struct No;

#[derive(Default, Clone, Aggregate)]
#[aggregate(id = u32, event = Paid, rejection = No, commands(OnTheEnum, Mistakes, WrongSuffix, SameNames))]
struct Order;

impl Apply<Paid> for Order {
    fn apply(&mut self, _: &Paid) {}
}

macro_rules! handle {
    ($($command:ident)*) => {$(
        impl Handle<$command> for Order {
            fn handle(&self, _: &$command, _: &Context) -> Handled<Self> {
                Ok(Paid.into())
            }
        }
    )*};
}

handle!(OnTheEnum Mistakes WrongSuffix SameNames Empty Tagged);

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order, create, upsert = 1, name = "order", sufix = "order")]
enum OnTheEnum {
    Pay(#[command(id)] u32),
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order, suffix = "order")]
enum Mistakes {
    #[command(create, update, nam = "open")]
    Open {
        #[command(id)]
        order: u32,
        #[command(id)]
        other: u32,
    },
    #[command(name = "Pay")]
    Pay {
        order: u32,
        amount: u64,
    },
    #[command(suffix = "order", name)]
    Close(u32),
    #[command]
    Ship,
    #[command(id)]
    Überweisen {
        #[command(ident)]
        order: u32,
    },
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order, suffix = "Order!")]
enum WrongSuffix {
    Pay(#[command(id)] u32),
    Ship(#[command(id)] u32),
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
enum SameNames {
    Pay(#[command(id)] u32),
    #[command(name = "pay")]
    Settle(#[command(id)] u32),
    #[command(name = "send")]
    Send(#[command(id)] u32),
    #[command(name = "send", upsert)]
    SendAgain(#[command(id)] u32),
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
enum Empty {}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
#[serde(tag = "type")]
enum Tagged {
    Pay {
        #[command(id)]
        order: u32,
    },
    #[serde(skip)]
    Ship {
        #[command(id)]
        order: u32,
    },
}

#[derive(Serialize, Deserialize, Command)]
enum NothingSaid {
    Pay(u32),
    Close,
}

#[derive(Serialize, Deserialize, Command)]
#[command(upsert)]
enum Generic<Id> {
    Pay(#[command(id)] Id),
    Close(Id),
}

#[derive(Serialize, Command)]
#[command(aggregate = Order)]
enum Borrowed<'a> {
    Pay(#[command(id)] u32),
    Name { name: &'a str },
}

fn main() {}
