//! The projector: events into views, each event once, whatever fails in between.
//!
//! The truth about progress is the checkpoint that is saved with the results. Whatever goes wrong —
//! a lost delivery, a save that may or may not have been stored, another worker — the answer is the
//! same: read the checkpoint again and go on from there. An event that cannot be applied is set aside,
//! with the later ones of its aggregate, in the same write as the checkpoint.

use std::{collections::HashMap, sync::Arc, time::Duration};

use crate::{
    base::{
        backoff,
        error::{Error, StoreError, describe, is_too_large},
        id::ProjectionId,
    },
    log::recorded::Recorded,
    model::follow::{OnFailure, Start},
    port::{
        clock::Clock,
        event_feed::AnySubscription,
        event_store::Log,
        projection::{AnyProjection, Batch, ProjectError, ProjectionSettings, Waiting},
        subscription::{Delivery, Subscribe},
        view_store::{Checkpoint, Note, SaveError},
    },
    projector::{
        dead_letter::{self, DeadLetter, Failure, Fault, MAX_DEAD_LETTERS, Parked, by_hand::DeadLetters},
        deliveries::{chunks, commits, last_event, sequence, time},
        followed::Followed,
        gap::{self, Versions},
        plan::{Plan, plan},
        status::{Pace, ProjectorState, ProjectorStatus},
        stopping::Busy,
        waited::Waited,
    },
};
use jiff::Timestamp;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, warn};

/// The most commits that are asked for at once.
const BATCH: usize = 512;

/// How long a projector waits before it tries again, at first and at most: how late it notices that a fault has ended.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How long a projector leaves its turn to others, to whom an event may be known: longer than one that stands by takes to
/// notice.
const LEFT: Duration = Duration::from_secs(2);

/// How often a worker that stands by looks for dead letters with events that were unknown to another program.
const LOOK_FOR_UNKNOWN: Duration = Duration::from_secs(5);

/// How long a projector is idle before it looks whether somebody has changed by hand what it has set aside.
const LOOK: Duration = Duration::from_secs(5);

/// How one subscription ended.
enum End {
    Stopped,
    Failed(StoreError),
    /// Another save came between.
    Overtaken,
    /// Another build is about to take this one's place, or has done so.
    Replaced,
    /// Others project.
    Elsewhere,
    /// The next event is unknown to this program, and known to another perhaps.
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
    /// Whether it projects, or only prepares the place from which queries are answered.
    pub(crate) projects: bool,
}

/// Lets the projection go when its projector has ended.
struct LetGo(Arc<dyn AnyProjection>);

impl Drop for LetGo {
    fn drop(&mut self) {
        self.0.let_go();
    }
}

/// Where a projector is, as it was saved last.
struct Cursor {
    checkpoint: Checkpoint,
    revision: u64,
    /// The log's era in which it was compared with the checkpoint.
    era: u64,
    /// When the last event of the checkpoint happened, where that is known.
    last_event: Option<Timestamp>,
    parked: Parked,
    /// Whether some of what is parked was unknown to the program that did so.
    has_unknown: bool,
    versions: Versions,
}

impl Projector {
    /// Projects until it is told to stop or something fails that will not pass. That the place of the results could
    /// not be prepared is tried again like anything else.
    pub(crate) async fn run(self, opened: Result<(), StoreError>) {
        let span = tracing::info_span!("project", projection = %self.id);
        // However it ends.
        let _let_go = LetGo(Arc::clone(&self.projection));
        self.supervise(opened).instrument(span).await;
    }

    async fn supervise(&self, opened: Result<(), StoreError>) {
        let mut failures = 0;
        let mut waited = Waited::new(self.settings.retry);
        let (mut is_open, mut failure) = (opened.is_ok(), opened.err());
        loop {
            let before = self.status.borrow().sequence;
            let end = match failure.take() {
                Some(error) => End::Failed(error),
                None => self.open_and_follow(&mut is_open, &mut waited).await.unwrap_or_else(|end| end),
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
                    warn!(%error, "the projector has halted");
                    return self.set(ProjectorState::Halted { reason: describe(&error) });
                }
                End::Failed(error) => describe(&error),
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

    /// Prepares the place once: should it be removed later, it is not made anew behind the back of whoever did so.
    async fn open_and_follow(&self, is_open: &mut bool, waited: &mut Waited) -> Result<End, End> {
        if !*is_open {
            self.projection.open(&self.id).await?;
            *is_open = true;
        }
        if self.projects { self.follow(waited).await } else { Ok(End::Elsewhere) }
    }

    async fn is_stopped_within(&self, pause: Duration) -> bool {
        tokio::time::timeout(pause, self.stop.cancelled()).await.is_ok()
    }

    /// From the checkpoint on, until something ends it.
    async fn follow(&self, waited: &mut Waited) -> Result<End, End> {
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
        info!(from = cursor.checkpoint.sequence, dead_letters = cursor.parked.len(), "projecting");
        let end = self.pump(&mut cursor, &mut *subscription, waited).await.unwrap_or_else(|end| end);
        if !matches!(&end, End::Failed(error) if error.is_transient()) {
            // Whoever comes next, and be it this one again, need not wait for its turn.
            subscription.leave().await;
        }
        Ok(end)
    }

    async fn pump(
        &self,
        cursor: &mut Cursor,
        subscription: &mut dyn AnySubscription,
        waited: &mut Waited,
    ) -> Result<End, End> {
        let mut looked_at = cursor.checkpoint.dead_letters;
        let mut speed = Pace::new(Instant::now());
        let max_events = self.settings.max_events;
        loop {
            let is_standby = subscription.is_standby();
            let goes_on = self.settings.has_effects && !is_standby;
            let pending = subscription.pending();
            // So that most batches are one write. It is not dropped for what is done meanwhile: it may have taken some.
            let mut next = subscription.next(max_events.clamp(1, BATCH));
            let deliveries = loop {
                let pause = self.projection.waiting().map_or(LOOK, |waiting| waiting.after.min(LOOK));
                tokio::select! {
                    biased;
                    // First, so that a service that stops begins with no other batch.
                    () = self.stop.cancelled() => return Ok(End::Stopped),
                    deliveries = &mut next => break deliveries?,
                    looked = self.look_for_unknown(&mut looked_at), if is_standby => looked?,
                    () = tokio::time::sleep(pause), if goes_on => self.go_on(cursor, pending).await?,
                }
            };
            drop(next);
            if self.log.events.era() != cursor.era {
                let what = "the log may have become another one and is compared again".to_owned();
                return Err(StoreError::Unavailable { what, source: None }.into());
            }
            speed.count(deliveries.len(), Instant::now());
            let events = &*self.log.events;
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
            }
            // Only an account at the store: what is lost here is told again with the next batch.
            if let Err(error) = subscription.done(cursor.checkpoint.sequence).await {
                debug!(%error, "the store was not told about progress");
            }
            failpoint!(AfterAck, &self.id.to_string());
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

    /// Applies, while another worker has its turn, what was unknown to that and is known to this one. It is a write like
    /// that of a person who tries a dead letter again.
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

    /// Applies the dead letters that were unknown to another program, as far as this one knows them; says whether there
    /// were any.
    async fn apply_unknown(&self) -> Result<bool, End> {
        let letters = DeadLetters {
            events: Arc::clone(&self.log.events),
            projection: Arc::clone(&self.projection),
            id: self.id.clone(),
            clock: Arc::clone(&self.clock),
        };
        match letters.retry_unknown().await {
            Ok(0) => Ok(false),
            Ok(events) => {
                info!(events, "what was unknown to another program is applied");
                Ok(true)
            }
            Err(Error::Store(error)) if error.is_transient() => Err(error.into()),
            Err(error) => {
                warn!(error = describe(&error), "what was unknown to another program is not applied");
                Ok(false)
            }
        }
    }

    /// Goes on with what is not finished; else looks whether somebody has changed by hand what is set aside.
    async fn go_on(&self, cursor: &mut Cursor, pending: u64) -> Result<(), End> {
        if self.projection.waiting().is_some() {
            self.resume(cursor).await?;
            self.progress(cursor, pending, None);
            return Ok(());
        }
        let revision = self.projection.checkpoint(&self.id).await?.revision;
        if revision == cursor.revision { Ok(()) } else { Err(End::Overtaken) }
    }

    /// Where the projector is, as it was saved last, in a log that must be the one it was saved for.
    async fn cursor(&self, aggregates: &[&'static str]) -> Result<Cursor, End> {
        let saved = self.projection.checkpoint(&self.id).await?;
        if let Some(sealed) = saved.checkpoint.as_ref().filter(|checkpoint| checkpoint.sealed.is_some()) {
            self.status.send_modify(|status| status.sequence = sealed.sequence);
            return Err(End::Replaced);
        }
        let era = self.log.events.era();
        let log = self.log.events.log(aggregates).await?;
        let (begun, last_event) = match saved.checkpoint {
            Some(checkpoint) => {
                let last_event = self.check_log(&checkpoint, &log).await?;
                ((checkpoint, saved.revision), last_event)
            }
            None => (self.begin(log, saved.revision).await?, None),
        };
        let (checkpoint, revision) = begun;
        let letters = match checkpoint.dead_letters {
            0 => Vec::new(),
            _ => dead_letter::read(&*self.projection, &self.id).await?,
        };
        let mut parked = Parked::default();
        parked.add(&letters);
        let has_unknown = !dead_letter::unknown(&letters).is_empty();
        Ok(Cursor {
            checkpoint,
            revision,
            era,
            last_event,
            parked,
            has_unknown,
            versions: Versions::default(),
        })
    }

    /// Where a projection begins that was never saved. What begins now says so at once, lest it begin later.
    async fn begin(&self, log: Log, revision: u64) -> Result<(Checkpoint, u64), End> {
        let nothing = Checkpoint { log: log.id, ..Checkpoint::default() };
        if self.settings.start == Start::Beginning || log.last_sequence == 0 {
            return Ok((nothing, revision));
        }
        let checkpoint = Checkpoint { sequence: log.last_sequence, ..nothing };
        let batch = Batch { events: &[], notes: &[], checkpoint: &checkpoint, revision };
        match self.projection.project(&self.id, batch).await {
            Ok(revision) => Ok((checkpoint, revision)),
            Err(ProjectError::Save(SaveError::Failed(error))) => Err(End::Failed(error)),
            Err(_) => Err(End::Overtaken),
        }
    }

    /// A view that was built from another log, or from more of it than there is, must not go on; nor one of
    /// a log that lost its end and has grown again since. Tells when the last event happened, if it names one.
    async fn check_log(&self, checkpoint: &Checkpoint, log: &Log) -> Result<Option<Timestamp>, StoreError> {
        let mut last = None;
        let mut same = checkpoint.log == log.id && checkpoint.sequence <= log.last_sequence;
        if let Some(event) = checkpoint.event.filter(|_| same) {
            let there = self.log.events.commit_at(checkpoint.sequence).await?;
            last = there.as_ref().and_then(time);
            same = there.is_some_and(|there| last_event(&there) == Some(event));
        }
        if same {
            return Ok(last);
        }
        Err(StoreError::ForeignLog {
            view: self.id.to_string(),
            built_from: format!("{} up to sequence {}", checkpoint.log, checkpoint.sequence),
            found: format!("{} up to sequence {}", log.id, log.last_sequence),
        })
    }

    /// Applies what was delivered and saves the checkpoint after it, in one write; what cannot be applied
    /// becomes dead letters in the same write. What may pass is waited for, and what comes before it is saved first.
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
            failpoint!(BeforeSave, &self.id.to_string());
            if !plan.letters.is_empty() {
                failpoint!(BeforePark, &self.id.to_string());
            }
            let error = match self.save(cursor, chunk, &plan).await {
                Ok(revision) => {
                    failpoint!(AfterSave, &self.id.to_string());
                    if !plan.letters.is_empty() {
                        failpoint!(AfterPark, &self.id.to_string());
                    }
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
                // Which of several is too large is found by saving them one by one.
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
                // It need not wait for what fails, whoever goes on.
                let (before, rest) = chunk.split_at(before);
                Box::pin(self.apply(cursor, before, gaps, waited)).await?;
                chunk = rest;
                continue;
            }
            match failure.fault {
                Fault::Outage => {
                    if let Some(tries) = waited.tries_again(position, Instant::now()) {
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
            let reason = &failure.reason;
            warn!(sequence = position.sequence, index = position.index, reason, "an event is set aside");
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

    /// The event that a projection names.
    fn event<'a>(&self, plan: &Plan<'a>, index: usize) -> Result<Recorded<'a>, StoreError> {
        plan.events.get(index).copied().ok_or_else(|| StoreError::Refused {
            what: format!("projection {} names event {index} of {}", self.id, plan.events.len()),
            source: None,
        })
    }

    /// Whether events may be set aside, and these as well.
    fn check_failures(&self, cursor: &Cursor, letters: &[DeadLetter]) -> Result<(), StoreError> {
        let Some(first) = letters.first() else { return Ok(()) };
        if self.settings.on_failure == OnFailure::Halt {
            return Err(StoreError::Undecodable {
                aggregate: first.aggregate.clone(),
                sequence: first.position.sequence,
                event_type: first.event_type.clone().unwrap_or_default(),
                reason: first.reason.clone(),
            });
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
