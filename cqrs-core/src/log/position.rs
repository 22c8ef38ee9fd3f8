//! Positions in a named log, and what a query waits for.

use serde::{Deserialize, Serialize};

use crate::{base::id::EventId, log::commit::Receipt};

/// A position in a log that is named, so that another query, process or client can wait for it: see
/// [`Ask::with_position`](crate::futures::Ask::with_position) and [`Ask::after`](crate::futures::Ask::after). It can be
/// written as JSON, and sent.
///
/// It holds for that log only. A log that was made again, or restored from an older copy, does not have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogPosition {
    /// The log; see [`Log::id`](crate::port::Log::id).
    pub log: String,
    /// The sequence of a commit; 0 is before the first commit.
    pub sequence: u64,
    /// The last event of the commit at that sequence, if known: another log has another event there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventId>,
}

/// What [`Ask::after`](crate::futures::Ask::after) and [`Cqrs::seen`](crate::Cqrs::seen) wait for: made of a
/// [`&Receipt`](Receipt), for what one command has recorded, or of a [`&LogPosition`](LogPosition), for all that an
/// earlier answer has shown.
#[derive(Debug, Clone)]
pub struct After(pub(crate) Awaited);

#[derive(Debug, Clone)]
pub(crate) enum Awaited {
    Receipt(Receipt),
    Position(LogPosition),
}

impl After {
    /// The sequence that is waited for.
    pub(crate) fn sequence(&self) -> u64 {
        match &self.0 {
            Awaited::Receipt(receipt) => receipt.position.sequence,
            Awaited::Position(position) => position.sequence,
        }
    }

    /// The era in which the log was known to have it.
    pub(crate) fn known(&self) -> Option<u64> {
        match &self.0 {
            Awaited::Receipt(receipt) => receipt.known.0,
            Awaited::Position(_) => None,
        }
    }
}

impl From<&Receipt> for After {
    fn from(receipt: &Receipt) -> Self {
        Self(Awaited::Receipt(receipt.clone()))
    }
}

impl From<&LogPosition> for After {
    fn from(position: &LogPosition) -> Self {
        Self(Awaited::Position(position.clone()))
    }
}
