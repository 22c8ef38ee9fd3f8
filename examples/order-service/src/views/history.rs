//! The history of one order or one product, as text.

use std::collections::VecDeque;

use cqrs_core::{Aggregate, Envelope, Event, Project, Query, View};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::{Order, OrderEvent, OrderId, ProductId, Sale, Stock, StockEvent};

/// How many entries are kept for one order or product: a document has to stay small.
pub const MAX_ENTRIES: usize = 50;

/// The latest events of one order or product; the key is `order/` or `stock/` and its id.
///
/// It is built from the events of two aggregates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The events, the oldest first.
    pub entries: VecDeque<Entry>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place among the events of the order or product, from 1.
    pub version: u64,
    /// Its stored name, such as `order.created`.
    pub event: String,
    /// Its description.
    pub words: String,
    /// When it was recorded.
    pub time: Timestamp,
}

impl View for History {
    const NAME: &'static str = "history";
    type Of = (Order, Stock);
}

impl Project<OrderEvent> for History {
    fn key(event: &Envelope<OrderEvent>) -> Option<String> {
        Some(event.aggregate.to_string())
    }

    fn project(&mut self, event: &Envelope<OrderEvent>) {
        self.note(event, order_in_words(&event.data));
    }
}

impl Project<StockEvent> for History {
    fn key(event: &Envelope<StockEvent>) -> Option<String> {
        Some(event.aggregate.to_string())
    }

    fn project(&mut self, event: &Envelope<StockEvent>) {
        self.note(event, stock_in_words(&event.data));
    }
}

impl History {
    fn note<E: Event>(&mut self, event: &Envelope<E>, words: String) {
        if self.entries.len() == MAX_ENTRIES {
            self.entries.pop_front();
        }
        let name = event.event_type().name.to_owned();
        self.entries.push_back(Entry { version: event.version, event: name, words, time: event.time });
    }
}

fn order_in_words(event: &OrderEvent) -> String {
    match event {
        OrderEvent::Created { customer, country, placed, lines } => {
            let Sale { units, net, .. } = Sale::of(customer, country, lines);
            format!("{units} pieces for {net}, by {} ({country}) on {placed}", customer.name)
        }
        OrderEvent::Submitted { seconds_to_pay, .. } => {
            format!("it goes its way by itself, to be paid within {seconds_to_pay} s")
        }
        OrderEvent::Confirmed { sale } => format!("a sale of {}", sale.net),
        OrderEvent::Paid { amount } => format!("{amount} received"),
        OrderEvent::Shipped { on } => format!("the parcel left on {on}"),
        OrderEvent::Delivered => "the parcel has arrived".to_owned(),
        OrderEvent::Cancelled { reason, undone, refund } => {
            let undone = undone.as_ref().map(|sale| format!(", a sale of {} is undone", sale.net));
            let refund = refund.map(|amount| format!(", {amount} is paid back"));
            format!("{reason}{}{}", undone.unwrap_or_default(), refund.unwrap_or_default())
        }
    }
}

fn stock_in_words(event: &StockEvent) -> String {
    match event {
        StockEvent::Received { name, units } => format!("{units} came in ({name})"),
        StockEvent::Reserved { order, units } => format!("{units} promised to order {order}"),
        StockEvent::Released { order, units } => format!("{units} not needed by order {order}"),
        StockEvent::Shipped { order, units } => format!("{units} left with order {order}"),
    }
}

/// Asks for the history of an order or of a product's stock.
#[derive(Debug, Clone, Serialize, Deserialize, Query)]
#[query(view = History, answer = Option<History>)]
pub struct GetHistory {
    /// The document's key.
    #[query(key)]
    pub of: String,
}

impl GetHistory {
    /// The history of an order.
    pub fn of_order(order: &OrderId) -> Self {
        Self { of: format!("{}/{order}", Order::NAME) }
    }

    /// The history of a product's stock.
    pub fn of_stock(product: &ProductId) -> Self {
        Self { of: format!("{}/{product}", Stock::NAME) }
    }
}
