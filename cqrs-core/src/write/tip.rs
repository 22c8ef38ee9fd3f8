//! The commit that a state ends with, and the era in which the log was known to have it.

use crate::{
    base::{
        id::{AggregateKey, EventId},
        store_error::StoreError,
    },
    log::commit::StoredCommit,
    port::{any_events::AnyEvents, event_store::EventStore},
};

/// The last commit of a state. A sequence alone does not identify it: a log that was restored from a copy, or created
/// again under the same name, has other commits at the same sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tip {
    /// Its sequence; 0 if the state has no commit.
    pub(crate) sequence: u64,
    /// The id of its last event, if known.
    pub(crate) event: Option<EventId>,
    /// The [era](EventStore::era) in which the log was known to have it; `None` if unknown.
    pub(crate) era: Option<u64>,
}

/// Whether the log has a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    Yes,
    /// Another commit is in its place.
    Other,
    /// No commit is in its place, as far as the answering replica knows.
    Nothing,
}

impl Tip {
    /// Whether the log has the commit. The store is asked only if the era has changed since it was known.
    pub(crate) async fn check(
        &mut self,
        store: &AnyEvents,
        aggregate: &AggregateKey,
    ) -> Result<Holds, StoreError> {
        let era = store.era();
        // The append itself proves that an aggregate has no commit.
        if self.sequence == 0 || self.era == Some(era) {
            return Ok(Holds::Yes);
        }
        match store.commit_at(self.sequence).await? {
            Some(Ok(stored)) if stored.commit.aggregate == *aggregate && self.is_end_of(&stored) => {
                self.era = Some(era);
                Ok(Holds::Yes)
            }
            Some(_) => Ok(Holds::Other),
            None => Ok(Holds::Nothing),
        }
    }

    /// Whether `stored` is this commit.
    pub(crate) fn is_end_of(&self, stored: &StoredCommit) -> bool {
        let last = stored.commit.events.last().map(|event| event.id);
        stored.sequence == self.sequence && (self.event.is_none() || last == self.event)
    }
}

/// The error for a commit that was in the log and is not any more.
pub(crate) fn lost(aggregate: &AggregateKey, sequence: u64) -> StoreError {
    let what = format!(
        "the log does not have the commit of {aggregate} at sequence {sequence} any more: it was restored from an \
         older copy, or made again"
    );
    StoreError::Unavailable { what, source: None }
}
