//! The port to deadlines: something to be done at a time, unless it is disarmed before.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    base::{error::StoreError, future::BoxFuture},
    port::clock::Clock,
};

/// The longest id of a deadline, in bytes.
pub const MAX_DEADLINE_ID_BYTES: usize = 272;

/// Keeps deadlines, and hands them out when they are due.
///
/// An event store has this port beside its own, so that every pair of stores has it. The contract in words;
/// `contract::deadlines` (feature `contract`) is the same as tests:
///
/// - A deadline that was armed comes once its time has come, and not before. A time that is past has come.
/// - Armed again under its id, the newer one takes the place of the older. Disarmed, it does not come any more,
///   not even if its time has come already, unless somebody was handed it before.
/// - It comes again and again until somebody says that it is [`done`](Due::done). Of those who wait, one gets it.
/// - Those that come again [later](Due::later) keep no others from coming, however many they are, and count how often
///   they were put off.
/// - It survives whatever the store's events survive.
/// - Ids are opaque: any text of at most [`MAX_DEADLINE_ID_BYTES`] bytes is an id of its own.
#[diagnostic::on_unimplemented(
    message = "`{Self}` keeps no deadlines, which policies need",
    note = "keep the events in memory or on NATS, or implement `Deadlines` for their store"
)]
pub trait Deadlines: Send + Sync + 'static {
    /// What [`due`](Deadlines::due) returns.
    type Queue: DueQueue;

    /// Prepares the place for deadlines, if it is not there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] where the store can keep no deadlines.
    ///
    /// # Cancel safety
    ///
    /// It can be called again.
    fn prepare(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Arms a deadline, in the place of the one of that id if there is one, unless that was armed with a higher
    /// [`order`](Deadline::order). Armed again with the same [`arming`](Deadline::arming), it is armed once.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it may be armed all the same.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may be carried out, now or later.
    fn arm(&self, deadline: &Deadline) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Disarms the deadline of that id, unless it was armed with a higher [`order`](Deadline::order). Nothing
    /// happens if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it may be disarmed all the same.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may be carried out, now or later.
    fn disarm(&self, id: &str, order: u64) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The deadlines that are due, as they come. A store in memory goes by `clock`, another by its own.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn due(&self, clock: Arc<dyn Clock>) -> impl Future<Output = Result<Self::Queue, StoreError>> + Send;
}

/// A shared store is a store.
#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl<D: Deadlines> Deadlines for Arc<D> {
    type Queue = D::Queue;

    fn prepare(&self) -> impl Future<Output = Result<(), StoreError>> + Send {
        D::prepare(self)
    }

    fn arm(&self, deadline: &Deadline) -> impl Future<Output = Result<(), StoreError>> + Send {
        D::arm(self, deadline)
    }

    fn disarm(&self, id: &str, order: u64) -> impl Future<Output = Result<(), StoreError>> + Send {
        D::disarm(self, id, order)
    }

    fn due(&self, clock: Arc<dyn Clock>) -> impl Future<Output = Result<D::Queue, StoreError>> + Send {
        D::due(self, clock)
    }
}

/// Deadlines as they become due; see [`Deadlines::due`].
pub trait DueQueue: Send + 'static {
    /// Waits for the next one.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; after any error the queue is over: ask for another.
    ///
    /// # Cancel safety
    ///
    /// A deadline that a dropped call had taken comes again.
    fn next(&mut self) -> impl Future<Output = Result<Due, StoreError>> + Send;
}

/// A deadline to be armed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadline {
    /// Which one. Of each id there is at most one.
    pub id: String,
    /// When it is due.
    pub at: Timestamp,
    /// What comes back then.
    pub payload: Bytes,
    /// When it was decided, as a number that grows: what was decided earlier never undoes it.
    pub order: u64,
    /// The id of this arming, which is new whenever a deadline is armed anew.
    pub arming: Uuid,
}

/// A deadline whose time has come. Dropped, it comes again a little later.
pub struct Due {
    id: String,
    payload: Bytes,
    put_off: u32,
    settle: SettleDue,
}

type SettleDue = Box<dyn FnOnce(Option<Duration>) -> BoxFuture<'static, Result<(), StoreError>> + Send>;

impl Due {
    /// A deadline that is over when `settle` is called with none, and comes again after the time that it is
    /// called with. For adapters.
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

    /// With the number of times that it was put off before. For adapters.
    pub fn put_off_before(self, times: u32) -> Self {
        Self { put_off: times, ..self }
    }

    /// Which one.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it was armed with.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// How often somebody wanted it [later](Self::later), since it was armed.
    pub fn put_off(&self) -> u32 {
        self.put_off
    }

    /// It is over: it does not come again.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it may come again then.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may come again.
    pub async fn done(self) -> Result<(), StoreError> {
        (self.settle)(None).await
    }

    /// It comes again after `pause`, and until then it keeps no other from coming, however many are put off.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it comes again at some other time then.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it comes again at some other time.
    pub async fn later(self, pause: Duration) -> Result<(), StoreError> {
        (self.settle)(Some(pause)).await
    }
}

impl fmt::Debug for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Due").field("id", &self.id).finish_non_exhaustive()
    }
}

/// [`Deadlines`] without its type: what policies need of it.
pub(crate) trait AnyDeadlines: Send + Sync + 'static {
    fn arm<'a>(&'a self, deadline: &'a Deadline) -> BoxFuture<'a, Result<(), StoreError>>;
    fn disarm<'a>(&'a self, id: &'a str, order: u64) -> BoxFuture<'a, Result<(), StoreError>>;
}

impl<D: Deadlines> AnyDeadlines for D {
    fn arm<'a>(&'a self, deadline: &'a Deadline) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(D::arm(self, deadline))
    }

    fn disarm<'a>(&'a self, id: &'a str, order: u64) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(D::disarm(self, id, order))
    }
}
