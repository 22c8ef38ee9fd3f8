//! Translates the client's errors into the ports' errors.

use std::error::Error as StdError;

use async_nats::jetstream::{
    self, ErrorCode,
    context::PublishErrorKind,
    stream::{
        ConsumerCreateStrictError, ConsumerCreateStrictErrorKind, ConsumerError, ConsumerErrorKind,
        PurgeError, PurgeErrorKind,
    },
};
use cqrs_core::{StoreError, port::Source};

use crate::client::connection::NoAnswer;

/// Another write to that subject is in progress on a replicated stream (server error codes for which the client has no
/// names): the message is not stored, and should be sent again.
pub(crate) const IN_FLIGHT: [u64; 2] = [10_164, 10_158];

/// The texts by which the server names the limits of a stream; their error code is shared with all other failures of
/// its store. Every replica decides on the same state, so that either all replicas store the message or none does.
pub(crate) const STREAM_LIMITS: [&str; 3] =
    ["maximum bytes exceeded", "maximum messages exceeded", "maximum messages per subject exceeded"];

/// The server's error among the causes of an error.
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

/// Some errors of the client keep the server's error in their kind, and do not return it as their source.
fn in_kind(error: &(dyn StdError + 'static)) -> Option<jetstream::Error> {
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
    if let Some(error) = error.downcast_ref::<PurgeError>()
        && let PurgeErrorKind::JetStream(found) = error.kind()
    {
        return Some(found);
    }
    None
}

/// The server's code for the error.
pub(crate) fn code(error: &(dyn StdError + 'static)) -> Option<ErrorCode> {
    server_error(error).map(|error| error.error_code())
}

/// Whether a compare-and-set was lost: another message came first (wrong last sequence), or is about to be stored (in
/// flight). For callers that read again in either case, and need not know which message it was.
pub(crate) fn is_overtaken(error: &jetstream::context::PublishError) -> bool {
    error.kind() == PublishErrorKind::WrongLastSequence
        || code(error).is_some_and(|code| IN_FLIGHT.contains(&code.0))
}

/// The store's error for a failed write.
pub(crate) fn write_error<E>(what: impl Into<String>, error: E) -> StoreError
where
    E: StdError + Send + Sync + 'static,
{
    match code(&error) {
        _ if is_stream_limit(&error) => full(what, "raise the stream's max_bytes or max_msgs", error),
        // For other requests it also means that too many of them are in progress.
        Some(ErrorCode::INSUFFICIENT_RESOURCES) => full(what, SERVER_LIMIT, error),
        _ => store_error(what, error),
    }
}

const SERVER_LIMIT: &str = "raise max_file_store or max_memory_store of the server, or make room";

/// The store's error for a failed call, by its meaning for the caller.
pub(crate) fn store_error<E>(what: impl Into<String>, error: E) -> StoreError
where
    E: StdError + Send + Sync + 'static,
{
    match code(&error).map_or(Meaning::Passing, meaning) {
        Meaning::Missing => missing(what, error.into()),
        Meaning::Disabled => disabled(what, error.into()),
        Meaning::NoLeader => no_leader(what, error.into()),
        Meaning::Full(advice) => full(what, advice, error),
        Meaning::Permanent => StoreError::refused(what, error),
        Meaning::Passing => unavailable(what, error),
    }
}

/// The meaning of a server's error for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Missing,
    Disabled,
    NoLeader,
    /// A limit is reached; with the limit to raise.
    Full(&'static str),
    /// Permanent: something is wrong with the request, or with the stream's settings for it.
    Permanent,
    /// It may pass. Unknown codes count as this, too: a caller that retries in vain is visible, and continues by itself
    /// if the server was at fault; a caller that gives up has to be started again.
    Passing,
}

fn meaning(code: ErrorCode) -> Meaning {
    match code {
        ErrorCode::STREAM_NOT_FOUND => Meaning::Missing,
        ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => Meaning::Disabled,
        ErrorCode::CLUSTER_NOT_AVAILABLE => Meaning::NoLeader,
        code => match quota(code) {
            Some(advice) => Meaning::Full(advice),
            None if PERMANENT.contains(&code) => Meaning::Permanent,
            None => Meaning::Passing,
        },
    }
}

/// Errors about the request itself or the stream's settings.
const PERMANENT: &[ErrorCode] = &[
    // A request that no server accepts.
    ErrorCode::BAD_REQUEST,
    ErrorCode::INVALID_JSON,
    ErrorCode::NOT_EMPTY_REQUEST,
    ErrorCode::NAME_NOT_MATCH_SUBJECT,
    ErrorCode::REQUIRED_API_LEVEL,
    ErrorCode::PEDANTIC,
    // A stream that cannot be created.
    ErrorCode::STREAM_INVALID_CONFIG,
    ErrorCode::STREAM_MISMATCH,
    ErrorCode::STREAM_NAME_EXIST,
    ErrorCode::STREAM_NAME_CONTAINS_PATH_SEPARATORS,
    ErrorCode::STREAM_SUBJECT_OVERLAP,
    ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED,
    ErrorCode::STREAM_MAX_BYTES_REQUIRED,
    ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED,
    ErrorCode::REPLICAS_COUNT_CANNOT_BE_NEGATIVE,
    // A message that the stream does not accept.
    ErrorCode::STREAM_NOT_MATCH,
    ErrorCode::STREAM_SEALED,
    ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM,
    ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM,
    ErrorCode::STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID,
    ErrorCode::MESSAGE_TTL_INVALID,
    ErrorCode::MESSAGE_TTL_DISABLED,
    ErrorCode::MESSAGE_INCR_DISABLED,
    ErrorCode::MESSAGE_INCR_MISSING,
    ErrorCode::MESSAGE_SCHEDULES_DISABLED,
    ErrorCode::MESSAGE_SCHEDULES_PATTERN_INVALID,
    ErrorCode::MESSAGE_SCHEDULES_TARGET_INVALID,
    ErrorCode::MESSAGE_SCHEDULES_TTL_INVALID,
    ErrorCode::MESSAGE_SCHEDULES_ROLLUP_INVALID,
    ErrorCode::MESSAGE_SCHEDULES_SOURCE_INVALID,
    ErrorCode::MESSAGE_SCHEDULES_SCHEDULER_INVALID,
    ErrorCode::MESSAGE_SCHEDULES_TIME_ZONE_INVALID,
    ErrorCode::ATOMIC_PUBLISH_DISABLED,
    ErrorCode::ATOMIC_PUBLISH_MISSING_SEQ,
    ErrorCode::ATOMIC_PUBLISH_UNSUPPORTED_HEADER,
    ErrorCode::ATOMIC_PUBLISH_INVALID_BATCH_ID,
    ErrorCode::ATOMIC_PUBLISH_INVALID_BATCH_COMMIT,
    ErrorCode::ATOMIC_PUBLISH_TOO_LARGE_BATCH,
    // A consumer that cannot be created.
    ErrorCode::CONSUMER_EPHEMERAL_WITH_DURABLE,
    ErrorCode::CONSUMER_EPHEMERAL_WITH_DURABLE_NAME,
    ErrorCode::CONSUMER_DURABLE_NAME_NOT_IN_SUBJECT,
    ErrorCode::CONSUMER_DURABLE_NAME_NOT_MATCH_SUBJECT,
    ErrorCode::CONSUMER_DURABLE_NAME_NOT_SET,
    ErrorCode::CONSUMER_CONFIG_REQUIRED,
    ErrorCode::CONSUMER_MAX_PENDING_ACK_POLICY_REQUIRED,
    ErrorCode::CONSUMER_PULL_REQUIRES_ACK,
    ErrorCode::CONSUMER_PULL_NOT_DURABLE,
    ErrorCode::CONSUMER_MAX_WAITING_NEGATIVE,
    ErrorCode::CONSUMER_FILTER_NOT_SUBSET,
    ErrorCode::CONSUMER_INVALID_POLICY,
    ErrorCode::CONSUMER_INVALID_SAMPLING,
    ErrorCode::CONSUMER_WQ_REQUIRES_EXPLICIT_ACK,
    ErrorCode::CONSUMER_WQ_CONSUMER_NOT_DELIVER_ALL,
    ErrorCode::CONSUMER_NAME_TOO_LONG,
    ErrorCode::CONSUMER_BAD_DURABLE_NAME,
    ErrorCode::CONSUMER_DESCRIPTION_TOO_LONG,
    ErrorCode::CONSUMER_NAME_CONTAINS_PATH_SEPARATORS,
    ErrorCode::CONSUMER_MAX_REQUEST_BATCH_NEGATIVE,
    ErrorCode::CONSUMER_MAX_REQUEST_EXPIRES_TO_SMALL,
    ErrorCode::CONSUMER_MAX_REQUEST_BATCH_EXCEEDED,
    ErrorCode::CONSUMER_MAX_DELIVER_BACKOFF,
    ErrorCode::CONSUMER_MAX_PENDING_ACK_EXCESS,
    ErrorCode::CONSUMER_INACTIVE_THRESHOLD_EXCESS,
    ErrorCode::CONSUMER_CREATE_FILTER_SUBJECT_MISMATCH,
    ErrorCode::CONSUMER_CREATE_DURABLE_AND_NAME_MISMATCH,
    ErrorCode::CONSUMER_METADATA_LENGTH,
    ErrorCode::CONSUMER_DUPLICATE_FILTER_SUBJECTS,
    ErrorCode::CONSUMER_MULTIPLE_FILTERS_NOT_ALLOWED,
    ErrorCode::CONSUMER_OVERLAPPING_SUBJECT_FILTERS,
    ErrorCode::CONSUMER_EMPTY_FILTER,
    ErrorCode::CONSUMER_PRIORITY_POLICY_WITHOUT_GROUP,
    ErrorCode::CONSUMER_INVALID_PRIORITY_GROUP,
    ErrorCode::CONSUMER_EMPTY_GROUP_NAME,
    ErrorCode::CONSUMER_INVALID_GROUP_NAME,
    ErrorCode::CONSUMER_ACK_POLICY_INVALID,
    ErrorCode::CONSUMER_REPLAY_POLICY_INVALID,
    ErrorCode::CONSUMER_ACK_WAIT_NEGATIVE,
    ErrorCode::CONSUMER_PRIORITY_GROUP_WITH_POLICY_NONE,
    ErrorCode::CONSUMER_PINNED_TTL_WITHOUT_PRIORITY_POLICY_NONE,
];

/// The limit to raise when the server reports that its resources, or those of the account, are used up.
pub(crate) fn quota(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED => Some("raise the account's max_file or max_mem"),
        ErrorCode::STORAGE_RESOURCES_EXCEEDED | ErrorCode::MEMORY_RESOURCES_EXCEEDED => Some(SERVER_LIMIT),
        ErrorCode::MAXIMUM_STREAMS_LIMIT => Some("raise the account's max_streams"),
        ErrorCode::MAXIMUM_CONSUMERS_LIMIT => Some("raise max_consumers of the account or the stream"),
        _ => None,
    }
}

pub(crate) fn is_stream_limit(error: &(dyn StdError + 'static)) -> bool {
    server_error(error).is_some_and(|error| {
        error.error_code() == ErrorCode::STREAM_STORE_FAILED
            && STREAM_LIMITS.iter().any(|limit| error.to_string().contains(limit))
    })
}

fn full<E>(what: impl Into<String>, advice: &str, error: E) -> StoreError
where
    E: StdError + Send + Sync + 'static,
{
    StoreError::Full { what: format!("{}: {advice}", what.into()), source: Some(Source::new(error)) }
}

/// The error for a stream that does not exist any more.
pub(crate) fn missing(what: impl Into<String>, source: Box<dyn StdError + Send + Sync>) -> StoreError {
    let advice = "was it deleted? restore it, or start the service again, which makes it anew and empty";
    StoreError::Missing { what: format!("{}: {advice}", what.into()), source: Some(Source::new(source)) }
}

/// The error for a server or an account without JetStream.
pub(crate) fn disabled(what: impl Into<String>, source: Box<dyn StdError + Send + Sync>) -> StoreError {
    let advice = "start the server with -js, and enable JetStream for the account";
    StoreError::Disabled { what: format!("{}: {advice}", what.into()), source: Some(Source::new(source)) }
}

/// The error for a stream that has no leader at the moment.
pub(crate) fn no_leader(what: impl Into<String>, source: Box<dyn StdError + Send + Sync>) -> StoreError {
    let advice = "more than half of the cluster's servers must run and reach each other";
    StoreError::NoLeader { what: format!("{}: {advice}", what.into()), source: Some(Source::new(source)) }
}

/// The error for a call that cannot get its answer any more.
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn server_says(code: u64, text: &str) -> jetstream::Error {
        let error = serde_json::json!({ "code": 500, "err_code": code, "description": text });
        serde_json::from_value(error).expect("an error of the server")
    }

    /// Two processes that create one consumer at the same time can get the first of these errors.
    #[test]
    fn what_may_pass_is_tried_again_and_says_what_the_server_said() {
        let rename = "rename /data/obs/statement-v1/meta.tmp: no such file";
        for code in
            [10_012, 10_104, 10_105, 10_013, 10_148, 10_149, 10_014, 10_077, 10_118, 10_167, 10_176, 10_210]
        {
            let error = store_error("preparing a consumer", server_says(code, rename));
            assert!(error.is_transient(), "{code}: {error:?}");
            let source = StdError::source(&error).expect("the server's words");
            assert!(source.to_string().contains(rename), "{code}: {source}");
        }
    }

    #[test]
    fn nothing_is_permanent_but_what_is_known_to_be() {
        for code in 0..20_000 {
            let error = store_error("asking", server_says(code, "something"));
            let permanent = PERMANENT.contains(&ErrorCode(code));
            assert_eq!(error.is_transient(), !permanent, "{code}");
            assert_eq!(matches!(error, StoreError::Refused { .. }), permanent, "{code}");
        }
        let mut codes: Vec<u64> = PERMANENT.iter().map(|code| code.0).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), PERMANENT.len(), "each is there once");
    }

    /// The server's error is found in each of the client's error types.
    #[test]
    fn an_answer_is_found_in_the_clients_errors() {
        let refused = || server_says(ErrorCode::CONSUMER_NAME_TOO_LONG.0, "too long");
        let error = ConsumerCreateStrictError::new(ConsumerCreateStrictErrorKind::JetStream(refused()));
        assert!(!store_error("creating", error).is_transient());
        let error = ConsumerError::new(ConsumerErrorKind::JetStream(refused()));
        assert!(!store_error("removing", error).is_transient());
        let error = PurgeError::new(PurgeErrorKind::JetStream(refused()));
        assert!(!store_error("removing", error).is_transient());
    }
}
