//! The reference order, with events of about 200 bytes each.

use cqrs_core::{
    Aggregate, Apply, Command, Context, Envelope, Event, Events, Handle, Handled, Project, Query, View,
};
use serde::{Deserialize, Serialize};

use crate::texts::{ADDRESS, AMOUNT, CUSTOMER, NOTE, REFERENCE, TOTAL};

/// The events of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(prefix = "order")]
pub enum OrderEvent {
    /// It was placed.
    Created {
        /// The customer.
        customer: String,
        /// The address of delivery.
        address: String,
        /// Its price.
        total: u64,
    },
    /// An instalment came in.
    Paid {
        /// The amount.
        amount: u64,
        /// The bank's reference for the payment.
        reference: String,
        /// The payer's text.
        note: String,
    },
    /// A parcel was packed.
    Packed {
        /// The parcel.
        parcel: u64,
        /// Its content.
        contents: String,
    },
    /// A parcel was given to a carrier.
    Shipped {
        /// The parcel.
        parcel: u64,
        /// Its address and its carrier.
        label: String,
    },
    /// A parcel was charged for.
    Billed {
        /// The parcel.
        parcel: u64,
        /// The text of the bill.
        text: String,
    },
}

/// Why an order rejects a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OrderRejection {
    /// Nothing was paid.
    #[error("a payment is more than nothing")]
    NoAmount,
}

/// An order: it can be paid in any number of instalments, and shipped in any number of parcels.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, Aggregate)]
#[aggregate(
    id = u64,
    event = OrderEvent,
    rejection = OrderRejection,
    commands(CreateOrder, PayOrder, SendParcel)
)]
pub struct Order {
    customer: String,
    total: u64,
    paid: u64,
    parcels: u64,
}

impl Apply<OrderEvent> for Order {
    fn apply(&mut self, event: &OrderEvent) {
        match event {
            OrderEvent::Created { customer, total, .. } => {
                self.customer.clone_from(customer);
                self.total = *total;
            }
            OrderEvent::Paid { amount, .. } => self.paid += amount,
            OrderEvent::Packed { parcel, .. } => self.parcels = *parcel,
            OrderEvent::Shipped { .. } | OrderEvent::Billed { .. } => {}
        }
    }
}

/// An order that keeps snapshots.
#[derive(Debug, Default, Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(
    id = u64,
    event = OrderEvent,
    rejection = OrderRejection,
    commands(CreateKeptOrder, PayKeptOrder),
    snapshot(every = 50)
)]
pub struct KeptOrder(Order);

impl Apply<OrderEvent> for KeptOrder {
    fn apply(&mut self, event: &OrderEvent) {
        self.0.apply(event);
    }
}

/// Places an order: one event.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Order, create)]
pub struct CreateOrder {
    /// The order.
    #[command(id)]
    pub order: u64,
    /// The customer.
    pub customer: String,
    /// The address of delivery.
    pub address: String,
    /// Its price.
    pub total: u64,
}

/// Pays an instalment: one event. It is never rejected.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
pub struct PayOrder {
    /// The order.
    #[command(id)]
    pub order: u64,
    /// The amount.
    pub amount: u64,
    /// The bank's reference for the payment.
    pub reference: String,
    /// The payer's text.
    pub note: String,
}

/// Packs, sends and bills a parcel: three events.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Order)]
pub struct SendParcel {
    /// The order.
    #[command(id)]
    pub order: u64,
    /// What is in the parcel.
    pub contents: String,
}

/// [`CreateOrder`] for an order that keeps snapshots.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = KeptOrder, create)]
pub struct CreateKeptOrder {
    /// The order.
    #[command(id)]
    pub order: u64,
    /// The customer.
    pub customer: String,
    /// The address of delivery.
    pub address: String,
    /// Its price.
    pub total: u64,
}

/// [`PayOrder`] for an order that keeps snapshots.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = KeptOrder)]
pub struct PayKeptOrder {
    /// The order.
    #[command(id)]
    pub order: u64,
    /// The amount.
    pub amount: u64,
    /// The bank's reference for the payment.
    pub reference: String,
    /// The payer's text.
    pub note: String,
}

const CONTENTS: &str = "2 x lamp, brass, 40 cm; 1 x cable, 3 m, black; 4 x bulb, E27, warm white; \
                        1 x manual in three languages; padding; 1 x card with greetings, handwritten";

impl CreateOrder {
    /// A usual order.
    pub fn usual(order: u64) -> Self {
        Self { order, customer: CUSTOMER.to_owned(), address: ADDRESS.to_owned(), total: TOTAL }
    }
}

impl PayOrder {
    /// A usual instalment.
    pub fn usual(order: u64) -> Self {
        Self { order, amount: AMOUNT, reference: REFERENCE.to_owned(), note: NOTE.to_owned() }
    }

    /// An instalment that the order rejects, so that only its state is needed.
    pub fn refused(order: u64) -> Self {
        Self { order, amount: 0, reference: String::new(), note: String::new() }
    }
}

impl SendParcel {
    /// A usual parcel.
    pub fn usual(order: u64) -> Self {
        Self { order, contents: CONTENTS.to_owned() }
    }
}

impl From<CreateOrder> for CreateKeptOrder {
    fn from(CreateOrder { order, customer, address, total }: CreateOrder) -> Self {
        Self { order, customer, address, total }
    }
}

impl From<PayOrder> for PayKeptOrder {
    fn from(PayOrder { order, amount, reference, note }: PayOrder) -> Self {
        Self { order, amount, reference, note }
    }
}

impl Handle<CreateOrder> for Order {
    fn handle(&self, command: &CreateOrder, _: &Context) -> Handled<Self> {
        Ok(created(&command.customer, &command.address, command.total))
    }
}

impl Handle<PayOrder> for Order {
    fn handle(&self, command: &PayOrder, _: &Context) -> Handled<Self> {
        paid(command.amount, &command.reference, &command.note)
    }
}

impl Handle<SendParcel> for Order {
    fn handle(&self, command: &SendParcel, _: &Context) -> Handled<Self> {
        let parcel = self.parcels + 1;
        let text = || command.contents.clone();
        Ok([
            OrderEvent::Packed { parcel, contents: text() },
            OrderEvent::Shipped { parcel, label: text() },
            OrderEvent::Billed { parcel, text: text() },
        ]
        .into())
    }
}

impl Handle<CreateKeptOrder> for KeptOrder {
    fn handle(&self, command: &CreateKeptOrder, _: &Context) -> Handled<Self> {
        Ok(created(&command.customer, &command.address, command.total))
    }
}

impl Handle<PayKeptOrder> for KeptOrder {
    fn handle(&self, command: &PayKeptOrder, _: &Context) -> Handled<Self> {
        paid(command.amount, &command.reference, &command.note)
    }
}

fn created(customer: &str, address: &str, total: u64) -> Events<OrderEvent> {
    OrderEvent::Created { customer: customer.to_owned(), address: address.to_owned(), total }.into()
}

fn paid(amount: u64, reference: &str, note: &str) -> Result<Events<OrderEvent>, OrderRejection> {
    if amount == 0 {
        return Err(OrderRejection::NoAmount);
    }
    Ok(OrderEvent::Paid { amount, reference: reference.to_owned(), note: note.to_owned() }.into())
}

/// The summary of one order.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderSummary {
    /// Its price.
    pub total: u64,
    /// The paid amount.
    pub paid: u64,
    /// How many parcels were shipped.
    pub parcels: u64,
}

impl View for OrderSummary {
    const NAME: &'static str = "order-summary";
    type Of = Order;
}

impl Project<OrderEvent> for OrderSummary {
    fn project(&mut self, event: &Envelope<OrderEvent>) {
        match &event.data {
            OrderEvent::Created { total, .. } => self.total = *total,
            OrderEvent::Paid { amount, .. } => self.paid += amount,
            OrderEvent::Shipped { .. } => self.parcels += 1,
            OrderEvent::Packed { .. } | OrderEvent::Billed { .. } => {}
        }
    }
}

/// Asks for one order's summary.
#[derive(Debug, Serialize, Deserialize, Query)]
#[query(view = OrderSummary, answer = Option<OrderSummary>)]
pub struct GetOrder {
    /// The order.
    #[query(key)]
    pub order: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_about_200_bytes() {
        let context = Context::new(
            cqrs_core::CommandId(uuid::Uuid::nil()),
            cqrs_core::Clock::now(&cqrs_core::port::SystemClock),
        );
        let order = Order::default();
        let all = [
            order.handle(&CreateOrder::usual(1), &context),
            order.handle(&PayOrder::usual(1), &context),
            order.handle(&SendParcel::usual(1), &context),
        ];
        for event in all.into_iter().flat_map(|events| events.expect("it is not refused")) {
            let whole = serde_json::to_string(&event).expect("JSON");
            // Without the name of the variant around it, which is not stored.
            let stored = whole.len() - whole.find(':').expect("a variant") - 2;
            assert!((170..=210).contains(&stored), "{stored}: {whole}");
        }
    }
}
