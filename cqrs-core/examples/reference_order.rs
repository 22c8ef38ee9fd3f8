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
    #[error("there is nothing to pay for")]
    NothingToPay,
    #[error("the order costs {0}")]
    WrongAmount(u64),
    #[error("the order is paid")]
    Paid,
    #[error("the order is cancelled")]
    Cancelled,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(id = u32, event = OrderEvent, rejection = OrderRejection)]
struct Order {
    total: u64,
    paid: bool,
    cancelled: bool,
}
impl Order {
    fn must_be_open(&self) -> Result<(), OrderRejection> {
        (!self.paid).then_some(()).ok_or(OrderRejection::Paid)?;
        (!self.cancelled).then_some(()).ok_or(OrderRejection::Cancelled)
    }
}
impl Apply<OrderEvent> for Order {
    fn apply(&mut self, event: &OrderEvent) {
        match event {
            OrderEvent::Created { total } => self.total = *total,
            OrderEvent::Paid => self.paid = true,
            OrderEvent::Cancelled => self.cancelled = true,
        }
    }
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order, create)]
struct CreateOrder(#[command(id)] u32, u64);
impl Handle<CreateOrder> for Order {
    fn handle(&self, &CreateOrder(_, total): &CreateOrder, _: &Context) -> Handled<Self> {
        if total == 0 { Err(OrderRejection::NothingToPay) } else { Ok(OrderEvent::Created { total }.into()) }
    }
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
struct PayOrder(#[command(id)] u32, u64);
impl Handle<PayOrder> for Order {
    fn handle(&self, &PayOrder(_, amount): &PayOrder, _: &Context) -> Handled<Self> {
        self.must_be_open()?;
        let paid = (amount == self.total).then(|| OrderEvent::Paid.into());
        paid.ok_or(OrderRejection::WrongAmount(self.total))
    }
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
struct CancelOrder(#[command(id)] u32);
impl Handle<CancelOrder> for Order {
    fn handle(&self, _: &CancelOrder, _: &Context) -> Handled<Self> {
        self.must_be_open().map(|()| OrderEvent::Cancelled.into())
    }
}

impl View for Order {
    const NAME: &'static str = "orders";
    type Of = Order;
}
impl Project<OrderEvent> for Order {
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
    cqrs.execute(CreateOrder(7, 90)).await?;
    let receipt = cqrs.execute(PayOrder(7, 90)).await?;
    println!("{:?}", cqrs.query(GetOrder(7)).after(&receipt).await?);
    Ok(())
}
