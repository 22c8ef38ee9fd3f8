//! A step of the builder: `.following(&log)`, to be completed by `.view`, `.read_model`, `.projection`, `.policy` or
//! `.event_handler`.

use crate::{
    base::id::ProjectionId,
    effects::{handler::EventHandler, policy::Policy},
    port::{any_events::AnyEvents, projection::Projection},
    read::{read_model::OwnProjection, view::View},
    service::{builder::Builder, lists::AddedTo},
};

/// Adds one projection that follows another context's log; see [`Builder::following`]. Apart from the log, it is as if
/// the projection was added to the [`Builder`] itself: it has the same name, progress, dead letters and guarantees.
#[must_use = "add `.view`, `.read_model`, `.policy`, `.event_handler` or `.projection`, which follows the log"]
pub struct Following<A, V> {
    pub(crate) builder: Builder<A, V>,
    pub(crate) log: AnyEvents,
}

impl<A, V> Following<A, V> {
    /// Adds a view; see [`Builder::view`].
    pub fn view<T>(self) -> Builder<A, T::Output>
    where
        T: View + AddedTo<V>,
    {
        self.builder.follows(T::NAME, self.log).view::<T>()
    }

    /// Adds a read model that is not a view; see [`Builder::read_model`].
    pub fn read_model<T>(self, model: T) -> Builder<A, T::Output>
    where
        T: OwnProjection + AddedTo<V>,
    {
        self.builder.follows(T::FIRST.name, self.log).read_model(model)
    }

    /// Adds a projection that keeps its own results; see [`Builder::projection`].
    pub fn projection(self, id: ProjectionId, projection: impl Projection) -> Builder<A, V> {
        self.builder.follows(id.name, self.log).projection(id, projection)
    }

    /// Adds a policy; see [`Builder::policy`].
    pub fn policy<P: Policy>(self) -> Builder<A, V> {
        self.builder.follows(P::NAME, self.log).policy::<P>()
    }

    /// Adds an event handler; see [`Builder::event_handler`].
    pub fn event_handler<H: EventHandler>(self, handler: H) -> Builder<A, V> {
        self.builder.follows(H::NAME, self.log).event_handler(handler)
    }
}
