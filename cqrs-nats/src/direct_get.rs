//! Reading several messages of a stream with one request: JetStream's batched direct get.
//!
//! The client has no call for it. The request names a subject and a first sequence, or a list of
//! subjects of which the last messages are wanted; any replica may answer; the messages come one by one,
//! and an empty one with status 204 ends them and says how many more there are.

use async_nats::{HeaderMap, Message, StatusCode};
use bytes::Bytes;
use cqrs_core::StoreError;
use futures_util::StreamExt;
use serde::Serialize;

use crate::{
    connection::Connection,
    diagnosis::Call,
    errors::{no_answer, unavailable},
};

/// How long to wait for the next message of an answer.
const ANSWER: std::time::Duration = std::time::Duration::from_secs(1);

/// What to read.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Get<'a> {
    /// The messages of one subject from a sequence on, at most `batch`.
    From { next_by_subj: &'a str, seq: u64, batch: usize },
    /// The last message of each of these subjects.
    Last { multi_last: &'a [String], batch: usize },
}

/// A message of a stream.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) subject: String,
    pub(crate) sequence: u64,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

/// The messages of one answer.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) found: Vec<Found>,
    /// Whether there are more than were asked for.
    pub(crate) more: bool,
}

/// Reads from `stream`.
pub(crate) async fn direct_get(
    connection: &Connection,
    stream: &str,
    get: Get<'_>,
) -> Result<Batch, StoreError> {
    let what = || format!("reading stream {stream}");
    if !connection.is_up().await {
        return Err(unavailable(what(), "there is no connection"));
    }
    let subject = format!("$JS.API.DIRECT.GET.{stream}");
    let answer = connection.answer(&[&subject], ask(connection, &subject, get)).await;
    match answer.map_err(|why| no_answer(what(), why))? {
        Ok(batch) => Ok(batch),
        Err(error) => Err(connection.diagnose(stream, Call::Read, what(), error).await),
    }
}

/// Asks, and reads the answer to its end.
async fn ask(connection: &Connection, subject: &str, get: Get<'_>) -> Result<Batch, async_nats::Error> {
    let client = &connection.client;
    let request = serde_json::to_vec(&get)?;
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await?;
    client.publish_with_reply(subject.to_owned(), inbox, request.into()).await?;
    let mut batch = Batch::default();
    loop {
        let next = tokio::time::timeout(ANSWER, answers.next()).await?;
        if take(&mut batch, next.ok_or("the subscription ended")?)? {
            return Ok(batch);
        }
    }
}

/// Adds a message to the batch; true when it was the last.
fn take(batch: &mut Batch, message: Message) -> Result<bool, String> {
    let headers = message.headers.unwrap_or_default();
    let text = |name: &str| headers.get_last(name).map(|value| value.as_str().to_owned());
    let number = |name: &str| text(name).and_then(|value| value.parse::<u64>().ok());
    match message.status {
        None => {}
        // The end of a batch.
        Some(status) if status.as_u16() == 204 => {
            batch.more = number("Nats-Num-Pending").is_some_and(|pending| pending > 0);
            return Ok(true);
        }
        Some(StatusCode::NOT_FOUND) => return Ok(true),
        Some(status) => return Err(format!("{status} {}", message.description.unwrap_or_default())),
    }
    let subject = text("Nats-Subject").ok_or("an answer without a subject")?;
    let sequence = number("Nats-Sequence").ok_or("an answer without a sequence")?;
    batch.found.push(Found { subject, sequence, headers, payload: message.payload });
    Ok(false)
}
