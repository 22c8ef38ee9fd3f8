//! The projection of a handler: nothing but its progress is kept, and the work is done before that is saved.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use crate::{
    AggregateKey, Batch, Handler, HandlerError, HandlerSources, OnFailure, Position, ProjectError,
    Projection, ProjectionId, Reached, Retry, Save, SavedCheckpoint, Start, StoreError, ViewStore,
    documents::unless_panics as unless_panicked,
    handler::Handling,
    lanes::{self, lanes},
    panics::awaited_unless_panics,
};

/// How many events are handled before progress is saved, and come again after a crash, at most.
const MAX_EVENTS: usize = 256;

/// The progress of `H` in the view store `S`.
pub(crate) struct HandlerProjection<H, S> {
    handler: Arc<H>,
    views: Arc<S>,
    /// What this process has handled since progress was last saved: it is not handled again when the batch is.
    handled: Mutex<HashSet<Position>>,
    under_way: Arc<UnderWay>,
}

/// The events that are being handled.
type UnderWay = Mutex<Vec<(AggregateKey, Position)>>;

/// One event of a lane.
struct Work {
    index: usize,
    aggregate: AggregateKey,
    position: Position,
    handling: Handling,
}

/// How far a lane got.
struct Ended {
    done: Vec<Position>,
    failure: Option<(usize, HandlerError)>,
}

impl<H: Handler, S: ViewStore> HandlerProjection<H, S> {
    pub(crate) fn new(handler: H, views: Arc<S>) -> Self {
        Self { handler: Arc::new(handler), views, handled: Mutex::default(), under_way: Arc::default() }
    }

    /// What is still to be done of a batch.
    fn work(&self, batch: &Batch<'_>) -> Result<Vec<Work>, ProjectError> {
        let mut work = Vec::new();
        for (index, event) in batch.events.iter().enumerate() {
            let position = event.position();
            if self.handled().contains(&position) {
                continue;
            }
            let handling = unless_panicked(index, || H::Of::handling(&self.handler, event))?;
            let handling = handling.map_err(|error| ProjectError::undecodable(index, error))?;
            let aggregate = event.stored.commit.aggregate.clone();
            work.extend(handling.map(|handling| Work { index, aggregate, position, handling }));
        }
        Ok(work)
    }

    fn handled(&self) -> MutexGuard<'_, HashSet<Position>> {
        lock(&self.handled)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Handles the events of one aggregate, up to one that fails.
async fn handle(work: Vec<Work>, under_way: Arc<UnderWay>) -> Ended {
    let mut ended = Ended { done: Vec::with_capacity(work.len()), failure: None };
    for Work { index, aggregate, position, handling } in work {
        failpoint!(BeforeHandle, &aggregate.to_string());
        lock(&under_way).push((aggregate.clone(), position));
        let handled = unless_panics(handling).await;
        lock(&under_way).retain(|(_, begun)| *begun != position);
        if let Err(error) = handled {
            ended.failure = Some((index, error));
            break;
        }
        failpoint!(AfterHandle, &aggregate.to_string());
        ended.done.push(position);
    }
    ended
}

/// Runs the handling of an event; a panic is an error about this event.
async fn unless_panics(handling: Handling) -> Result<(), HandlerError> {
    let handled = awaited_unless_panics(handling).await;
    handled.unwrap_or_else(|panic| Err(HandlerError::permanent(format!("the handler panicked: {panic}"))))
}

impl<H: Handler, S: ViewStore> Projection for HandlerProjection<H, S> {
    fn aggregates(&self) -> Vec<&'static str> {
        H::Of::names()
    }

    fn on_failure(&self) -> OnFailure {
        H::ON_FAILURE
    }

    fn retry(&self) -> Retry {
        H::RETRY
    }

    fn ignored(&self) -> &'static [&'static str] {
        H::IGNORED
    }

    fn start(&self) -> Start {
        H::START
    }

    fn has_effects(&self) -> bool {
        true
    }

    fn max_events(&self) -> usize {
        // So that each may become a dead letter.
        MAX_EVENTS.min(self.views.max_writes())
    }

    fn under_way(&self) -> Vec<(AggregateKey, Position)> {
        let mut begun = lock(&self.under_way).clone();
        begun.sort_by_key(|(_, position)| *position);
        begun
    }

    fn place(&self) -> Option<String> {
        self.views.place()
    }

    async fn open(&self, projection: &ProjectionId) -> Result<(), StoreError> {
        self.views.open(projection).await
    }

    async fn checkpoint(&self, projection: &ProjectionId) -> Result<SavedCheckpoint, StoreError> {
        self.views.checkpoint(projection).await
    }

    async fn notes(
        &self,
        projection: &ProjectionId,
        prefix: &str,
    ) -> Result<Vec<(String, Bytes)>, StoreError> {
        self.views.notes(projection, prefix).await
    }

    async fn project(&self, projection: &ProjectionId, batch: Batch<'_>) -> Result<u64, ProjectError> {
        let lanes = lanes(self.work(&batch)?, |work| work.aggregate.clone());
        let mut failure: Option<(usize, HandlerError)> = None;
        // What a dropped attempt had begun is not under way any more.
        lock(&self.under_way).clear();
        let handle = |work| handle(work, Arc::clone(&self.under_way));
        for ended in lanes::run(lanes, H::LANES.max(1), handle).await {
            let ended = ended.map_err(|error| StoreError::unavailable("handling events", error))?;
            self.handled().extend(ended.done);
            // The first of several failures is dealt with first; the others fail again, or do not.
            if ended
                .failure
                .as_ref()
                .is_some_and(|(index, _)| failure.as_ref().is_none_or(|(first, _)| index < first))
            {
                failure = ended.failure;
            }
        }
        if let Some((index, HandlerError { reason, transient })) = failure {
            return Err(ProjectError::Event { index, reason, transient });
        }
        let Batch { notes, checkpoint, revision, .. } = batch;
        let revision = self.views.save(projection, Save { writes: &[], notes, checkpoint, revision }).await?;
        // Lanes may have come further than what is saved.
        self.handled().retain(|position| position.sequence > checkpoint.sequence);
        Ok(revision)
    }

    async fn reached(&self, projection: &ProjectionId, sequence: u64) -> Result<Reached, StoreError> {
        self.views.reached(projection, sequence).await
    }

    async fn remove(&self, projection: &ProjectionId) -> Result<(), StoreError> {
        self.views.remove(projection).await
    }
}
