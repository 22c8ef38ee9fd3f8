//! The port that a projector drives: it applies events to a store, in one write with the checkpoint.

use std::{any::Any, future::Future, time::Duration};

use bytes::Bytes;

use crate::{
    base::{
        future::BoxFuture,
        id::{AggregateKey, Position, ProjectionId},
        store_error::StoreError,
    },
    log::recorded::Recorded,
    model::follow::{OnFailure, Retry, Start},
    port::view_store::{Checkpoint, Note, Reached, SaveError, SavedCheckpoint, ViewStore},
};

/// A projection that keeps its own results, such as rows in its own tables.
///
/// A [`View`](crate::View) does not implement it: its documents are kept by a [`ViewStore`](crate::port::ViewStore).
/// This port is for adapters that apply events in a transaction of their own store. The projector calls
/// [`project`](Projection::project) with events in order, never two calls at the same time, and does the rest: it
/// follows the log, retries, sets aside events that cannot be applied, and reads the checkpoint again after any
/// failure.
pub trait Projection: Send + Sync + 'static {
    /// The view store that keeps the checkpoint, the notes and, by default, the results.
    type Store: ViewStore;

    /// The view store.
    fn store(&self) -> &Self::Store;

    /// Which events it applies, and what its projector does about events that it cannot apply.
    fn settings(&self) -> ProjectionSettings;

    /// The events that it has begun and not finished, if it knows them: a service that stops before they are finished
    /// reports them, see [`Unfinished`](crate::operate::Unfinished).
    fn under_way(&self) -> Vec<(AggregateKey, Position)> {
        Vec::new()
    }

    /// Creates the place for the results, if it does not exist.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// It can be called again.
    fn open(&self, projection: &ProjectionId) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.store().open(projection)
    }

    /// The saved checkpoint, with the revision that the next [`project`](Projection::project) names. It includes
    /// everything that was saved before the call.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn checkpoint(
        &self,
        projection: &ProjectionId,
    ) -> impl Future<Output = Result<SavedCheckpoint, StoreError>> + Send {
        self.store().checkpoint(projection)
    }

    /// The projection's notes whose keys begin with `prefix`, sorted by key. They include everything that was saved
    /// before the call.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn notes(
        &self,
        projection: &ProjectionId,
        prefix: &str,
    ) -> impl Future<Output = Result<Vec<(String, Bytes)>, StoreError>> + Send {
        self.store().notes(projection, prefix)
    }

    /// Applies events in order and saves the notes and the checkpoint, all in one write, if the checkpoint's revision
    /// is still the named one (compare-and-set). Returns the new revision.
    ///
    /// # Errors
    ///
    /// [`ProjectError`]. If it names an event, nothing is saved; after any other error the write may be stored, as a
    /// whole.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may be carried out, now or later; it is stored as a whole or not at all.
    fn project(
        &self,
        projection: &ProjectionId,
        batch: Batch<'_>,
    ) -> impl Future<Output = Result<u64, ProjectError>> + Send;

    /// Continues work that an earlier [`project`](Projection::project) has noted and not finished, such as the intents
    /// of a policy. Returns the revision of the checkpoint, which may be a new one.
    ///
    /// The active projector calls it before its first batch, and later, without new events, whenever the time of
    /// [`waiting`](Projection::waiting) has passed. It must be idempotent. A projection without effects keeps the
    /// default.
    ///
    /// # Errors
    ///
    /// [`SaveError`]; the projector calls it again later.
    ///
    /// # Cancel safety
    ///
    /// It can be called again.
    fn resume(
        &self,
        projection: &ProjectionId,
        checkpoint: &Checkpoint,
        revision: u64,
    ) -> impl Future<Output = Result<u64, SaveError>> + Send {
        let _ = (projection, checkpoint);
        std::future::ready(Ok(revision))
    }

    /// Work that earlier calls have left unfinished, and when [`resume`](Projection::resume) should continue it. `None`
    /// if there is no such work.
    fn waiting(&self) -> Option<Waiting> {
        None
    }

    /// Called when its projector ends: work in progress must not continue in this process.
    fn let_go(&self) {}

    /// Waits, without polling, until the checkpoint is at or after `sequence`; see
    /// [`ViewStore::reached`](crate::port::ViewStore::reached).
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn reached(
        &self,
        projection: &ProjectionId,
        sequence: u64,
    ) -> impl Future<Output = Result<Reached, StoreError>> + Send {
        self.store().reached(projection, sequence)
    }

    /// Removes the results, the notes and the checkpoint. Nothing happens if they are not there.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// A dropped removal may have happened, or happen later.
    fn remove(&self, projection: &ProjectionId) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.store().remove(projection)
    }
}

/// Which events a projection applies, and what its projector does about events that it cannot apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionSettings {
    /// The stored names of the aggregates whose events it applies.
    pub aggregates: Vec<&'static str>,
    /// What happens with an event that cannot be applied.
    pub on_failure: OnFailure,
    /// How long it waits for a failure that may pass, before it does that.
    pub retry: Retry,
    /// The stored names of events that it skips without reading them, also if this program does not know them or their
    /// version. They count as applied.
    pub ignored: &'static [&'static str],
    /// Where in the log it begins when it runs for the first time.
    pub start: Start,
    /// Whether it has effects outside of its own store, such as mails or commands. Such a projection cannot be rebuilt,
    /// because a rebuild would repeat its effects.
    pub has_effects: bool,
    /// The most events in one [`project`](Projection::project), unless a single commit has more; at least 1.
    pub max_events: usize,
}

impl ProjectionSettings {
    /// The default settings: events that cannot be applied are set aside, and the projection begins with the first
    /// event.
    pub fn new(aggregates: Vec<&'static str>, max_events: usize) -> Self {
        Self {
            aggregates,
            on_failure: OnFailure::default(),
            retry: Retry::DEFAULT,
            ignored: &[],
            start: Start::Beginning,
            has_effects: false,
            max_events,
        }
    }
}

/// Unfinished work of a projection; see [`Projection::waiting`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// After how long it should continue.
    pub after: Duration,
    /// Why it is not finished.
    pub reason: String,
}

/// Events to apply, and what to save with them.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The events, in order.
    pub events: &'a [Recorded<'a>],
    /// The notes to save.
    pub notes: &'a [Note],
    /// The checkpoint after the events.
    pub checkpoint: &'a Checkpoint,
    /// The revision of the checkpoint that this one replaces.
    pub revision: u64,
}

/// Why a batch was not projected.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// One event cannot be applied. Nothing was saved.
    #[error("an event cannot be applied: {reason}")]
    Event {
        /// Its index in [`Batch::events`].
        index: usize,
        /// Why it cannot be applied.
        reason: String,
        /// Whether a retry may succeed.
        transient: bool,
    },
    /// This program does not know one event; a newer program may. Nothing was saved.
    #[error("an event is unknown to this program: {reason}")]
    Unknown {
        /// Its index in [`Batch::events`].
        index: usize,
        /// What is unknown.
        reason: String,
    },
    /// The write as a whole failed.
    #[error(transparent)]
    Save(#[from] SaveError),
}

impl ProjectError {
    /// The error that one event cannot be applied because it [cannot be decoded](Recorded::decode).
    #[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
    pub fn undecodable(index: usize, error: StoreError) -> Self {
        let reason = error.to_string();
        match error {
            StoreError::UnknownEvent { .. } | StoreError::UnknownVersion { .. } => {
                Self::Unknown { index, reason }
            }
            _ => Self::Event { index, reason, transient: false },
        }
    }
}

impl From<StoreError> for ProjectError {
    fn from(error: StoreError) -> Self {
        Self::Save(SaveError::Failed(error))
    }
}

/// [`Projection`] without its type, so that one projector serves all projections. The dynamic calls are one for each
/// batch.
pub(crate) trait AnyProjection: Any + Send + Sync {
    fn settings(&self) -> ProjectionSettings;
    fn under_way(&self) -> Vec<(AggregateKey, Position)>;
    fn waiting(&self) -> Option<Waiting>;
    fn let_go(&self);
    /// The name under which the projector of a build subscribes to its own context's log.
    fn subscriber(&self, id: &ProjectionId) -> String;
    fn open<'a>(&'a self, id: &'a ProjectionId) -> BoxFuture<'a, Result<(), StoreError>>;
    fn checkpoint<'a>(&'a self, id: &'a ProjectionId) -> BoxFuture<'a, Result<SavedCheckpoint, StoreError>>;
    fn notes<'a>(
        &'a self,
        id: &'a ProjectionId,
        prefix: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(String, Bytes)>, StoreError>>;
    fn project<'a>(
        &'a self,
        id: &'a ProjectionId,
        batch: Batch<'a>,
    ) -> BoxFuture<'a, Result<u64, ProjectError>>;
    fn resume<'a>(
        &'a self,
        id: &'a ProjectionId,
        checkpoint: &'a Checkpoint,
        revision: u64,
    ) -> BoxFuture<'a, Result<u64, SaveError>>;
    fn reached<'a>(
        &'a self,
        id: &'a ProjectionId,
        sequence: u64,
    ) -> BoxFuture<'a, Result<Reached, StoreError>>;
    fn remove<'a>(&'a self, id: &'a ProjectionId) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// The name under which the projector of a build subscribes to its own context's log. `=` is in no other name, so that
/// it cannot equal the name of a view.
pub(crate) fn subscriber(id: &ProjectionId, place: Option<&str>) -> String {
    place.map_or_else(|| id.to_string(), |place| format!("{id}=at={place}"))
}

impl<P: Projection> AnyProjection for P {
    fn settings(&self) -> ProjectionSettings {
        P::settings(self)
    }

    fn under_way(&self) -> Vec<(AggregateKey, Position)> {
        P::under_way(self)
    }

    fn waiting(&self) -> Option<Waiting> {
        P::waiting(self)
    }

    fn let_go(&self) {
        P::let_go(self);
    }

    fn subscriber(&self, id: &ProjectionId) -> String {
        subscriber(id, P::store(self).name().as_deref())
    }

    fn open<'a>(&'a self, id: &'a ProjectionId) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(P::open(self, id))
    }

    fn checkpoint<'a>(&'a self, id: &'a ProjectionId) -> BoxFuture<'a, Result<SavedCheckpoint, StoreError>> {
        Box::pin(P::checkpoint(self, id))
    }

    fn notes<'a>(
        &'a self,
        id: &'a ProjectionId,
        prefix: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(String, Bytes)>, StoreError>> {
        Box::pin(P::notes(self, id, prefix))
    }

    fn project<'a>(
        &'a self,
        id: &'a ProjectionId,
        batch: Batch<'a>,
    ) -> BoxFuture<'a, Result<u64, ProjectError>> {
        Box::pin(P::project(self, id, batch))
    }

    fn resume<'a>(
        &'a self,
        id: &'a ProjectionId,
        checkpoint: &'a Checkpoint,
        revision: u64,
    ) -> BoxFuture<'a, Result<u64, SaveError>> {
        Box::pin(P::resume(self, id, checkpoint, revision))
    }

    fn reached<'a>(
        &'a self,
        id: &'a ProjectionId,
        sequence: u64,
    ) -> BoxFuture<'a, Result<Reached, StoreError>> {
        Box::pin(P::reached(self, id, sequence))
    }

    fn remove<'a>(&'a self, id: &'a ProjectionId) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(P::remove(self, id))
    }
}
