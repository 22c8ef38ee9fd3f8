//! Event handlers: effects outside the framework, at least once.

use std::{error::Error as StdError, fmt, future::Future, sync::Arc};

use crate::{
    base::{future::BoxFuture, source::describe, store_error::StoreError},
    log::{envelope::Envelope, recorded::Recorded, sources::sources},
    model::{
        event::Event,
        follow::{OnFailure, Retry, Start},
        required::IsShared,
        source::EventSource,
    },
};

/// Causes effects outside the framework when events happen: sends mails, calls other services.
///
/// It is at-least-once: an event is handled until [`On::on`] returns without an error, and then progress is saved.
/// After a crash in between, the last events are delivered again, up to some hundreds of them. So the effect must be
/// idempotent: pass the event's id, which is unique in the world, to the called service as the idempotency key. The
/// cost is one small write for each batch of events.
///
/// Events of one aggregate are handled in order, those of different aggregates at the same time. An error counts as an
/// outage, unless it is [permanent](HandlerError::permanent): the event is retried, with a backoff of at most two
/// seconds, for as long as [`RETRY`](Self::RETRY) says. Meanwhile nothing behind its batch is begun, and events that
/// succeeded are not repeated. After that, or at once after a permanent error, the event is set aside with the later
/// ones of its aggregate, see [`Cqrs::dead_letters`](crate::Cqrs::dead_letters), and the other aggregates continue.
///
/// An error converts into a [`HandlerError`] with `?`. A text does not: make it an error that may pass with
/// [`HandlerError::transient`], or one that a retry does not cure with [`HandlerError::permanent`].
///
/// If a repeat is not acceptable and the effect is rows in a database, write a [`Projection`](crate::port::Projection)
/// that saves its checkpoint in the same transaction; if the effect is another command, write a
/// [`Policy`](crate::Policy). If a loss is acceptable, listen to [`notices`](crate::Cqrs::notices), which cost nothing.
///
/// The type needs [`Send`] and [`Sync`], since its calls run at the same time. A bound `H: EventHandler` in generic code
/// does not imply these: write them where the code needs them.
///
/// ```
/// use cqrs_core::{Envelope, EventHandler, HandlerError, On, Start};
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
///     const START: Start = Start::Now;
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
pub trait EventHandler: Sized + 'static {
    /// The stored name, such as `mailer`, under which its progress is kept: `a-z`, `0-9`, `_` and `-`.
    const NAME: &'static str;

    /// What happens with an event that cannot be handled.
    const ON_FAILURE: OnFailure = OnFailure::Park;

    /// How long the handler waits for a failure that may pass, before it does that: an outage may end, or a program
    /// that knows the event may start.
    const RETRY: Retry = Retry::DEFAULT;

    /// The stored names of events, such as `order.noted`, that the handler skips without reading them, in all versions,
    /// also if this program does not know them. Name events that a newer program may record and that the handler will
    /// never need.
    const IGNORED: &'static [&'static str] = &[];

    /// Where in the log it begins when it runs for the first time. There is no default, because either one surprises: a
    /// welcome mail that is added to a service with a million accounts must not be sent a million times, and a new
    /// search index must have all of them.
    const START: Start;

    /// For how many aggregates events are handled at the same time, at most.
    const LANES: usize = 16;

    /// The aggregate (or any [`EventSource`]) whose events it handles, or a tuple of several: `(Order, Stock)`.
    type Of: HandlerSources<Self> + SharesHandler<Self>;
}

/// The handler `H`: that type, of which generic code knows here that it can be shared.
pub(crate) type HandlerOf<H> = <<H as EventHandler>::Of as SharesHandler<H>>::Handler;

/// How a handler handles events of type `E`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle `{E}`",
    label = "what this handler does about its aggregates' events is not said yet",
    note = "add `impl On<{E}> for {Self}` with `async fn on`, or take the aggregate out of `EventHandler::Of`"
)]
pub trait On<E: Event>: EventHandler {
    /// Causes the effect of the event.
    ///
    /// It runs on the runtime's threads with everything else, so it must not block one: put a call that waits without
    /// `.await`, such as a client that is not async or a long computation, into `tokio::task::spawn_blocking`, and await
    /// that.
    ///
    /// It must not wait for its own service: [`Cqrs::settled`](crate::Cqrs::settled) and
    /// [`Cqrs::caught_up`](crate::Cqrs::caught_up) wait until this event is handled, so they would wait for each other
    /// until the service's [`patience`](crate::Builder::patience) has elapsed.
    ///
    /// # Errors
    ///
    /// [`HandlerError`]: any error, or a text that is [transient](HandlerError::transient), after which the event is
    /// retried; or one that is [permanent](HandlerError::permanent).
    ///
    /// # Cancel safety
    ///
    /// It is dropped at its await point when the service stops, and called again for the same event.
    fn on(&self, event: &Envelope<E>) -> impl Future<Output = Result<(), HandlerError>> + Send
    where
        // A handler or an event with an `Rc` is reported where it is named, and not a second time about this future.
        Self: Sync,
        E: Sync;
}

/// Why an event was not handled. Every other error converts into a transient `HandlerError`, as with `?`; texts are
/// [`transient`](Self::transient) or [`permanent`](Self::permanent).
///
/// ```
/// use cqrs_core::HandlerError;
///
/// fn send(address: &str) -> Result<(), HandlerError> {
///     let (_, host) = address.split_once('@').ok_or_else(|| HandlerError::permanent("it is no address"))?;
///     let answer: u16 = host.parse()?; // any error: the event is retried
///     if answer == 421 {
///         return Err(HandlerError::transient(format!("{host} is away")));
///     }
///     Ok(())
/// }
/// # assert!(send("anna").is_err() && send("anna@421").is_err() && send("anna@250").is_ok());
/// ```
pub struct HandlerError {
    pub(crate) reason: String,
    pub(crate) transient: bool,
}

impl HandlerError {
    /// An error that may pass, such as an outage: the event is retried, for as long as [`EventHandler::RETRY`] says.
    pub fn transient(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), transient: true }
    }

    /// An error that a retry does not cure: the event is set aside at once.
    pub fn permanent(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), transient: false }
    }
}

impl<E: StdError> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self { reason: describe(&error), transient: true }
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

    /// The call that handles an event; `None` for events of other aggregates.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the event cannot be read.
    #[doc(hidden)]
    fn handling(handler: &Arc<H>, event: &Recorded<'_>) -> Result<Option<Handling>, StoreError>
    where
        H: IsShared;
}

/// The requirement on a handler `H` besides its rules, as a bound on its sources; see [`required`](crate::model::required).
pub trait SharesHandler<H> {
    /// `H`.
    type Handler: From<H> + Send + Sync + 'static;

    /// See [`HandlerSources::handling`].
    ///
    /// # Errors
    ///
    /// The same.
    #[doc(hidden)]
    fn handling(handler: &Arc<Self::Handler>, event: &Recorded<'_>) -> Result<Option<Handling>, StoreError>;
}

impl<Of: HandlerSources<H>, H: IsShared> SharesHandler<H> for Of {
    type Handler = H;

    fn handling(handler: &Arc<H>, event: &Recorded<'_>) -> Result<Option<Handling>, StoreError> {
        <Of as HandlerSources<H>>::handling(handler, event)
    }
}

/// The call that handles one event.
pub(crate) type Handling = BoxFuture<'static, Result<(), HandlerError>>;

/// The call that handles an event of the aggregate.
fn handling<A, H>(handler: &Arc<H>, event: &Recorded<'_>) -> Result<Option<Handling>, StoreError>
where
    A: EventSource,
    H: On<A::Event> + IsShared,
{
    let (handler, event) = (Arc::clone(handler), event.decode::<A::Event>()?);
    Ok(Some(Box::pin(async move { handler.on(&event).await })))
}

sources! {
    impl HandlerSources<H> where each: On, fn handling(handler: &Arc<H>) -> Handling where H: IsShared = handling
}
