//! The projection of a policy: events become a changed state and intents, in one write with the checkpoint; then
//! the intents are carried out, and their end is written.
//!
//! An intent is a note beside the states from the write that its event is in until the write after it was carried
//! out. Whatever happens in between, the notes say what is still to be done, and it is done again under the same
//! ids. A refusal is told to the state in the same write that removes the refused intent, and what follows from it
//! is noted there too: so a compensation is never sent for a refusal that nobody remembers.

use std::{marker::PhantomData, sync::Arc};

use bytes::Bytes;

use crate::{
    Batch, Checkpoint, Effects, Note, OnFailure, Policy, Position, ProjectError, Projection, ProjectionId,
    Reached, Reactions, Refusal, Retry, Save, SaveError, SavedCheckpoint, Start, StoreError, ViewStore,
    Write,
    carry_out::{Carrier, Pending},
    codec,
    documents::{Kept, When, cannot_apply, unless_panics},
    effects::{Cause, Intent},
    id::check_id,
    policy::Reaction,
};

/// What the keys of the intents' notes begin with.
const PENDING: &str = "pending/";

/// The most refusals that follow one from the other; a policy that goes on like that would never end.
const MAX_CHAIN: u32 = 8;

/// The states of `P` in the view store `S`.
pub(crate) struct PolicyProjection<P, S> {
    views: Arc<S>,
    carrier: Arc<Carrier>,
    policy: PhantomData<fn() -> P>,
}

impl<P: Policy, S: ViewStore> PolicyProjection<P, S> {
    pub(crate) fn new(views: Arc<S>, carrier: Arc<Carrier>) -> Self {
        Self { views, carrier, policy: PhantomData }
    }

    /// The states after the events, and what is wanted.
    async fn react(
        &self,
        id: &ProjectionId,
        batch: &Batch<'_>,
    ) -> Result<(Vec<Write>, Vec<Pending>), ProjectError> {
        let reactions = reactions::<P>(batch)?;
        let keys: Vec<_> = reactions.iter().map(|(_, reaction)| reaction.cause.key.clone()).collect();
        let mut states = Kept::<P>::load(&*self.views, id, keys).await?;
        let pending = match self.react_to(batch, reactions, &mut states, When::AtTheEnd) {
            Ok(pending) => pending,
            Err(error) => {
                // Which of the events is at fault is seen when each is followed by a look.
                states.reset();
                self.react_to(batch, self::reactions::<P>(batch)?, &mut states, When::AfterEach)?;
                return Err(error);
            }
        };
        Ok((states.into_writes(), pending))
    }

    /// Lets the states react in order; what is wanted.
    fn react_to(
        &self,
        batch: &Batch<'_>,
        reactions: Vec<(usize, Reaction<P>)>,
        states: &mut Kept<P>,
        when: When,
    ) -> Result<Vec<Pending>, ProjectError> {
        let mut pending = Vec::new();
        for (index, Reaction { cause, react }) in reactions {
            let key = cause.key.clone();
            let state = states.get(&key, index)?;
            let mut effects = Effects::of(cause);
            unless_panics(index, || react(state, &mut effects))?;
            if when == When::AfterEach {
                states.write_one(&key, P::is_kept)?;
            }
            let intents = effects.into_intents().map_err(|reason| cannot_apply(index, reason))?;
            for intent in &intents {
                self.carrier.check(intent).map_err(|reason| cannot_apply(index, reason))?;
            }
            let position = batch.events[index].position();
            pending.extend((0..).zip(intents).map(|(number, intent)| noted(position, number, intent)));
        }
        states.write(P::is_kept)?;
        Ok(pending)
    }

    /// Carries out intents, and those that follow from their refusal, until none is left.
    async fn carry_out(
        &self,
        id: &ProjectionId,
        checkpoint: &Checkpoint,
        mut revision: u64,
        mut pending: Vec<Pending>,
    ) -> Result<u64, SaveError> {
        while !pending.is_empty() {
            let round = self.carrier.carry_out(std::mem::take(&mut pending)).await;
            for over in parts(round.over, self.views.max_writes()) {
                let (next, follow) = self.settle(id, checkpoint, revision, over).await?;
                revision = next;
                pending.extend(follow);
            }
            if let Some(error) = round.failure {
                return Err(error.into());
            }
        }
        Ok(revision)
    }

    /// Writes that intents are over: their notes go, refusals change the states, and what follows is noted.
    async fn settle(
        &self,
        id: &ProjectionId,
        checkpoint: &Checkpoint,
        revision: u64,
        over: Vec<(Pending, Option<Refusal>)>,
    ) -> Result<(u64, Vec<Pending>), SaveError> {
        let keys = over.iter().filter(|(_, refusal)| refusal.is_some());
        let keys: Vec<_> = keys.map(|(pending, _)| pending.intent.key.clone()).collect();
        let mut states = Kept::<P>::load(&*self.views, id, keys).await?;
        let mut notes: Vec<_> = over.iter().map(|(pending, _)| removal(pending)).collect();
        let mut follow = Vec::new();
        for (pending, refusal) in &over {
            let Some(refusal) = refusal else { continue };
            let state = states.get(&pending.intent.key, 0).map_err(refused_rule)?;
            let intents = refused(state, &pending.intent, refusal)?;
            for (number, intent) in (0..).zip(intents) {
                self.carrier.check(&intent).map_err(refused_rule)?;
                follow.push(following(&pending.note, number, intent)?);
            }
        }
        notes.extend(follow.iter().map(note).collect::<Result<Vec<_>, _>>()?);
        states.write(P::is_kept).map_err(refused_rule)?;
        let writes = states.into_writes();
        let save = Save { writes: &writes, notes: &notes, checkpoint, revision };
        failpoint!(BeforeSettle, &id.to_string());
        let revision = self.views.save(id, save).await?;
        failpoint!(AfterSettle, &id.to_string());
        Ok((revision, follow))
    }
}

impl<P: Policy, S: ViewStore> Projection for PolicyProjection<P, S> {
    fn aggregates(&self) -> Vec<&'static str> {
        P::Of::names()
    }

    fn on_failure(&self) -> OnFailure {
        P::ON_FAILURE
    }

    fn retry(&self) -> Retry {
        P::RETRY
    }

    fn ignored(&self) -> &'static [&'static str] {
        P::IGNORED
    }

    fn start(&self) -> Start {
        P::START
    }

    fn has_effects(&self) -> bool {
        true
    }

    fn max_events(&self) -> usize {
        // Room for a state and some intents of each event; a batch that needs more is split.
        (self.views.max_writes() / 4).max(1)
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
        let (writes, pending) = self.react(projection, &batch).await?;
        let mut notes = batch.notes.to_vec();
        notes.extend(pending.iter().map(note).collect::<Result<Vec<_>, _>>()?);
        let (number, limit) = (writes.len() + notes.len(), self.views.max_writes());
        if number > limit {
            let what = format!("what a commit leads to, up to sequence {}", batch.checkpoint.sequence);
            return Err(StoreError::TooMany { what, number, limit }.into());
        }
        let Batch { checkpoint, revision, .. } = batch;
        let save = Save { writes: &writes, notes: &notes, checkpoint, revision };
        let revision = self.views.save(projection, save).await?;
        if !pending.is_empty() {
            failpoint!(BeforeCarryOut, &projection.to_string());
        }
        Ok(self.carry_out(projection, checkpoint, revision, pending).await?)
    }

    async fn resume(
        &self,
        projection: &ProjectionId,
        checkpoint: &Checkpoint,
        revision: u64,
    ) -> Result<u64, SaveError> {
        let notes = self.views.notes(projection, PENDING).await?;
        let pending: Vec<_> = notes.into_iter().map(read).collect::<Result<_, _>>()?;
        if !pending.is_empty() {
            tracing::info!(projection = %projection, intents = pending.len(), "going on with what was wanted");
        }
        self.carry_out(projection, checkpoint, revision, pending).await
    }

    async fn reached(&self, projection: &ProjectionId, sequence: u64) -> Result<Reached, StoreError> {
        self.views.reached(projection, sequence).await
    }

    async fn remove(&self, projection: &ProjectionId) -> Result<(), StoreError> {
        self.views.remove(projection).await
    }
}

/// What the events of a batch are reacted to with, each with the event's index.
fn reactions<P: Policy>(batch: &Batch<'_>) -> Result<Vec<(usize, Reaction<P>)>, ProjectError> {
    let mut reactions = Vec::new();
    for (index, event) in batch.events.iter().enumerate() {
        let reaction = unless_panics(index, || P::Of::step(event))?;
        let reaction = reaction.map_err(|error| ProjectError::undecodable(index, error))?;
        let Some(reaction) = reaction else { continue };
        let checked = check_id(&reaction.cause.key);
        checked.map_err(|error| cannot_apply(index, format!("its state's key: {error}")))?;
        reactions.push((index, reaction));
    }
    Ok(reactions)
}

/// What a state wants after a refusal.
fn refused<P: Policy>(state: &mut P, intent: &Intent, refusal: &Refusal) -> Result<Vec<Intent>, StoreError> {
    let mut effects = Effects::of(Cause::refusal(P::NAME, intent, &refusal.request));
    let told = unless_panics(0, || state.refused(refusal, &mut effects));
    told.map_err(|error| refused_rule(error.to_string()))?;
    effects.into_intents().map_err(refused_rule)
}

/// The rules do not work. There is no event to set aside, so the policy halts before it forgets the refusal.
fn refused_rule(reason: impl std::fmt::Display) -> StoreError {
    StoreError::Refused {
        what: format!("what follows from a refused command cannot be done: {reason}"),
        source: None,
    }
}

/// An intent with the key of its note, by which intents are sorted: by the event that they began with, then those
/// that follow from it before those that follow from a refusal, then as they were wanted.
fn noted(position: Position, number: u32, intent: Intent) -> Pending {
    let Position { sequence, index } = position;
    Pending { note: format!("{PENDING}{sequence:020}/{index:010}/00/{number:06}"), intent }
}

/// An intent that follows from the refusal of the one at `refused`.
fn following(refused: &str, number: u32, intent: Intent) -> Result<Pending, StoreError> {
    let mut parts = refused.rsplitn(3, '/');
    let (path, depth, event) = (parts.next(), parts.next(), parts.next());
    let depth = depth.and_then(|depth| depth.parse::<u32>().ok()).unwrap_or(MAX_CHAIN).saturating_add(1);
    if depth > MAX_CHAIN {
        return Err(refused_rule(format!(
            "{MAX_CHAIN} commands were refused, each sent for the refusal before"
        )));
    }
    let (path, event) = (path.unwrap_or_default(), event.unwrap_or_default());
    Ok(Pending { note: format!("{event}/{depth:02}/{path}.{number:06}"), intent })
}

fn note(pending: &Pending) -> Result<Note, StoreError> {
    let refused = |error| StoreError::refused(format!("intent {} cannot be written", pending.note), error);
    let content = codec::to_json(&pending.intent).map_err(refused)?;
    Ok(Note { key: pending.note.clone(), content: Some(content) })
}

fn removal(pending: &Pending) -> Note {
    Note { key: pending.note.clone(), content: None }
}

fn read((note, content): (String, Bytes)) -> Result<Pending, StoreError> {
    let bad = |error: serde_json::Error| StoreError::BadDocument {
        view: "intents".into(),
        key: note.clone(),
        reason: error.to_string(),
    };
    let intent = codec::from_json(&content).map_err(bad)?;
    Ok(Pending { note, intent })
}

/// Parts that fit into one write each: a removal and a state for each intent, and room for what follows.
fn parts<T>(over: Vec<T>, limit: usize) -> Vec<Vec<T>> {
    let size = (limit / 8).max(1);
    let mut parts = Vec::new();
    let mut over = over.into_iter().peekable();
    while over.peek().is_some() {
        parts.push(over.by_ref().take(size).collect());
    }
    parts
}
