//! Each mistake in `#[command(…)]` is reported on its own tokens, and nothing else is.

use cqrs_core::{Aggregate, Apply, Command, Context, Event, Handle, Handled};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "paid")]
struct Paid;

#[derive(Debug, thiserror::Error)]
#[error("no")]
struct No;

#[derive(Default, Clone, Aggregate)]
#[aggregate(id = u32, event = Paid, rejection = No, commands(NoMark, NoFields, Mistakes))]
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

handle!(NoMark OneField NoFields Mistakes WithSuffix);

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
struct NoMark {
    order: u32,
    r#type: u32,
    amount: u64,
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
struct OneField(u32);

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
struct NoFields;

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order, create, upsert, name = "create.order", agregate = Order)]
struct Mistakes {
    #[command(id)]
    order: u32,
    #[command(id, key)]
    other: u32,
    #[command]
    amount: u64,
}

#[derive(Serialize, Deserialize, Command)]
struct NothingSaid {
    order: u32,
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate, create = true)]
struct WrongValues {
    #[command(id = order)]
    order: u32,
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order, suffix = "order")]
struct WithSuffix {
    #[command(id)]
    order: u32,
}

#[derive(Serialize, Deserialize, Command)]
#[command(create)]
struct Generic<Id> {
    #[command(id)]
    id: Id,
}

#[derive(Command)]
#[command(aggregate = Order)]
struct Borrowed<'a> {
    name: &'a str,
}

#[derive(Clone, Copy, Command)]
#[command(aggregate = Order)]
union Bits {
    signed: i8,
    unsigned: u8,
}

fn main() {}
