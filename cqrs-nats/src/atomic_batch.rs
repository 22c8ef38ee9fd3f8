//! Publishing several messages to a stream as one: JetStream's atomic batch.
//!
//! The client has no call for it. The messages carry the batch's id and their numbers, the last one asks
//! for the commit, and only its answer counts; each message's own expectation is checked at the commit.
//! Servers before 2.12 do not know the headers and would store the messages one by one, which is why
//! the version is checked when connecting.

use async_nats::{
    HeaderMap,
    jetstream::{context::PublishError, message::PublishMessage, publish::PublishAck},
};
use bytes::Bytes;
use uuid::Uuid;

use crate::connection::Connection;

/// The most messages that a batch may have; the server's limit is 1,000.
pub(crate) const MAX_MESSAGES: usize = 1_000;

/// One message of a batch, stored only if the last one on its subject has the sequence `expected`.
pub(crate) struct Message {
    pub(crate) subject: String,
    pub(crate) payload: Bytes,
    pub(crate) expected: u64,
}

/// Stores all of `messages` in order, or none; the answer names the last one's sequence.
pub(crate) async fn publish(
    connection: &Connection,
    stream: &str,
    messages: Vec<Message>,
) -> Result<PublishAck, PublishError> {
    let batch = Uuid::new_v4().simple().to_string();
    let last = messages.len();
    for (number, message) in (1..).zip(messages) {
        let mut headers = HeaderMap::new();
        if last > 1 {
            headers.insert("Nats-Batch-Id", batch.as_str());
            headers.insert("Nats-Batch-Sequence", number.to_string());
        }
        if number < last {
            headers.insert(
                async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
                message.expected.to_string(),
            );
            let sent = connection.client.publish_with_headers(message.subject, headers, message.payload);
            sent.await.map_err(|error| {
                PublishError::with_source(async_nats::jetstream::context::PublishErrorKind::Other, error)
            })?;
            continue;
        }
        if last > 1 {
            headers.insert("Nats-Batch-Commit", "1");
        }
        let commit = PublishMessage::build()
            .headers(headers)
            .payload(message.payload)
            .expected_stream(stream)
            .expected_last_subject_sequence(message.expected);
        return connection.jetstream.send_publish(message.subject, commit).await?.await;
    }
    Ok(PublishAck::default())
}
