//! The projector: applies each event of a log to a projection effectively once.
//!
//! The checkpoint is saved in the same write as the results, and it alone says how far the projection is. After any
//! failure (a lost delivery, a save without an answer, a write of another instance) the projector reads the checkpoint
//! again and continues from there. An event that cannot be applied becomes a dead letter, with the later events of its
//! aggregate, in the same write as the checkpoint.

use std::{collections::HashMap, mem, pin::pin, sync::Arc, time::Duration};

use crate::{
    base::{
        backoff,
        error::Error,
        id::ProjectionId,
        outage::OutagePart,
        source::describe,
        store_error::{StoreError, is_too_large},
    },
    log::recorded::Recorded,
    model::follow::OnFailure,
    port::{
        any_events::AnySubscription,
        clock::Clock,
        event_store::EventStore,
        projection::{AnyProjection, Batch, ProjectError, ProjectionSettings, Waiting},
        subscription::{Delivery, Subscribe, Subscription},
        view_store::{Note, SaveError},
    },
    projector::{
        cursor::Cursor,
        dead_letter::{DeadLetter, Failure, Fault, MAX_DEAD_LETTERS, by_hand::DeadLetters},
        deliveries::{chunks, commits, last_event, sequence, time},
        followed::Followed,
        gap::{self},
        plan::{Plan, plan},
        status::{Pace, ProjectorState, ProjectorStatus},
        stopping::Busy,
        waited::Waited,
    },
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error, info, warn};

/// The most commits in one request to the subscription.
const BATCH: usize = 512;

/// The pause before the projector starts again after a failure, at first and at most. It bounds how late the projector
/// notices that a fault has ended.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How long a projector pauses after it has given up the subscription because of an event that its program does not
/// know. The pause is longer than a standby takes to become active, so that another instance gets the event, and its
/// program may know it.
///
/// This, [`LOOK`] and [`LOOK_FOR_UNKNOWN`] do not detect an instance that is alive but stuck. The store decides which
/// instance is active: `cqrs-nats` pins the consumer to another client when a process stops sending requests. A process
/// with a projection that does not return keeps the pin.
const LEFT: Duration = Duration::from_secs(2);

/// How often a standby looks for dead letters with events that the active instance's program did not know.
const LOOK_FOR_UNKNOWN: Duration = Duration::from_secs(5);

/// How long an active projector with effects is idle before it looks for a new revision of the checkpoint. An
/// operator's call that retries, edits or drops a dead letter or an intent changes the revision.
const LOOK: Duration = Duration::from_secs(5);

/// How one subscription ended.
pub(super) enum End {
    Stopped,
    Failed(StoreError),
    /// Another write changed the checkpoint.
    Overtaken,
    /// Another build is about to become active in place of this one, or has done so.
    Replaced,
    /// This instance runs without projectors.
    Elsewhere,
    /// This program does not know the next event. The program of another instance may.
    Unknown(String),
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// The running projector of one build of a projection.
pub(crate) struct Projector {
    pub(crate) log: Followed,
    pub(crate) projection: Arc<dyn AnyProjection>,
    pub(crate) settings: ProjectionSettings,
    pub(crate) id: ProjectionId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) status: watch::Sender<ProjectorStatus>,
    pub(crate) stop: CancellationToken,
    pub(crate) busy: Busy,
    pub(crate) part: OutagePart,
    /// Whether it projects, or only prepares the place for results, so that queries can read it.
    pub(crate) projects: bool,
}

/// What a projector remembers from one subscription to the next.
struct Memory {
    /// Whether the place for results is prepared.
    is_open: bool,
    /// Whether it has subscribed before.
    has_projected: bool,
    waited: Waited,
}

/// Calls [`let_go`](AnyProjection::let_go) when its projector ends.
struct LetGo(Arc<dyn AnyProjection>);

impl Drop for LetGo {
    fn drop(&mut self) {
        self.0.let_go();
    }
}

impl Projector {
    /// Projects until it is stopped, or until a failure that is not transient. If the place for results could not be
    /// prepared, the projector tries again.
    pub(crate) async fn run(self, opened: Result<(), StoreError>) {
        let span = tracing::info_span!("project", projection = %self.id);
        // On every end: return, panic or abort.
        let _let_go = LetGo(Arc::clone(&self.projection));
        self.supervise(opened).instrument(span).await;
    }

    async fn supervise(&self, opened: Result<(), StoreError>) {
        let mut failures = 0;
        let mut memory = Memory {
            is_open: opened.is_ok(),
            has_projected: false,
            waited: Waited::new(self.settings.retry),
        };
        let mut failure = opened.err();
        loop {
            let before = self.status.borrow().sequence;
            let end = match failure.take() {
                Some(error) => End::Failed(error),
                None => self.open_and_follow(&mut memory).await.unwrap_or_else(|end| end),
            };
            if self.status.borrow().sequence > before {
                failures = 0;
            }
            let mut pause = backoff::pause(RETRY.0, RETRY.1, failures);
            let reason = match end {
                End::Stopped => return self.set(ProjectorState::Stopped),
                End::Replaced => return self.set(ProjectorState::Replaced),
                End::Elsewhere => return self.set(ProjectorState::Elsewhere),
                End::Failed(error) if !error.is_transient() => {
                    let reason = describe(&error);
                    error!(projection = %self.id, reason, "the projector has halted");
                    return self.set(ProjectorState::Halted { reason });
                }
                End::Failed(error) => {
                    self.part.failed(&error);
                    describe(&error)
                }
                End::Overtaken => "another save of the view came between".to_owned(),
                End::Unknown(reason) => {
                    pause = LEFT.min(self.settings.retry.unknown);
                    format!("{reason}; another program may know it")
                }
            };
            debug!(reason, "the projector starts again from its checkpoint");
            self.set(ProjectorState::Retrying { reason });
            failures += 1;
            if self.is_stopped_within(pause).await {
                return self.set(ProjectorState::Stopped);
            }
        }
    }

    /// Prepares the place for results once: if an operator removes it later, the projector does not create it again.
    async fn open_and_follow(&self, memory: &mut Memory) -> Result<End, End> {
        if !memory.is_open {
            self.projection.open(&self.id).await?;
            memory.is_open = true;
        }
        if self.projects { self.follow(memory).await } else { Ok(End::Elsewhere) }
    }

    async fn is_stopped_within(&self, pause: Duration) -> bool {
        tokio::time::timeout(pause, self.stop.cancelled()).await.is_ok()
    }

    /// Projects from the checkpoint on, until the subscription ends.
    async fn follow(&self, memory: &mut Memory) -> Result<End, End> {
        let aggregates = &self.settings.aggregates;
        let mut cursor = self.cursor(aggregates).await?;
        while cursor.has_unknown && self.apply_unknown().await? {
            cursor = self.cursor(aggregates).await?;
        }
        let subscriber = self.log.subscriber(&self.projection.subscriber(&self.id));
        let mut subscription = self
            .log
            .events
            .subscribe(Subscribe { subscriber: &subscriber, aggregates, after: cursor.checkpoint.sequence })
            .await?;
        if !subscription.is_standby() {
            self.resume(&mut cursor).await?;
        }
        self.progress(&cursor, subscription.pending(), None);
        if subscription.is_standby() || subscription.pending() == 0 {
            self.part.works();
        }
        let (from, dead_letters) = (cursor.checkpoint.sequence, cursor.parked.len());
        if mem::replace(&mut memory.has_projected, true) {
            debug!(projection = %self.id, from, dead_letters, "projecting again");
        } else {
            info!(projection = %self.id, from, dead_letters, "projecting");
        }
        let end =
            self.pump(&mut cursor, &mut subscription, &mut memory.waited).await.unwrap_or_else(|end| end);
        if !matches!(&end, End::Failed(error) if error.is_transient()) {
            // The next subscriber, of this instance or of another, becomes active at once.
            subscription.leave().await;
        }
        Ok(end)
    }

    async fn pump(
        &self,
        cursor: &mut Cursor,
        subscription: &mut AnySubscription,
        waited: &mut Waited,
    ) -> Result<End, End> {
        let mut looked_at = cursor.checkpoint.dead_letters;
        let mut speed = Pace::new(Instant::now());
        let max_events = self.settings.max_events;
        loop {
            let is_standby = subscription.is_standby();
            let goes_on = self.settings.has_effects && !is_standby;
            let pending = subscription.pending();
            let deliveries = {
                // Requested before it is needed, and not dropped while other branches run: a dropped call may have taken
                // deliveries.
                let mut next = pin!(subscription.next(max_events.clamp(1, BATCH)));
                loop {
                    let pause = self.projection.waiting().map_or(LOOK, |waiting| waiting.after.min(LOOK));
                    tokio::select! {
                        biased;
                        // First, so that a service that stops begins no other batch.
                        () = self.stop.cancelled() => return Ok(End::Stopped),
                        deliveries = &mut next => break deliveries?,
                        looked = self.look_for_unknown(&mut looked_at), if is_standby => looked?,
                        () = tokio::time::sleep(pause), if goes_on => self.go_on(cursor, pending).await?,
                    }
                }
            };
            if self.log.events.era() != cursor.era {
                let what = "the log may have become another one and is compared again".to_owned();
                return Err(StoreError::Unavailable { what, source: None }.into());
            }
            speed.count(deliveries.len(), Instant::now());
            let events = &self.log.events;
            let gaps = gap::find(
                events,
                &self.id,
                cursor.checkpoint.sequence,
                &mut cursor.versions,
                &cursor.parked,
                &deliveries,
            )
            .await?;
            for chunk in chunks(&deliveries, max_events) {
                self.busy.set(commits(chunk));
                let applied = self.apply(cursor, chunk, &gaps, waited).await;
                self.busy.set(None);
                applied?;
                self.progress(cursor, subscription.pending(), Some((chunk, &speed)));
                self.part.works();
            }
            // Only the store's own record of progress: a lost acknowledgment is covered by that of the next batch.
            if let Err(error) = subscription.done(cursor.checkpoint.sequence).await {
                debug!(%error, "the store was not told about progress");
            }
        }
    }

    async fn resume(&self, cursor: &mut Cursor) -> Result<(), End> {
        let resumed = self.projection.resume(&self.id, &cursor.checkpoint, cursor.revision).await;
        cursor.revision = resumed.map_err(|error| match error {
            SaveError::Conflict => End::Overtaken,
            SaveError::Failed(error) => End::Failed(error),
        })?;
        Ok(())
    }

    /// While this instance is a standby: applies dead letters with events that the active instance's program did not
    /// know, and this one knows. The write is the same as that of an operator who retries a dead letter.
    async fn look_for_unknown(&self, looked_at: &mut u64) -> Result<(), End> {
        tokio::time::sleep(LOOK_FOR_UNKNOWN).await;
        let saved = self.projection.checkpoint(&self.id).await?;
        let dead_letters = saved.checkpoint.unwrap_or_default().dead_letters;
        if dead_letters != *looked_at {
            *looked_at = dead_letters;
            self.apply_unknown().await?;
        }
        Ok(())
    }

    /// Applies the dead letters with events that another program did not know, as far as this program knows them.
    /// Returns whether it applied any.
    async fn apply_unknown(&self) -> Result<bool, End> {
        let letters = DeadLetters {
            events: self.log.events.clone(),
            projection: Arc::clone(&self.projection),
            id: self.id.clone(),
            clock: Arc::clone(&self.clock),
        };
        match letters.retry_unknown().await {
            Ok(0) => Ok(false),
            Ok(events) => {
                info!(projection = %self.id, events, "what was unknown to another program is applied");
                Ok(true)
            }
            Err(Error::Store(error)) if error.is_transient() => Err(error.into()),
            Err(error) => {
                let (projection, error) = (&self.id, describe(&error));
                warn!(%projection, error, "what was unknown to another program is not applied");
                Ok(false)
            }
        }
    }

    /// Continues unfinished work of the projection if it is due. Otherwise looks whether an operator has changed the
    /// dead letters or intents, which changes the revision.
    async fn go_on(&self, cursor: &mut Cursor, pending: u64) -> Result<(), End> {
        if self.projection.waiting().is_some() {
            self.resume(cursor).await?;
            self.progress(cursor, pending, None);
            return Ok(());
        }
        let revision = self.projection.checkpoint(&self.id).await?.revision;
        if revision == cursor.revision { Ok(()) } else { Err(End::Overtaken) }
    }

    /// Applies a chunk and saves the checkpoint after it, in one write; events that cannot be applied become dead
    /// letters in the same write. Before a failure that may pass is waited for, the deliveries before it are saved.
    async fn apply(
        &self,
        cursor: &mut Cursor,
        mut chunk: &[Delivery],
        gaps: &HashMap<u64, Failure>,
        waited: &mut Waited,
    ) -> Result<(), End> {
        let mut poison = HashMap::new();
        loop {
            let ignored = self.settings.ignored;
            let plan = plan(chunk, ignored, &cursor.parked, gaps, &poison, || self.clock.now());
            self.check_failures(cursor, &plan.letters)?;
            // Before the save, whose answer may be lost.
            for letter in plan.letters.iter().filter(|letter| !letter.behind) {
                if waited.is_new(letter.position) {
                    letter.log(&self.id);
                }
            }
            let error = match self.save(cursor, chunk, &plan).await {
                Ok(revision) => {
                    cursor.revision = revision;
                    cursor.parked.add(&plan.letters);
                    waited.done(cursor.checkpoint.sequence);
                    return Ok(());
                }
                Err(error) => error,
            };
            let (event, failure) = match error {
                ProjectError::Event { index, reason, transient: false } => {
                    (self.event(&plan, index)?, Failure::new(Fault::Event, reason))
                }
                ProjectError::Event { index, reason, transient: true } => {
                    (self.event(&plan, index)?, Failure::new(Fault::Outage, reason))
                }
                ProjectError::Unknown { index, reason } => {
                    (self.event(&plan, index)?, Failure::new(Fault::Unknown, reason))
                }
                ProjectError::Save(SaveError::Conflict) => return Err(End::Overtaken),
                // One write cannot take them together: save them one by one to find the one that is too large.
                ProjectError::Save(SaveError::Failed(error)) if is_too_large(&error) && chunk.len() > 1 => {
                    for one in chunk.chunks(1) {
                        Box::pin(self.apply(cursor, one, gaps, waited)).await?;
                    }
                    return Ok(());
                }
                ProjectError::Save(SaveError::Failed(error))
                    if is_too_large(&error) && !plan.events.is_empty() =>
                {
                    (self.event(&plan, 0)?, Failure::new(Fault::Event, error.to_string()))
                }
                ProjectError::Save(SaveError::Failed(error)) => return Err(End::Failed(error)),
            };
            let position = event.position();
            let before = chunk.iter().take_while(|delivery| sequence(delivery) < position.sequence).count();
            if failure.fault != Fault::Event && before > 0 {
                // The earlier deliveries need not wait for the failing event, whichever instance continues.
                let (before, rest) = chunk.split_at(before);
                Box::pin(self.apply(cursor, before, gaps, waited)).await?;
                chunk = rest;
                continue;
            }
            match failure.fault {
                Fault::Outage => {
                    if let Some(tries) = waited.tries_again(position, Instant::now()) {
                        // The stores have answered: what is away is something that the projection calls.
                        self.part.works();
                        self.set(ProjectorState::Retrying { reason: failure.reason });
                        if self.is_stopped_within(backoff::pause(RETRY.0, RETRY.1, tries)).await {
                            return Err(End::Stopped);
                        }
                        continue;
                    }
                }
                Fault::Unknown if waited.leaves_to_others(&event, Instant::now()) => {
                    return Err(End::Unknown(failure.reason));
                }
                _ => {}
            }
            poison.insert(position, failure);
        }
    }

    async fn save(
        &self,
        cursor: &mut Cursor,
        chunk: &[Delivery],
        plan: &Plan<'_>,
    ) -> Result<u64, ProjectError> {
        if let Some(last) = chunk.last() {
            cursor.checkpoint.sequence = sequence(last);
            cursor.checkpoint.event = last_event(last);
        }
        cursor.checkpoint.dead_letters = (cursor.parked.len() + plan.letters.len()) as u64;
        let notes: Vec<Note> = plan.letters.iter().map(DeadLetter::note).collect::<Result<_, _>>()?;
        let batch = Batch {
            events: &plan.events,
            notes: &notes,
            checkpoint: &cursor.checkpoint,
            revision: cursor.revision,
        };
        self.projection.project(&self.id, batch).await
    }

    /// The event that a projection's error names by its index.
    fn event<'a>(&self, plan: &Plan<'a>, index: usize) -> Result<Recorded<'a>, StoreError> {
        plan.events.get(index).copied().ok_or_else(|| StoreError::Refused {
            what: format!("projection {} names event {index} of {}", self.id, plan.events.len()),
            source: None,
        })
    }

    /// Fails if events must not be set aside, or if there are too many dead letters with these.
    fn check_failures(&self, cursor: &Cursor, letters: &[DeadLetter]) -> Result<(), StoreError> {
        let Some(first) = letters.first() else { return Ok(()) };
        if self.settings.on_failure == OnFailure::Halt {
            return Err(first.halts(&self.id));
        }
        if cursor.parked.len() + letters.len() > MAX_DEAD_LETTERS {
            return Err(StoreError::TooManyDeadLetters {
                projection: self.id.to_string(),
                limit: MAX_DEAD_LETTERS,
                reason: first.reason.clone(),
            });
        }
        Ok(())
    }

    fn progress(&self, cursor: &Cursor, pending: u64, applied: Option<(&[Delivery], &Pace)>) {
        let state = match self.projection.waiting() {
            Some(Waiting { reason, .. }) => ProjectorState::Retrying { reason },
            None => ProjectorState::Running,
        };
        self.status.send_modify(|status| {
            status.sequence = cursor.checkpoint.sequence;
            status.state = state;
            status.pending = pending;
            status.dead_letters = cursor.parked.len();
            match applied {
                Some((chunk, speed)) => {
                    status.pace = Some(speed.clone());
                    status.last_event = chunk.iter().rev().find_map(time).or(status.last_event);
                }
                None => status.last_event = cursor.last_event.or(status.last_event),
            }
        });
    }

    fn set(&self, state: ProjectorState) {
        self.status.send_modify(|status| status.state = state);
    }
}
