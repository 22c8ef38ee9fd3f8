//! Copies of a stream: taken and restored through the server like an operator does; and streams that are created again.

use async_nats::{Client, jetstream};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

/// A stream as it was when the copy was taken.
#[derive(Debug)]
pub struct Copy {
    stream: String,
    config: Value,
    state: Value,
    chunks: Vec<Bytes>,
}

async fn ask(client: &Client, what: &str, body: &Value) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = client.request(format!("$JS.API.{what}"), body.into()).await.expect("an answer");
    let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
    assert!(answer.get("error").is_none(), "{what}: {answer}");
    answer
}

impl Copy {
    /// Takes a copy of a stream.
    ///
    /// # Panics
    ///
    /// When the server does not give one.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn of(client: &Client, stream: &str) -> Self {
        let inbox = client.new_inbox();
        let mut pieces = client.subscribe(inbox.clone()).await.expect("a subscription");
        let wanted = json!({ "deliver_subject": inbox, "no_consumers": true });
        let taken = ask(client, &format!("STREAM.SNAPSHOT.{stream}"), &wanted).await;
        let mut chunks = Vec::new();
        loop {
            let piece = pieces.next().await.expect("a piece of the copy");
            if piece.payload.is_empty() {
                break;
            }
            chunks.push(piece.payload);
            if let Some(reply) = piece.reply {
                client.publish(reply, "".into()).await.expect("to go on");
            }
        }
        let (config, state) = (taken["config"].clone(), taken["state"].clone());
        Self { stream: stream.to_owned(), config, state, chunks }
    }

    /// Restores the copy in place of the present stream.
    ///
    /// # Panics
    ///
    /// When the server does not take it.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may leave no stream.
    pub async fn put_back(&self, client: &Client) {
        ask(client, &format!("STREAM.DELETE.{}", self.stream), &Value::Null).await;
        let wanted = json!({ "config": self.config, "state": self.state });
        let begun = ask(client, &format!("STREAM.RESTORE.{}", self.stream), &wanted).await;
        let subject = begun["deliver_subject"].as_str().expect("where to send it").to_owned();
        for chunk in self.chunks.iter().cloned().chain([Bytes::new()]) {
            let answer = client.request(subject.clone(), chunk).await.expect("to take a piece");
            assert!(!String::from_utf8_lossy(&answer.payload).contains("\"error\""), "{answer:?}");
        }
    }
}

/// Deletes a stream, and creates it again with the same settings.
///
/// # Panics
///
/// When the server refuses.
///
/// # Cancel safety
///
/// A dropped call may leave no stream.
pub async fn make_again(client: &Client, stream: &str) {
    let jetstream = jetstream::new(client.clone());
    let config = jetstream.get_stream(stream).await.expect("the stream").cached_info().config.clone();
    jetstream.delete_stream(stream).await.expect("to delete it");
    jetstream.create_stream(config).await.expect("to make it again");
}
