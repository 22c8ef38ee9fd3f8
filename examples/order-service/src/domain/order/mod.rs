//! Orders: from the customer's wish to the parcel at the door.
//!
//! ```text
//! created ─► confirmed ─► paid ─► shipped ─► delivered
//!    └───────────┴──────────┴─► cancelled
//! ```
//!
//! Each step is a command of a user or of a clerk. The steps of a submitted order are automatic: see
//! [`Fulfilment`](crate::Fulfilment).

mod commands;

use std::fmt;

use cqrs_core::{Aggregate, Apply, Event};
use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use commands::{
    CancelOrder, ConfirmOrder, CreateOrder, DeliverOrder, ExpireOrder, PayOrder, ShipOrder, SubmitOrder,
};

use crate::domain::{BadLine, Country, Customer, Line, Money, OrderId, ProductId, Reason, Sale};

/// The most lines of one order, so that its event is far below the largest message of a server.
pub const MAX_LINES: usize = 1_000;

/// What happens to an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Event)]
#[event(prefix = "order", schema)]
pub enum OrderEvent {
    /// A customer has put an order together.
    Created {
        /// The customer.
        customer: Customer,
        /// The country of delivery.
        country: Country,
        /// The day on which it was placed.
        #[schemars(with = "String", extend("format" = "date"))]
        placed: Date,
        /// The ordered lines.
        lines: Vec<Line>,
    },
    /// The order is to be fulfilled automatically.
    Submitted {
        /// The ordered lines.
        lines: Vec<Line>,
        /// How long the customer may take to pay, once the order is binding.
        seconds_to_pay: u32,
    },
    /// The order is binding: it is a sale from now on.
    Confirmed {
        /// The order in sum, so that figures about sales need no other event.
        sale: Sale,
    },
    /// The customer has paid.
    Paid {
        /// How much.
        amount: Money,
    },
    /// The parcel has left.
    Shipped {
        /// The day on which it left.
        #[schemars(with = "String", extend("format" = "date"))]
        on: Date,
    },
    /// The parcel has arrived.
    Delivered,
    /// The order is cancelled.
    Cancelled {
        /// Why.
        reason: Reason,
        /// The sale that is undone, if the order had been confirmed.
        undone: Option<Sale>,
        /// What the customer gets back, if the order had been paid.
        refund: Option<Money>,
    },
}

/// The status of an order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is created.
    #[default]
    Created,
    /// It is binding.
    Confirmed,
    /// It is paid.
    Paid,
    /// It is on its way.
    Shipped,
    /// It has arrived.
    Delivered,
    /// It is cancelled.
    Cancelled,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Created => "created",
            Self::Confirmed => "confirmed",
            Self::Paid => "paid",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
        })
    }
}

/// An order, with the state that its rules need.
#[derive(Debug, Default, Clone, Aggregate)]
#[aggregate(
    id = OrderId,
    event = OrderEvent,
    rejection = OrderRejection,
    commands(CreateOrder, SubmitOrder, ConfirmOrder, PayOrder, ShipOrder, DeliverOrder, CancelOrder),
    internal(ExpireOrder)
)]
pub struct Order {
    status: Status,
    placed: Option<Date>,
    shipped: Option<Date>,
    sale: Option<Sale>,
    /// The ordered lines, until the order is submitted.
    lines: Vec<Line>,
}

impl Apply<OrderEvent> for Order {
    fn apply(&mut self, event: &OrderEvent) {
        match event {
            OrderEvent::Created { customer, country, placed, lines } => {
                self.placed = Some(*placed);
                self.sale = Some(Sale::of(customer, country, lines));
                self.lines.clone_from(lines);
            }
            OrderEvent::Submitted { .. } => self.lines.clear(),
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

/// Why the business rejects a command for an order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderRejection {
    /// The order has no lines.
    #[error("an order needs at least one line")]
    NoLines,
    /// The order has too many lines.
    #[error("an order has at most {MAX_LINES} lines, not {0}")]
    TooManyLines(usize),
    /// A line is not valid.
    #[error(transparent)]
    BadLine(#[from] BadLine),
    /// A product is on two lines.
    #[error("product {0} is on two lines")]
    ProductTwice(ProductId),
    /// A confirmed order cannot be submitted any more: it is processed manually.
    #[error("the order is under way already")]
    UnderWay,
    /// Only a binding order is paid.
    #[error("the order is not confirmed yet")]
    NotConfirmed,
    /// An order is paid once and in full.
    #[error("the order costs {due}, not {offered}")]
    WrongAmount {
        /// What it costs.
        due: Money,
        /// What was offered.
        offered: Money,
    },
    /// An order is paid once.
    #[error("the order is paid already")]
    AlreadyPaid,
    /// An order must be paid before it is shipped.
    #[error("the order is not paid yet")]
    NotPaid,
    /// The day of shipment is before the day of the order.
    #[error("an order placed on {placed} cannot have been shipped on {on}")]
    ShippedTooEarly {
        /// When it was placed.
        placed: Date,
        /// The given day of shipment.
        on: Date,
    },
    /// A shipped order cannot be changed.
    #[error("the order was shipped on {0} already")]
    AlreadyShipped(Date),
    /// An order must be shipped before it is delivered.
    #[error("the order is not shipped yet")]
    NotShipped,
    /// A cancelled order stays cancelled.
    #[error("the order is cancelled")]
    Cancelled,
}
