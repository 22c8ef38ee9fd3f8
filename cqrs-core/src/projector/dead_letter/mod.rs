//! Dead letters: events that a projection could not apply, set aside in order.

pub(crate) mod by_hand;

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    base::{
        id::{AggregateKey, EventId, Position, ProjectionId},
        one_line::OneLine,
        store_error::StoreError,
    },
    encoding::json,
    log::{commit::StoredCommit, recorded::Recorded},
    port::{projection::AnyProjection, view_store::Note},
};

/// The most dead letters of one projection. With one more the projection halts, until an operator resolves some. No
/// event is lost.
pub const MAX_DEAD_LETTERS: usize = 1_000;

/// The prefix of the notes' keys.
pub(crate) const NOTES: &str = "dead/";

/// The longest stored reason, in bytes: a letter must fit into every store, however long an error is.
const LONGEST_REASON: usize = 2_000;

/// Events of one commit that a projection has not applied: one event, and the events after it in its commit.
///
/// The events themselves are in the log; [`DeadLetters::data`](crate::operate::DeadLetters::data) shows the data of the
/// first event. `Display` writes one line:
///
/// ```text
/// account/7: account.deposited, version 2 at 17, and 1 event after it: the rules panicked: no balance; 2 retries failed
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The aggregate of the events.
    pub aggregate: AggregateKey,
    /// The position of the first event in the log.
    pub position: Position,
    /// The number of events; all but the first are behind it.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub events: u32,
    /// The version of the first event in the aggregate; `None` if the message is not a commit.
    pub version: Option<u64>,
    /// The id of the first event; `None` if the message is not a commit.
    pub event_id: Option<EventId>,
    /// The stored type name of the first event; `None` if the message is not a commit.
    pub event_type: Option<String>,
    /// Why the first event was not applied.
    pub reason: String,
    /// The cause of the failure.
    #[serde(default)]
    pub fault: Fault,
    /// Whether the event itself did not fail, but follows an earlier dead letter of its aggregate.
    pub behind: bool,
    /// How often a retry has failed.
    pub attempts: u32,
    /// When it was set aside, or tried last.
    pub time: Timestamp,
    /// The data to apply in place of the stored data of the first event, as JSON, if it was
    /// [edited](crate::operate::DeadLetters::edit).
    pub edited: Option<String>,
}

/// The cause for which an event was not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Fault {
    /// The event, the projection's rules for it, or the document that it would change.
    #[default]
    Event,
    /// The program: it does not know the event's type or its version. A program that knows it applies it by itself.
    Unknown,
    /// The log: the event does not follow the event before it in its aggregate.
    Gap,
    /// An outage that lasted longer than the projection waits; see [`Retry`](crate::Retry).
    Outage,
}

/// Why an event is not applied.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    pub(crate) fault: Fault,
    pub(crate) behind: bool,
}

impl Failure {
    pub(crate) fn new(fault: Fault, reason: String) -> Self {
        Self { reason, fault, behind: false }
    }

    /// The failure of an event that follows one that was not applied.
    pub(crate) fn behind() -> Self {
        let reason = "an earlier event of the aggregate is a dead letter".to_owned();
        Self { reason, fault: Fault::Event, behind: true }
    }
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_one(number: &u32) -> bool {
    *number == 1
}

impl DeadLetter {
    /// The letter of an event and all that come after it in its commit.
    pub(crate) fn of_event(event: &Recorded<'_>, failure: Failure, time: Timestamp) -> Self {
        let Recorded { stored, index } = *event;
        let events = u32::try_from(stored.commit.events.len() - index).unwrap_or(u32::MAX);
        Self { events, ..Self::at(&stored.commit.aggregate, event.position(), Some(stored), failure, time) }
    }

    /// The letter of a message that is not a commit.
    pub(crate) fn of_message(
        aggregate: &AggregateKey,
        sequence: u64,
        failure: Failure,
        time: Timestamp,
    ) -> Self {
        Self::at(aggregate, Position { sequence, index: 0 }, None, failure, time)
    }

    fn at(
        aggregate: &AggregateKey,
        position: Position,
        stored: Option<&StoredCommit>,
        failure: Failure,
        time: Timestamp,
    ) -> Self {
        let index = position.index as usize;
        let event = stored.and_then(|stored| Some(Recorded { stored, index }).filter(Recorded::is_there));
        Self {
            aggregate: aggregate.clone(),
            position,
            events: 1,
            version: event.as_ref().map(Recorded::version),
            event_id: event.map(|event| event.stored.commit.events[index].id),
            event_type: event.map(|event| event.event_type().to_owned()),
            reason: shortened(failure.reason),
            fault: failure.fault,
            behind: failure.behind,
            attempts: 0,
            time,
            edited: None,
        }
    }

    /// The letter after a vain retry.
    fn tried(&self, failure: Failure, time: Timestamp) -> Self {
        let Failure { reason, fault, behind } = failure;
        let (reason, attempts) = (shortened(reason), self.attempts + 1);
        Self { reason, fault, behind, attempts, time, ..self.clone() }
    }

    /// Logs that it is set aside. The event has all that it needs by itself: a filter may leave the spans out.
    pub(crate) fn log(&self, id: &ProjectionId) {
        let (sequence, index) = (self.position.sequence, self.position.index);
        tracing::warn!(
            projection = %id,
            // As text, which is escaped: ids come from others.
            aggregate = self.aggregate.to_string(),
            event_type = self.event_type,
            sequence,
            index,
            reason = self.reason,
            "an event is set aside as a dead letter"
        );
    }

    /// The error of a projection that halts instead of setting the event aside.
    pub(crate) fn halts(&self, id: &ProjectionId) -> StoreError {
        let Self { aggregate, position, event_type, reason, .. } = self;
        let name =
            event_type.as_ref().map_or_else(|| "the message".to_owned(), |name| format!("event {name}"));
        let event = format!("{name} of {aggregate} at sequence {}", position.sequence);
        // The reason may be an error that names the event, too.
        let rest = reason.strip_prefix(&event).filter(|rest| rest.starts_with(' '));
        let reason = rest.map_or_else(|| reason.clone(), |rest| format!("it{rest}"));
        StoreError::NotApplied { projection: id.to_string(), event, reason }
    }

    fn has(&self, position: Position) -> bool {
        let first = self.position;
        position.sequence == first.sequence
            && (first.index..first.index.saturating_add(self.events)).contains(&position.index)
    }

    /// Splits the letter into up to three: the events before the one at `index`, that event, and those after it. The
    /// commit gives the details of the latter two.
    fn parts(&self, index: u32, stored: Option<&StoredCommit>) -> [Option<Self>; 3] {
        let first = self.position.index;
        let part = |from: u32, to: u32| {
            let position = Position { index: from, ..self.position };
            let part = if from == first {
                self.clone()
            } else {
                Self::at(&self.aggregate, position, stored, Failure::behind(), self.time)
            };
            (from < to).then(|| Self { events: to - from, ..part })
        };
        [part(first, index), part(index, index + 1), part(index + 1, first.saturating_add(self.events))]
    }

    fn key(&self) -> String {
        // Padded, so that keys sort like positions.
        format!("{NOTES}{:020}/{:010}", self.position.sequence, self.position.index)
    }

    pub(crate) fn note(&self) -> Result<Note, StoreError> {
        let unwritable = |error| StoreError::refused(format!("dead letter {self} cannot be written"), error);
        let content = json::encode(self).map_err(unwritable)?;
        Ok(Note { key: self.key(), content: Some(content) })
    }

    fn removal(&self) -> Note {
        Note { key: self.key(), content: None }
    }

    fn from_note(id: &ProjectionId, key: &str, content: &[u8]) -> Result<Self, StoreError> {
        json::decode(content).map_err(|error| StoreError::BadDocument {
            view: id.to_string(),
            key: key.to_owned(),
            reason: error.to_string(),
        })
    }
}

impl fmt::Display for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut OneLine(f);
        let Self { aggregate, position, events, version, event_type, reason, attempts, .. } = self;
        match (event_type, version) {
            (Some(name), Some(version)) => write!(f, "{aggregate}: {name}, version {version}")?,
            _ => write!(f, "{aggregate}: a message")?,
        }
        write!(f, " at {}", position.sequence)?;
        match events.saturating_sub(1) {
            0 => {}
            1 => f.write_str(", and 1 event after it")?,
            after => write!(f, ", and {after} events after it")?,
        }
        write!(f, ": {reason}")?;
        match attempts {
            0 => {}
            1 => f.write_str("; 1 retry failed")?,
            attempts => write!(f, "; {attempts} retries failed")?,
        }
        if self.edited.is_some() { f.write_str("; edited") } else { Ok(()) }
    }
}

fn shortened(mut reason: String) -> String {
    if reason.len() > LONGEST_REASON {
        let end = (0..=LONGEST_REASON).rfind(|end| reason.is_char_boundary(*end));
        reason.truncate(end.unwrap_or_default());
        reason.push('…');
    }
    reason
}

/// All dead letters of a projection, in the order of the log.
pub(crate) async fn read(
    projection: &dyn AnyProjection,
    id: &ProjectionId,
) -> Result<Vec<DeadLetter>, StoreError> {
    let notes = projection.notes(id, NOTES).await?;
    notes.iter().map(|(key, content)| DeadLetter::from_note(id, key, content)).collect()
}

/// The aggregates whose first dead letter was unknown to the program that set it aside.
pub(crate) fn unknown(letters: &[DeadLetter]) -> Vec<AggregateKey> {
    let mut seen = Vec::new();
    let mut unknown = Vec::new();
    for letter in letters {
        if !seen.contains(&&letter.aggregate) {
            seen.push(&letter.aggregate);
            if letter.fault == Fault::Unknown {
                unknown.push(letter.aggregate.clone());
            }
        }
    }
    unknown
}

/// The number of dead letters of each aggregate.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_one_line_whatever_is_in_it() {
        let aggregate = AggregateKey::new("account", "7\n8").unwrap();
        let failure = Failure::new(Fault::Event, "the rules panicked:\r\nno\u{2028}thirteen ü".to_owned());
        let letter = DeadLetter::of_message(&aggregate, 17, failure, Timestamp::UNIX_EPOCH);
        let reason = r"the rules panicked:\r\nno\u{2028}thirteen ü";
        assert_eq!(letter.to_string(), format!(r"account/7\n8: a message at 17: {reason}"));

        let event = DeadLetter { version: Some(2), event_type: Some("account.opened".to_owned()), ..letter };
        let begin = r"account/7\n8: account.opened, version 2 at 17";
        assert_eq!(event.to_string(), format!("{begin}: {reason}"));
        let one = DeadLetter { events: 2, attempts: 1, ..event.clone() };
        assert_eq!(one.to_string(), format!("{begin}, and 1 event after it: {reason}; 1 retry failed"));
        let edited = Some("{}".to_owned());
        let more = DeadLetter { events: 4, attempts: 2, edited, ..event };
        let expected = format!("{begin}, and 3 events after it: {reason}; 2 retries failed; edited");
        assert_eq!(more.to_string(), expected);
    }
}
