//! Finds out why a stream gives no answer.
//!
//! A deleted stream, a stream without a leader, and a JetStream that is switched off look alike to a publisher or a
//! reader: no responders, or no answer. A full disk looks like a slow server. So after such a failure the server is
//! asked about the stream itself.

use std::{error::Error as StdError, time::Duration};

use async_nats::jetstream::{ErrorCode, context::RequestErrorKind};
use cqrs_core::{StoreError, port::Source};
use serde::Deserialize;

use crate::client::{
    api::{Api, Failure},
    connection::{Connection, NoAnswer},
    errors::{disabled, missing, no_answer, no_leader, unavailable},
};

/// How long this request may take: it must not delay the next attempt.
const ASK: Duration = Duration::from_millis(250);

/// The call that got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Read,
    /// A message was published, and was neither stored nor refused in time.
    Write,
    /// A message was published, and the server reported no responders.
    Nobody,
}

/// The server's answer about a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Finding {
    /// It has a leader that answers.
    Leads,
    NoLeader,
    Missing,
    Disabled,
    NotPermitted(NoAnswer),
    Nothing,
}

/// The part of a stream's description that matters here.
#[derive(Deserialize)]
struct Info {
    cluster: Option<Cluster>,
}

#[derive(Deserialize)]
struct Cluster {
    leader: Option<String>,
}

impl Connection {
    /// The error of a call on `stream` that got no answer.
    pub(crate) async fn diagnose(
        &self,
        stream: &str,
        call: Call,
        what: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> StoreError {
        let finding = self.ask_about(stream).await;
        verdict(finding, stream, call, what.into(), source.into())
    }

    async fn ask_about(&self, stream: &str) -> Finding {
        let question = self.ask(&self.jetstream, Api::StreamInfo, stream, &());
        match tokio::time::timeout(ASK, question).await {
            Ok(Ok(Ok(info))) => led(&info),
            Ok(Ok(Err(Failure::Server(error)))) => refused(error.error_code()),
            // Without a connection to another domain, nobody answers for it either.
            Ok(Ok(Err(Failure::Client(error))))
                if error.kind() == RequestErrorKind::NoResponders && self.domain.name().is_none() =>
            {
                Finding::Disabled
            }
            Ok(Err(denied @ NoAnswer::NotPermitted(_))) => Finding::NotPermitted(denied),
            Ok(Ok(Err(Failure::Client(_))) | Err(NoAnswer::Lost)) | Err(_) => Finding::Nothing,
        }
    }
}

fn led(info: &Info) -> Finding {
    match &info.cluster {
        Some(Cluster { leader: None }) => Finding::NoLeader,
        _ => Finding::Leads,
    }
}

fn refused(code: ErrorCode) -> Finding {
    match code {
        ErrorCode::STREAM_NOT_FOUND => Finding::Missing,
        ErrorCode::CLUSTER_NOT_AVAILABLE => Finding::NoLeader,
        ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => Finding::Disabled,
        _ => Finding::Nothing,
    }
}

fn verdict(
    finding: Finding,
    stream: &str,
    call: Call,
    what: String,
    source: Box<dyn StdError + Send + Sync>,
) -> StoreError {
    match (finding, call) {
        (Finding::Missing, _) => missing(format!("{what}: there is no stream {stream}"), source),
        (Finding::Disabled, _) => disabled(what, source),
        (Finding::NoLeader, _) => no_leader(what, source),
        (Finding::NotPermitted(denied), _) => no_answer(what, denied),
        (Finding::Leads, Call::Write) => {
            let advice = format!(
                "{what}: stream {stream} answers, and stores nothing: see the server's log and /healthz; \
                 if its disk is full, make room and restart it"
            );
            StoreError::Stalled { what: advice, source: Some(Source::new(source)) }
        }
        (Finding::Leads, Call::Read | Call::Nobody) | (Finding::Nothing, _) => unavailable(what, source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_without_a_leader_is_told_from_one_that_has_one() {
        let finding = |json| led(&serde_json::from_str(json).unwrap());
        assert_eq!(finding(r#"{"cluster":{"name":"c","leader":"n1"}}"#), Finding::Leads);
        assert_eq!(finding(r#"{"cluster":{"name":"c","replicas":[]}}"#), Finding::NoLeader);
        assert_eq!(finding("{}"), Finding::Leads, "a server by itself");
    }
}
