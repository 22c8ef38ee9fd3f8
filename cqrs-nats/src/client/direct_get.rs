//! Reads messages of a stream without a consumer, from any replica: JetStream's direct get.
//!
//! The client has no call for several messages with one request (batched direct get). The request names a subject and a
//! first sequence, or a list of subjects whose last messages are wanted; any replica may answer. The messages arrive
//! one by one; an empty message with status 204 ends them, and says how many more there are.
//!
//! The connection may end because of a message: the client ends it at headers that it cannot parse. So if it ends
//! during a read, the same messages are read one by one from the leader, and subjects with such headers are always read
//! so.

use async_nats::{
    HeaderName, Message, Request, StatusCode,
    header::{NATS_SEQUENCE, NATS_SUBJECT},
};
use cqrs_core::StoreError;
use futures_util::StreamExt;
use serde::Serialize;

use crate::client::{
    api::Api,
    connection::{Connection, NoAnswer},
    diagnosis::Call,
    errors::no_answer,
    found::Found,
    leader_get::{OneByOne, last_of},
};

/// How long to wait for the next message of an answer.
const ANSWER: std::time::Duration = std::time::Duration::from_secs(1);

/// The messages to read.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Get<'a> {
    /// The messages of one subject from a sequence on, at most `batch`.
    From { next_by_subj: &'a str, seq: u64, batch: usize },
    /// The last message of each of these subjects.
    Last { multi_last: &'a [String], batch: usize },
    /// The last message of each of these subjects that is at or before a sequence.
    LastUpTo { multi_last: &'a [String], batch: usize, up_to_seq: u64 },
}

impl Get<'_> {
    fn is_unreadable(&self, connection: &Connection) -> bool {
        match self {
            Self::From { next_by_subj, .. } => connection.unreadable.has(next_by_subj),
            Self::Last { multi_last, .. } | Self::LastUpTo { multi_last, .. } => {
                multi_last.iter().any(|subject| connection.unreadable.has(subject))
            }
        }
    }
}

/// The last message of one subject; the answer is a single message.
#[derive(Debug, Serialize)]
struct LastOf<'a> {
    last_by_subj: &'a str,
}

/// What `take` made of the messages of one answer.
#[derive(Debug)]
pub(crate) struct Batch<T> {
    pub(crate) found: Vec<T>,
    /// Whether there are more messages than were requested.
    pub(crate) more: bool,
}

/// Reads from `stream`, and calls `take` with each message while the next ones arrive.
pub(crate) async fn direct_get<T>(
    connection: &Connection,
    stream: &str,
    get: Get<'_>,
    mut take: impl FnMut(Found) -> T,
) -> Result<Batch<T>, StoreError> {
    if !get.is_unreadable(connection) {
        let subject = Api::DirectGet.of(&connection.domain, stream);
        let asking = ask(connection, &subject, &get, &mut take);
        if let Some(batch) = answered(connection, stream, &subject, asking).await? {
            return Ok(batch);
        }
    }
    one_by_one(connection, stream, &get, take).await
}

/// Reads the last message of a subject, if there is one.
pub(crate) async fn direct_get_last(
    connection: &Connection,
    stream: &str,
    of: &str,
) -> Result<Option<Found>, StoreError> {
    if !connection.unreadable.has(of) {
        let subject = Api::DirectGet.of(&connection.domain, stream);
        let ask = async {
            let request = serde_json::to_vec(&LastOf { last_by_subj: of })?;
            let request = Request::new().payload(request.into()).timeout(Some(ANSWER));
            match read(connection.client.send_request(subject.clone(), request).await?)? {
                Answer::Message(found) => Ok(Some(found)),
                Answer::End { .. } => Ok(None),
            }
        };
        if let Some(found) = answered(connection, stream, &subject, ask).await? {
            return Ok(found);
        }
    }
    last_of(connection, stream, of, || format!("reading stream {stream}")).await
}

/// The answer to a request about `stream` on `subject`; `None` if the connection was lost during it, and is up again.
async fn answered<T>(
    connection: &Connection,
    stream: &str,
    subject: &str,
    ask: impl Future<Output = Result<T, async_nats::Error>>,
) -> Result<Option<T>, StoreError> {
    let what = || format!("reading stream {stream}");
    if !connection.is_up().await {
        return Err(connection.down(what()));
    }
    match connection.answer(&[subject], ask).await {
        Ok(Ok(answer)) => Ok(Some(answer)),
        Ok(Err(error)) => Err(connection.diagnose(stream, Call::Read, what(), error).await),
        Err(NoAnswer::Lost) if connection.is_up().await => Ok(None),
        Err(why) => Err(no_answer(what(), why)),
    }
}

/// The same as a direct get, with one request to the leader for each message.
async fn one_by_one<T>(
    connection: &Connection,
    stream: &str,
    get: &Get<'_>,
    mut take: impl FnMut(Found) -> T,
) -> Result<Batch<T>, StoreError> {
    let mut batch = Batch { found: Vec::new(), more: false };
    match *get {
        Get::From { next_by_subj, seq, batch: max } => {
            let mut messages = OneByOne::new([next_by_subj.to_owned()], seq.saturating_sub(1), u64::MAX);
            while let Some(found) = messages.next(connection, stream).await? {
                if batch.found.len() == max {
                    batch.more = true;
                    break;
                }
                if found.headers.is_err() {
                    connection.unreadable.note(next_by_subj, true);
                }
                batch.found.push(take(found));
            }
        }
        Get::Last { multi_last, .. } => {
            let what = || format!("reading stream {stream}");
            for subject in multi_last {
                batch.found.extend(last_of(connection, stream, subject, what).await?.map(&mut take));
            }
        }
        Get::LastUpTo { multi_last, up_to_seq, .. } => {
            for subject in multi_last {
                let mut messages = OneByOne::new([subject.clone()], 0, up_to_seq);
                let mut last = None;
                while let Some(found) = messages.next(connection, stream).await? {
                    last = Some(found);
                }
                batch.found.extend(last.map(&mut take));
            }
        }
    }
    Ok(batch)
}

/// Sends the request, and reads the answer to its end.
async fn ask<T>(
    connection: &Connection,
    subject: &str,
    get: &Get<'_>,
    mut take: impl FnMut(Found) -> T,
) -> Result<Batch<T>, async_nats::Error> {
    let client = &connection.client;
    let request = serde_json::to_vec(get)?;
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
pub(crate) enum Answer {
    Message(Found),
    End { more: bool },
}

pub(crate) fn read(message: Message) -> Result<Answer, String> {
    let headers = message.headers.unwrap_or_default();
    let number =
        |name: HeaderName| headers.get_last(name).and_then(|value| value.as_str().parse::<u64>().ok());
    let sequence = number(NATS_SEQUENCE);
    match (sequence, message.status) {
        (Some(sequence), None) => Ok(Answer::Message(Found {
            sequence,
            subject: None,
            headers: Ok(headers),
            payload: message.payload,
        })),
        // Some servers store a message with a status, which then looks like a status of the answer.
        (Some(sequence), Some(status)) => Ok(Answer::Message(Found {
            sequence,
            subject: headers.get_last(NATS_SUBJECT).map(ToString::to_string),
            headers: Err(format!("its headers begin with the status {status}")),
            payload: message.payload,
        })),
        // The end of a batch.
        (None, Some(status)) if status.as_u16() == 204 => {
            let more = number(HeaderName::from_static("Nats-Num-Pending")).is_some_and(|pending| pending > 0);
            Ok(Answer::End { more })
        }
        (None, Some(StatusCode::NOT_FOUND)) => Ok(Answer::End { more: false }),
        (None, Some(status)) => Err(format!("{status} {}", message.description.unwrap_or_default())),
        (None, None) => Err("an answer without a sequence".to_owned()),
    }
}
