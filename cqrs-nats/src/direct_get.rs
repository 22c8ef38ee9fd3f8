//! Reading messages of a stream without a consumer, from any replica: JetStream's direct get.
//!
//! The client has no call for several messages with one request. The request names a subject and a first sequence, or a list of
//! subjects of which the last messages are wanted; any replica may answer; the messages come one by one,
//! and an empty one with status 204 ends them and says how many more there are.

use async_nats::{
    HeaderMap, HeaderName, Message, Request, StatusCode,
    header::{NATS_SEQUENCE, NATS_SUBJECT},
};
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

/// The last message of one subject, which is answered with one message.
#[derive(Debug, Serialize)]
struct LastOf<'a> {
    last_by_subj: &'a str,
}

/// A message of a stream.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) sequence: u64,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

impl Found {
    pub(crate) fn subject(&self) -> &str {
        self.headers.get_last(NATS_SUBJECT).map_or("", |subject| subject.as_str())
    }
}

/// What the messages of one answer were taken for.
#[derive(Debug)]
pub(crate) struct Batch<T> {
    pub(crate) found: Vec<T>,
    /// Whether there are more than were asked for.
    pub(crate) more: bool,
}

/// Reads from `stream`, and has each message taken while the next ones are on their way.
pub(crate) async fn direct_get<T>(
    connection: &Connection,
    stream: &str,
    get: Get<'_>,
    take: impl FnMut(Found) -> T,
) -> Result<Batch<T>, StoreError> {
    let subject = format!("$JS.API.DIRECT.GET.{stream}");
    answered(connection, stream, &subject, ask(connection, &subject, get, take)).await
}

/// Reads the last message of a subject, if there is one.
pub(crate) async fn direct_get_last(
    connection: &Connection,
    stream: &str,
    of: &str,
) -> Result<Option<Found>, StoreError> {
    let subject = format!("$JS.API.DIRECT.GET.{stream}");
    let ask = async {
        let request = serde_json::to_vec(&LastOf { last_by_subj: of })?;
        let request = Request::new().payload(request.into()).timeout(Some(ANSWER));
        match read(connection.client.send_request(subject.clone(), request).await?)? {
            Answer::Message(found) => Ok(Some(found)),
            Answer::End { .. } => Ok(None),
        }
    };
    answered(connection, stream, &subject, ask).await
}

/// What comes of a question about `stream` that is asked on `subject`.
async fn answered<T>(
    connection: &Connection,
    stream: &str,
    subject: &str,
    ask: impl Future<Output = Result<T, async_nats::Error>>,
) -> Result<T, StoreError> {
    let what = || format!("reading stream {stream}");
    if !connection.is_up().await {
        return Err(unavailable(what(), "there is no connection"));
    }
    match connection.answer(&[subject], ask).await.map_err(|why| no_answer(what(), why))? {
        Ok(answer) => Ok(answer),
        Err(error) => Err(connection.diagnose(stream, Call::Read, what(), error).await),
    }
}

/// Asks, and reads the answer to its end.
async fn ask<T>(
    connection: &Connection,
    subject: &str,
    get: Get<'_>,
    mut take: impl FnMut(Found) -> T,
) -> Result<Batch<T>, async_nats::Error> {
    let client = &connection.client;
    let request = serde_json::to_vec(&get)?;
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await?;
    client.publish_with_reply(subject.to_owned(), inbox, request.into()).await?;
    let mut found = Vec::new();
    loop {
        let next = tokio::time::timeout(ANSWER, answers.next()).await?;
        match read(next.ok_or("the subscription ended")?)? {
            Answer::Message(message) => found.push(take(message)),
            Answer::End { more } => return Ok(Batch { found, more }),
        }
    }
}

/// One message of an answer.
enum Answer {
    Message(Found),
    End { more: bool },
}

fn read(message: Message) -> Result<Answer, String> {
    let headers = message.headers.unwrap_or_default();
    let number =
        |name: HeaderName| headers.get_last(name).and_then(|value| value.as_str().parse::<u64>().ok());
    match message.status {
        None => {}
        // The end of a batch.
        Some(status) if status.as_u16() == 204 => {
            let more = number(HeaderName::from_static("Nats-Num-Pending")).is_some_and(|pending| pending > 0);
            return Ok(Answer::End { more });
        }
        Some(StatusCode::NOT_FOUND) => return Ok(Answer::End { more: false }),
        Some(status) => return Err(format!("{status} {}", message.description.unwrap_or_default())),
    }
    let sequence = number(NATS_SEQUENCE).ok_or("an answer without a sequence")?;
    Ok(Answer::Message(Found { sequence, headers, payload: message.payload }))
}
