//! Reads commits from messages of the log.

use async_nats::HeaderMap;
use bytes::Bytes;
use cqrs_core::{
    AggregateKey, StoreError,
    log::StoredCommit,
    port::{Delivery, Unreadable},
};

use crate::{
    client::found::Found,
    wire::{decode, subject::Subjects},
};

/// The commit in a message of the stream.
pub(crate) fn stored(aggregate: AggregateKey, found: Found) -> Result<StoredCommit, StoreError> {
    let sequence = found.sequence;
    let commit = found.headers.and_then(|headers| decode(aggregate, &headers, found.payload));
    let commit = commit.map_err(|reason| StoreError::NotACommit { sequence, reason })?;
    Ok(StoredCommit { sequence, commit })
}

/// The commit in a message on any subject of the log, or why the message is not a commit. The aggregate probably has
/// one of `names`.
pub(crate) fn delivered(
    subjects: &Subjects,
    names: &[&'static str],
    subject: &str,
    sequence: u64,
    headers: &HeaderMap,
    payload: Bytes,
) -> Delivery {
    let aggregate = aggregate_at(subjects, names, subject, sequence)?;
    let commit = decode(aggregate.clone(), headers, payload);
    commit.map(|commit| StoredCommit { sequence, commit }).map_err(|reason| Unreadable {
        sequence,
        aggregate,
        reason,
    })
}

/// The same for a message whose headers may be unreadable.
pub(crate) fn delivered_found(subjects: &Subjects, names: &[&'static str], found: Found) -> Delivery {
    let (subject, sequence) = (found.subject().to_owned(), found.sequence);
    match found.headers {
        Ok(headers) => delivered(subjects, names, &subject, sequence, &headers, found.payload),
        Err(reason) => {
            let aggregate = aggregate_at(subjects, names, &subject, sequence)?;
            Err(Unreadable { sequence, aggregate, reason })
        }
    }
}

/// The aggregate that a message's subject names; if it names none, an error with a key that no other message has.
fn aggregate_at(
    subjects: &Subjects,
    names: &[&'static str],
    subject: &str,
    sequence: u64,
) -> Result<AggregateKey, Unreadable> {
    subjects.aggregate_of(names, subject).ok_or_else(|| Unreadable {
        sequence,
        aggregate: AggregateKey::new("", format!("at {sequence}")).expect("a short id"),
        reason: format!("its subject {subject:?} names no aggregate"),
    })
}
