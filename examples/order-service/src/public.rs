//! What other contexts are told about orders. Names and shapes stay as they are, whatever changes inside.

use cqrs_core::{Envelope, Event, announce::Announce, model::EventSource};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::domain::{CustomerId, Money, Order, OrderEvent};

/// What the shop tells others about an order; the order is the event's subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
pub enum ShopEvent {
    /// A customer has bought something.
    #[event(name = "shop.order-sold")]
    OrderSold {
        /// Who.
        customer: CustomerId,
        /// What is to be paid.
        net: Money,
    },
    /// It has left.
    #[event(name = "shop.order-shipped")]
    OrderShipped {
        /// When.
        on: Date,
    },
    /// Nothing comes of it.
    #[event(name = "shop.order-cancelled")]
    OrderCancelled,
}

/// The shop, as other contexts follow it.
pub struct Shop;

impl EventSource for Shop {
    const NAME: &'static str = "order";
    type Event = ShopEvent;
}

/// Announces what others are to know of orders.
pub struct ShopAnnouncer;

impl Announce for ShopAnnouncer {
    const NAME: &'static str = "shop-announcer";
    type Of = Order;
    type As = Shop;

    fn announce(event: &Envelope<OrderEvent>) -> Option<ShopEvent> {
        match &event.data {
            OrderEvent::Confirmed { sale } => {
                Some(ShopEvent::OrderSold { customer: sale.customer.id.clone(), net: sale.net })
            }
            OrderEvent::Shipped { on } => Some(ShopEvent::OrderShipped { on: *on }),
            // What was never sold is nobody's business.
            OrderEvent::Cancelled { undone, .. } => undone.is_some().then_some(ShopEvent::OrderCancelled),
            OrderEvent::Created { .. }
            | OrderEvent::Submitted { .. }
            | OrderEvent::Paid { .. }
            | OrderEvent::Delivered => None,
        }
    }
}
