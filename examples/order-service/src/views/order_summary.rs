//! Each order as its customer sees it.

use cqrs_core::{Envelope, Project, Query, View};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::{Order, OrderEvent, OrderId, Sale, Status};

/// One order; the key is its id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderSummary {
    /// How far it is.
    pub status: Status,
    /// Who bought what, in sum.
    pub sale: Option<Sale>,
    /// The day on which it was placed.
    pub placed: Option<Date>,
    /// The day on which the parcel left, if it has.
    pub shipped: Option<Date>,
}

impl View for OrderSummary {
    const NAME: &'static str = "order-summary";
    type Of = Order;
}

impl Project<OrderEvent> for OrderSummary {
    fn key(event: &Envelope<OrderEvent>) -> Option<String> {
        Some(event.subject().to_owned())
    }

    fn project(&mut self, event: &Envelope<OrderEvent>) {
        match &event.data {
            OrderEvent::Created { customer, country, placed, lines } => {
                self.sale = Some(Sale::of(customer, country, lines));
                self.placed = Some(*placed);
            }
            OrderEvent::Submitted { .. } => {}
            OrderEvent::Confirmed { .. } => self.status = Status::Confirmed,
            OrderEvent::Paid { .. } => self.status = Status::Paid,
            OrderEvent::Shipped { on } => {
                self.status = Status::Shipped;
                self.shipped = Some(*on);
            }
            OrderEvent::Delivered => self.status = Status::Delivered,
            OrderEvent::Cancelled { .. } => self.status = Status::Cancelled,
        }
    }
}

/// Asks for one order.
#[derive(Debug, Clone, Serialize, Deserialize, Query)]
#[query(view = OrderSummary, answer = Option<OrderSummary>)]
pub struct GetOrder {
    /// Which order.
    #[query(key)]
    pub order: OrderId,
}
