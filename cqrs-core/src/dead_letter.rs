//! Dead letters: events that a projection could not apply, set aside in order, and what can be done about them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    AggregateKey, Batch, Checkpoint, Clock, Delivery, Error, EventId, JSON, Note, Position, ProjectError,
    ProjectionId, Recorded, SaveError, StoreError, StoredCommit, backoff, codec, followed::AnyEvents,
    projection::AnyProjection,
};

/// The most dead letters of one projection. With one more it halts, and loses nothing: somebody must look.
pub const MAX_DEAD_LETTERS: usize = 1_000;

/// What the keys of the notes begin with.
pub(crate) const NOTES: &str = "dead/";

/// How often a change is tried while the projector changes the checkpoint in between.
const ATTEMPTS: u32 = 200;

/// An event that a projection has not applied, with its history.
///
/// The event itself is in the log; [`DeadLetters::event`] shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The aggregate that it happened to.
    pub aggregate: AggregateKey,
    /// Its place in the log.
    pub position: Position,
    /// Its place among the aggregate's events; none when the message is not a commit.
    pub version: Option<u64>,
    /// The event's id; none when the message is not a commit.
    pub event_id: Option<EventId>,
    /// The stored name of its type; none when the message is not a commit.
    pub event_type: Option<String>,
    /// Why it was not applied.
    pub reason: String,
    /// Whether it only stands behind an earlier dead letter of its aggregate.
    pub behind: bool,
    /// How often it was tried by hand.
    pub attempts: u32,
    /// When it was set aside.
    pub time: Timestamp,
    /// The data to apply in place of what is stored, as JSON, if somebody has edited it.
    pub edited: Option<String>,
}

impl DeadLetter {
    pub(crate) fn of_event(event: &Recorded<'_>, reason: String, behind: bool, time: Timestamp) -> Self {
        let recorded = &event.stored.commit.events[event.index];
        Self {
            aggregate: event.stored.commit.aggregate.clone(),
            position: event.position(),
            version: Some(event.version()),
            event_id: Some(recorded.id),
            event_type: Some(recorded.event_type.to_string()),
            reason,
            behind,
            attempts: 0,
            time,
            edited: None,
        }
    }

    pub(crate) fn of_message(
        aggregate: &AggregateKey,
        sequence: u64,
        reason: String,
        behind: bool,
        time: Timestamp,
    ) -> Self {
        Self {
            aggregate: aggregate.clone(),
            position: Position { sequence, index: 0 },
            version: None,
            event_id: None,
            event_type: None,
            reason,
            behind,
            attempts: 0,
            time,
            edited: None,
        }
    }

    fn key(&self) -> String {
        // Padded, so that keys sort as positions do.
        format!("{NOTES}{:020}/{:010}", self.position.sequence, self.position.index)
    }

    pub(crate) fn note(&self) -> Result<Note, StoreError> {
        let content = codec::to_json(self).map_err(|error| bad_letter(&self.key(), &error))?;
        Ok(Note { key: self.key(), content: Some(content) })
    }

    fn removal(&self) -> Note {
        Note { key: self.key(), content: None }
    }

    fn from_note(key: &str, content: &[u8]) -> Result<Self, StoreError> {
        codec::from_json(content).map_err(|error| bad_letter(key, &error))
    }
}

fn bad_letter(key: &str, error: &serde_json::Error) -> StoreError {
    StoreError::BadDocument { view: "dead letters".into(), key: key.into(), reason: error.to_string() }
}

/// All dead letters of a projection, in the order of the log.
pub(crate) async fn read(
    projection: &dyn AnyProjection,
    id: &ProjectionId,
) -> Result<Vec<DeadLetter>, StoreError> {
    let notes = projection.notes(id, NOTES).await?;
    notes.iter().map(|(key, content)| DeadLetter::from_note(key, content)).collect()
}

/// How many dead letters each aggregate has.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    aggregates: HashMap<AggregateKey, usize>,
    all: usize,
}

impl Parked {
    pub(crate) fn add<'a>(&mut self, letters: impl IntoIterator<Item = &'a DeadLetter>) {
        for letter in letters {
            *self.aggregates.entry(letter.aggregate.clone()).or_default() += 1;
            self.all += 1;
        }
    }

    pub(crate) fn has(&self, aggregate: &AggregateKey) -> bool {
        !self.aggregates.is_empty() && self.aggregates.contains_key(aggregate)
    }

    pub(crate) fn len(&self) -> usize {
        self.all
    }
}

/// The dead letters of one projection, to look at and to deal with; see
/// [`Cqrs::dead_letters`](crate::Cqrs::dead_letters).
///
/// A projection applies the events of an aggregate in order or not at all. So the first dead letter of an
/// aggregate is the one to deal with: repair the program and [`retry`](Self::retry), [`edit`](Self::edit)
/// what is to be applied in its place, or [`drop`](Self::drop_first) it. Those behind it follow by a retry.
pub struct DeadLetters {
    pub(crate) events: Arc<dyn AnyEvents>,
    pub(crate) projection: Arc<dyn AnyProjection>,
    pub(crate) id: ProjectionId,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What became of a [retry](DeadLetters::retry).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retried {
    /// How many events were applied.
    pub applied: usize,
    /// The dead letter that still cannot be applied, if there is one.
    pub stopped_at: Option<DeadLetter>,
}

impl DeadLetters {
    /// All of them, in the order of the log; at most [`MAX_DEAD_LETTERS`].
    ///
    /// # Errors
    ///
    /// The store's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn list(&self) -> Result<Vec<DeadLetter>, Error> {
        Ok(read(&*self.projection, &self.id).await?)
    }

    /// What stands in the log for a dead letter: the commit that its event is part of, or what is wrong with
    /// the message.
    ///
    /// # Errors
    ///
    /// The store's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn event(&self, letter: &DeadLetter) -> Result<Option<Delivery>, Error> {
        Ok(self.events.commit_at(letter.position.sequence).await?)
    }

    /// Applies the dead letters of an aggregate in order, until one cannot be applied or none is left.
    ///
    /// # Errors
    ///
    /// The store's. What was applied before stays applied.
    ///
    /// # Cancel safety
    ///
    /// Each event is applied once, whenever the call is dropped; call it again to go on.
    pub async fn retry(&self, aggregate: &AggregateKey) -> Result<Retried, Error> {
        let mut applied = 0;
        for attempt in 0..ATTEMPTS {
            match self.apply_all(aggregate, &mut applied).await? {
                Ok(stopped_at) => return Ok(Retried { applied, stopped_at }),
                Err(error) => self.again(error, attempt).await?,
            }
        }
        Err(self.overtaken())
    }

    /// Sets what the projection is to apply in place of an event's stored data, as JSON of the version that the
    /// event was stored in. The log stays as it is. Returns the changed letter; none if there is no dead letter at that place.
    ///
    /// # Errors
    ///
    /// The store's.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may take effect, now or later.
    pub async fn edit(&self, position: Position, data: &str) -> Result<Option<DeadLetter>, Error> {
        self.change(|letters| {
            let letter = letters.into_iter().find(|letter| letter.position == position)?;
            let letter = DeadLetter { edited: Some(data.to_owned()), ..letter };
            Some((letter.note(), letter))
        })
        .await
    }

    /// Gives up the first dead letter of an aggregate: the view stays as if the event had not been. Returns
    /// it; none if there was none.
    ///
    /// # Errors
    ///
    /// The store's.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may take effect, now or later.
    pub async fn drop_first(&self, aggregate: &AggregateKey) -> Result<Option<DeadLetter>, Error> {
        self.change(|letters| {
            let letter = letters.into_iter().find(|letter| letter.aggregate == *aggregate)?;
            Some((Ok(letter.removal()), letter))
        })
        .await
    }

    /// Changes one letter's note, in a write that fails when anything of the projection has changed since.
    async fn change(
        &self,
        change: impl Fn(Vec<DeadLetter>) -> Option<(Result<Note, StoreError>, DeadLetter)>,
    ) -> Result<Option<DeadLetter>, Error> {
        for attempt in 0..ATTEMPTS {
            let (mut checkpoint, revision) = self.checkpoint().await?;
            let letters = self.list().await?;
            let before = letters.len() as u64;
            let Some((note, letter)) = change(letters) else { return Ok(None) };
            let note = note?;
            checkpoint.dead_letters = before - u64::from(note.content.is_none());
            let batch = Batch { events: &[], notes: &[note], checkpoint: &checkpoint, revision };
            match self.projection.project(&self.id, batch).await {
                Ok(_) => return Ok(Some(letter)),
                Err(error) => self.again(error, attempt).await?,
            }
        }
        Err(self.overtaken())
    }

    /// Applies the letters of an aggregate one by one, each in one write with its removal. Returns the letter
    /// that cannot be applied, if there is one; an inner error when the write has to be tried again.
    ///
    /// The revision is read before the letters, and each write names the one before it: so whatever somebody
    /// else does to the letters in between makes the next write fail.
    async fn apply_all(
        &self,
        aggregate: &AggregateKey,
        applied: &mut usize,
    ) -> Result<Result<Option<DeadLetter>, ProjectError>, Error> {
        let (mut checkpoint, mut revision) = self.checkpoint().await?;
        let letters = self.list().await?;
        checkpoint.dead_letters = letters.len() as u64;
        for letter in letters.into_iter().filter(|letter| letter.aggregate == *aggregate) {
            let stored = match self.stored(&letter).await? {
                Ok(stored) => stored,
                Err(reason) => return Ok(Ok(Some(self.failed(letter, reason).await?))),
            };
            let event = Recorded { stored: &stored, index: letter.position.index as usize };
            // What has come to be ignored since is passed over like any other.
            let ignored = self.projection.ignored().contains(&event.event_type());
            let events = if ignored { &[][..] } else { &[event] };
            checkpoint.dead_letters -= 1;
            let batch = Batch { events, notes: &[letter.removal()], checkpoint: &checkpoint, revision };
            match self.projection.project(&self.id, batch).await {
                Ok(next) => revision = next,
                Err(ProjectError::Event { reason, .. }) => {
                    return Ok(Ok(Some(self.failed(letter, reason).await?)));
                }
                Err(error) => return Ok(Err(error)),
            }
            *applied += 1;
        }
        Ok(Ok(None))
    }

    /// The commit to apply, with the edited data; or what is wrong with it.
    async fn stored(&self, letter: &DeadLetter) -> Result<Result<StoredCommit, String>, Error> {
        let mut stored = match self.events.commit_at(letter.position.sequence).await? {
            None => return Ok(Err("it is not in the log any more".to_owned())),
            Some(Err(unreadable)) => return Ok(Err(unreadable.reason)),
            Some(Ok(stored)) => stored,
        };
        let Some(event) = stored.commit.events.get_mut(letter.position.index as usize) else {
            return Ok(Err("its commit has no such event".to_owned()));
        };
        if let Some(edited) = &letter.edited {
            event.data = Bytes::copy_from_slice(edited.as_bytes());
            event.content_type = JSON.into();
        }
        Ok(Ok(stored))
    }

    async fn failed(&self, letter: DeadLetter, reason: String) -> Result<DeadLetter, Error> {
        let tried = |letters: Vec<DeadLetter>| {
            let letter = letters.into_iter().find(|other| other.position == letter.position)?;
            let attempts = letter.attempts.saturating_add(1);
            let time = self.clock.now();
            let letter = DeadLetter { reason: reason.clone(), behind: false, attempts, time, ..letter };
            Some((letter.note(), letter))
        };
        Ok(self.change(tried).await?.unwrap_or(letter))
    }

    async fn checkpoint(&self) -> Result<(Checkpoint, u64), Error> {
        let saved = self.projection.checkpoint(&self.id).await?;
        if saved.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.sealed.is_some()) {
            let what = format!("another build takes the place of {}: ask for its dead letters", self.id);
            return Err(StoreError::Unavailable { what, source: None }.into());
        }
        // Where nothing was saved yet there are no letters either.
        Ok((saved.checkpoint.unwrap_or_default(), saved.revision))
    }

    /// Waits a moment after a failure that passes.
    async fn again(&self, error: ProjectError, attempt: u32) -> Result<(), Error> {
        match error {
            ProjectError::Save(SaveError::Failed(error)) if !error.is_transient() => return Err(error.into()),
            ProjectError::Event { reason, .. } => {
                let what = format!("changing the dead letters of {}: {reason}", self.id);
                return Err(StoreError::Refused { what, source: None }.into());
            }
            ProjectError::Save(_) => {}
        }
        let longest = Duration::from_millis(100);
        tokio::time::sleep(backoff::pause(Duration::from_millis(1), longest, attempt)).await;
        Ok(())
    }

    fn overtaken(&self) -> Error {
        let what =
            format!("changing the dead letters of {}, which its projector changes all the time", self.id);
        StoreError::Unavailable { what, source: None }.into()
    }
}
