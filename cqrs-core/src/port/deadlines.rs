//! The port to deadlines: payloads that are delivered at a time, unless they are disarmed before.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    base::{future::BoxFuture, store_error::StoreError},
    port::clock::Clock,
};

/// The longest id of a deadline, in bytes.
pub const MAX_DEADLINE_ID_BYTES: usize = 272;

/// Keeps deadlines, and delivers them when they are due.
///
/// An event store has this port beside its own, so that every pair of stores has it. The contract in words;
/// `contract::deadlines` (feature `contract`) is the same as tests:
///
/// - An armed deadline is delivered after its time, and not before. A deadline whose time has passed is due at once.
/// - A deadline that is armed again under its id replaces the older one. A disarmed deadline is not delivered any more,
///   also if its time has passed, unless it was delivered before.
/// - It is delivered again and again until a receiver calls [`done`](Due::done) (at-least-once). Each delivery goes to
///   one of the waiting receivers.
/// - Deadlines that are delivered again [later](Due::later) hold up no others, however many they are, and count how
///   often they were delayed.
/// - A deadline is as durable as the store's events.
/// - Ids are opaque: any text of at most [`MAX_DEADLINE_ID_BYTES`] bytes is an id of its own.
#[diagnostic::on_unimplemented(
    message = "`{Self}` keeps no deadlines, which policies need",
    note = "keep the events in memory or on NATS, or implement `Deadlines` for their store"
)]
pub trait Deadlines: Send + Sync + 'static {
    /// The type that [`due`](Deadlines::due) returns.
    type Queue: DueQueue;

    /// Creates the place for deadlines, if it does not exist.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] if the store can keep no deadlines.
    ///
    /// # Cancel safety
    ///
    /// It can be called again.
    fn prepare(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Arms a deadline, in place of the one of that id if it exists, unless that was armed with a higher
    /// [`order`](Deadline::order). Idempotent: with the same [`arming`](Deadline::arming), it is armed once.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the deadline may be armed all the same.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may be carried out, now or later.
    fn arm(&self, deadline: &Deadline) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Disarms the deadline of that id, unless it was armed with a higher [`order`](Deadline::order). Nothing happens
    /// if it does not exist.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the deadline may be disarmed all the same.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may be carried out, now or later.
    fn disarm(&self, id: &str, order: u64) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The queue of due deadlines. A store in memory uses `clock`; other stores use their own.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn due(&self, clock: Arc<dyn Clock>) -> impl Future<Output = Result<Self::Queue, StoreError>> + Send;

    /// How many deadlines are due at `now`, and neither done nor delayed. A store that delivers deadlines by its own
    /// clock counts those that it can deliver. As long as no [queue](Self::due) was ever opened, it may count all of
    /// them as one.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn overdue(&self, now: Timestamp) -> impl Future<Output = Result<u64, StoreError>> + Send;
}

/// Deadlines as they become due; see [`Deadlines::due`].
pub trait DueQueue: Send + 'static {
    /// Waits for the next one.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; after any error the queue has ended: call [`Deadlines::due`] again.
    ///
    /// # Cancel safety
    ///
    /// A deadline that a dropped call had taken is delivered again.
    fn next(&mut self) -> impl Future<Output = Result<Due, StoreError>> + Send;
}

/// A deadline to arm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadline {
    /// Its id. Of each id there is at most one deadline.
    pub id: String,
    /// When it is due.
    pub at: Timestamp,
    /// The content of its delivery.
    pub payload: Bytes,
    /// When it was decided, as a number that grows: an earlier decision never undoes a later one.
    pub order: u64,
    /// The id of this arming; each arming has a new id, and a repeat of the same arming has the same.
    pub arming: Uuid,
}

/// A deadline that is due. If it is dropped, it is delivered again a little later.
pub struct Due {
    id: String,
    payload: Bytes,
    put_off: u32,
    settle: SettleDue,
}

type SettleDue = Box<dyn FnOnce(Option<Duration>) -> BoxFuture<'static, Result<(), StoreError>> + Send>;

impl Due {
    /// Makes a due deadline. `settle(None)` ends it; `settle(Some(pause))` delivers it again after the pause. For
    /// adapters.
    pub fn new<F>(
        id: String,
        payload: Bytes,
        settle: impl FnOnce(Option<Duration>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), StoreError>> + Send + 'static,
    {
        Self { id, payload, put_off: 0, settle: Box::new(|again| Box::pin(settle(again))) }
    }

    /// Sets how often it was delayed before. For adapters.
    pub fn put_off_before(self, times: u32) -> Self {
        Self { put_off: times, ..self }
    }

    /// The deadline's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The payload with which it was armed.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// How often it was [delayed](Self::later) since it was armed.
    pub fn put_off(&self) -> u32 {
        self.put_off
    }

    /// Ends the deadline: it is not delivered again.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; then it may be delivered again.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, the deadline may be delivered again.
    pub async fn done(self) -> Result<(), StoreError> {
        (self.settle)(None).await
    }

    /// Delays the deadline: it is delivered again after `pause`. Until then it holds up no other deadline, however many
    /// are delayed.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; then it is delivered again at some other time.
    ///
    /// # Cancel safety
    ///
    /// If it is dropped, the deadline is delivered again at some other time.
    pub async fn later(self, pause: Duration) -> Result<(), StoreError> {
        (self.settle)(Some(pause)).await
    }
}

impl fmt::Debug for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Due").field("id", &self.id).finish_non_exhaustive()
    }
}

/// [`Deadlines`] without its type.
pub(crate) trait AnyDeadlines: Send + Sync + 'static {
    fn prepare(&self) -> BoxFuture<'_, Result<(), StoreError>>;
    fn arm<'a>(&'a self, deadline: &'a Deadline) -> BoxFuture<'a, Result<(), StoreError>>;
    fn disarm<'a>(&'a self, id: &'a str, order: u64) -> BoxFuture<'a, Result<(), StoreError>>;
    fn due(&self, clock: Arc<dyn Clock>) -> BoxFuture<'_, Result<Box<dyn AnyDueQueue>, StoreError>>;
    fn overdue(&self, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>>;
}

impl<D: Deadlines> AnyDeadlines for D {
    fn prepare(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(D::prepare(self))
    }

    fn arm<'a>(&'a self, deadline: &'a Deadline) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(D::arm(self, deadline))
    }

    fn disarm<'a>(&'a self, id: &'a str, order: u64) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(D::disarm(self, id, order))
    }

    fn due(&self, clock: Arc<dyn Clock>) -> BoxFuture<'_, Result<Box<dyn AnyDueQueue>, StoreError>> {
        Box::pin(async move { Ok(Box::new(D::due(self, clock).await?) as Box<dyn AnyDueQueue>) })
    }

    fn overdue(&self, now: Timestamp) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(D::overdue(self, now))
    }
}

/// [`DueQueue`] without its type.
pub(crate) trait AnyDueQueue: Send + 'static {
    fn next(&mut self) -> BoxFuture<'_, Result<Due, StoreError>>;
}

impl<Q: DueQueue> AnyDueQueue for Q {
    fn next(&mut self) -> BoxFuture<'_, Result<Due, StoreError>> {
        Box::pin(Q::next(self))
    }
}
