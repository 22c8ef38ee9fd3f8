//! Checks the server that a client is connected to: its version, and the API level of its JetStream.

use async_nats::jetstream::{ErrorCode, context::RequestErrorKind, response::Response};
use cqrs_core::port::Source;
use serde::Deserialize;

use crate::{
    client::connection::{Connection, NoAnswer},
    connect::ConnectError,
};

/// The oldest supported nats-server: the views need its atomic batches, and two earlier versions have bugs.
///
/// 2.12.0 has atomic batches, but checks the expected sequence of every message against the subject of the batch's last
/// message. Any message but the first then seems to come after a write to its own subject, and the batch is refused
/// with the error 10164 ("wrong last sequence"): no view could save a document with its checkpoint.
///
/// 2.12.1 stops answering about a stream, and soon about all streams, when a message is stored while a batched direct
/// get reads several: it waits for a lock that it holds itself. Reading aggregates and views does that.
pub const MIN_SERVER: (i64, i64, i64) = (2, 12, 2);

/// The JetStream API level of that server, and of the older versions 2.12.x.
const MIN_API_LEVEL: u32 = 2;

/// Checks the version of the connected server, and the API level of the JetStream that answers, which in a cluster or
/// beyond a leaf node may be another server's. 2.12.0 and 2.12.1 are detected only on the connected server, because they
/// have the API level of 2.12.2.
pub(super) async fn check_server(connection: &Connection, url: &str) -> Result<(), ConnectError> {
    let (major, minor, patch) = MIN_SERVER;
    if !connection.client.is_server_compatible(major, minor, patch) {
        let version = connection.client.server_info().version;
        return Err(ConnectError::TooOld { url: url.to_owned(), found: format!("has version {version}") });
    }
    let level = api_level(connection).await.map_err(|error| error.at(url))?;
    if level < MIN_API_LEVEL {
        let found = format!("has JetStream API level {level}, not {MIN_API_LEVEL}");
        return Err(ConnectError::TooOld { url: url.to_owned(), found });
    }
    Ok(())
}

/// Why JetStream did not return its API level.
enum NoLevel {
    NoAnswer(Source),
    NoJetStream(Source),
    NoDomain(String, Source),
    NotPermitted(String),
}

impl NoLevel {
    fn at(self, url: &str) -> ConnectError {
        let url = url.to_owned();
        match self {
            Self::NoAnswer(source) => ConnectError::NoAnswer { url, source },
            Self::NoJetStream(source) => ConnectError::NoJetStream { url, source },
            Self::NoDomain(domain, source) => ConnectError::NoDomain { url, domain, source },
            Self::NotPermitted(permission) => ConnectError::NotPermitted { url, permission },
        }
    }
}

async fn api_level(connection: &Connection) -> Result<u32, NoLevel> {
    #[derive(Deserialize)]
    struct Info {
        api: Api,
    }
    #[derive(Deserialize)]
    struct Api {
        // Servers before 2.11 have no API levels.
        #[serde(default)]
        level: u32,
    }
    let (domain, info) = (&connection.domain, connection.jetstream.request("INFO", &()));
    match connection.answer(&[domain.info()], info).await {
        Ok(Ok(Response::Ok(Info { api }))) => Ok(api.level),
        // A cluster that starts.
        Ok(Ok(Response::Err { error })) if error.error_code() == ErrorCode::CLUSTER_NOT_AVAILABLE => {
            Err(NoLevel::NoAnswer(Source::new(error)))
        }
        Ok(Ok(Response::Err { error })) => Err(NoLevel::NoJetStream(Source::new(error))),
        Ok(Err(error)) if error.kind() == RequestErrorKind::TimedOut => {
            Err(NoLevel::NoAnswer(Source::new(error)))
        }
        Ok(Err(error)) => Err(match domain.name() {
            Some(name) if error.kind() == RequestErrorKind::NoResponders => {
                NoLevel::NoDomain(name.to_owned(), Source::new(error))
            }
            _ => NoLevel::NoJetStream(Source::new(error)),
        }),
        Err(NoAnswer::NotPermitted(permission)) => Err(NoLevel::NotPermitted(permission)),
        Err(lost) => Err(NoLevel::NoAnswer(Source::new(lost))),
    }
}
