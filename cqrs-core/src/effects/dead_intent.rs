//! Dead intents: commands and deadlines of a policy that could not be executed, set aside in order, and the operations
//! on them.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    sync::Arc,
};

use jiff::Timestamp;
use serde_json::value::RawValue;

use crate::{
    base::{
        error::Error,
        id::{CommandId, ProjectionId},
        one_line::OneLine,
        store_error::StoreError,
    },
    effects::{
        carrier::PendingIntent,
        intents::{Action, Request},
        policy_projection::notes::{self, MARKS, Mark, Noted, PENDING},
    },
    port::{clock::Clock, projection::AnyProjection},
    projector::{
        set_aside::{self, Change},
        worker::Worker,
    },
};

/// The most dead intents of one policy, including those behind them. With one more the policy halts, until an operator
/// resolves some. No intent is lost.
pub const MAX_DEAD_INTENTS: usize = 1_000;

/// An intent of a policy that was not executed: a command, or a deadline to arm or disarm. `Display` writes one line:
///
/// ```text
/// order-7: command pay_order (018f…) on order/7: the commit takes 2097152 bytes, …; 1 retry failed
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadIntent {
    /// The key of the policy's state to which it belongs.
    pub key: String,
    /// Its sort key among the policy's intents.
    pub place: String,
    /// A description for the operator.
    pub what: String,
    /// The command to send, at once or by a deadline. `None` for a deadline to disarm, and if this program cannot read
    /// the intent.
    pub command: Option<DeadCommand>,
    /// Why it was not executed.
    pub reason: String,
    /// Whether the intent itself did not fail, but follows an earlier dead intent of its state.
    pub behind: bool,
    /// How often an operator has retried it.
    pub attempts: u32,
    /// When it was set aside. `None` if it follows another dead intent, or if this program cannot read it.
    pub time: Option<Timestamp>,
}

/// A command that a policy could not send.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadCommand {
    /// Its stored name.
    pub name: String,
    /// The stored name of its aggregate.
    pub aggregate: String,
    /// The id of its aggregate.
    pub aggregate_id: String,
    /// Its id. A repeat with the same id takes no second effect.
    pub id: CommandId,
    /// Its fields, as JSON.
    pub body: String,
}

impl DeadCommand {
    fn of(request: &Request) -> Self {
        Self {
            name: request.command.clone(),
            aggregate: request.aggregate.clone(),
            aggregate_id: request.aggregate_id.clone(),
            id: request.id,
            body: request.body.get().to_owned(),
        }
    }
}

impl DeadIntent {
    fn of(key: &str, noted: Noted) -> Self {
        let behind = !noted.is_dead();
        let command = noted.intent.as_ref().ok().and_then(|intent| match &intent.action {
            Action::Send(request) | Action::Arm { request, .. } => Some(DeadCommand::of(request)),
            Action::Disarm { .. } => None,
        });
        let mark = noted.mark.filter(|_| !behind);
        let (what, unreadable) = match &noted.intent {
            Ok(intent) => (intent.action.shown(), None),
            Err(reason) => ("an intent".to_owned(), Some(reason.clone())),
        };
        let (attempts, time) = mark.as_ref().map_or((0, None), |mark| (mark.attempts, Some(mark.time)));
        let reason = mark.map(|mark| mark.reason).or(unreadable);
        let reason = reason.unwrap_or_else(|| "an earlier intent of its instance is dead".to_owned());
        Self { key: key.to_owned(), place: noted.place, what, command, reason, behind, attempts, time }
    }
}

impl fmt::Display for DeadIntent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut OneLine(f);
        let Self { key, what, reason, attempts, .. } = self;
        write!(f, "{key}: {what}: {reason}")?;
        match attempts {
            0 => Ok(()),
            1 => f.write_str("; 1 retry failed"),
            attempts => write!(f, "; {attempts} retries failed"),
        }
    }
}

/// The dead intents of one policy, to inspect and to resolve; see [`Cqrs::dead_intents`](crate::Cqrs::dead_intents).
///
/// The intents of one state of a policy are executed in order, without gaps. So the first dead intent of a key has to
/// be resolved first: repair the program and [`retry`](Self::retry), [`edit`](Self::edit) the command, or
/// [`drop`](Self::drop_first) it. A retry then executes those behind it. Meanwhile the policy's other states continue,
/// and this one still reacts to events.
///
/// An intent that failed because its program does not know a command or a version of an event is retried without an
/// operator, once by each program that runs the policy: in a rolling update the newer program executes it.
pub struct DeadIntents {
    projection: Arc<dyn AnyProjection>,
    id: ProjectionId,
    clock: Arc<dyn Clock>,
}

/// The result of a [retry](DeadIntents::retry).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetriedIntents {
    /// How many intents were executed.
    pub carried_out: usize,
    /// How many still wait, for example for the store: the policy retries them by itself.
    pub waiting: usize,
    /// The intent that has failed again, if there is one.
    pub stopped_at: Option<DeadIntent>,
}

impl DeadIntents {
    /// The dead intents of the policy that `worker` runs, in the active build.
    pub(crate) async fn of(worker: &Worker) -> Result<Self, Error> {
        Ok(Self {
            projection: Arc::clone(&worker.projection),
            id: worker.answering_in_time().await?,
            clock: Arc::clone(&worker.shared.clock),
        })
    }

    /// All dead intents, by key and in order; at most [`MAX_DEAD_INTENTS`].
    ///
    /// # Errors
    ///
    /// The store's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn list(&self) -> Result<Vec<DeadIntent>, Error> {
        Ok(self.outbox().await?.dead)
    }

    /// Executes the dead intents of a key in order, until one fails again or no intent is left.
    ///
    /// # Errors
    ///
    /// The store's. Intents that were executed before stay executed.
    ///
    /// # Cancel safety
    ///
    /// Each command takes effect once, whenever the call is dropped. The policy continues the retries that the call has
    /// begun.
    pub async fn retry(&self, key: &str) -> Result<RetriedIntents, Error> {
        let dead = from_first_dead(self.noted_of(key).await?);
        let attempts = |noted: Noted| (noted.place, noted.mark.map_or(0, |mark| mark.attempts));
        let targets: BTreeMap<_, _> = dead.map(attempts).collect();
        let decide = || async {
            let mut notes = Vec::new();
            for noted in self.noted_of(key).await?.into_iter().filter(Noted::is_dead) {
                let Some(mark) = noted.mark else { continue };
                // An intent that has failed again meanwhile was retried already.
                if targets.get(&noted.place) == Some(&mark.attempts) {
                    let mark = Mark { again: true, attempts: mark.attempts + 1, ..mark };
                    notes.push(mark.note(&noted.place).map_err(unwritten)?);
                }
            }
            notes.truncate(self.projection.settings().max_events);
            Ok((!notes.is_empty()).then_some(Change { notes, dead_letters: None, returned: () }))
        };
        while set_aside::change(&*self.projection, &self.id, &decide).await?.is_some() {}
        let left = self.noted_of(key).await?;
        let is_left = left.iter().filter(|noted| targets.contains_key(&noted.place)).count();
        let stopped_at = from_first_dead(left).next().map(|noted| DeadIntent::of(key, noted));
        let waiting = if stopped_at.is_some() { 0 } else { is_left };
        Ok(RetriedIntents { carried_out: targets.len() - is_left, waiting, stopped_at })
    }

    /// Sets the fields of a command that a policy could not send, as JSON; its id stays. Returns the changed intent,
    /// which then has to be [retried](Self::retry); `None` if no command has that place.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] if `body` is not JSON, and the store's.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may take effect, now or later.
    pub async fn edit(&self, place: &str, body: &str) -> Result<Option<DeadIntent>, Error> {
        let body = RawValue::from_string(body.to_owned()).map_err(|error| {
            let what = format!("editing an intent of {}: the command is not JSON", self.id);
            StoreError::refused(what, error)
        })?;
        let decide = || async {
            for (key, noted) in self.noted().await? {
                let mut dead = from_first_dead(noted);
                let Some(mut noted) = dead.find(|noted| noted.place == place) else { continue };
                let Ok(intent) = &mut noted.intent else { return Ok(None) };
                let (Action::Send(request) | Action::Arm { request, .. }) = &mut intent.action else {
                    return Ok(None);
                };
                request.body.clone_from(&body);
                let pending = PendingIntent { place: place.to_owned(), intent: intent.clone(), attempts: 0 };
                let note = notes::note(&pending).map_err(unwritten)?;
                let returned = DeadIntent::of(&key, noted);
                return Ok(Some(Change { notes: vec![note], dead_letters: None, returned }));
            }
            Ok(None)
        };
        set_aside::change(&*self.projection, &self.id, decide).await
    }

    /// Drops the first dead intent of a key: it is not executed, and the policy's state learns nothing of it. Those
    /// behind it wait for a [`retry`](Self::retry). Returns it; `None` if there was none.
    ///
    /// # Errors
    ///
    /// The store's.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may take effect, now or later.
    pub async fn drop_first(&self, key: &str) -> Result<Option<DeadIntent>, Error> {
        let decide = || async {
            let mut dead = from_first_dead(self.noted_of(key).await?);
            let Some(first) = dead.next() else { return Ok(None) };
            let mut notes = vec![notes::removal(&first.place), Mark::removal(&first.place)];
            if let Some(next) = dead.next().filter(|next| !next.is_dead()) {
                let mark = Mark::new("the intent before it was given up", self.clock.now());
                notes.push(mark.note(&next.place).map_err(unwritten)?);
            }
            Ok(Some(Change { notes, dead_letters: None, returned: DeadIntent::of(key, first) }))
        };
        set_aside::change(&*self.projection, &self.id, decide).await
    }

    /// The intents of the policy that are not executed yet.
    pub(crate) async fn outbox(&self) -> Result<Outbox, StoreError> {
        let mut outbox = Outbox { open: Vec::new(), dead: Vec::new() };
        for (key, noted) in self.noted().await? {
            let open = noted.iter().take_while(|noted| !noted.is_dead());
            outbox.open.extend(open.map(|noted| noted.place.clone()));
            outbox.dead.extend(from_first_dead(noted).map(|noted| DeadIntent::of(&key, noted)));
        }
        Ok(outbox)
    }

    async fn noted(&self) -> Result<BTreeMap<String, Vec<Noted>>, StoreError> {
        let pending = self.projection.notes(&self.id, PENDING).await?;
        let marks =
            if pending.is_empty() { Vec::new() } else { self.projection.notes(&self.id, MARKS).await? };
        Ok(notes::read(pending, marks))
    }

    async fn noted_of(&self, key: &str) -> Result<Vec<Noted>, StoreError> {
        Ok(self.noted().await?.remove(key).unwrap_or_default())
    }
}

/// The intents of a policy that are not executed yet.
pub(crate) struct Outbox {
    /// The places of those that the policy is executing, or will.
    pub(crate) open: Vec<String>,
    /// Those that wait for an operator.
    pub(crate) dead: Vec<DeadIntent>,
}

/// The first dead intent of a state, and those behind it.
fn from_first_dead(noted: Vec<Noted>) -> impl Iterator<Item = Noted> {
    noted.into_iter().skip_while(|noted| !noted.is_dead())
}

fn unwritten(error: serde_json::Error) -> StoreError {
    StoreError::refused("writing the note of an intent", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_is_one_line_whatever_is_in_it() {
        let intent = DeadIntent {
            key: "order\n7".to_owned(),
            place: "pending/1".to_owned(),
            what: "command pay_order on order/7".to_owned(),
            command: None,
            reason: "it panicked:\nno".to_owned(),
            behind: false,
            attempts: 0,
            time: None,
        };
        let line = r"order\n7: command pay_order on order/7: it panicked:\nno";
        assert_eq!(intent.to_string(), line);
        assert_eq!(
            DeadIntent { attempts: 1, ..intent.clone() }.to_string(),
            format!("{line}; 1 retry failed")
        );
        assert_eq!(DeadIntent { attempts: 3, ..intent }.to_string(), format!("{line}; 3 retries failed"));
    }
}
