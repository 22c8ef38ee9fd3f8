//! The reference order: three commands, three events, four rejections, a view and a query.

use cqrs_core::{Aggregate, Apply, Command, Context, Event, Handle, Handled, Query};
use cqrs_core::{Cqrs, Envelope, Project, View, memory::Memory};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(prefix = "order")]
enum OrderEvent {
    Created { total: u64 },
    Paid,
    Cancelled,
}

#[derive(Debug, thiserror::Error)]
enum OrderRejection {
    #[error("the order is paid already")]
    PaidAlready,
    #[error("a cancelled order cannot be paid")]
    PaidTooLate,
    #[error("the order is cancelled already")]
    CancelledAlready,
    #[error("a paid order cannot be cancelled")]
    CancelledTooLate,
}

/// What happened last is all that the rules ask for, and all that the view shows.
#[derive(Debug, Default, Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(id = u32, event = OrderEvent, rejection = OrderRejection)]
struct Order(Option<OrderEvent>);
impl Apply<OrderEvent> for Order {
    fn apply(&mut self, event: &OrderEvent) {
        self.0 = Some(event.clone());
    }
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order, create)]
struct CreateOrder {
    #[command(id)]
    order: u32,
    total: u64,
}
impl Handle<CreateOrder> for Order {
    fn handle(&self, create: &CreateOrder, _: &Context) -> Handled<Self> {
        Ok(OrderEvent::Created { total: create.total }.into())
    }
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
struct PayOrder(#[command(id)] u32);
impl Handle<PayOrder> for Order {
    fn handle(&self, _: &PayOrder, _: &Context) -> Handled<Self> {
        match self.0 {
            Some(OrderEvent::Paid) => Err(OrderRejection::PaidAlready),
            Some(OrderEvent::Cancelled) => Err(OrderRejection::PaidTooLate),
            _ => Ok(OrderEvent::Paid.into()),
        }
    }
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
struct CancelOrder(#[command(id)] u32);
impl Handle<CancelOrder> for Order {
    fn handle(&self, _: &CancelOrder, _: &Context) -> Handled<Self> {
        match self.0 {
            Some(OrderEvent::Paid) => Err(OrderRejection::CancelledTooLate),
            Some(OrderEvent::Cancelled) => Err(OrderRejection::CancelledAlready),
            _ => Ok(OrderEvent::Cancelled.into()),
        }
    }
}

impl View for Order {
    const NAME: &'static str = "orders";
    type Of = Order;
}
impl Project<OrderEvent> for Order {
    fn key(event: &Envelope<OrderEvent>) -> Option<String> {
        Some(event.subject().to_owned())
    }
    fn project(&mut self, event: &Envelope<OrderEvent>) {
        self.apply(&event.data);
    }
}

#[derive(Query)]
#[query(view = Order, answer = Option<Order>)]
struct GetOrder(#[query(key)] u32);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cqrs = Cqrs::builder(Memory::default()).aggregate::<Order>().view::<Order>().start().await?;
    cqrs.execute(CreateOrder { order: 7, total: 90 }).await?;
    let receipt = cqrs.execute(PayOrder(7)).await?;
    println!("{:?}", cqrs.query(GetOrder(7)).after(&receipt).await?);
    Ok(())
}
