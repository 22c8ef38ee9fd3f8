//! The reference order: three commands, three events, four rejections, one view and one query.

use cqrs_core::{Aggregate, Apply, Command, Context, Cqrs, Envelope, Event, Handle, Handled, Project, Query, View};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(prefix = "order")]
enum OrderEvent {
    Created { total: u64 },
    Paid,
    Cancelled,
}
#[derive(Debug, thiserror::Error)]
enum OrderRejection {
    #[error("an order needs something to pay for")]
    Empty,
    #[error("the order costs {0}")]
    WrongAmount(u64),
    #[error("the order is paid already")]
    AlreadyPaid,
    #[error("the order is cancelled")]
    AlreadyCancelled,
}

#[derive(Default, Clone, Aggregate)]
#[aggregate(id = u32, event = OrderEvent, rejection = OrderRejection)]
enum Order {
    #[default]
    New,
    Open(u64),
    Paid,
    Cancelled,
}
impl Apply<OrderEvent> for Order {
    fn apply(&mut self, event: &OrderEvent) {
        *self = match event {
            OrderEvent::Created { total } => Self::Open(*total),
            OrderEvent::Paid => Self::Paid,
            OrderEvent::Cancelled => Self::Cancelled,
        }
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
        match create.total {
            0 => Err(OrderRejection::Empty),
            total => Ok(OrderEvent::Created { total }.into()),
        }
    }
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
struct PayOrder {
    #[command(id)]
    order: u32,
    amount: u64,
}
impl Handle<PayOrder> for Order {
    fn handle(&self, pay: &PayOrder, _: &Context) -> Handled<Self> {
        match self {
            Self::Open(total) if pay.amount != *total => Err(OrderRejection::WrongAmount(*total)),
            Self::New | Self::Open(_) => Ok(OrderEvent::Paid.into()),
            Self::Paid => Err(OrderRejection::AlreadyPaid),
            Self::Cancelled => Err(OrderRejection::AlreadyCancelled),
        }
    }
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
struct CancelOrder {
    #[command(id)]
    order: u32,
}
impl Handle<CancelOrder> for Order {
    fn handle(&self, _: &CancelOrder, _: &Context) -> Handled<Self> {
        match self {
            Self::Paid => Err(OrderRejection::AlreadyPaid),
            Self::Cancelled => Err(OrderRejection::AlreadyCancelled),
            Self::New | Self::Open(_) => Ok(OrderEvent::Cancelled.into()),
        }
    }
}
