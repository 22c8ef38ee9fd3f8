//! One event as it stands in a stored commit, not yet decoded.

use crate::{
    base::{error::StoreError, id::Position},
    log::{codec, commit::StoredCommit, envelope::Envelope},
    model::event::Event,
};

/// One event as it stands in a stored commit, not yet decoded.
#[derive(Debug, Clone, Copy)]
pub struct Recorded<'a> {
    /// The commit.
    pub stored: &'a StoredCommit,
    /// The event's index in it.
    pub index: usize,
}

impl Recorded<'_> {
    /// The stored name of the aggregate that it happened to.
    pub fn aggregate(&self) -> &str {
        self.stored.commit.aggregate.name()
    }

    /// The stored name of its type.
    pub fn event_type(&self) -> &str {
        &self.stored.commit.events[self.index].event_type
    }

    /// Its place in the whole log.
    pub fn position(&self) -> Position {
        Position { sequence: self.stored.sequence, index: u32::try_from(self.index).unwrap_or(u32::MAX) }
    }

    /// Its place among the aggregate's events, from 1.
    pub fn version(&self) -> u64 {
        self.stored.commit.version_of(self.index)
    }

    /// Whether the commit has so many events.
    pub(crate) fn is_there(&self) -> bool {
        self.index < self.stored.commit.events.len()
    }

    /// The event with all that is known about it.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownEvent`] or [`StoreError::UnknownVersion`] when `E` has no such event, and
    /// [`StoreError::Undecodable`] when it has another shape.
    pub fn decode<E: Event>(&self) -> Result<Envelope<E>, StoreError> {
        codec::decode_envelope(self.stored, self.index)
    }
}
