//! One event of a stored commit, not yet decoded.

use serde_json::Value;

use crate::{
    base::{content_type::is_json, id::Position, store_error::StoreError},
    encoding::json,
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

    /// The payload as it is stored, in the shape of its stored version, if it is stored as JSON. It needs no type; a
    /// payload in bincode can only be [decoded](Self::decode).
    ///
    /// # Errors
    ///
    /// [`StoreError::Undecodable`] when the payload is not JSON.
    pub fn json(&self) -> Result<Value, StoreError> {
        let recorded = &self.stored.commit.events[self.index];
        let decoded = if is_json(&recorded.content_type) {
            json::decode(&recorded.data).map_err(|error| error.to_string())
        } else {
            let content_type = &recorded.content_type;
            Err(format!("it is stored as {content_type}, and not as JSON: decode it as its type"))
        };
        decoded.map_err(|reason| StoreError::Undecodable {
            aggregate: self.stored.commit.aggregate.clone(),
            sequence: self.stored.sequence,
            event_type: recorded.event_type.to_string(),
            reason,
        })
    }
}
