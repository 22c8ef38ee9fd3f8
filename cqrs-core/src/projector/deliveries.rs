//! Helpers for the deliveries of a subscription: their sequences, and their division into chunks.

use std::ops::RangeInclusive;

use jiff::Timestamp;

use crate::{base::id::EventId, port::subscription::Delivery};

/// Divides the deliveries into chunks of at most `max` events each; a larger commit is a chunk of its own.
pub(crate) fn chunks(deliveries: &[Delivery], max: usize) -> Vec<&[Delivery]> {
    let mut chunks = Vec::new();
    let (mut from, mut events) = (0, 0);
    for (at, delivery) in deliveries.iter().enumerate() {
        let count = delivery.as_ref().map_or(1, |stored| stored.commit.events.len());
        if events + count > max && at > from {
            chunks.push(&deliveries[from..at]);
            (from, events) = (at, 0);
        }
        events += count;
    }
    if from < deliveries.len() {
        chunks.push(&deliveries[from..]);
    }
    chunks
}

/// The sequences from the first to the last delivery.
pub(crate) fn commits(chunk: &[Delivery]) -> Option<RangeInclusive<u64>> {
    Some(sequence(chunk.first()?)..=sequence(chunk.last()?))
}

/// Its sequence in the log.
pub(crate) fn sequence(delivery: &Delivery) -> u64 {
    match delivery {
        Ok(stored) => stored.sequence,
        Err(unreadable) => unreadable.sequence,
    }
}

/// The id of its last event, if it is a commit.
pub(crate) fn last_event(delivery: &Delivery) -> Option<EventId> {
    delivery.as_ref().ok().and_then(|stored| stored.commit.events.last()).map(|event| event.id)
}

/// When its last event happened, if it is a commit.
pub(crate) fn time(delivery: &Delivery) -> Option<Timestamp> {
    delivery.as_ref().ok().and_then(|stored| stored.commit.events.last()).map(|event| event.origin.time)
}
