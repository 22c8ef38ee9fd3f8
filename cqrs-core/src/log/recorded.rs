//! One event of a stored commit, not yet decoded.

use crate::{
    base::{id::Position, store_error::StoreError},
    log::{codec, commit::StoredCommit, envelope::Envelope},
    model::event::Event,
};

/// One event of a stored commit, not yet decoded.
#[derive(Debug, Clone, Copy)]
pub struct Recorded<'a> {
    /// The commit.
    pub stored: &'a StoredCommit,
    /// The event's index in it.
    pub index: usize,
}

impl Recorded<'_> {
    /// The stored name of its aggregate's type.
    pub fn aggregate(&self) -> &str {
        self.stored.commit.aggregate.name()
    }

    /// The stored name of its type.
    pub fn event_type(&self) -> &str {
        &self.stored.commit.events[self.index].event_type
    }

    /// Its position in the whole log.
    pub fn position(&self) -> Position {
        Position { sequence: self.stored.sequence, index: u32::try_from(self.index).unwrap_or(u32::MAX) }
    }

    /// Its version: its number among the aggregate's events, from 1.
    pub fn version(&self) -> u64 {
        self.stored.commit.version_of(self.index)
    }

    /// Whether the commit has an event at the index.
    pub(crate) fn is_there(&self) -> bool {
        self.index < self.stored.commit.events.len()
    }

    /// The decoded event with its envelope.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownEvent`] or [`StoreError::UnknownVersion`] when `E` has no such event, and
    /// [`StoreError::Undecodable`] when the payload does not fit its type.
    pub fn decode<E: Event>(&self) -> Result<Envelope<E>, StoreError> {
        codec::decode_envelope(self.stored, self.index)
    }
}
