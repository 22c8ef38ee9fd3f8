//! The client's errors as the ports' errors.

use std::error::Error as StdError;

use async_nats::jetstream::{self, ErrorCode, context::PublishErrorKind};
use cqrs_core::{AppendError, StoreError};

/// Another write to that subject is under way on a replicated stream (server error codes that the
/// client has no names for): not stored, and to be sent again.
const IN_FLIGHT: [u64; 2] = [10_164, 10_158];

/// Answers that a server gives before it stores or replicates anything. Any other error may come from a
/// leader whose own disk failed after the others had the message.
const NOT_STORED: [u64; 4] = [
    ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM.0,
    ErrorCode::STORAGE_RESOURCES_EXCEEDED.0,
    ErrorCode::STREAM_NOT_MATCH.0,
    ErrorCode::STREAM_SEALED.0,
];

/// The JetStream error code somewhere among an error's causes.
pub(crate) fn code(error: &(dyn StdError + 'static)) -> Option<u64> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<jetstream::Error>() {
            return Some(error.error_code().0);
        }
        cause = error.source();
    }
    None
}

/// What a failed publish with an expectation says about the message.
pub(crate) fn append_error(what: impl Into<String>, error: jetstream::context::PublishError) -> AppendError {
    let what = what.into();
    match (error.kind(), code(&error)) {
        (PublishErrorKind::WrongLastSequence, _) => AppendError::Conflict,
        (_, Some(code)) if IN_FLIGHT.contains(&code) => {
            AppendError::Busy(StoreError::unavailable(what, error))
        }
        (_, Some(code)) if NOT_STORED.contains(&code) => AppendError::Failed(refusal(what, error)),
        (PublishErrorKind::MaxAckPending, _) => AppendError::Busy(StoreError::unavailable(what, error)),
        (PublishErrorKind::MaxPayloadExceeded, _) => AppendError::Failed(StoreError::refused(what, error)),
        // "No stream" is also what a stream without a leader says, so it may pass.
        _ => AppendError::Unknown(StoreError::unavailable(what, error)),
    }
}

/// A failed call, by whether it may succeed later.
pub(crate) fn store_error<E>(what: impl Into<String>, error: E) -> StoreError
where
    E: StdError + Send + Sync + 'static,
{
    if code(&error).is_some() { refusal(what, error) } else { StoreError::unavailable(what, error) }
}

/// A "no" of the server, by whether it may be another answer later.
fn refusal<E>(what: impl Into<String>, error: E) -> StoreError
where
    E: StdError + Send + Sync + 'static,
{
    let passing = [
        ErrorCode::CLUSTER_NOT_AVAILABLE.0,
        ErrorCode::CLUSTER_NOT_LEADER.0,
        ErrorCode::INSUFFICIENT_RESOURCES.0,
        ErrorCode::CONSUMER_NOT_FOUND.0,
    ];
    if code(&error).is_some_and(|code| passing.contains(&code)) {
        StoreError::unavailable(what, error)
    } else {
        StoreError::refused(what, error)
    }
}

/// A failed call of which nothing more is known than that it may succeed later.
pub(crate) fn unavailable(
    what: impl Into<String>,
    source: impl Into<Box<dyn StdError + Send + Sync>>,
) -> StoreError {
    StoreError::unavailable(what, source)
}
