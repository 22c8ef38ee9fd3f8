//! The stock of each product.

use cqrs_core::{Envelope, Project, Query, View};
use serde::{Deserialize, Serialize};

use crate::domain::{Name, ProductId, Stock, StockEvent};

/// The stock of one product; the key is the product's id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockLevel {
    /// The product's name.
    pub name: Option<Name>,
    /// How many pieces are in the warehouse.
    pub on_hand: u64,
    /// How many of them are reserved for orders.
    pub reserved: u64,
}

impl StockLevel {
    /// How many pieces can still be reserved.
    pub fn available(&self) -> u64 {
        self.on_hand.saturating_sub(self.reserved)
    }
}

impl View for StockLevel {
    const NAME: &'static str = "stock-level";
    type Of = Stock;
}

impl Project<StockEvent> for StockLevel {
    fn key(event: &Envelope<StockEvent>) -> Option<String> {
        Some(event.subject().to_owned())
    }

    fn project(&mut self, event: &Envelope<StockEvent>) {
        match &event.data {
            StockEvent::Received { name, units } => {
                self.name = Some(name.clone());
                self.on_hand += u64::from(*units);
            }
            StockEvent::Reserved { units, .. } => self.reserved += u64::from(*units),
            StockEvent::Released { units, .. } => self.take_from_reserved(*units),
            StockEvent::Shipped { units, .. } => {
                self.take_from_reserved(*units);
                self.on_hand = self.on_hand.saturating_sub(u64::from(*units));
            }
        }
    }
}

impl StockLevel {
    fn take_from_reserved(&mut self, units: u32) {
        self.reserved = self.reserved.saturating_sub(u64::from(units));
    }
}

/// Asks for the stock of one product.
#[derive(Debug, Clone, Serialize, Deserialize, Query)]
#[query(view = StockLevel, answer = Option<StockLevel>)]
pub struct GetStock {
    /// Which product.
    #[query(key)]
    pub product: ProductId,
}
