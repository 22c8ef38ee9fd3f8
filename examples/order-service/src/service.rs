//! The service: its aggregates and its views, put together.

use cqrs_core::{
    Backend, Builder, Cqrs, Error, View as _,
    port::{EventStore, ProjectionId},
};

use crate::{
    domain::{Order, Stock},
    fulfilment::Fulfilment,
    public::ShopAnnouncer,
    views::{History, OrderSummary, SalesByCountry, SalesByCustomer, SalesTotals, StockLevel},
};

/// The service's aggregates.
pub type Aggregates = (Order, Stock);

/// The service's views.
pub type Views = (OrderSummary, SalesByCountry, SalesByCustomer, SalesTotals, StockLevel, History);

/// The running service, on any backend.
pub type OrderService = Cqrs<Aggregates, Views>;

/// Starts the service on `backend`, with the projectors of all its views.
///
/// # Errors
///
/// [`Error`] when the views' places cannot be prepared.
///
/// # Cancel safety
///
/// Dropping it stops what was started.
pub async fn start<B: Backend>(backend: B) -> Result<OrderService, Error> {
    builder(backend).start().await
}

/// Starts the service with the process that fulfils submitted orders, and with the announcer of orders in the log
/// `public`.
///
/// # Errors
///
/// [`Error`] when the places of the views and of the process cannot be prepared.
///
/// # Cancel safety
///
/// Dropping it stops what was started.
pub async fn start_with_fulfilment<B: Backend>(
    backend: B,
    public: impl EventStore,
) -> Result<OrderService, Error> {
    builder(backend).policy::<Fulfilment>().announcer::<ShopAnnouncer>(public).start().await
}

/// The builder of the service on `backend`, to which more can be added before it is started.
pub fn builder<B: Backend>(backend: B) -> Builder<Aggregates, Views> {
    Cqrs::builder(backend)
        .aggregate::<Order>()
        .aggregate::<Stock>()
        .view::<OrderSummary>()
        .view::<SalesByCountry>()
        .view::<SalesByCustomer>()
        .view::<SalesTotals>()
        .view::<StockLevel>()
        .view::<History>()
}

/// The service's projections in a view store: its views. The progress of its process and of its announcer is beside the
/// events.
pub fn projections() -> Vec<ProjectionId> {
    vec![
        OrderSummary::projection(),
        SalesByCountry::projection(),
        SalesByCustomer::projection(),
        SalesTotals::projection(),
        StockLevel::projection(),
        History::projection(),
    ]
}
