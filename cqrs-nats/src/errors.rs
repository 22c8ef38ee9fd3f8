//! The client's errors as the ports' errors.

use std::error::Error as StdError;

use async_nats::jetstream::{
    self, ErrorCode,
    context::{
        CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind, PublishErrorKind,
    },
    stream::{
        ConsumerCreateStrictError, ConsumerCreateStrictErrorKind, ConsumerError, ConsumerErrorKind,
        LastRawMessageError, LastRawMessageErrorKind,
    },
};
use cqrs_core::{AppendError, StoreError};

use crate::{
    connection::NoAnswer,
    diagnosis::{disabled, missing, no_leader},
};

/// Another write to that subject is under way on a replicated stream (server error codes that the
/// client has no names for): not stored, and to be sent again.
const IN_FLIGHT: [u64; 2] = [10_164, 10_158];

/// Answers that a server gives before it stores or replicates anything. Any other error may come from a
/// leader whose own disk failed after the others had the message.
const NOT_STORED: [ErrorCode; 6] = [
    ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM,
    ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM,
    ErrorCode::STORAGE_RESOURCES_EXCEEDED,
    ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
    ErrorCode::STREAM_NOT_MATCH,
    ErrorCode::STREAM_SEALED,
];

/// How the server names the limits of a stream, all under the code of whatever else fails in its store.
/// Every replica decides by the same state, so that one stores the message if and only if all do.
const STREAM_LIMITS: [&str; 3] =
    ["maximum bytes exceeded", "maximum messages exceeded", "maximum messages per subject exceeded"];

/// The server's own words somewhere among an error's causes.
fn server_error(error: &(dyn StdError + 'static)) -> Option<jetstream::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<jetstream::Error>().cloned().or_else(|| in_kind(error)) {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// Some errors of the client keep the server's in their kind, and do not show it as their source.
fn in_kind(error: &(dyn StdError + 'static)) -> Option<jetstream::Error> {
    if let Some(error) = error.downcast_ref::<CreateStreamError>()
        && let CreateStreamErrorKind::JetStream(found) = error.kind()
    {
        return Some(found);
    }
    if let Some(error) = error.downcast_ref::<GetStreamError>()
        && let GetStreamErrorKind::JetStream(found) = error.kind()
    {
        return Some(found);
    }
    if let Some(error) = error.downcast_ref::<ConsumerError>()
        && let ConsumerErrorKind::JetStream(found) = error.kind()
    {
        return Some(found);
    }
    if let Some(error) = error.downcast_ref::<ConsumerCreateStrictError>()
        && let ConsumerCreateStrictErrorKind::JetStream(found) = error.kind()
    {
        return Some(found);
    }
    if let Some(error) = error.downcast_ref::<LastRawMessageError>()
        && let LastRawMessageErrorKind::JetStream(found) = error.kind()
    {
        return Some(found);
    }
    None
}

/// The server's code for what went wrong.
pub(crate) fn code(error: &(dyn StdError + 'static)) -> Option<ErrorCode> {
    server_error(error).map(|error| error.error_code())
}

/// What a failed publish with an expectation says about the message. On a `replicated` stream a leader may
/// find its own server full when the others have the message.
pub(crate) fn append_error(
    what: impl Into<String>,
    error: jetstream::context::PublishError,
    replicated: bool,
) -> AppendError {
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

/// Whether a conditional write of which nobody asks what it lost to was not stored because another one came between,
/// or is about to.
pub(crate) fn is_overtaken(error: &jetstream::context::PublishError) -> bool {
    error.kind() == PublishErrorKind::WrongLastSequence
        || code(error).is_some_and(|code| IN_FLIGHT.contains(&code.0))
}

/// A failed write.
pub(crate) fn write_error<E>(what: impl Into<String>, error: E) -> StoreError
where
    E: StdError + Send + Sync + 'static,
{
    match code(&error) {
        _ if is_stream_limit(&error) => full(what, "raise the stream's max_bytes or max_msgs", error),
        // To other requests it is also the answer when there are too many of them at once.
        Some(ErrorCode::INSUFFICIENT_RESOURCES) => full(what, SERVER_LIMIT, error),
        _ => store_error(what, error),
    }
}

const SERVER_LIMIT: &str = "raise max_file_store or max_memory_store of the server, or make room";

/// A failed call, by what to do about it.
pub(crate) fn store_error<E>(what: impl Into<String>, error: E) -> StoreError
where
    E: StdError + Send + Sync + 'static,
{
    match code(&error) {
        Some(ErrorCode::STREAM_NOT_FOUND) => missing(what, error.into()),
        Some(ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT) => {
            disabled(what, error.into())
        }
        Some(ErrorCode::CLUSTER_NOT_AVAILABLE) => no_leader(what, error.into()),
        Some(code) if quota(code).is_some() => full(what, quota(code).unwrap_or_default(), error),
        Some(
            ErrorCode::CLUSTER_NOT_LEADER | ErrorCode::INSUFFICIENT_RESOURCES | ErrorCode::CONSUMER_NOT_FOUND,
        )
        | None => unavailable(what, error),
        Some(_) => StoreError::refused(what, error),
    }
}

/// What to raise when the server answers that what it was given, or what the account may have, is used up.
pub(crate) fn quota(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED => Some("raise the account's max_file or max_mem"),
        ErrorCode::STORAGE_RESOURCES_EXCEEDED | ErrorCode::MEMORY_RESOURCES_EXCEEDED => Some(SERVER_LIMIT),
        ErrorCode::MAXIMUM_STREAMS_LIMIT => Some("raise the account's max_streams"),
        ErrorCode::MAXIMUM_CONSUMERS_LIMIT => Some("raise max_consumers of the account or the stream"),
        _ => None,
    }
}

fn is_stream_limit(error: &(dyn StdError + 'static)) -> bool {
    server_error(error).is_some_and(|error| {
        error.error_code() == ErrorCode::STREAM_STORE_FAILED
            && STREAM_LIMITS.iter().any(|limit| error.to_string().contains(limit))
    })
}

fn full<E>(what: impl Into<String>, advice: &str, error: E) -> StoreError
where
    E: StdError + Send + Sync + 'static,
{
    StoreError::Full { what: format!("{}: {advice}", what.into()), source: Some(std::sync::Arc::new(error)) }
}

/// A call that cannot get its answer any more.
pub(crate) fn no_answer(what: impl Into<String>, why: NoAnswer) -> StoreError {
    match why {
        NoAnswer::NotPermitted(permission) => StoreError::NotPermitted { what: what.into(), permission },
        NoAnswer::Lost => unavailable(what, why),
    }
}

/// A failed call of which nothing more is known than that it may succeed later.
pub(crate) fn unavailable(
    what: impl Into<String>,
    source: impl Into<Box<dyn StdError + Send + Sync>>,
) -> StoreError {
    StoreError::unavailable(what, source)
}
