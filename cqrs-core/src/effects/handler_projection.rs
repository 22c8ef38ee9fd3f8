//! The projection of an event handler: it saves only progress, after the events were handled.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing::Instrument as _;

use crate::{
    base::{
        id::{AggregateKey, Position, ProjectionId},
        lanes::{self, lanes},
        panics::awaited_unless_panics,
        store_error::StoreError,
    },
    effects::handler::{EventHandler, HandlerError, HandlerOf, HandlerSources as _, Handling, SharesHandler},
    port::{
        any_views::AnyViews,
        projection::{Batch, ProjectError, Projection, ProjectionSettings},
        view_store::ViewStore,
    },
    projector::rules::save,
};

/// How many events are handled before progress is saved; at most so many are repeated after a crash.
const MAX_EVENTS: usize = 256;

/// The handler `H` with its place for progress.
pub(crate) struct HandlerProjection<H: EventHandler> {
    handler: Arc<HandlerOf<H>>,
    views: AnyViews,
    /// Events that this process has handled since progress was last saved: if their batch comes again, they are
    /// skipped.
    handled: Mutex<HashSet<Position>>,
    under_way: Arc<UnderWay>,
}

/// The events that are being handled.
type UnderWay = Mutex<Vec<(AggregateKey, Position)>>;

/// One event of a lane.
struct Work {
    aggregate: AggregateKey,
    position: Position,
    span: tracing::Span,
    handling: Handling,
}

/// The result of a lane.
struct Ended {
    done: Vec<Position>,
    failure: Option<(usize, HandlerError)>,
}

impl<H: EventHandler> HandlerProjection<H> {
    pub(crate) fn new(handler: HandlerOf<H>, views: AnyViews) -> Self {
        Self { handler: Arc::new(handler), views, handled: Mutex::default(), under_way: Arc::default() }
    }

    /// The calls for the events of a batch that are not handled yet.
    fn work(&self, batch: &Batch<'_>) -> Result<Vec<(usize, Work)>, ProjectError> {
        batch.each(|event| {
            let position = event.position();
            if self.handled().contains(&position) {
                return Ok(None);
            }
            let (aggregate, span) = (event.stored.commit.aggregate.clone(), event.span());
            let handling = <H::Of as SharesHandler<H>>::handling(&self.handler, event)?;
            Ok(handling.map(|handling| Work { aggregate, position, span, handling }))
        })
    }

    fn handled(&self) -> MutexGuard<'_, HashSet<Position>> {
        lock(&self.handled)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Handles the events of one aggregate, up to the first that fails.
async fn handle(work: Vec<(usize, Work)>, under_way: Arc<UnderWay>) -> Ended {
    let mut ended = Ended { done: Vec::with_capacity(work.len()), failure: None };
    for (index, Work { aggregate, position, span, handling }) in work {
        lock(&under_way).push((aggregate, position));
        let handled = unless_panics(handling).instrument(span).await;
        lock(&under_way).retain(|(_, begun)| *begun != position);
        if let Err(error) = handled {
            ended.failure = Some((index, error));
            break;
        }
        ended.done.push(position);
    }
    ended
}

/// Runs the call for an event; a panic is a permanent error of this event.
async fn unless_panics(handling: Handling) -> Result<(), HandlerError> {
    let handled = awaited_unless_panics(handling).await;
    handled.unwrap_or_else(|panic| Err(HandlerError::permanent(format!("the handler panicked: {panic}"))))
}

impl<H: EventHandler> Projection for HandlerProjection<H> {
    type Store = AnyViews;

    fn store(&self) -> &AnyViews {
        &self.views
    }

    fn settings(&self) -> ProjectionSettings {
        // Each event may become a dead letter, which is one write.
        let max_events = MAX_EVENTS.min(self.views.max_writes());
        ProjectionSettings {
            on_failure: H::ON_FAILURE,
            retry: H::RETRY,
            ignored: H::IGNORED,
            start: H::START,
            has_effects: true,
            ..ProjectionSettings::new(H::Of::names(), max_events)
        }
    }

    fn under_way(&self) -> Vec<(AggregateKey, Position)> {
        let mut begun = lock(&self.under_way).clone();
        begun.sort_by_key(|(_, position)| *position);
        begun
    }

    async fn project(&self, projection: &ProjectionId, batch: Batch<'_>) -> Result<u64, ProjectError> {
        let lanes = lanes(self.work(&batch)?, |(_, work)| work.aggregate.clone());
        let mut failure: Option<(usize, HandlerError)> = None;
        // The calls of a dropped attempt have ended.
        lock(&self.under_way).clear();
        let handle = |work| handle(work, Arc::clone(&self.under_way));
        for ended in lanes::run(lanes, H::LANES.max(1), handle).await {
            let ended = ended.map_err(|error| StoreError::unavailable("handling events", error))?;
            self.handled().extend(ended.done);
            // The projector handles the failure of the first event; the others fail again later, or succeed.
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
        let revision = save(&self.views, projection, &batch, &[], batch.notes).await?;
        // Some lanes may have handled events behind the saved checkpoint.
        self.handled().retain(|position| position.sequence > batch.checkpoint.sequence);
        Ok(revision)
    }
}
