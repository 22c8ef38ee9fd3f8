//! Views: what queries read, and the rules that build it from events.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    base::{error::StoreError, id::ProjectionId},
    log::{envelope::Envelope, recorded::Recorded, sources::sources},
    model::{
        event::Event,
        follow::{OnFailure, Retry},
        source::EventSource,
    },
    projector::kept::Step,
};

/// A read model: one document for each key, each the fold of the events that concern it.
///
/// ```
/// use cqrs_core::{Envelope, Project, View};
/// use serde::{Deserialize, Serialize};
/// # use cqrs_core::{Aggregate, Apply, Event};
/// # #[derive(Debug, Clone, Serialize, Deserialize, Event)]
/// # #[event(prefix = "order")]
/// # enum OrderEvent { Created { country: String }, Shipped }
/// # #[derive(Debug, thiserror::Error)]
/// # enum OrderRejection {}
/// # #[derive(Default, Clone, Aggregate)]
/// # #[aggregate(id = u32, event = OrderEvent, rejection = OrderRejection)]
/// # struct Order;
/// # impl Apply<OrderEvent> for Order { fn apply(&mut self, _: &OrderEvent) {} }
///
/// #[derive(Default, Serialize, Deserialize)]
/// struct CountryOrders {
///     orders: u64,
/// }
///
/// impl View for CountryOrders {
///     const NAME: &'static str = "country-orders";
///     type Of = Order;
/// }
///
/// impl Project<OrderEvent> for CountryOrders {
///     fn key(event: &Envelope<OrderEvent>) -> Option<String> {
///         match &event.data {
///             OrderEvent::Created { country } => Some(country.clone()),
///             OrderEvent::Shipped => None,
///         }
///     }
///
///     fn project(&mut self, _: &Envelope<OrderEvent>) {
///         self.orders += 1;
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a view",
    note = "add `impl View for {Self}` with its `NAME` and the aggregate `Of` whose events it is built from"
)]
pub trait View: Default + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The stored name, such as `order-summary`: `a-z`, `0-9`, `_` and `-`.
    const NAME: &'static str;

    /// The version of the rules and of the documents' shape. A new version is built from the
    /// beginning, in a place of its own.
    const VERSION: u32 = 1;

    /// What becomes of an event that cannot be applied: it cannot be read, or the rules panic.
    const ON_FAILURE: OnFailure = OnFailure::Park;

    /// How long it waits for what may pass by itself, before it does that: a program that knows an event, during a
    /// rolling update.
    const RETRY: Retry = Retry::DEFAULT;

    /// The stored names of events, such as `order.noted`, that the view passes over without reading them, in
    /// all versions, also when this program does not know them. Name what a newer program may record and the view is
    /// certain not to need.
    const IGNORED: &'static [&'static str] = &[];

    /// The aggregate (or any [`EventSource`]) whose events the view is built from, or a tuple of several:
    /// `(Order, Stock)`.
    type Of: Sources<Self>;

    /// Whether the document is still wanted. It is asked after events have changed the document; one that is
    /// not wanted is removed, and a later event of its key begins with the default one again.
    fn is_kept(&self) -> bool {
        true
    }

    /// The name and version together.
    fn projection() -> ProjectionId {
        ProjectionId::new(Self::NAME, Self::VERSION)
    }
}

/// How events of type `E` change a view.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not project `{E}`",
    label = "this view's documents do not follow from its aggregates' events yet",
    note = "add `impl Project<{E}> for {Self}` with `fn key` and `fn project`, or take the aggregate out of `View::Of`"
)]
pub trait Project<E: Event>: Sized {
    /// The key of the document that the event changes; none if it does not concern this view. Unless it
    /// is written otherwise, each aggregate has a document of its own, under its id.
    fn key(event: &Envelope<E>) -> Option<String> {
        Some(event.subject().to_owned())
    }

    /// Changes the document by what happened. A document that is not there yet is the default one.
    /// No clock, no randomness, no input or output.
    fn project(&mut self, event: &Envelope<E>);
}

/// The aggregates that a view is built from: one, or a tuple of up to eight.
#[diagnostic::on_unimplemented(
    message = "`{V}` cannot be built from `{Self}`",
    label = "no aggregate, or with events that the view does not project",
    note = "`View::Of` is an aggregate or a tuple of up to eight, and `{V}` has a `Project` for the events of each"
)]
pub trait Sources<V>: 'static {
    /// The stored names of the aggregates.
    fn names() -> Vec<&'static str>;

    /// What an event does to the view: nothing for events of other aggregates.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the event cannot be read.
    #[doc(hidden)]
    fn step(event: &Recorded<'_>) -> Result<Option<Step<V, ()>>, StoreError>;
}

/// What an event of the aggregate does to a document.
fn step<A, V>(event: &Recorded<'_>) -> Result<Option<Step<V, ()>>, StoreError>
where
    A: EventSource,
    V: Project<A::Event>,
{
    let event = event.decode::<A::Event>()?;
    Ok(V::key(&event).map(|key| Step::new(key, move |view: &mut V| view.project(&event))))
}

sources! { impl Sources<V> where each: Project, fn step() -> Step<V, ()> = step }
