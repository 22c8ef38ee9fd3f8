//! A pair of stores: one for events and one for views.

use crate::port::{event_store::EventStore, view_store::ViewStore};

/// The stores of a service: where it keeps its events and its views.
///
/// An adapter for both implements it; a pair `(events, views)` combines two adapters.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `Backend`: a place for events and views",
    note = "take `Memory::default()`, a context of `cqrs-nats`, or a pair `(events, views)` of two stores"
)]
pub trait Backend: Send + Sync + 'static {
    /// The event store.
    type Events: EventStore;
    /// The view store.
    type Views: ViewStore;

    /// The two stores.
    fn split(self) -> (Self::Events, Self::Views);
}

impl<E: EventStore, V: ViewStore> Backend for (E, V) {
    type Events = E;
    type Views = V;

    fn split(self) -> (E, V) {
        self
    }
}
