//! The projector: events into views, each event once, whatever fails in between.
//!
//! The truth about progress is the checkpoint that is saved with the results. Whatever goes wrong —
//! a lost delivery, a save that may or may not have been stored, another worker — the answer is the
//! same: read the checkpoint again and go on from there. An event that cannot be applied is set aside,
//! with the later ones of its aggregate, in the same write as the checkpoint.

mod plan;

use std::{collections::HashMap, ops::RangeInclusive, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, warn};

use crate::{
    AggregateKey, Batch, Checkpoint, Clock, Delivery, Log, Note, OnFailure, Position, ProjectError,
    ProjectionId, SaveError, Start, StoreError, StoredCommit, Subscribe, backoff,
    dead_letter::{self, DeadLetter, MAX_DEAD_LETTERS, Parked},
    followed::{AnySubscription, Followed},
    projection::AnyProjection,
    status::{Pace, ProjectorState, ProjectorStatus},
    stopping::Busy,
};
use plan::{Plan, plan};

/// The most commits that are asked for at once.
const BATCH: usize = 512;

/// How long a projector waits before it tries again, at first and at most: how late it notices that a fault has ended.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How often an event is tried when the same may succeed a little later, before it is set aside.
const TRIES: u32 = 5;

/// How many aggregates' versions are remembered, to notice a gap.
const VERSIONS: usize = 100_000;

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
    pub(crate) id: ProjectionId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) status: watch::Sender<ProjectorStatus>,
    pub(crate) stop: CancellationToken,
    pub(crate) busy: Busy,
    /// Whether it projects, or only prepares the place from which queries are answered.
    pub(crate) projects: bool,
}

/// Where a projector is, as it was saved last.
struct Place {
    checkpoint: Checkpoint,
    revision: u64,
    /// When the last event of the checkpoint happened, where that is known.
    last_event: Option<Timestamp>,
    parked: Parked,
    versions: HashMap<AggregateKey, u64>,
}

impl Projector {
    /// Projects until it is told to stop or something fails that will not pass. That the place of the results could
    /// not be prepared is tried again like anything else.
    pub(crate) async fn run(self, opened: Result<(), StoreError>) {
        let span = tracing::info_span!("project", projection = %self.id);
        self.supervise(opened).instrument(span).await;
    }

    async fn supervise(&self, opened: Result<(), StoreError>) {
        let mut failures = 0;
        let (mut is_open, mut failure) = (opened.is_ok(), opened.err());
        loop {
            let before = self.status.borrow().sequence;
            let end = match failure.take() {
                Some(error) => End::Failed(error),
                None => self.open_and_follow(&mut is_open).await.unwrap_or_else(|end| end),
            };
            if self.status.borrow().sequence > before {
                failures = 0;
            }
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
            };
            debug!(reason, "the projector starts again from its checkpoint");
            self.set(ProjectorState::Retrying { reason });
            let pause = tokio::time::sleep(backoff::pause(RETRY.0, RETRY.1, failures));
            failures += 1;
            tokio::select! {
                () = pause => {}
                () = self.stop.cancelled() => return self.set(ProjectorState::Stopped),
            }
        }
    }

    /// Prepares the place once: should it be removed later, it is not made anew behind the back of whoever did so.
    async fn open_and_follow(&self, is_open: &mut bool) -> Result<End, End> {
        if !*is_open {
            self.projection.open(&self.id).await?;
            *is_open = true;
        }
        if self.projects { self.follow().await } else { Ok(End::Elsewhere) }
    }

    /// From the checkpoint on, until something ends it.
    async fn follow(&self) -> Result<End, End> {
        let aggregates = self.projection.aggregates();
        let mut place = self.place(&aggregates).await?;
        let subscriber = self.log.subscriber(&self.projection.subscriber(&self.id));
        let mut subscription = self
            .log
            .events
            .subscribe(Subscribe {
                subscriber: &subscriber,
                aggregates: &aggregates,
                after: place.checkpoint.sequence,
            })
            .await?;
        if !subscription.is_standby() {
            self.resume(&mut place).await?;
        }
        self.progress(&place, subscription.pending(), None);
        info!(from = place.checkpoint.sequence, dead_letters = place.parked.len(), "projecting");
        let end = self.pump(&mut place, &mut *subscription).await.unwrap_or_else(|end| end);
        if !matches!(&end, End::Failed(error) if error.is_transient()) {
            // Whoever comes next, and be it this one again, need not wait for its turn.
            subscription.leave().await;
        }
        Ok(end)
    }

    async fn pump(&self, place: &mut Place, subscription: &mut dyn AnySubscription) -> Result<End, End> {
        let mut speed = Pace::new(Instant::now());
        let max_events = self.projection.max_events();
        loop {
            let deliveries = tokio::select! {
                // So that most batches are one write.
                deliveries = subscription.next(max_events.clamp(1, BATCH)) => deliveries?,
                () = self.stop.cancelled() => return Ok(End::Stopped),
            };
            speed.count(deliveries.len(), Instant::now());
            place.check_versions(&deliveries)?;
            for chunk in chunks(&deliveries, max_events) {
                self.busy.set(commits(chunk));
                let applied = self.apply(place, chunk).await;
                self.busy.set(None);
                applied?;
                self.progress(place, subscription.pending(), Some((chunk, &speed)));
            }
            // Only an account at the store: what is lost here is told again with the next batch.
            if let Err(error) = subscription.done(place.checkpoint.sequence).await {
                debug!(%error, "the store was not told about progress");
            }
            failpoint!(AfterAck, &self.id.to_string());
        }
    }

    async fn resume(&self, place: &mut Place) -> Result<(), End> {
        let resumed = self.projection.resume(&self.id, &place.checkpoint, place.revision).await;
        place.revision = resumed.map_err(|error| match error {
            SaveError::Conflict => End::Overtaken,
            SaveError::Failed(error) => End::Failed(error),
        })?;
        Ok(())
    }

    /// The place that was saved last, in a log that must be the one it was saved for.
    async fn place(&self, aggregates: &[&'static str]) -> Result<Place, End> {
        let saved = self.projection.checkpoint(&self.id).await?;
        if let Some(sealed) = saved.checkpoint.as_ref().filter(|checkpoint| checkpoint.sealed.is_some()) {
            self.status.send_modify(|status| status.sequence = sealed.sequence);
            return Err(End::Replaced);
        }
        let log = self.log.events.log(aggregates).await?;
        let (begun, last_event) = match saved.checkpoint {
            Some(checkpoint) => {
                let last_event = self.check_log(&checkpoint, &log).await?;
                ((checkpoint, saved.revision), last_event)
            }
            None => (self.begin(log, saved.revision).await?, None),
        };
        let (checkpoint, revision) = begun;
        let mut parked = Parked::default();
        parked.add(&dead_letter::read(&*self.projection, &self.id).await?);
        Ok(Place { checkpoint, revision, last_event, parked, versions: HashMap::new() })
    }

    /// Where a projection begins that was never saved. What begins now says so at once, lest it begin later.
    async fn begin(&self, log: Log, revision: u64) -> Result<(Checkpoint, u64), End> {
        let nothing = Checkpoint { log: log.id, ..Checkpoint::default() };
        if self.projection.start() == Start::Beginning || log.last_sequence == 0 {
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
    /// becomes dead letters in the same write.
    async fn apply(&self, place: &mut Place, chunk: &[Delivery]) -> Result<(), End> {
        let mut poison = HashMap::new();
        let mut tries = 0;
        loop {
            let plan = plan(chunk, self.projection.ignored(), &place.parked, &poison, || self.clock.now());
            self.check_failures(place, &plan.letters)?;
            failpoint!(BeforeSave, &self.id.to_string());
            if !plan.letters.is_empty() {
                failpoint!(BeforePark, &self.id.to_string());
            }
            match self.save(place, chunk, &plan).await {
                Ok(revision) => {
                    failpoint!(AfterSave, &self.id.to_string());
                    if !plan.letters.is_empty() {
                        failpoint!(AfterPark, &self.id.to_string());
                    }
                    place.revision = revision;
                    place.parked.add(&plan.letters);
                    return Ok(());
                }
                Err(ProjectError::Event { transient: true, .. }) if tries < TRIES => {
                    tokio::time::sleep(backoff::pause(RETRY.0, RETRY.1, tries)).await;
                    tries += 1;
                }
                Err(ProjectError::Event { index, reason, .. }) => {
                    tries = 0;
                    self.set_aside(&plan, index, reason, &mut poison)?;
                }
                Err(ProjectError::Save(SaveError::Conflict)) => return Err(End::Overtaken),
                // Which of several is too large is found by saving them one by one.
                Err(ProjectError::Save(SaveError::Failed(error)))
                    if is_too_large(&error) && chunk.len() > 1 =>
                {
                    for one in chunk.chunks(1) {
                        Box::pin(self.apply(place, one)).await?;
                    }
                    return Ok(());
                }
                Err(ProjectError::Save(SaveError::Failed(error)))
                    if is_too_large(&error) && !plan.events.is_empty() =>
                {
                    self.set_aside(&plan, 0, error.to_string(), &mut poison)?;
                }
                Err(ProjectError::Save(SaveError::Failed(error))) => return Err(End::Failed(error)),
            }
        }
    }

    async fn save(
        &self,
        place: &mut Place,
        chunk: &[Delivery],
        plan: &Plan<'_>,
    ) -> Result<u64, ProjectError> {
        if let Some(last) = chunk.last() {
            place.checkpoint.sequence = sequence(last);
            place.checkpoint.event = last_event(last);
        }
        place.checkpoint.dead_letters = (place.parked.len() + plan.letters.len()) as u64;
        let notes: Vec<Note> = plan.letters.iter().map(DeadLetter::note).collect::<Result<_, _>>()?;
        let batch = Batch {
            events: &plan.events,
            notes: &notes,
            checkpoint: &place.checkpoint,
            revision: place.revision,
        };
        self.projection.project(&self.id, batch).await
    }

    fn set_aside(
        &self,
        plan: &Plan<'_>,
        index: usize,
        reason: String,
        poison: &mut HashMap<Position, String>,
    ) -> Result<(), StoreError> {
        let event = plan.events.get(index).ok_or_else(|| StoreError::Refused {
            what: format!("projection {} names event {index} of {}", self.id, plan.events.len()),
            source: None,
        })?;
        let position = event.position();
        warn!(sequence = position.sequence, index = position.index, reason, "an event is set aside");
        poison.insert(position, reason);
        Ok(())
    }

    /// Whether events may be set aside, and these as well.
    fn check_failures(&self, place: &Place, letters: &[DeadLetter]) -> Result<(), StoreError> {
        let Some(first) = letters.first() else { return Ok(()) };
        if self.projection.on_failure() == OnFailure::Halt {
            return Err(StoreError::Undecodable {
                aggregate: first.aggregate.clone(),
                sequence: first.position.sequence,
                event_type: first.event_type.clone().unwrap_or_default(),
                reason: first.reason.clone(),
            });
        }
        if place.parked.len() + letters.len() > MAX_DEAD_LETTERS {
            return Err(StoreError::TooManyDeadLetters {
                projection: self.id.to_string(),
                limit: MAX_DEAD_LETTERS,
                reason: first.reason.clone(),
            });
        }
        Ok(())
    }

    fn progress(&self, place: &Place, pending: u64, applied: Option<(&[Delivery], &Pace)>) {
        self.status.send_modify(|status| {
            status.sequence = place.checkpoint.sequence;
            status.state = ProjectorState::Running;
            status.pending = pending;
            status.dead_letters = place.parked.len();
            match applied {
                Some((chunk, speed)) => {
                    status.pace = Some(speed.clone());
                    status.last_event = chunk.iter().rev().find_map(time).or(status.last_event);
                }
                None => status.last_event = place.last_event.or(status.last_event),
            }
        });
    }

    fn set(&self, state: ProjectorState) {
        self.status.send_modify(|status| status.state = state);
    }
}

impl Place {
    /// Checks that the versions of each aggregate follow one another, as far as they are remembered.
    fn check_versions(&mut self, chunk: &[Delivery]) -> Result<(), StoreError> {
        for delivery in chunk {
            match delivery {
                Ok(stored) => self.check_version(stored)?,
                Err(unreadable) => drop(self.versions.remove(&unreadable.aggregate)),
            }
        }
        Ok(())
    }

    fn check_version(&mut self, stored: &StoredCommit) -> Result<(), StoreError> {
        let commit = &stored.commit;
        if let Some(last) = self.versions.get_mut(&commit.aggregate) {
            let expected = last.saturating_add(1);
            *last = commit.last_version();
            if commit.first_version == expected {
                return Ok(());
            }
            let (aggregate, found) = (commit.aggregate.clone(), commit.first_version);
            return Err(StoreError::Gap { aggregate, expected, found, sequence: stored.sequence });
        }
        if self.versions.len() >= VERSIONS {
            self.versions.clear();
        }
        self.versions.insert(commit.aggregate.clone(), commit.last_version());
        Ok(())
    }
}

/// Parts of what was delivered that have at most `max` events each, or one commit.
fn chunks(deliveries: &[Delivery], max: usize) -> Vec<&[Delivery]> {
    let mut chunks = Vec::new();
    let (mut from, mut events) = (0, 0);
    for (at, delivery) in deliveries.iter().enumerate() {
        let count = delivery.as_ref().map_or(1, |stored| stored.commit.events.len());
        if events + count > max && at > from {
            chunks.push(&deliveries[from..at]);
            (from, events) = (at, 0);
        }
        events += count;
    }
    if from < deliveries.len() {
        chunks.push(&deliveries[from..]);
    }
    chunks
}

fn commits(chunk: &[Delivery]) -> Option<RangeInclusive<u64>> {
    Some(sequence(chunk.first()?)..=sequence(chunk.last()?))
}

fn is_too_large(error: &StoreError) -> bool {
    matches!(error, StoreError::TooLarge { .. } | StoreError::TooMany { .. })
}

fn sequence(delivery: &Delivery) -> u64 {
    match delivery {
        Ok(stored) => stored.sequence,
        Err(unreadable) => unreadable.sequence,
    }
}

fn last_event(delivery: &Delivery) -> Option<crate::EventId> {
    delivery.as_ref().ok().and_then(|stored| stored.commit.events.last()).map(|event| event.id)
}

fn time(delivery: &Delivery) -> Option<Timestamp> {
    delivery.as_ref().ok().and_then(|stored| stored.commit.events.last()).map(|event| event.origin.time)
}

/// An error with its causes, in one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
