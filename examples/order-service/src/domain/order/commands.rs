//! The commands of orders, and their rules.

use std::collections::HashSet;

use cqrs_core::{Command, Context, Events, Handle, Handled};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::{MAX_LINES, Order, OrderEvent, OrderRejection, Status};
use crate::domain::{Country, Customer, Line, Money, OrderId, Reason};

/// Creates an order.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Order, create)]
pub struct CreateOrder {
    /// The new order.
    #[command(id)]
    pub order: OrderId,
    /// The customer.
    pub customer: Customer,
    /// The country of delivery.
    pub country: Country,
    /// The day on which it is placed.
    pub placed: Date,
    /// The ordered lines.
    pub lines: Vec<Line>,
}

impl Handle<CreateOrder> for Order {
    fn handle(&self, command: &CreateOrder, _: &Context) -> Handled<Self> {
        let CreateOrder { customer, country, placed, lines, .. } = command.clone();
        check(&lines)?;
        Ok(OrderEvent::Created { customer, country, placed, lines }.into())
    }
}

fn check(lines: &[Line]) -> Result<(), OrderRejection> {
    match lines.len() {
        0 => return Err(OrderRejection::NoLines),
        1..=MAX_LINES => {}
        many => return Err(OrderRejection::TooManyLines(many)),
    }
    let mut products = HashSet::new();
    for line in lines {
        line.check()?;
        if !products.insert(&line.product) {
            return Err(OrderRejection::ProductTwice(line.product.clone()));
        }
    }
    Ok(())
}

/// Starts the fulfilment of an order: its products are reserved, the order is confirmed, and it is shipped as soon as
/// it is paid.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
pub struct SubmitOrder {
    /// Which order.
    #[command(id)]
    pub order: OrderId,
    /// How long the customer may take to pay.
    pub seconds_to_pay: u32,
}

impl Handle<SubmitOrder> for Order {
    fn handle(&self, command: &SubmitOrder, _: &Context) -> Handled<Self> {
        match self.status {
            // It was submitted before.
            Status::Created if self.lines.is_empty() => Ok(Events::none()),
            Status::Created => {
                let (lines, seconds_to_pay) = (self.lines.clone(), command.seconds_to_pay);
                Ok(OrderEvent::Submitted { lines, seconds_to_pay }.into())
            }
            Status::Cancelled => Err(OrderRejection::Cancelled),
            _ => Err(OrderRejection::UnderWay),
        }
    }
}

/// Makes an order binding.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
pub struct ConfirmOrder {
    /// Which order.
    #[command(id)]
    pub order: OrderId,
}

impl Handle<ConfirmOrder> for Order {
    fn handle(&self, _: &ConfirmOrder, _: &Context) -> Handled<Self> {
        match self.status {
            Status::Created => {
                let sale = self.sale.clone().ok_or(OrderRejection::NoLines)?;
                Ok(OrderEvent::Confirmed { sale }.into())
            }
            Status::Confirmed | Status::Paid | Status::Shipped | Status::Delivered => Ok(Events::none()),
            Status::Cancelled => Err(OrderRejection::Cancelled),
        }
    }
}

/// Pays an order in full.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
pub struct PayOrder {
    /// Which order.
    #[command(id)]
    pub order: OrderId,
    /// How much is paid.
    pub amount: Money,
}

impl Handle<PayOrder> for Order {
    fn handle(&self, command: &PayOrder, _: &Context) -> Handled<Self> {
        let (due, offered) = (self.due(), command.amount);
        match self.status {
            Status::Created => Err(OrderRejection::NotConfirmed),
            Status::Confirmed if offered != due => Err(OrderRejection::WrongAmount { due, offered }),
            Status::Confirmed => Ok(OrderEvent::Paid { amount: due }.into()),
            Status::Paid | Status::Shipped | Status::Delivered => Err(OrderRejection::AlreadyPaid),
            Status::Cancelled => Err(OrderRejection::Cancelled),
        }
    }
}

impl Order {
    fn due(&self) -> Money {
        self.sale.as_ref().map_or(Money::ZERO, |sale| sale.net)
    }
}

/// Ships the order.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
pub struct ShipOrder {
    /// Which order.
    #[command(id)]
    pub order: OrderId,
    /// The day of shipment.
    pub on: Date,
}

impl Handle<ShipOrder> for Order {
    fn handle(&self, &ShipOrder { on, .. }: &ShipOrder, _: &Context) -> Handled<Self> {
        match (self.status, self.placed, self.shipped) {
            (Status::Cancelled, ..) => Err(OrderRejection::Cancelled),
            (Status::Created | Status::Confirmed, ..) => Err(OrderRejection::NotPaid),
            (_, _, Some(before)) if before == on => Ok(Events::none()),
            (_, _, Some(before)) => Err(OrderRejection::AlreadyShipped(before)),
            (_, Some(placed), _) if on < placed => Err(OrderRejection::ShippedTooEarly { placed, on }),
            _ => Ok(OrderEvent::Shipped { on }.into()),
        }
    }
}

/// Records that the parcel has arrived.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
pub struct DeliverOrder {
    /// Which order.
    #[command(id)]
    pub order: OrderId,
}

impl Handle<DeliverOrder> for Order {
    fn handle(&self, _: &DeliverOrder, _: &Context) -> Handled<Self> {
        match self.status {
            Status::Shipped => Ok(OrderEvent::Delivered.into()),
            Status::Delivered => Ok(Events::none()),
            Status::Cancelled => Err(OrderRejection::Cancelled),
            Status::Created | Status::Confirmed | Status::Paid => Err(OrderRejection::NotShipped),
        }
    }
}

/// Cancels an order that is not shipped.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
pub struct CancelOrder {
    /// Which order.
    #[command(id)]
    pub order: OrderId,
    /// Why.
    pub reason: Reason,
}

impl Handle<CancelOrder> for Order {
    fn handle(&self, command: &CancelOrder, _: &Context) -> Handled<Self> {
        let (undone, refund) = match (self.status, self.shipped) {
            (_, Some(shipped)) => return Err(OrderRejection::AlreadyShipped(shipped)),
            (Status::Cancelled, _) => return Ok(Events::none()),
            (Status::Created, _) => (None, None),
            (Status::Paid, _) => (self.sale.clone(), Some(self.due())),
            _ => (self.sale.clone(), None),
        };
        Ok(OrderEvent::Cancelled { reason: command.reason.clone(), undone, refund }.into())
    }
}

/// Cancels an order that is not paid in time. A paid order is not changed.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
pub struct ExpireOrder {
    /// Which order.
    #[command(id)]
    pub order: OrderId,
    /// Why.
    pub reason: Reason,
}

impl Handle<ExpireOrder> for Order {
    fn handle(&self, command: &ExpireOrder, _: &Context) -> Handled<Self> {
        match self.status {
            Status::Created => Err(OrderRejection::NotConfirmed),
            Status::Confirmed => {
                let (reason, undone) = (command.reason.clone(), self.sale.clone());
                Ok(OrderEvent::Cancelled { reason, undone, refund: None }.into())
            }
            Status::Cancelled => Ok(Events::none()),
            Status::Paid | Status::Shipped | Status::Delivered => Err(OrderRejection::AlreadyPaid),
        }
    }
}

#[cfg(test)]
mod tests;
