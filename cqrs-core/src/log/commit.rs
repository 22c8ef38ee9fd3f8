//! Commits: the unit in which events are stored.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    base::{
        error::Error,
        id::{AggregateKey, CausationId, CommandId, CorrelationId, EventId, Position},
        metadata::Metadata,
        store_error::StoreError,
    },
    model::event::Events,
};

/// The events that were appended to one aggregate at once, as data: one message, stored as a whole or not at all.
///
/// Usually they are the events of one command. Each has its own [`Origin`], so that several commands on the same
/// aggregate can share an append (group commit).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The aggregate of the events.
    pub aggregate: AggregateKey,
    /// The version of the first event; the others follow without a gap.
    pub first_version: u64,
    /// The context that recorded them, such as `/orders`.
    pub source: Arc<str>,
    /// The events in order; never empty.
    pub events: Events<RecordedEvent>,
}

impl Commit {
    /// The version of the event at `index`. A damaged or hostile log may have numbers too large to add to; they
    /// saturate.
    pub fn version_of(&self, index: usize) -> u64 {
        self.first_version.saturating_add(index as u64)
    }

    /// The version of the last event.
    pub fn last_version(&self) -> u64 {
        self.version_of(self.events.len().saturating_sub(1))
    }

    /// Whether `other` is this same commit, stored: event ids are new in every attempt to decide.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let first = |commit: &Self| commit.events.first().map(|event| event.id);
        self.aggregate == other.aggregate && first(self) == first(other)
    }
}

/// The cause of an event: the same for all events of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// When the command was handled.
    pub time: Timestamp,
    /// The command's name, such as `pay_order`.
    pub command: Cow<'static, str>,
    /// The command's id.
    pub command_id: CommandId,
    /// A hash of the command's name and of the content of its fields (XXH3). It detects another command under the same
    /// id.
    pub fingerprint: u64,
    /// The business transaction that it belongs to.
    pub correlation_id: CorrelationId,
    /// The message that caused the command, if another message did.
    pub causation_id: Option<CausationId>,
    /// The metadata of the command.
    pub metadata: Metadata,
}

/// One event of a [`Commit`], with its payload still encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// The event's own id.
    pub id: EventId,
    /// The cause of the event; shared with the other events of its command.
    pub origin: Arc<Origin>,
    /// The stored name of its type, such as `order.created`.
    pub event_type: Cow<'static, str>,
    /// The version of its payload's shape.
    pub schema_version: u32,
    /// The encoding of the payload: [`JSON`](super::JSON), [`BINCODE`](super::BINCODE), or any other for which
    /// [`is_json`](super::is_json) holds.
    pub content_type: Cow<'static, str>,
    /// The payload.
    pub data: Bytes,
}

/// A commit with its sequence in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCommit {
    /// Its sequence in the log; later commits have higher ones, not always the next.
    pub sequence: u64,
    /// The commit itself.
    pub commit: Commit,
}

impl StoredCommit {
    /// Makes sure that the commit's first event follows that of `version`, so that no commit in between is lost.
    pub(crate) fn check_follows(&self, version: u64) -> Result<(), StoreError> {
        let (expected, found) = (version.saturating_add(1), self.commit.first_version);
        if found == expected {
            return Ok(());
        }
        let aggregate = self.commit.aggregate.clone();
        Err(StoreError::Gap { aggregate, expected, found, sequence: self.sequence })
    }
}

/// The result of a successful command: where its events are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Receipt {
    /// The aggregate.
    pub aggregate: AggregateKey,
    /// The command's id.
    pub command_id: CommandId,
    /// The business transaction that the command belongs to.
    pub correlation_id: CorrelationId,
    /// The aggregate's version after the command.
    pub version: u64,
    /// How many events the command led to; 0 when there was nothing to change.
    pub events: usize,
    /// The position of the last of them; without events, that of the aggregate's last commit.
    pub position: Position,
    /// Whether the command had been carried out before, and this is its first receipt again.
    pub repeat: bool,
    /// When the log was known to have the command; only for the process that has made the receipt.
    #[serde(skip)]
    pub(crate) known: KnownIn,
}

impl Receipt {
    /// The error that the log does not have the command any more.
    pub(crate) fn void(&self) -> Error {
        let (aggregate, command) = (self.aggregate.clone(), self.command_id);
        Error::ReceiptVoid { aggregate, command, sequence: self.position.sequence }
    }

    /// Whether `stored` is the commit that the receipt names.
    pub(crate) fn is_about(&self, stored: &StoredCommit) -> bool {
        let StoredCommit { sequence, commit } = stored;
        let has_command = || commit.events.iter().any(|event| event.origin.command_id == self.command_id);
        *sequence == self.position.sequence
            && commit.aggregate == self.aggregate
            // The receipt of a command without events names the commit before it.
            && if self.events == 0 { commit.last_version() == self.version } else { has_command() }
    }
}

/// The [era](crate::port::EventStore::era) in which something was known; `None` if unknown. It is no part of the value,
/// so it never makes two values differ.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct KnownIn(pub(crate) Option<u64>);

impl PartialEq for KnownIn {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for KnownIn {}
