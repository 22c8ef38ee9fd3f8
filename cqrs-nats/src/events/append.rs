//! Classifies a failed append by what is known about the commit.

use async_nats::jetstream::{
    ErrorCode,
    context::{PublishError, PublishErrorKind},
};
use cqrs_core::{StoreError, port::AppendError};

use crate::client::errors::{IN_FLIGHT, code, is_stream_limit, unavailable, write_error};

/// Errors that a server returns before it stores or replicates a message. Any other error may come from a leader whose
/// own disk failed after the replicas had the message.
const NOT_STORED: [ErrorCode; 6] = [
    ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM,
    ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM,
    ErrorCode::STORAGE_RESOURCES_EXCEEDED,
    ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
    ErrorCode::STREAM_NOT_MATCH,
    ErrorCode::STREAM_SEALED,
];

/// The error of an append, from a failed publish with an expected sequence. On a `replicated` stream, a leader may
/// report that its own storage is full after the replicas have the message.
pub(crate) fn append_error(what: impl Into<String>, error: PublishError, replicated: bool) -> AppendError {
    let what = what.into();
    let code = code(&error);
    match error.kind() {
        PublishErrorKind::WrongLastSequence => return AppendError::Conflict,
        PublishErrorKind::MaxAckPending => return AppendError::Busy(unavailable(what, error)),
        PublishErrorKind::MaxPayloadExceeded => {
            return AppendError::Failed(StoreError::refused(what, error));
        }
        _ => {}
    }
    let Some(code) = code else { return AppendError::Unknown(unavailable(what, error)) };
    if IN_FLIGHT.contains(&code.0) {
        return AppendError::Busy(unavailable(what, error));
    }
    let definite = NOT_STORED.contains(&code)
        || is_stream_limit(&error)
        || (code == ErrorCode::INSUFFICIENT_RESOURCES && !replicated);
    let error = write_error(what, error);
    if definite { AppendError::Failed(error) } else { AppendError::Unknown(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::errors::{STREAM_LIMITS, tests::server_says};

    /// Whether an append with this answer of the server is certainly not stored.
    fn is_definite(code: u64, text: &str, replicated: bool) -> bool {
        let error = PublishError::with_source(PublishErrorKind::Other, server_says(code, text));
        match append_error("appending", error, replicated) {
            AppendError::Failed(_) => true,
            AppendError::Unknown(_) => false,
            other => panic!("{code}: {other:?}"),
        }
    }

    /// After any other error code, the server may have stored the message, or another replica may have.
    #[test]
    fn an_append_has_failed_only_where_that_is_certain() {
        let definite = [10_002, 10_047, 10_054, 10_060, 10_097, 10_109];
        for code in (10_000..10_300).filter(|code| !IN_FLIGHT.contains(code) && *code != 10_023) {
            for replicated in [false, true] {
                assert_eq!(is_definite(code, "something", replicated), definite.contains(&code), "{code}");
            }
        }
        // The store of one server is full; in a cluster only that of the leader may be.
        assert!(is_definite(10_023, "insufficient resources", false));
        assert!(!is_definite(10_023, "insufficient resources", true));
        for limit in STREAM_LIMITS {
            assert!(is_definite(10_077, limit, true), "{limit}");
        }
    }
}
