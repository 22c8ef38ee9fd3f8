//! Reads one message of a stream from its leader.
//!
//! The answer is JSON, and contains the headers as they were written. So unreadable headers are an error of this
//! message. In contrast, the client ends its connection when it receives a message whose headers it cannot parse: any
//! user who may publish can write one, and the server sends it again after the reconnect. So a caller that lost the
//! connection while it was reading continues here.

use std::{str::FromStr as _, time::Duration};

use async_nats::{HeaderMap, HeaderName, HeaderValue, jetstream::ErrorCode};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use cqrs_core::StoreError;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::client::{
    api::{Api, Failure},
    connection::Connection,
    diagnosis::Call,
    errors::{missing, no_answer, store_error, unavailable},
    found::Found,
};

/// How often a missing stream is asked for again, and the pause before.
const MISSING_AGAIN: u32 = 4;
const MISSING_PAUSE: Duration = Duration::from_millis(250);

/// Which message to read.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
pub(crate) enum Which<'a> {
    /// The message at a sequence.
    At { seq: u64 },
    /// The last message on a subject, which may have wildcards.
    Last { last_by_subj: &'a str },
    /// The first message on a subject, which may have wildcards, from a sequence on.
    Next { next_by_subj: &'a str, seq: u64 },
}

#[derive(Deserialize)]
struct Answer {
    message: Raw,
}

#[derive(Deserialize)]
struct Raw {
    subject: String,
    seq: u64,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

/// Reads a message from the leader of `stream`, if it exists.
pub(crate) async fn leader_get(
    connection: &Connection,
    stream: &str,
    which: Which<'_>,
    what: impl Fn() -> String,
) -> Result<Option<Found>, StoreError> {
    let answer = connection.ask(&connection.reads, Api::MessageGet, stream, &which).await;
    match answer.map_err(|why| no_answer(what(), why))? {
        Ok(Answer { message }) => found(message).map(Some).map_err(|error| unavailable(what(), error)),
        Err(Failure::Server(error)) => match error.error_code() {
            ErrorCode::NO_MESSAGE_FOUND => Ok(None),
            ErrorCode::STREAM_NOT_FOUND => {
                Err(missing(format!("{}: there is no stream {stream}", what()), error.into()))
            }
            _ => Err(store_error(what(), error)),
        },
        Err(Failure::Client(error)) => Err(connection.diagnose(stream, Call::Read, what(), error).await),
    }
}

/// The last message of a subject, from the leader.
pub(crate) async fn last_of(
    connection: &Connection,
    stream: &str,
    of: &str,
    what: impl Fn() -> String,
) -> Result<Option<Found>, StoreError> {
    let found = leader_get(connection, stream, Which::Last { last_by_subj: of }, what).await?;
    connection.unreadable.note(of, found.as_ref().is_some_and(|found| found.headers.is_err()));
    Ok(found)
}

/// Asks again while there is no such stream, for about a second. A server that was just elected to lead a cluster says so
/// until it has caught up, also about a stream that has existed for long.
pub(crate) async fn unless_missing<T, F>(ask: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    for _ in 0..MISSING_AGAIN {
        match ask().await {
            Err(StoreError::Missing { .. }) => sleep(MISSING_PAUSE).await,
            answer => return answer,
        }
    }
    ask().await
}

fn found(Raw { subject, seq, hdrs, data }: Raw) -> Result<Found, base64::DecodeError> {
    let headers = match STANDARD.decode(hdrs)? {
        none if none.is_empty() => Ok(HeaderMap::new()),
        written => parse(&written),
    };
    Ok(Found { sequence: seq, subject: Some(subject), headers, payload: STANDARD.decode(data)?.into() })
}

/// Parses the stored headers of a message; fails if the client could not parse them.
fn parse(written: &[u8]) -> Result<HeaderMap, String> {
    let text = str::from_utf8(written).map_err(|error| format!("its headers are not UTF-8: {error}"))?;
    let mut lines = text.lines().peekable();
    let begin = lines.next().unwrap_or_default();
    // In the server's own messages, a status comes after the version.
    if begin.trim_end() != "NATS/1.0" {
        return Err(format!("its headers begin with {begin:?}"));
    }
    let mut headers = HeaderMap::new();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let (name, value) =
            line.split_once(':').ok_or_else(|| format!("its header {line:?} has no colon"))?;
        let name = HeaderName::from_str(name).map_err(|_| {
            format!("its header {name:?} has a name with other characters than headers may have")
        })?;
        let mut value = value.trim_start().to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
            value.push_str(more);
        }
        let value = HeaderValue::from_str(value.trim_end())
            .map_err(|_| format!("its header {} has a line break in it", name.as_ref() as &str))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// The messages on some subjects, in the order of the log, each read with its own request.
pub(crate) struct OneByOne {
    /// The last sequence to read.
    until: u64,
    subjects: Vec<Ahead>,
}

/// The next message of one subject.
struct Ahead {
    subject: String,
    /// The sequence from which to read on.
    from: u64,
    found: Option<Found>,
}

impl OneByOne {
    /// The messages after the sequence `after`, up to `until`.
    pub(crate) fn new(subjects: impl IntoIterator<Item = String>, after: u64, until: u64) -> Self {
        let ahead = |subject| Ahead { subject, from: after.saturating_add(1), found: None };
        Self { until, subjects: subjects.into_iter().map(ahead).collect() }
    }

    /// The next message, if there is one. After an error, it can be called again.
    pub(crate) async fn next(
        &mut self,
        connection: &Connection,
        stream: &str,
    ) -> Result<Option<Found>, StoreError> {
        for ahead in &mut self.subjects {
            if ahead.found.is_some() || ahead.from > self.until {
                continue;
            }
            let which = Which::Next { next_by_subj: &ahead.subject, seq: ahead.from };
            let what = || format!("reading stream {stream} from sequence {} on", ahead.from);
            ahead.found = leader_get(connection, stream, which, what).await?;
            let next = ahead.found.as_ref().map(|found| found.sequence).filter(|next| *next <= self.until);
            if next.is_none() {
                ahead.found = None;
            }
            ahead.from = next.map_or(u64::MAX, |next| next.saturating_add(1));
        }
        let ahead = self.subjects.iter_mut().filter(|ahead| ahead.found.is_some());
        let first = ahead.min_by_key(|ahead| ahead.found.as_ref().map(|found| found.sequence));
        Ok(first.and_then(|first| first.found.take()))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::*;

    /// How long asking takes if so many answers fail in this way; and whether it then succeeds.
    async fn asking(fails: u32, why: impl Fn() -> StoreError) -> (Duration, bool) {
        let (begin, asked) = (Instant::now(), Cell::new(0));
        let answer = unless_missing(async || {
            asked.set(asked.get() + 1);
            if asked.get() > fails { Ok(()) } else { Err(why()) }
        });
        let answered = answer.await.is_ok();
        (begin.elapsed(), answered)
    }

    #[tokio::test(start_paused = true)]
    async fn a_missing_stream_is_asked_for_again_and_nothing_else_is() {
        let is_missing = || StoreError::Missing { what: String::new(), source: None };
        assert_eq!(asking(0, is_missing).await, (Duration::ZERO, true));
        assert_eq!(asking(2, is_missing).await, (MISSING_PAUSE * 2, true));
        assert_eq!(asking(MISSING_AGAIN, is_missing).await, (MISSING_PAUSE * MISSING_AGAIN, true));
        assert_eq!(asking(99, is_missing).await, (MISSING_PAUSE * MISSING_AGAIN, false));
        let silent = || StoreError::Unavailable { what: String::new(), source: None };
        assert_eq!(asking(1, silent).await, (Duration::ZERO, false));
    }

    fn headers(lines: &str) -> HeaderMap {
        parse(format!("NATS/1.0\r\n{lines}\r\n").as_bytes()).unwrap()
    }

    #[test]
    fn headers_are_read_as_the_client_reads_them() {
        assert!(headers("").is_empty());
        let read = headers("a:1\r\nb:  2 3 \r\na: 4\r\nlong: x\r\n y\r\n\tz\r\nempty:\r\n");
        let all = |name| read.get_all(name).map(HeaderValue::as_str).collect::<Vec<_>>();
        assert_eq!((all("a"), all("b")), (vec!["1", "4"], vec!["2 3"]));
        assert_eq!((all("long"), all("empty")), (vec!["x y\tz"], vec![""]));
    }

    #[test]
    fn what_the_client_cannot_be_sent_is_told() {
        for (written, why) in [
            (&b"NATS/1.0\r\na: \xFF\r\n\r\n"[..], "UTF-8"),
            (b"NATS/1.0\r\nabc\r\n\r\n", "no colon"),
            (b"NATS/1.0\r\na b: 1\r\n\r\n", "name"),
            (b"NATS/1.0\r\n\xC3\xA9: 1\r\n\r\n", "name"),
            (b"NATS/1.0\r\na: 1\r2\r\n\r\n", "line break"),
            (b"NATS/1.0 204 EOB\r\n\r\n", "begin"),
            (b"NATS/1.0x\r\n\r\n", "begin"),
            (b"HTTP/1.1\r\n\r\n", "begin"),
            (b"x", "begin"),
            (b"\r\n\r\n", "begin"),
        ] {
            let error = parse(written).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
