//! The operations on dead letters: by an operator, and by a program that knows more events than the program before it.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::{
    base::{
        content_type::JSON,
        error::Error,
        id::{AggregateKey, Position, ProjectionId},
        store_error::{StoreError, is_too_large},
    },
    log::{commit::StoredCommit, envelope::Envelope, recorded::Recorded},
    model::event::Event,
    port::{
        any_events::AnyEvents,
        clock::Clock,
        event_store::EventStore,
        projection::{AnyProjection, Batch, ProjectError},
        subscription::Delivery,
        view_store::{Note, SaveError},
    },
    projector::{
        dead_letter::{DeadLetter, Failure, Fault, read},
        gap,
        set_aside::{self, Change},
    },
};

/// The dead letters of one projection, to inspect and to resolve; see
/// [`Cqrs::dead_letters`](crate::Cqrs::dead_letters).
///
/// A projection applies the events of an aggregate in order, without gaps. So the first dead letter of an aggregate has
/// to be resolved first: repair the program and [`retry`](Self::retry), [`edit`](Self::edit) the data to apply in its
/// place, or [`drop`](Self::drop_first) it. A retry then applies those behind it.
pub struct DeadLetters {
    pub(crate) events: AnyEvents,
    pub(crate) projection: Arc<dyn AnyProjection>,
    pub(crate) id: ProjectionId,
    pub(crate) clock: Arc<dyn Clock>,
}

/// The result of a [retry](DeadLetters::retry).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retried {
    /// How many events were applied.
    pub applied: usize,
    /// The dead letter that still cannot be applied, if there is one.
    pub stopped_at: Option<DeadLetter>,
}

/// The origin of a retry. A program's retry records no failure that may pass, nor that it does not know the event
/// either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Hand,
    Program,
}

/// Why an event was not applied, and whether that may pass.
struct Failed {
    failure: Failure,
    transient: bool,
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self { failure, transient: false }
    }
}

impl DeadLetters {
    /// All dead letters, in the order of the log; at most about [`MAX_DEAD_LETTERS`](crate::operate::MAX_DEAD_LETTERS).
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

    /// What the log has for a dead letter: the commit that its events are part of, or why the message cannot be read.
    /// `None` if the log does not have it any more.
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

    /// The data of a dead letter's first event, as JSON: the [edited](Self::edit) data if there is any, otherwise the
    /// stored data in the shape of its stored version. So it can be changed and edited:
    ///
    /// ```no_run
    /// # async fn repair(dead: cqrs_core::operate::DeadLetters) -> Result<(), cqrs_core::Error> {
    /// for letter in dead.list().await? {
    ///     println!("{letter}");
    ///     let Some(mut data) = dead.data(&letter).await? else { continue };
    ///     data["amount"] = 41.into();
    ///     dead.edit(letter.position, &data.to_string()).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// `None` if the log does not have the event any more.
    ///
    /// # Errors
    ///
    /// [`StoreError::Undecodable`] when the data is not JSON: [`decoded`](Self::decoded) reads also an event in bincode.
    /// [`StoreError::NotACommit`] when the message cannot be read, and the store's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn data(&self, letter: &DeadLetter) -> Result<Option<Value>, Error> {
        let stored = self.as_applied(letter).await?;
        Ok(stored.map(|stored| first_of(&stored, letter).json()).transpose()?)
    }

    /// A dead letter's first event as a retry would apply it, decoded from any encoding and version. `E` is the event of
    /// the projection's aggregate, or of one of them. `None` if the log does not have the event any more.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownEvent`], [`StoreError::UnknownVersion`] or [`StoreError::Undecodable`] when `E` cannot be read
    /// from it, [`StoreError::NotACommit`] when the message cannot be read, and the store's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn decoded<E: Event>(&self, letter: &DeadLetter) -> Result<Option<Envelope<E>>, Error> {
        let stored = self.as_applied(letter).await?;
        Ok(stored.map(|stored| first_of(&stored, letter).decode()).transpose()?)
    }

    /// The commit of a letter with its edited data, if the log has the letter's first event.
    async fn as_applied(&self, letter: &DeadLetter) -> Result<Option<StoredCommit>, Error> {
        let stored = match self.event(letter).await? {
            None => return Ok(None),
            Some(Err(unreadable)) => {
                let (sequence, reason) = (letter.position.sequence, unreadable.reason);
                return Err(StoreError::NotACommit { sequence, reason }.into());
            }
            Some(Ok(stored)) => stored,
        };
        let stored = match &letter.edited {
            Some(data) => edited(&stored, letter, data),
            None => stored,
        };
        let is_there = first_of(&stored, letter).is_there();
        Ok(is_there.then_some(stored))
    }

    /// Applies the dead letters of an aggregate in order, until an event cannot be applied or no letter is left.
    ///
    /// An event after a gap ([`Fault::Gap`]) is applied once the log is whole again, or if it was [edited](Self::edit).
    ///
    /// # Errors
    ///
    /// The store's. What was applied before stays applied.
    ///
    /// # Cancel safety
    ///
    /// Each event is applied once, whenever the call is dropped. Call it again to continue.
    pub async fn retry(&self, aggregate: &AggregateKey) -> Result<Retried, Error> {
        self.retry_by(aggregate, By::Hand).await
    }

    /// Applies the dead letters that were unknown to the program that set them aside, and returns the number of applied
    /// events. Letters that this program does not know either stay.
    pub(crate) async fn retry_unknown(&self) -> Result<usize, Error> {
        let mut applied = 0;
        for aggregate in super::unknown(&self.list().await?) {
            applied += self.retry_by(&aggregate, By::Program).await?.applied;
        }
        Ok(applied)
    }

    async fn retry_by(&self, aggregate: &AggregateKey, by: By) -> Result<Retried, Error> {
        let mut applied = 0;
        for attempt in 0..set_aside::ATTEMPTS {
            match self.apply_all(aggregate, by, &mut applied).await? {
                Ok(stopped_at) => return Ok(Retried { applied, stopped_at }),
                Err(error) => set_aside::again(&self.id, error, attempt).await?,
            }
        }
        Err(set_aside::overtaken(&self.id))
    }

    /// Sets the data that the projection applies in place of an event's stored data, as JSON of the schema version in
    /// which the event was stored. The log does not change. Returns the event's letter, which covers this event alone
    /// from now on; `None` if no dead letter has that event.
    ///
    /// # Errors
    ///
    /// The store's.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may take effect, now or later.
    pub async fn edit(&self, position: Position, data: &str) -> Result<Option<DeadLetter>, Error> {
        let find = |letter: &DeadLetter| letter.has(position);
        self.change(find, |letter, stored| {
            let [before, event, after] = letter.parts(position.index, stored);
            let event = event.map(|event| DeadLetter { edited: Some(data.to_owned()), ..event });
            let shown = event.clone().unwrap_or_else(|| letter.clone());
            ([before, event, after].into_iter().flatten().collect(), shown)
        })
        .await
    }

    /// Drops the first event of an aggregate's dead letters: the view stays as if the event had not happened. Returns
    /// its letter; `None` if there was none.
    ///
    /// # Errors
    ///
    /// The store's.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may take effect, now or later.
    pub async fn drop_first(&self, aggregate: &AggregateKey) -> Result<Option<DeadLetter>, Error> {
        let find = |letter: &DeadLetter| letter.aggregate == *aggregate;
        self.change(find, |letter, stored| {
            let [_, event, after] = letter.parts(letter.position.index, stored);
            (after.into_iter().collect(), event.unwrap_or_else(|| letter.clone()))
        })
        .await
    }

    /// Replaces the first letter that `find` accepts by other letters, with compare-and-set on the whole projection.
    /// Returns the letter that `change` returns for the caller.
    async fn change(
        &self,
        find: impl Fn(&DeadLetter) -> bool + Sync,
        change: impl Fn(&DeadLetter, Option<&StoredCommit>) -> (Vec<DeadLetter>, DeadLetter) + Sync,
    ) -> Result<Option<DeadLetter>, Error> {
        let (find, change) = (&find, &change);
        set_aside::change(&*self.projection, &self.id, || async move {
            let letters = self.list().await?;
            let Some(letter) = letters.iter().find(|letter| find(letter)) else { return Ok(None) };
            let stored = match letter.events {
                1 => None,
                _ => self.event(letter).await?.and_then(Result::ok),
            };
            let (others, returned) = change(letter, stored.as_ref());
            let dead_letters = Some(letters.len() - 1 + others.len());
            Ok(Some(Change { notes: replaced(letter, &others)?, dead_letters, returned }))
        })
        .await
    }

    /// Applies the letters of an aggregate event by event, each in one write with its removal. Returns the letter that
    /// cannot be applied, if there is one; an inner error if the write has to be tried again.
    ///
    /// The revision is read before the letters, and each write names the one before it. So any other change of the
    /// letters makes the next write fail.
    async fn apply_all(
        &self,
        aggregate: &AggregateKey,
        by: By,
        applied: &mut usize,
    ) -> Result<Result<Option<DeadLetter>, ProjectError>, Error> {
        let (mut checkpoint, mut revision) = set_aside::checkpoint(&*self.projection, &self.id).await?;
        let letters = self.list().await?;
        checkpoint.dead_letters = letters.len() as u64;
        // Successive letters may be of one commit, which may be large: it is read once.
        let mut read: Option<StoredCommit> = None;
        for letter in letters.into_iter().filter(|letter| letter.aggregate == *aggregate) {
            let mut rest = Some(letter);
            while let Some(letter) = rest.take() {
                let read_before = read.take().filter(|stored| stored.sequence == letter.position.sequence);
                let stored = match self.stored(&letter, read_before).await? {
                    Ok(stored) => stored,
                    Err(failure) => return Ok(Ok(Some(self.failed(letter, by, failure.into()).await?))),
                };
                let edited = letter.edited.as_ref().map(|data| edited(&stored, &letter, data));
                let applied_commit = edited.as_ref().unwrap_or(&stored);
                let event = first_of(applied_commit, &letter);
                // An event that the program ignores by now counts as applied.
                let ignored = self.projection.settings().ignored.contains(&event.event_type());
                let events = if ignored { &[][..] } else { &[event] };
                let [_, _, after] = letter.parts(letter.position.index, Some(&stored));
                let notes = replaced(&letter, after.as_slice())?;
                checkpoint.dead_letters -= u64::from(after.is_none());
                let batch = Batch { events, notes: &notes, checkpoint: &checkpoint, revision };
                match self.projection.project(&self.id, batch).await {
                    Ok(next) => revision = next,
                    Err(error) => {
                        return match failed(error) {
                            Ok(failure) => Ok(Ok(Some(self.failed(letter, by, failure).await?))),
                            Err(error) => Ok(Err(error)),
                        };
                    }
                }
                *applied += 1;
                (rest, read) = (after, Some(stored));
            }
        }
        Ok(Ok(None))
    }

    /// The commit with the event to apply, or why it cannot be applied.
    async fn stored(
        &self,
        letter: &DeadLetter,
        read_before: Option<StoredCommit>,
    ) -> Result<Result<StoredCommit, Failure>, Error> {
        let event = |reason: &str| Failure::new(Fault::Event, reason.to_owned());
        let stored = match read_before {
            Some(stored) => stored,
            None => match self.events.commit_at(letter.position.sequence).await? {
                None => return Ok(Err(event("it is not in the log any more"))),
                Some(Err(unreadable)) => return Ok(Err(event(&unreadable.reason))),
                Some(Ok(stored)) => stored,
            },
        };
        if letter.fault == Fault::Gap
            && letter.edited.is_none()
            && let Some(gap) = gap::before(&self.events, &stored).await?
        {
            return Ok(Err(Failure::new(Fault::Gap, gap.to_string())));
        }
        if stored.commit.events.len() <= letter.position.index as usize {
            return Ok(Err(event("its commit has no such event")));
        }
        Ok(Ok(stored))
    }

    /// Records a vain retry of a letter.
    async fn failed(&self, letter: DeadLetter, by: By, failed: Failed) -> Result<DeadLetter, Error> {
        let Failed { failure, transient } = failed;
        let says_nothing_new = transient || failure.fault == Fault::Unknown && letter.fault == Fault::Unknown;
        if by == By::Program && says_nothing_new {
            return Ok(letter);
        }
        let find = |other: &DeadLetter| other.position == letter.position;
        let tried = |letter: &DeadLetter, _: Option<&StoredCommit>| {
            let tried = letter.tried(failure.clone(), self.clock.now());
            (vec![tried.clone()], tried)
        };
        Ok(self.change(find, tried).await?.unwrap_or(letter))
    }
}

/// The first event of a letter, in its commit.
fn first_of<'a>(stored: &'a StoredCommit, letter: &DeadLetter) -> Recorded<'a> {
    Recorded { stored, index: letter.position.index as usize }
}

/// The commit with the edited data for the letter's event.
fn edited(stored: &StoredCommit, letter: &DeadLetter, data: &str) -> StoredCommit {
    let mut stored = stored.clone();
    if let Some(event) = stored.commit.events.get_mut(letter.position.index as usize) {
        event.data = Bytes::copy_from_slice(data.as_bytes());
        event.content_type = JSON.into();
    }
    stored
}

/// The failure, if the error is about the event; else the error of the write as a whole.
fn failed(error: ProjectError) -> Result<Failed, ProjectError> {
    match error {
        ProjectError::Event { reason, transient, .. } => {
            let fault = if transient { Fault::Outage } else { Fault::Event };
            Ok(Failed { failure: Failure::new(fault, reason), transient })
        }
        ProjectError::Unknown { reason, .. } => Ok(Failure::new(Fault::Unknown, reason).into()),
        ProjectError::Save(SaveError::Failed(error)) if is_too_large(&error) => {
            Ok(Failure::new(Fault::Event, error.to_string()).into())
        }
        error @ ProjectError::Save(_) => Err(error),
    }
}

/// The notes that replace one letter by others.
fn replaced(letter: &DeadLetter, others: &[DeadLetter]) -> Result<Vec<Note>, StoreError> {
    let mut notes: Vec<_> = others.iter().map(DeadLetter::note).collect::<Result<_, _>>()?;
    let removal = letter.removal();
    if notes.iter().all(|note| note.key != removal.key) {
        notes.push(removal);
    }
    Ok(notes)
}
