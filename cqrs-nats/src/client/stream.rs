//! A stream as a whole: opens or creates it with a check of its settings, deletes it, or deletes a consumer of it.

use std::time::Duration;

use async_nats::jetstream::{
    ErrorCode,
    context::RequestErrorKind,
    stream::{Config, Stream},
};
use cqrs_core::StoreError;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep, timeout_at};

use crate::client::{
    api::{Api, Failure},
    connection::{Connection, NoAnswer},
    errors::{no_answer, store_error},
    layout,
    leader_get::Which,
    settings::{Difference, Kind, differences, list},
};

/// How long opening a stream is tried again: as long as a busy server may take to start, or a cluster to elect a
/// leader.
const PATIENCE: Duration = Duration::from_secs(15);

/// The pause before the next attempt.
const PAUSE: Duration = Duration::from_millis(250);

/// Why a stream could not be opened.
#[derive(Debug)]
pub(crate) enum NotOpened {
    NoAnswer(NoAnswer),
    /// The server did not answer whether the stream exists.
    Unknown(Failure),
    NotCreated(Failure),
    /// The created stream does not answer a read.
    NotRead(Failure),
    Differs(Vec<Difference>),
    /// The stream has another layout, or does not say which.
    Layout(Option<String>),
    /// The log has another number of slices.
    Slices {
        found: String,
        wanted: String,
    },
    /// The advisories of the stream do not arrive.
    NotListening(async_nats::Error),
}

impl NotOpened {
    /// Whether it may pass within seconds without an operator.
    fn may_pass(&self) -> bool {
        match self {
            Self::NoAnswer(why) => *why == NoAnswer::Lost,
            Self::Unknown(failure) | Self::NotCreated(failure) => match failure {
                Failure::Server(error) => error.error_code() == ErrorCode::CLUSTER_NOT_AVAILABLE,
                // A server without JetStream answers at once with no responders.
                Failure::Client(error) => error.kind() == RequestErrorKind::TimedOut,
            },
            Self::Differs(_) | Self::Layout(_) | Self::Slices { .. } => false,
            // The stream exists.
            Self::NotRead(_) | Self::NotListening(_) => true,
        }
    }

    /// The store's error; `what` describes the operation, and `advice` says what to do if the settings differ.
    pub(crate) fn into_store_error(self, stream: &str, what: String, advice: &str) -> StoreError {
        match self {
            Self::NoAnswer(why) => no_answer(what, why),
            Self::Unknown(failure) | Self::NotCreated(failure) | Self::NotRead(failure) => {
                failure.into_store_error(what)
            }
            Self::NotListening(error) => StoreError::unavailable(what, error),
            Self::Layout(found) => StoreError::Refused {
                what: format!("{what}: {}", layout::refused(stream, found.as_deref())),
                source: None,
            },
            Self::Slices { found, wanted } => StoreError::Refused {
                what: format!("{what}: {}", layout::other_slices(stream, &found, &wanted)),
                source: None,
            },
            Self::Differs(differences) => StoreError::Refused {
                what: format!(
                    "{what}: stream {stream} is not set up as it must be: {}; {advice}",
                    list(&differences)
                ),
                source: None,
            },
        }
    }
}

/// Tries to open something until it is open, a failure is permanent, or the time is up. Returns the last failure.
pub(crate) async fn patiently<T, F>(open: impl Fn() -> F) -> Result<T, NotOpened>
where
    F: Future<Output = Result<T, NotOpened>>,
{
    let end = Instant::now() + PATIENCE;
    let mut opened = open().await;
    while let Err(why) = &opened
        && why.may_pass()
        && Instant::now() + PAUSE < end
    {
        tracing::debug!(?why, "a stream could not be opened, trying again");
        sleep(PAUSE).await;
        let Ok(again) = timeout_at(end, open()).await else { break };
        opened = again;
    }
    opened
}

/// The server's description of a stream.
#[derive(Deserialize)]
struct Info {
    config: Map<String, Value>,
}

/// Creates the stream, or checks the existing one. Returns true if it was created.
pub(crate) async fn provide(connection: &Connection, kind: Kind, wanted: &Config) -> Result<bool, NotOpened> {
    let (created, found) = match described(connection, Api::StreamInfo, &wanted.name, &()).await? {
        Ok(info) => (false, info),
        Err(failure) if failure.code() == Some(ErrorCode::STREAM_NOT_FOUND) => {
            let made = described(connection, Api::StreamCreate, &wanted.name, wanted).await?;
            let made = made.map_err(NotOpened::NotCreated)?;
            if wanted.num_replicas > 1 {
                // Only the read is retried, not the creation: a server that has not applied the stream's assignment yet might
                // assign the stream a second time.
                patiently(|| read(connection, &wanted.name)).await?;
            }
            // A server drops settings that it does not know, so the created stream is checked as well.
            (true, made)
        }
        Err(failure) => return Err(NotOpened::Unknown(failure)),
    };
    // First: with another number, the subjects differ as well.
    let slices = layout::check_slices(kind, wanted, &found.config);
    slices.map_err(|(found, wanted)| NotOpened::Slices { found, wanted })?;
    let differences = differences(kind, wanted, &found.config);
    if !differences.is_empty() {
        return Err(NotOpened::Differs(differences));
    }
    layout::check(kind, &found.config).map_err(NotOpened::Layout)?;
    Ok(created)
}

/// Reads from a stream that was just created in a cluster. For a moment, requests may find no such stream: the server
/// that leads the cluster says so until it has caught up with the creation, and the others may not yet pass requests on
/// to the stream's leader. An empty stream answers that there is no message.
async fn read(connection: &Connection, stream: &str) -> Result<(), NotOpened> {
    let first = Which::At { seq: 1 };
    let answer = Box::pin(connection.ask(&connection.reads, Api::MessageGet, stream, &first)).await;
    match answer.map_err(NotOpened::NoAnswer)? {
        Err(failure) if failure.code() != Some(ErrorCode::NO_MESSAGE_FOUND) => {
            Err(NotOpened::NotRead(failure))
        }
        Ok(IgnoredAny) | Err(_) => Ok(()),
    }
}

async fn described(
    connection: &Connection,
    api: Api,
    stream: &str,
    request: &impl Serialize,
) -> Result<Result<Info, Failure>, NotOpened> {
    Box::pin(connection.ask(&connection.jetstream, api, stream, request)).await.map_err(NotOpened::NoAnswer)
}

/// Creates a stream whose settings need no check.
pub(crate) async fn create(
    connection: &Connection,
    wanted: &Config,
    what: impl Fn() -> String,
) -> Result<(), StoreError> {
    let created = connection.ask(&connection.jetstream, Api::StreamCreate, &wanted.name, wanted).await;
    let created: Result<IgnoredAny, _> = created.map_err(|why| no_answer(what(), why))?;
    created.map(drop).map_err(|failure| failure.into_store_error(what()))
}

/// The client's handle of a stream, without a request to the server.
pub(crate) async fn handle(
    connection: &Connection,
    stream: &str,
    what: impl Fn() -> String,
) -> Result<Stream<()>, StoreError> {
    let handle = connection.jetstream.get_stream_no_info(stream).await;
    handle.map_err(|error| store_error(what(), error))
}

/// Deletes a stream, if it exists.
pub(crate) async fn delete(
    connection: &Connection,
    stream: &str,
    what: impl Fn() -> String,
) -> Result<(), StoreError> {
    remove(connection, Api::StreamDelete, stream, ErrorCode::STREAM_NOT_FOUND, what).await
}

/// Deletes a consumer of a stream, if it exists.
pub(crate) async fn delete_consumer(
    connection: &Connection,
    stream: &str,
    consumer: &str,
    what: impl Fn() -> String,
) -> Result<(), StoreError> {
    let place = format!("{stream}.{consumer}");
    remove(connection, Api::ConsumerDelete, &place, ErrorCode::CONSUMER_NOT_FOUND, what).await
}

async fn remove(
    connection: &Connection,
    api: Api,
    place: &str,
    absent: ErrorCode,
    what: impl Fn() -> String,
) -> Result<(), StoreError> {
    let removed = Box::pin(connection.ask(&connection.jetstream, api, place, &json!({}))).await;
    let removed: Result<IgnoredAny, _> = removed.map_err(|why| no_answer(what(), why))?;
    match removed {
        Err(failure) if failure.code() != Some(absent) => Err(failure.into_store_error(what())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use async_nats::jetstream::context::RequestError;

    use super::*;
    use crate::client::errors::tests::server_says;

    fn timed_out() -> NotOpened {
        NotOpened::Unknown(Failure::Client(RequestError::new(RequestErrorKind::TimedOut)))
    }

    /// How long opening takes if so many attempts, of a second each, fail in this way; and whether it then succeeds.
    async fn opening(fails: u32, why: impl Fn() -> NotOpened) -> (Duration, bool) {
        let (begin, attempts) = (Instant::now(), Cell::new(0));
        let opened = patiently(async || {
            sleep(Duration::from_secs(1)).await;
            attempts.set(attempts.get() + 1);
            if attempts.get() > fails { Ok(()) } else { Err(why()) }
        });
        let opened = opened.await.is_ok();
        (begin.elapsed(), opened)
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_again_for_a_while() {
        let no_leader =
            || NotOpened::NotCreated(Failure::Server(server_says(ErrorCode::CLUSTER_NOT_AVAILABLE.0, "")));
        assert_eq!(opening(0, timed_out).await, (Duration::from_secs(1), true));
        assert_eq!(opening(4, timed_out).await, (Duration::from_secs(6), true));
        assert_eq!(opening(4, no_leader).await, (Duration::from_secs(6), true));
        assert_eq!(opening(4, || NotOpened::NoAnswer(NoAnswer::Lost)).await, (Duration::from_secs(6), true));
        let unread = || NotOpened::NotRead(Failure::Server(server_says(ErrorCode::STREAM_NOT_FOUND.0, "")));
        assert_eq!(opening(4, unread).await, (Duration::from_secs(6), true));
        let (taken, is_open) = opening(99, timed_out).await;
        assert!(!is_open && taken <= PATIENCE && taken + Duration::from_secs(2) > PATIENCE, "{taken:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_pass_is_told_at_once() {
        let said = |code: ErrorCode| NotOpened::Unknown(Failure::Server(server_says(code.0, "")));
        let nobody =
            || NotOpened::Unknown(Failure::Client(RequestError::new(RequestErrorKind::NoResponders)));
        let denied = || NotOpened::NoAnswer(NoAnswer::NotPermitted("publish to x".to_owned()));
        let at_once = (Duration::from_secs(1), false);
        assert_eq!(opening(9, nobody).await, at_once);
        assert_eq!(opening(9, denied).await, at_once);
        assert_eq!(opening(9, || NotOpened::Differs(Vec::new())).await, at_once);
        for code in [
            ErrorCode::JETSTREAM_NOT_ENABLED,
            ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT,
            ErrorCode::STREAM_SUBJECT_OVERLAP,
            ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED,
            ErrorCode::MAXIMUM_STREAMS_LIMIT,
        ] {
            assert_eq!(opening(9, || said(code)).await, at_once, "{code:?}");
        }
    }
}
