//! The order that all peers have, with the texts of the reference order.

use serde::{Deserialize, Serialize};

#[path = "../../src/texts.rs"]
mod texts;

use texts::{ADDRESS, AMOUNT, CUSTOMER, NOTE, REFERENCE, TOTAL};

/// The events of an order, of about 200 bytes as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Happened {
    Created { customer: String, address: String, total: u64 },
    Paid { amount: u64, reference: String, note: String },
}

#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    customer: String,
    total: u64,
    paid: u64,
    exists: bool,
}

/// The commands of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Create,
    Pay,
    /// It is rejected, so that only the state is needed.
    PayNothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the order exists already")]
    Exists,
    #[error("there is no such order")]
    Missing,
    #[error("a payment is more than nothing")]
    NoAmount,
}

impl Order {
    /// The event that a command leads to.
    pub fn decide(&self, wanted: Wanted) -> Result<Happened, Refused> {
        match (wanted, self.exists) {
            (Wanted::Create, true) => Err(Refused::Exists),
            (Wanted::Create, false) => Ok(Happened::Created {
                customer: CUSTOMER.to_owned(),
                address: ADDRESS.to_owned(),
                total: TOTAL,
            }),
            (_, false) => Err(Refused::Missing),
            (Wanted::PayNothing, true) => Err(Refused::NoAmount),
            (Wanted::Pay, true) => {
                Ok(Happened::Paid { amount: AMOUNT, reference: REFERENCE.to_owned(), note: NOTE.to_owned() })
            }
        }
    }

    pub fn happened(&mut self, event: &Happened) {
        match event {
            Happened::Created { customer, total, .. } => {
                self.exists = true;
                self.customer.clone_from(customer);
                self.total = *total;
            }
            Happened::Paid { amount, .. } => self.paid += amount,
        }
    }
}
