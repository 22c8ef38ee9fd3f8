//! Event handlers: what is done in the world when something has happened, at least once.

use std::{error::Error as StdError, fmt, future::Future, sync::Arc};

use crate::{
    base::{error::StoreError, future::BoxFuture},
    log::{envelope::Envelope, recorded::Recorded, sources::sources},
    model::{
        event::Event,
        follow::{OnFailure, Retry, Start},
        source::EventSource,
    },
};

/// Does something outside the framework when events happen: sends mails, calls other services.
///
/// It is at least once: an event is handled until [`On::on`] returns without an error, and then progress is saved.
/// After a crash in between, the last events come again, up to some hundreds of them. So whatever is done must
/// bear to be done twice: give the event's id, which is unique in the world, to whom you call, as the key by
/// which repeats are noticed. What it costs is one small write for each batch of events.
///
/// Events of one aggregate are handled in order, those of different aggregates at the same time. An error is taken for an
/// outage, unless it is [permanent](HandlerError::permanent): the event is tried again, with growing pauses of at most
/// two seconds, for as long as [`RETRY`](Self::RETRY) says. Nothing behind its batch is begun meanwhile, and what went well
/// is not done again. Then, or at once after a permanent error, the event is set aside with the later ones of its
/// aggregate, see [`Cqrs::dead_letters`](crate::Cqrs::dead_letters), and the others go on.
///
/// Where twice is too often and the work is rows in a database, write a [`Projection`](crate::port::Projection) that
/// saves its checkpoint in the same transaction; where it is another command, a [`Policy`](crate::Policy). Where
/// once is not needed, listen to [`notices`](crate::Cqrs::notices), which cost nothing.
///
/// ```
/// use cqrs_core::{Envelope, EventHandler, HandlerError, On};
/// # use cqrs_core::{Aggregate, Apply, Event};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, Clone, Serialize, Deserialize, Event)]
/// # #[event(prefix = "order")]
/// # enum OrderEvent { Shipped }
/// # #[derive(Debug, thiserror::Error)]
/// # enum OrderRejection {}
/// # #[derive(Default, Clone, Aggregate)]
/// # #[aggregate(id = u32, event = OrderEvent, rejection = OrderRejection)]
/// # struct Order;
/// # impl Apply<OrderEvent> for Order { fn apply(&mut self, _: &OrderEvent) {} }
/// # struct Smtp;
/// # impl Smtp {
/// #     async fn send(&self, _: String, _: String) -> Result<(), std::io::Error> { Ok(()) }
/// # }
///
/// struct Mailer {
///     smtp: Smtp,
/// }
///
/// impl EventHandler for Mailer {
///     const NAME: &'static str = "mailer";
///     type Of = Order;
/// }
///
/// impl On<OrderEvent> for Mailer {
///     async fn on(&self, event: &Envelope<OrderEvent>) -> Result<(), HandlerError> {
///         let OrderEvent::Shipped = event.data;
///         let (message_id, text) = (event.id.to_string(), format!("order {} has left", event.subject()));
///         self.smtp.send(message_id, text).await?;
///         Ok(())
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event handler",
    note = "add `impl EventHandler for {Self}` with its `NAME` and the aggregate `Of` whose events it handles"
)]
pub trait EventHandler: Send + Sync + 'static {
    /// The stored name, such as `mailer`, under which its progress is kept: `a-z`, `0-9`, `_` and `-`.
    const NAME: &'static str;

    /// What becomes of an event that cannot be handled.
    const ON_FAILURE: OnFailure = OnFailure::Park;

    /// How long it waits for what may pass by itself, before it does that: the end of an outage, or a program that
    /// knows an event.
    const RETRY: Retry = Retry::DEFAULT;

    /// The stored names of events, such as `order.noted`, that the handler passes over without reading them, in
    /// all versions, also when this program does not know them. Name what a newer program may record and the handler is
    /// certain not to need.
    const IGNORED: &'static [&'static str] = &[];

    /// Where in the log it begins, the first time that it runs.
    const START: Start = Start::Beginning;

    /// How many aggregates' events are handled at the same time, at most.
    const LANES: usize = 16;

    /// The aggregate (or any [`EventSource`]) whose events it handles, or a tuple of several: `(Order, Stock)`.
    type Of: HandlerSources<Self>
    where
        Self: Sized;
}

/// How a handler handles events of type `E`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle `{E}`",
    label = "what this handler does about its aggregates' events is not said yet",
    note = "add `impl On<{E}> for {Self}` with `async fn on`, or take the aggregate out of `EventHandler::Of`"
)]
pub trait On<E: Event>: EventHandler {
    /// Does what is to be done.
    ///
    /// # Errors
    ///
    /// [`HandlerError`]: any error, which is tried again, or a [permanent](HandlerError::permanent) one.
    ///
    /// # Cancel safety
    ///
    /// It is dropped where it stands when the service ends, and called again for the same event.
    fn on(&self, event: &Envelope<E>) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

/// Why an event was not handled. Every error converts into one that is tried again.
pub struct HandlerError {
    pub(crate) reason: String,
    pub(crate) transient: bool,
}

impl HandlerError {
    /// An error that trying again does not help.
    pub fn permanent(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), transient: false }
    }
}

impl<E: StdError> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self { reason: crate::base::error::describe(&error), transient: true }
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerError")
            .field("reason", &self.reason)
            .field("permanent", &!self.transient)
            .finish()
    }
}

/// The aggregates whose events a handler handles: one, or a tuple of up to eight.
#[diagnostic::on_unimplemented(
    message = "`{H}` cannot handle the events of `{Self}`",
    label = "no aggregate, or with events that the handler does not handle",
    note = "`EventHandler::Of` is an aggregate or a tuple of up to eight, and `{H}` has an `On` for the events of each"
)]
pub trait HandlerSources<H>: 'static {
    /// The stored names of the aggregates.
    fn names() -> Vec<&'static str>;

    /// The handling of an event: none for events of other aggregates.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the event cannot be read.
    #[doc(hidden)]
    fn handling(handler: &Arc<H>, event: &Recorded<'_>) -> Result<Option<Handling>, StoreError>;
}

/// The handling of one event.
pub(crate) type Handling = BoxFuture<'static, Result<(), HandlerError>>;

/// The handling of an event of the aggregate.
fn handling<A, H>(handler: &Arc<H>, event: &Recorded<'_>) -> Result<Option<Handling>, StoreError>
where
    A: EventSource,
    H: On<A::Event>,
{
    let (handler, event) = (Arc::clone(handler), event.decode::<A::Event>()?);
    Ok(Some(Box::pin(async move { handler.on(&event).await })))
}

sources! { impl HandlerSources<H> where each: On, fn handling(handler: &Arc<H>) -> Handling = handling }
