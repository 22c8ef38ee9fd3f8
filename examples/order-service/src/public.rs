//! The public events of orders for other contexts. Their names and shapes must not change, whatever changes inside.

use cqrs_core::{Envelope, Event, announce::Announce, model::EventSource};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::domain::{CustomerId, Money, Order, OrderEvent};

/// The public events of an order; the order's id is the event's subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
pub enum ShopEvent {
    /// A customer has bought something.
    #[event(name = "shop.order-sold")]
    OrderSold {
        /// The customer.
        customer: CustomerId,
        /// The amount to pay.
        net: Money,
    },
    /// The order was shipped.
    #[event(name = "shop.order-shipped")]
    OrderShipped {
        /// The day of shipment.
        on: Date,
    },
    /// The sale is cancelled.
    #[event(name = "shop.order-cancelled")]
    OrderCancelled,
}

/// The shop as an event source for other contexts.
pub struct Shop;

impl EventSource for Shop {
    const NAME: &'static str = "order";
    type Event = ShopEvent;
}

/// Announces the public events of orders.
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
            // An order that was never a sale is not public.
            OrderEvent::Cancelled { undone, .. } => undone.is_some().then_some(ShopEvent::OrderCancelled),
            OrderEvent::Created { .. }
            | OrderEvent::Submitted { .. }
            | OrderEvent::Paid { .. }
            | OrderEvent::Delivered => None,
        }
    }
}
