//! The projection of a policy. Events become a changed state and intents, in one write with the checkpoint
//! (transactional outbox). Then the intents are executed, and their outcomes are written.
//!
//! An intent is a note beside the states, from the write of its event until the write after its execution. After a
//! crash in between, the notes show what is left, and it is executed again under the same ids. The write that removes a
//! refused intent also changes the state by the refusal, and notes the intents that follow: so no compensation is sent
//! for a refusal that the state does not know.
//!
//! The intents of each state are a lane. After a failure that may pass, the lane waits and tries again. Any other
//! failure sets the intent aside, and the later intents of the lane wait for an operator. The other lanes and the
//! events continue.

pub(crate) mod notes;
mod state;
mod work;

use std::{
    borrow::{Borrow, BorrowMut},
    collections::HashSet,
    marker::PhantomData,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing::{info, warn};

use crate::{
    base::{
        id::ProjectionId,
        store_error::{StoreError, is_too_large},
    },
    effects::{
        carrier::{Carrier, Hope, PendingIntent, SendFailure},
        dead_intent::MAX_DEAD_INTENTS,
        intents::{CausedBy, Effects, Intent, Refusal},
        policy::{Policy, PolicyStateOf, Reactions},
    },
    port::{
        any_views::AnyViews,
        projection::{Batch, ProjectError, Projection, ProjectionSettings, Waiting},
        view_store::{Checkpoint, Note, Save, SaveError, ViewStore, Write},
    },
    projector::{
        kept::{Fault, Kept, Kind, applied},
        rules::{cannot_apply, save},
    },
};
use notes::{MARKS, Mark, PENDING};
use work::{Step, Work};

/// The most intents that may be under way or wait for a failure to pass. With more, the policy takes no further events
/// (back-pressure).
const MAX_WAITING: usize = 1_000;

/// The policy `P` with the place of its states.
pub(crate) struct PolicyProjection<P> {
    views: AnyViews,
    carrier: Arc<Carrier>,
    known: Mutex<Known>,
    policy: PhantomData<fn() -> P>,
}

/// What this process remembers between two calls.
#[derive(Default)]
struct Known {
    /// The outbox; `None` while a call uses it, and when it has to be read.
    work: Option<Work>,
    /// Why the outbox is not empty.
    waiting: Option<Waiting>,
    /// The places of intents that another program has set aside and this one has retried.
    tried: HashSet<String>,
}

/// The result of a batch.
struct Reacted {
    writes: Vec<Write>,
    pending: Vec<PendingIntent>,
}

/// The write that records the outcomes of intents, and the intents that follow from them.
struct Settled {
    writes: Vec<Write>,
    notes: Vec<Note>,
    follow: Vec<PendingIntent>,
}

/// Why outcomes cannot be recorded together.
enum Unsettled {
    /// The intents that follow from the step of that index are not possible.
    Step(usize, String),
    Store(StoreError),
}

impl From<StoreError> for Unsettled {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl<P: Policy> PolicyProjection<P> {
    pub(crate) fn new(views: AnyViews, carrier: Arc<Carrier>) -> Self {
        Self { views, carrier, known: Mutex::default(), policy: PhantomData }
    }

    /// The states after the events, and the new intents.
    async fn react(&self, id: &ProjectionId, batch: &Batch<'_>) -> Result<Reacted, ProjectError> {
        let applied = applied(&self.views, id, batch, Self::states(), || batch.each(P::Of::step)).await?;
        let mut pending = Vec::new();
        for (index, effects) in applied.returned {
            let intents = self.checked(effects).map_err(|reason| cannot_apply(index, reason))?;
            let position = batch.events[index].position();
            pending.extend((0..).zip(intents).map(|(number, intent)| notes::noted(position, number, intent)));
        }
        Ok(Reacted { writes: applied.writes, pending })
    }

    /// The intents, if this program can execute all of them.
    fn checked(&self, effects: Effects) -> Result<Vec<Intent>, String> {
        let intents = effects.into_intents()?;
        intents.iter().try_for_each(|intent| self.carrier.check(intent))?;
        Ok(intents)
    }

    fn states() -> Kind<PolicyStateOf<P>> {
        let is_kept = |state: &PolicyStateOf<P>| P::is_kept(state.borrow());
        Kind { what: ("state", "policy"), is_kept, format: state::format::<P>() }
    }

    /// Executes the intents that are ready, and those that follow from refusals, and writes their outcomes.
    async fn carry_out(
        &self,
        id: &ProjectionId,
        checkpoint: &Checkpoint,
        work: &mut Work,
    ) -> Result<(), SaveError> {
        loop {
            let steps = work.ended(&self.carrier).await?;
            if steps.is_empty() {
                return Ok(());
            }
            for steps in parts(steps, self.views.max_writes()) {
                self.settle(id, checkpoint, work, steps).await?;
            }
        }
    }

    /// Writes outcomes, in as many writes as necessary.
    async fn settle(
        &self,
        id: &ProjectionId,
        checkpoint: &Checkpoint,
        work: &mut Work,
        mut steps: Vec<Step>,
    ) -> Result<(), SaveError> {
        loop {
            match self.settle_at_once(id, checkpoint, work, &mut steps).await {
                // One write cannot take them together: write them one by one to find the one that needs too much.
                Err(SaveError::Failed(error)) if is_too_large(&error) && steps.len() > 1 => {
                    for step in steps {
                        Box::pin(self.settle(id, checkpoint, work, vec![step])).await?;
                    }
                    return Ok(());
                }
                Err(SaveError::Failed(error)) if is_too_large(&error) => match steps.pop() {
                    Some(Step::Over(pending, Some(refusal))) => {
                        steps.push(rule_failed(pending, &refusal, &error.to_string()));
                    }
                    _ => return Err(error.into()),
                },
                settled => return settled,
            }
        }
    }

    /// Writes outcomes in one write. A refusal that the policy's rules cannot handle becomes a failed intent.
    async fn settle_at_once(
        &self,
        id: &ProjectionId,
        checkpoint: &Checkpoint,
        work: &mut Work,
        steps: &mut [Step],
    ) -> Result<(), SaveError> {
        let settled = loop {
            match self.settled(id, work, steps).await {
                Ok(settled) => break settled,
                Err(Unsettled::Step(index, reason)) => {
                    let pending = steps[index].pending().clone();
                    if let Step::Over(_, Some(refusal)) = &steps[index] {
                        steps[index] = rule_failed(pending, refusal, &reason);
                    } else {
                        return Err(StoreError::Refused { what: reason, source: None }.into());
                    }
                }
                Err(Unsettled::Store(error)) => return Err(error.into()),
            }
        };
        let is_new = |step: &&Step| matches!(step, Step::Dead(pending, _) if !work.is_dead(pending));
        let new = steps.iter().filter(is_new).count();
        check_dead(id, work.dead(&settled.follow) + new, steps)?;
        let Settled { writes, notes, follow } = settled;
        let save = Save { writes: &writes, notes: &notes, checkpoint, revision: work.revision };
        work.revision = self.views.save(id, save).await?;
        work.written(steps);
        work.add(follow);
        Ok(())
    }

    /// Prepares the write: removes the notes of ended intents, applies refusals to states, and notes the intents that
    /// follow.
    async fn settled(&self, id: &ProjectionId, work: &Work, steps: &[Step]) -> Result<Settled, Unsettled> {
        let refused = |step: &Step| match step {
            Step::Over(pending, Some(_)) => Some(pending.intent.key.clone()),
            _ => None,
        };
        let keys = steps.iter().filter_map(refused);
        let mut states = Kept::load(&self.views, id, Self::states(), keys).await?;
        let (mut notes, mut follow) = (Vec::new(), Vec::new());
        for (index, step) in steps.iter().enumerate() {
            let unsettled = |fault| match fault {
                Fault::Rule(reason) => Unsettled::Step(index, reason),
                Fault::Store(error) => Unsettled::Store(error),
            };
            match step {
                Step::Over(pending, refusal) => {
                    notes.push(notes::removal(&pending.place));
                    if work.has_mark(&pending.place) {
                        notes.push(Mark::removal(&pending.place));
                    }
                    let Some(refusal) = refusal else { continue };
                    follow.extend(self.told(&mut states, index, pending, refusal).map_err(unsettled)?);
                }
                Step::Dead(pending, failure) => {
                    notes.push(
                        self.mark(pending, failure)
                            .map_err(|error| unsettled(Fault::Rule(error.to_string())))?,
                    );
                }
            }
        }
        for pending in &follow {
            notes.push(notes::note(pending).map_err(|error| Unsettled::Step(0, error.to_string()))?);
        }
        let writes = states.writes().map_err(|(step, reason)| Unsettled::Step(step, reason))?;
        Ok(Settled { writes, notes, follow })
    }

    /// Applies a refusal to a state, and returns the intents that follow.
    fn told(
        &self,
        states: &mut Kept<PolicyStateOf<P>>,
        step: usize,
        pending: &PendingIntent,
        refusal: &Refusal,
    ) -> Result<Vec<PendingIntent>, Fault> {
        let intent = &pending.intent;
        let mut effects = Effects::of(CausedBy::refusal(P::NAME, intent, &refusal.request));
        states.change(&intent.key, step, |state| P::refused(state.borrow_mut(), refusal, &mut effects))?;
        states.document(&intent.key).map_err(Fault::Rule)?;
        let intents = (0..).zip(self.checked(effects).map_err(Fault::Rule)?);
        let following = intents.map(|(number, intent)| notes::following(&pending.place, number, intent));
        following.collect::<Result<_, _>>().map_err(Fault::Rule)
    }

    /// The mark of an intent that has failed.
    fn mark(&self, pending: &PendingIntent, failure: &SendFailure) -> Result<Note, serde_json::Error> {
        let intent = &pending.intent;
        let (key, what, reason) = (&intent.key, intent.action.shown(), &failure.reason);
        warn!(policy = P::NAME, instance = key, what, reason, "an intent is set aside");
        let reason = format!("{what}, which policy {} wants for instance {key:?}: {reason}", P::NAME);
        let mark = Mark {
            other_program: failure.hope == Hope::OtherProgram,
            attempts: pending.attempts,
            ..Mark::new(&reason, self.carrier.now())
        };
        mark.note(&pending.place)
    }

    /// The outbox as of that revision: as this process knows it, or as it is noted.
    async fn work(&self, id: &ProjectionId, revision: u64) -> Result<Work, StoreError> {
        let known = self.known().work.take();
        if let Some(known) = known.filter(|work| work.revision == revision) {
            return Ok(known);
        }
        self.read(id, revision).await
    }

    async fn read(&self, id: &ProjectionId, revision: u64) -> Result<Work, StoreError> {
        let pending = self.views.notes(id, PENDING).await?;
        if pending.is_empty() {
            return Ok(Work::nothing(revision));
        }
        info!(projection = %id, intents = pending.len(), "going on with what was wanted");
        let marks = self.views.notes(id, MARKS).await?;
        let mut known = self.known();
        Ok(Work::of(revision, notes::read(pending, marks), |place| known.tried.insert(place.to_owned())))
    }

    /// Keeps the outbox for the next call.
    fn keep(&self, work: Work) {
        let mut known = self.known();
        let waiting = work.waits();
        known.waiting = waiting.map(|Waiting { after, reason }| Waiting {
            after,
            reason: format!("policy {}, {reason}", P::NAME),
        });
        known.work = Some(work);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies the batch, and executes the intents that are ready.
    async fn apply(&self, id: &ProjectionId, batch: Batch<'_>, work: &mut Work) -> Result<(), ProjectError> {
        let Reacted { writes, pending } = self.react(id, &batch).await?;
        check_dead(id, work.dead(&pending), &[])?;
        let mut notes = batch.notes.to_vec();
        for pending in &pending {
            notes.push(notes::note(pending).map_err(|error| StoreError::refused("an intent's note", error))?);
        }
        work.revision = save(&self.views, id, &batch, &writes, &notes).await?;
        work.add(pending);
        // The batch is an operator's change of the notes (retry, edit or drop): read them again.
        if batch.notes.iter().any(|note| note.key.starts_with(PENDING) || note.key.starts_with(MARKS)) {
            *work = self.read(id, work.revision).await?;
        }
        Ok(self.carry_out(id, batch.checkpoint, work).await?)
    }
}

impl<P: Policy> Projection for PolicyProjection<P> {
    type Store = AnyViews;

    fn store(&self) -> &AnyViews {
        &self.views
    }

    fn settings(&self) -> ProjectionSettings {
        // Room for a state and some intents of each event; the projector splits a batch that needs more.
        let max_events = (self.views.max_writes() / 4).max(1);
        ProjectionSettings {
            on_failure: P::ON_FAILURE,
            retry: P::RETRY,
            ignored: P::IGNORED,
            start: P::START,
            has_effects: true,
            ..ProjectionSettings::new(P::Of::names(), max_events)
        }
    }

    async fn project(&self, projection: &ProjectionId, batch: Batch<'_>) -> Result<u64, ProjectError> {
        let mut work = self.work(projection, batch.revision).await?;
        if work.waiting() > MAX_WAITING && !batch.events.is_empty() {
            let reason = work.waits().map(|waiting| waiting.reason).unwrap_or_default();
            self.keep(work);
            let what = format!("{MAX_WAITING} intents of policy {} wait: {reason}", P::NAME);
            return Err(StoreError::Unavailable { what, source: None }.into());
        }
        let applied = self.apply(projection, batch, &mut work).await;
        let revision = work.revision;
        // After any other error it is unknown which notes are stored.
        if let Ok(()) | Err(ProjectError::Event { .. } | ProjectError::Unknown { .. }) = applied {
            self.keep(work);
        }
        applied.map(|()| revision)
    }

    async fn resume(
        &self,
        projection: &ProjectionId,
        checkpoint: &Checkpoint,
        revision: u64,
    ) -> Result<u64, SaveError> {
        let mut work = self.work(projection, revision).await?;
        self.carry_out(projection, checkpoint, &mut work).await?;
        let revision = work.revision;
        self.keep(work);
        Ok(revision)
    }

    fn waiting(&self) -> Option<Waiting> {
        self.known().waiting.clone()
    }

    fn let_go(&self) {
        let mut known = self.known();
        (known.work, known.waiting) = (None, None);
    }
}

/// The policy's rules cannot handle a refusal. There is no event to set aside, so the refused intent is set aside
/// instead of being removed.
fn rule_failed(pending: PendingIntent, refusal: &Refusal, reason: &str) -> Step {
    let refused = refusal.reason();
    let reason = format!("it was refused ({refused}), and what follows cannot be done: {reason}");
    Step::Dead(pending, SendFailure::never(reason))
}

/// Fails if more than the limit of intents would wait for an operator.
fn check_dead(id: &ProjectionId, number: usize, steps: &[Step]) -> Result<(), StoreError> {
    if number <= MAX_DEAD_INTENTS {
        return Ok(());
    }
    let reason = steps.iter().find_map(|step| match step {
        Step::Dead(pending, failure) => {
            Some(format!("{}: {}", pending.intent.action.shown(), failure.reason))
        }
        Step::Over(..) => None,
    });
    let reason = reason.unwrap_or_else(|| "it stands behind another of its instance".to_owned());
    Err(StoreError::TooManyDeadIntents { policy: id.to_string(), limit: MAX_DEAD_INTENTS, reason })
}

/// Divides steps into parts that fit into one write each: a removal and a state for each intent, and room for intents
/// that follow.
fn parts<T>(over: Vec<T>, limit: usize) -> Vec<Vec<T>> {
    let size = (limit / 8).max(1);
    let mut parts = Vec::new();
    let mut over = over.into_iter().peekable();
    while over.peek().is_some() {
        parts.push(over.by_ref().take(size).collect());
    }
    parts
}
