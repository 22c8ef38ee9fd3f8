//! An order service: orders and stock as two aggregates, the process that connects them, and the views for queries.
//!
//! It does not depend on a store; [`start`] takes any backend.
//!
//! ```
//! use cqrs_core::memory::Memory;
//! use order_service::{ReceiveStock, views::GetStock};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let service = order_service::start(Memory::default()).await?;
//! let (product, name) = ("11".parse()?, "Queso Cabrales".parse()?);
//! let receipt = service.execute(ReceiveStock { product, name, units: 22 }).await?;
//!
//! let stock = service.query(GetStock { product: "11".parse()? }).after(&receipt).await?;
//! assert_eq!(stock.map(|stock| stock.available()), Some(22));
//! # Ok(())
//! # }
//! ```

mod domain;
mod fulfilment;
mod public;
mod service;
pub mod views;

pub use domain::*;
pub use fulfilment::Fulfilment;
pub use public::{Shop, ShopAnnouncer, ShopEvent};
pub use service::{Aggregates, OrderService, Views, builder, projections, start, start_with_fulfilment};
