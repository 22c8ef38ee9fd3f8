//! Commits: the events of one command, the unit in which everything is stored.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    base::{
        id::{AggregateKey, CausationId, CommandId, CorrelationId, EventId, Position},
        metadata::Metadata,
    },
    model::event::Events,
};

/// The events that were appended to one aggregate at once, as data: one message, all or nothing.
///
/// Usually they are the events of one command. Each carries its own [`Origin`], so that commands which
/// wait for the same aggregate can share an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The aggregate that they happened to.
    pub aggregate: AggregateKey,
    /// The version of the first of the events; the others follow without a gap.
    pub first_version: u64,
    /// The context that recorded them, such as `/orders`.
    pub source: Arc<str>,
    /// The events in order; never empty.
    pub events: Events<RecordedEvent>,
}

impl Commit {
    /// The version of the event at `index`. Numbers that no log reaches, which a damaged or hostile one may have, end at
    /// the largest.
    pub fn version_of(&self, index: usize) -> u64 {
        self.first_version.saturating_add(index as u64)
    }

    /// The version of the last of the events.
    pub fn last_version(&self) -> u64 {
        self.version_of(self.events.len().saturating_sub(1))
    }

    /// Whether `other` is this very commit, stored: event ids are new in every attempt to decide.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let first = |commit: &Self| commit.events.first().map(|event| event.id);
        self.aggregate == other.aggregate && first(self) == first(other)
    }
}

/// What led to an event: the same for all events of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// When the command was handled.
    pub time: Timestamp,
    /// The command's name, such as `pay_order`.
    pub command: Cow<'static, str>,
    /// The command.
    pub command_id: CommandId,
    /// A hash of the command's name and of what its fields say (XXH3), by which another command under the
    /// same id is noticed.
    pub fingerprint: u64,
    /// The business transaction that it belongs to.
    pub correlation_id: CorrelationId,
    /// The message that caused the command, if another message did.
    pub causation_id: Option<CausationId>,
    /// What travelled with the command.
    pub metadata: Metadata,
}

/// One event of a [`Commit`], with its payload still encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// The event's own id.
    pub id: EventId,
    /// What led to it; shared with the other events of its command.
    pub origin: Arc<Origin>,
    /// The stored name of its type, such as `order.created`.
    pub event_type: Cow<'static, str>,
    /// The version of its payload's shape.
    pub schema_version: u32,
    /// How the payload is encoded: [`JSON`](super::JSON) or [`BINCODE`](super::BINCODE), or whatever else [`is_json`](super::is_json).
    pub content_type: Cow<'static, str>,
    /// The payload.
    pub data: Bytes,
}

/// A commit with its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCommit {
    /// The log's sequence number for it; later commits have higher ones, not always the next.
    pub sequence: u64,
    /// The commit itself.
    pub commit: Commit,
}

/// What a successful command returns: where its events are.
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
    /// The place of the last of them. Where there are none: of the aggregate's last commit.
    pub position: Position,
    /// Whether the command had been carried out before, and this is that time's receipt.
    pub repeat: bool,
    /// When the log was known to have the command; only for the process that has made the receipt.
    #[serde(skip)]
    pub(crate) known: KnownIn,
}

impl Receipt {
    /// Whether this is the commit that it names.
    pub(crate) fn is_about(&self, stored: &StoredCommit) -> bool {
        let StoredCommit { sequence, commit } = stored;
        let has_command = || commit.events.iter().any(|event| event.origin.command_id == self.command_id);
        *sequence == self.position.sequence
            && commit.aggregate == self.aggregate
            // Without events it names the commit before it.
            && if self.events == 0 { commit.last_version() == self.version } else { has_command() }
    }
}

/// The [era](crate::port::EventStore::era) in which something was known; none where it is not known. It says nothing about
/// what was known, so it never makes two values differ.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct KnownIn(pub(crate) Option<u64>);

impl PartialEq for KnownIn {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for KnownIn {}
