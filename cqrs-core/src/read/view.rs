//! Views: the read models for queries, and the rules that build them from events.

use crate::{
    base::{id::ProjectionId, store_error::StoreError},
    log::{envelope::Envelope, recorded::Recorded, sources::sources},
    model::{
        event::Event,
        follow::{OnFailure, Retry},
        required::KeepsDocument,
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
///
/// An event changes at most one document, the one under [`Project::key`]. There are two ways out when a fact concerns
/// several documents, such as an order whose lines change a view of products:
///
/// - the command records one event for each item: they are stored together, and each has its own key;
/// - the view is an `SqlView` (crate `cqrs-sql`), which changes any number of rows by one event.
///
/// The type needs [`Default`], the document before the first event; serde's `Serialize` and `Deserialize`, with which
/// documents are stored; and [`Send`] and [`Sync`]. A bound `V: View` in generic code does not imply these: write those
/// that the code needs.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a view",
    note = "add `impl View for {Self}` with its `NAME` and the aggregate `Of` whose events it is built from"
)]
pub trait View: Sized + 'static {
    /// The stored name, such as `order-summary`: `a-z`, `0-9`, `_` and `-`.
    const NAME: &'static str;

    /// The version of the rules and of the documents' shape. A new version is built from the first event, in a place of
    /// its own.
    const VERSION: u32 = 1;

    /// What happens with an event that cannot be applied: it cannot be read, or the rules panic.
    const ON_FAILURE: OnFailure = OnFailure::Park;

    /// How long the view waits for a failure that may pass, before it does that: during a rolling update, a program
    /// that knows the event may start.
    const RETRY: Retry = Retry::DEFAULT;

    /// The stored names of events, such as `order.noted`, that the view skips without reading them, in all versions,
    /// also if this program does not know them. Name events that a newer program may record and that the view will
    /// never need.
    const IGNORED: &'static [&'static str] = &[];

    /// The aggregate (or any [`EventSource`]) whose events the view is built from, or a tuple of several:
    /// `(Order, Stock)`.
    type Of: Sources<Self> + KeepsDocument<Self>;

    /// Whether the document is still wanted. It is called after events have changed the document. A document that is
    /// not wanted is removed, and a later event of its key begins with the default document again.
    fn is_kept(&self) -> bool {
        true
    }

    /// The first build of this name and version.
    fn projection() -> ProjectionId {
        ProjectionId::new(Self::NAME, Self::VERSION)
    }
}

/// The documents of `V`: that type, of which generic code knows here that it has a default, and can be stored and sent.
pub(crate) type DocumentOf<V> = <<V as View>::Of as KeepsDocument<V>>::Document;

/// How events of type `E` change a view.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not project `{E}`",
    label = "this view's documents do not follow from its aggregates' events yet",
    note = "add `impl Project<{E}> for {Self}` with `fn key` and `fn project`, or take the aggregate out of `View::Of`"
)]
pub trait Project<E: Event>: Sized {
    /// The key of the document that the event changes; `None` if the event does not concern this view. By default, each
    /// aggregate has a document of its own, under its id.
    ///
    /// There is one key: an event that concerns several documents is recorded as one event for each of them, or the view
    /// is an `SqlView` of `cqrs-sql`; see [`View`].
    fn key(event: &Envelope<E>) -> Option<String> {
        Some(event.subject().to_owned())
    }

    /// Changes the document by the event. A document that does not exist yet is the default one. No clock, no
    /// randomness, no input or output.
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

    /// The view's change by an event; `None` for events of other aggregates.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the event cannot be read.
    #[doc(hidden)]
    fn step(event: &Recorded<'_>) -> Result<Option<Step<V, ()>>, StoreError>;
}

/// The change of a document by an event of the aggregate.
fn step<A, V>(event: &Recorded<'_>) -> Result<Option<Step<V, ()>>, StoreError>
where
    A: EventSource,
    V: Project<A::Event>,
{
    let event = event.decode::<A::Event>()?;
    Ok(V::key(&event).map(|key| Step::new(key, move |view: &mut V| view.project(&event))))
}

sources! { impl Sources<V> where each: Project, fn step() -> Step<V, ()> = step }
