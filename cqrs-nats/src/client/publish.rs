//! Publishes a message to a stream, and reads the acknowledgement.
//!
//! The client's own call for it has two time limits, one for its queue and one for the answer. It also puts a future on
//! the heap, takes a permit, and parses the answer as one shape after the other: a tenth of the instructions of a command
//! in this process.

use std::time::Duration;

use async_nats::{
    Client, HeaderMap, Request, RequestErrorKind,
    jetstream::{
        self, ErrorCode,
        context::{PublishError, PublishErrorKind},
    },
};
use bytes::Bytes;
use serde::Deserialize;
use tokio::time::timeout;

/// Where a message is stored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) stream: String,
    pub(crate) sequence: u64,
}

/// The server's answer to a published message.
#[derive(Deserialize)]
struct Answer {
    error: Option<jetstream::Error>,
    stream: Option<String>,
    seq: Option<u64>,
}

/// Publishes a message, and waits until its stream has stored it.
///
/// # Errors
///
/// The client's, with the kinds that its own call has. [`PublishErrorKind::StreamNotFound`] means that no server took the
/// message; after [`PublishErrorKind::TimedOut`] it may be stored, now or later.
pub(crate) async fn publish(
    client: &Client,
    subject: String,
    headers: HeaderMap,
    payload: Bytes,
    patience: Duration,
) -> Result<Stored, PublishError> {
    // The client's own limit begins after the message is in its queue, which may be full.
    let request = Request::new().headers(headers).payload(payload).timeout(None);
    let answer = match timeout(patience, client.send_request(subject, request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            return Err(match error.kind() {
                RequestErrorKind::NoResponders => PublishError::new(PublishErrorKind::StreamNotFound),
                RequestErrorKind::MaxPayloadExceeded => {
                    PublishError::with_source(PublishErrorKind::MaxPayloadExceeded, error)
                }
                _ => PublishError::with_source(PublishErrorKind::Other, error),
            });
        }
        Err(elapsed) => return Err(PublishError::with_source(PublishErrorKind::TimedOut, elapsed)),
    };
    stored(&answer.payload)
}

/// The place of the message, from the server's answer.
fn stored(answer: &[u8]) -> Result<Stored, PublishError> {
    let answer: Answer = serde_json::from_slice(answer)
        .map_err(|error| PublishError::with_source(PublishErrorKind::Other, error))?;
    match answer {
        Answer { error: Some(error), .. } => {
            let kind = match error.error_code() {
                ErrorCode::STREAM_WRONG_LAST_SEQUENCE => PublishErrorKind::WrongLastSequence,
                _ => PublishErrorKind::Other,
            };
            Err(PublishError::with_source(kind, error))
        }
        Answer { stream: Some(stream), seq: Some(sequence), .. } => Ok(Stored { stream, sequence }),
        _ => Err(PublishError::with_source(PublishErrorKind::Other, "the answer is no acknowledgement")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::errors::code;

    #[test]
    fn an_answer_is_an_acknowledgement_or_an_error() {
        let of = |text: &str| stored(text.as_bytes());
        let there = Stored { stream: "ORDERS".to_owned(), sequence: 7 };
        assert_eq!(of(r#"{"stream":"ORDERS","seq":7}"#).unwrap(), there);
        assert_eq!(
            of(r#"{"stream":"ORDERS","domain":"hub","seq":7,"duplicate":true,"later":{}}"#).unwrap(),
            there
        );
        assert_eq!(of(r#"{"error":null,"stream":"ORDERS","seq":7}"#).unwrap(), there);

        let error = r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 6"},"stream":"ORDERS","seq":0}"#;
        let conflict = of(error).unwrap_err();
        assert_eq!(conflict.kind(), PublishErrorKind::WrongLastSequence);
        assert_eq!(code(&conflict), Some(ErrorCode::STREAM_WRONG_LAST_SEQUENCE));
        let full = of(r#"{"error":{"code":503,"err_code":10077},"stream":"ORDERS","seq":0}"#).unwrap_err();
        assert_eq!((full.kind(), code(&full)), (PublishErrorKind::Other, Some(ErrorCode(10_077))));
        for no_answer in [
            "",
            "+OK",
            "{}",
            "[]",
            r#"{"stream":"ORDERS"}"#,
            r#"{"seq":7}"#,
            r#"{"stream":"ORDERS","seq":-1}"#,
        ] {
            let error = of(no_answer).unwrap_err();
            assert_eq!((error.kind(), code(&error)), (PublishErrorKind::Other, None), "{no_answer}");
        }
    }
}
