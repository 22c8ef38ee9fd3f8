//! The service: its aggregates and its views, put together.

use cqrs_core::{Backend, Cqrs, Error};

use crate::{
    Order, Stock,
    views::{History, OrderSummary, SalesByCountry, SalesByCustomer, SalesTotals, StockLevel},
};

/// The service's aggregates.
pub type Aggregates = (Order, Stock);

/// The service's views.
pub type Views = (OrderSummary, SalesByCountry, SalesByCustomer, SalesTotals, StockLevel, History);

/// The running service on a backend `B`.
pub type OrderService<B> = Cqrs<B, Aggregates, Views>;

/// Starts the service on `backend`, with the projectors of all its views.
///
/// # Errors
///
/// [`Error`] when the views' places cannot be prepared.
///
/// # Cancel safety
///
/// Dropping it stops what was started.
pub async fn start<B: Backend>(backend: B) -> Result<OrderService<B>, Error> {
    Cqrs::builder(backend)
        .aggregate::<Order>()
        .aggregate::<Stock>()
        .view::<OrderSummary>()
        .view::<SalesByCountry>()
        .view::<SalesByCustomer>()
        .view::<SalesTotals>()
        .view::<StockLevel>()
        .view::<History>()
        .start()
        .await
}
