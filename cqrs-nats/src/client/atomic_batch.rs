//! Publishes several messages to a stream atomically: JetStream's atomic batch.
//!
//! The client has no call for it. The messages carry the batch's id and their numbers, the last message asks for the
//! commit, and only its answer counts; the expected sequence of each message is checked at the commit. Servers before
//! 2.12 do not know the headers and would store the messages one by one, and 2.12.0 checks the expected sequences
//! against the wrong subject. So the version (`MIN_SERVER`) is checked when connecting.

use async_nats::{
    HeaderMap,
    jetstream::{context::PublishError, message::PublishMessage, publish::PublishAck},
};
use bytes::Bytes;
use uuid::Uuid;

use crate::client::connection::Connection;

/// The most messages in a batch; the server's limit is 1,000.
pub(crate) const MAX_MESSAGES: usize = 1_000;

/// One message of a batch.
pub(crate) struct Message {
    pub(crate) subject: String,
    /// `None` marks the subject's value as deleted, as key-value clients do.
    pub(crate) payload: Option<Bytes>,
    /// The sequence that the last message on the subject must have; otherwise the batch is not stored. The last message
    /// of a batch always has one.
    pub(crate) expected: Option<u64>,
}

/// The header by which key-value clients distinguish a deletion from a value.
pub(crate) const OPERATION: &str = "KV-Operation";

/// The header with the sequence that the last message on the subject must have.
pub(crate) const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";

/// Stores all of `messages` in order, or none; the answer names the sequence of the last one.
pub(crate) async fn publish(
    connection: &Connection,
    stream: &str,
    messages: Vec<Message>,
) -> Result<PublishAck, PublishError> {
    let batch = Uuid::new_v4().simple().to_string();
    let last = messages.len();
    for (number, message) in (1_usize..).zip(messages) {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Stream", stream);
        if last > 1 {
            headers.insert("Nats-Batch-Id", batch.as_str());
            headers.insert("Nats-Batch-Sequence", number.to_string());
        }
        if message.payload.is_none() {
            headers.insert(OPERATION, "DEL");
        }
        let payload = message.payload.unwrap_or_default();
        if number < last {
            if let Some(expected) = message.expected {
                headers.insert(EXPECTED, expected.to_string());
            }
            let sent = connection.client.publish_with_headers(message.subject, headers, payload);
            sent.await.map_err(|error| {
                PublishError::with_source(async_nats::jetstream::context::PublishErrorKind::Other, error)
            })?;
            continue;
        }
        #[cfg(feature = "failpoints")]
        before_commit(connection, stream).await;
        if last > 1 {
            headers.insert("Nats-Batch-Commit", "1");
        }
        headers.insert(EXPECTED, message.expected.unwrap_or_default().to_string());
        let commit = PublishMessage::build().headers(headers).payload(payload);
        return connection.jetstream.send_publish(message.subject, commit).await?.await;
    }
    Ok(PublishAck::default())
}

/// A test may end the process here, when the server has all of the batch except the commit.
#[cfg(feature = "failpoints")]
async fn before_commit(connection: &Connection, stream: &str) {
    if let Some(stop) = cqrs_core::__private::IN_SAVE.get().and_then(|in_save| in_save(stream)) {
        // An error means that there is no connection, and nothing to flush.
        let _ = connection.client.flush().await;
        stop.await;
    }
}
