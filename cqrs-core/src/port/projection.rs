//! What a projector drives: something that applies events to a store, in one write with its checkpoint.

use std::{future::Future, time::Duration};

use bytes::Bytes;

use crate::{
    base::{
        error::StoreError,
        future::BoxFuture,
        id::{AggregateKey, Position, ProjectionId},
    },
    log::recorded::Recorded,
    model::follow::{OnFailure, Retry, Start},
    port::view_store::{Checkpoint, Note, Reached, SaveError, SavedCheckpoint, ViewStore},
};

/// A projection that keeps its results itself, such as rows in tables of its own.
///
/// A [`View`](crate::View) needs none of this: its documents are kept by a [`ViewStore`](crate::port::ViewStore). This
/// port is for adapters that apply events in a transaction of their own store. The projector calls
/// [`project`](Projection::project) with events in order, never two calls at once, and does the rest:
/// following the log, trying again, setting events aside that cannot be applied, and reading the checkpoint
/// again after anything that is not a success.
pub trait Projection: Send + Sync + 'static {
    /// The view store that keeps its checkpoint and notes and, unless it says otherwise, its results.
    type Store: ViewStore;

    /// The view store.
    fn store(&self) -> &Self::Store;

    /// Which events it applies, and what its projector does about those that it cannot.
    fn settings(&self) -> ProjectionSettings;

    /// The events that it has begun with and not finished, as far as it knows them: a service that stops before they
    /// are finished names them, see [`Unfinished`](crate::operate::Unfinished).
    fn under_way(&self) -> Vec<(AggregateKey, Position)> {
        Vec::new()
    }

    /// Prepares the place for the results, if it is not there.
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

    /// How far the projection is, with the revision that the next [`project`](Projection::project) names.
    /// What was saved before the call is seen.
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

    /// The projection's notes whose keys begin with `prefix`, sorted by key. What was saved before the call
    /// is seen.
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

    /// Applies events in their order and saves the notes and the checkpoint, all in one write, if the
    /// checkpoint's revision is still the named one; returns the new revision.
    ///
    /// # Errors
    ///
    /// [`ProjectError`]. Nothing is saved when it names an event; after any other error the write may have
    /// been stored, as a whole.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may be carried out, now or later; it is whole or absent.
    fn project(
        &self,
        projection: &ProjectionId,
        batch: Batch<'_>,
    ) -> impl Future<Output = Result<u64, ProjectError>> + Send;

    /// Carries out what an earlier [`project`](Projection::project) has noted and not finished, such as the intents of a
    /// policy; returns the revision of the checkpoint, which may be a new one.
    ///
    /// The active projector calls it before its first batch, and without any event as often as
    /// [`waiting`](Projection::waiting) says. It must be idempotent. A projection without effects keeps the default.
    ///
    /// # Errors
    ///
    /// [`SaveError`]; it is called again later.
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

    /// What earlier calls have left to be done without any event, and when [`resume`](Projection::resume) is to be called
    /// for it. None where nothing is left.
    fn waiting(&self) -> Option<Waiting> {
        None
    }

    /// Its projector ends: what is under way is not to go on in this process.
    fn let_go(&self) {}

    /// Waits, without polling, until the checkpoint is at or after `sequence`; see [`ViewStore::reached`](crate::port::ViewStore::reached).
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

/// Which events a projection applies, and what its projector does about those that it cannot apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionSettings {
    /// The stored names of the aggregates whose events it applies.
    pub aggregates: Vec<&'static str>,
    /// What to do with an event that cannot be applied.
    pub on_failure: OnFailure,
    /// How long it waits for what may pass by itself, before it does that.
    pub retry: Retry,
    /// The stored names of events that it passes over without reading them, also when this program does not know
    /// them or their version. They count as applied.
    pub ignored: &'static [&'static str],
    /// Where in the log it begins, the first time that it runs.
    pub start: Start,
    /// Whether it has effects outside of its own store, such as mails or commands. Such a projection cannot be rebuilt,
    /// since a rebuild would repeat its effects.
    pub has_effects: bool,
    /// How many events one [`project`](Projection::project) takes at most, where a single commit does not have
    /// more; at least 1.
    pub max_events: usize,
}

impl ProjectionSettings {
    /// The usual ones: events that cannot be applied are set aside, and it begins with the first event.
    pub fn new(aggregates: Vec<&'static str>, max_events: usize) -> Self {
        Self {
            aggregates,
            on_failure: OnFailure::default(),
            retry: Retry::DEFAULT,
            ignored: &[],
            start: Start::default(),
            has_effects: false,
            max_events,
        }
    }
}

/// What a projection has still to do without any event; see [`Projection::waiting`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// When it is to be gone on with.
    pub after: Duration,
    /// Why it is not finished.
    pub reason: String,
}

/// Events to apply, and what to save with them.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The events, in order.
    pub events: &'a [Recorded<'a>],
    /// Notes to save.
    pub notes: &'a [Note],
    /// How far the projection is with them.
    pub checkpoint: &'a Checkpoint,
    /// The revision of the checkpoint that this one follows.
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
        /// Why not.
        reason: String,
        /// Whether the same may succeed a little later.
        transient: bool,
    },
    /// This program does not know one event: a newer one may. Nothing was saved.
    #[error("an event is unknown to this program: {reason}")]
    Unknown {
        /// Its index in [`Batch::events`].
        index: usize,
        /// What is unknown.
        reason: String,
    },
    /// The write as a whole did not succeed.
    #[error(transparent)]
    Save(#[from] SaveError),
}

impl ProjectError {
    /// That one event cannot be applied, since it [cannot be decoded](Recorded::decode).
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

/// [`Projection`] without its type, so that one projector serves them all: its calls are one for each batch.
pub(crate) trait AnyProjection: Send + Sync + 'static {
    fn settings(&self) -> ProjectionSettings;
    fn under_way(&self) -> Vec<(AggregateKey, Position)>;
    fn waiting(&self) -> Option<Waiting>;
    fn let_go(&self);
    /// The name under which the projector of a build follows the log.
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

/// The name under which the projector of a build follows its own context's log. `=` is in no other name, so that no
/// view is taken for another one elsewhere.
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
