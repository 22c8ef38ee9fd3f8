//! Several commands as one enum, and one handler that matches.

use cqrs_core::{
    Aggregate, Apply, Command, Context, Cqrs, Event, Handle, Handled, Lifecycle, by_name::CommandMessage,
};
use cqrs_core::{by_name::Router, memory::Memory};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(prefix = "order")]
enum OrderEvent {
    Created,
    Paid { amount: u64 },
}

#[derive(Debug, thiserror::Error)]
#[error("nothing was paid")]
struct NothingPaid;

#[derive(Default, Clone, Aggregate)]
#[aggregate(id = u32, event = OrderEvent, rejection = NothingPaid, commands(OrderCommand))]
struct Order;

impl Apply<OrderEvent> for Order {
    fn apply(&mut self, _: &OrderEvent) {}
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order, suffix = "order")]
enum OrderCommand {
    #[command(create)]
    Create {
        #[command(id)]
        order: u32,
    },
    Pay {
        #[command(id)]
        order: u32,
        amount: u64,
    },
}

impl Handle<OrderCommand> for Order {
    fn handle(&self, command: &OrderCommand, _: &Context) -> Handled<Self> {
        match command {
            OrderCommand::Create { .. } => Ok(OrderEvent::Created.into()),
            OrderCommand::Pay { amount: 0, .. } => Err(NothingPaid),
            OrderCommand::Pay { amount, .. } => Ok(OrderEvent::Paid { amount: *amount }.into()),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    assert_eq!(OrderCommand::NAMES, ["create_order", "pay_order"]);
    let create = OrderCommand::Create { order: 7 };
    assert_eq!((create.name(), create.lifecycle()), ("create_order", Lifecycle::Create));

    let cqrs = Cqrs::builder(Memory::default()).aggregate::<Order>().start().await?;
    cqrs.execute(create).await?;

    // On a wire there is the variant's name, and its fields are the body.
    let body = br#"{ "order": 7, "amount": 90 }"#.as_slice().into();
    let message = CommandMessage { body, ..CommandMessage::default() };
    let receipt = Router::new(cqrs).execute("pay_order", message).await?;
    assert_eq!(receipt.version, 2);
    Ok(())
}
