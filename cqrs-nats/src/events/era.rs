//! Watches whether a stream may be another one: each sign of that begins a new era.
//!
//! A sequence does not identify a stream: a store that was restored from a copy, or a stream that was created again,
//! has other commits at the same sequences. An append cannot check more than the sequence, and a read before each
//! append would double its cost. So signs that cost no request are watched:
//!
//! - The connection, when it is lost and when it is established again: a store is restored while its server is down.
//! - The advisories of the stream on `$JS.EVENT.ADVISORY.STREAM.*.<stream>`: it was created, deleted, changed or
//!   restored, or has another leader. The server sends them before it answers the request that has caused them.
//! - Answers: no responders for a message, or no such stream.
//! - Sequences: an append that is stored at or before a sequence that was seen before it was sent. The stream has lost
//!   its end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::Subscriber;
use futures_util::StreamExt;
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{sleep, timeout},
};

use crate::client::{
    api::{Api, advisories},
    connection::{Connection, Link},
    stream::NotOpened,
};

/// How long the server may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// The pause before another attempt to subscribe.
const AGAIN: Duration = Duration::from_millis(250);

/// The token in place of an advisory's kind, in the answer that proves that advisories arrive.
const ASKED: &str = "ASKED";

/// Advisories after which the stream is the same.
const HARMLESS: [&str; 4] = [ASKED, "SNAPSHOT_CREATE", "SNAPSHOT_COMPLETE", "BATCH_ABANDONED"];

/// The era of one stream, as far as this process has observed it.
#[derive(Debug)]
pub(crate) struct Era {
    connection: Connection,
    stream: String,
    doubts: Arc<AtomicU64>,
    /// The highest sequence that this process has seen.
    seen: AtomicU64,
    listener: AbortHandle,
}

impl Era {
    /// Begins to watch `stream`, which must exist.
    pub(crate) async fn watch(connection: &Connection, stream: &str) -> Result<Self, NotOpened> {
        let advisories = subscribe(connection, stream).await?;
        let doubts = Arc::new(AtomicU64::new(0));
        let listener = listen(connection.clone(), stream.to_owned(), advisories, Arc::clone(&doubts));
        let listener = tokio::spawn(listener).abort_handle();
        let (connection, stream) = (connection.clone(), stream.to_owned());
        Ok(Self { connection, stream, doubts, seen: AtomicU64::new(0), listener })
    }

    /// The number of the era.
    pub(crate) fn number(&self) -> u64 {
        self.connection.connects() + self.doubts.load(Ordering::Acquire)
    }

    /// Begins a new era: the stream may be another one.
    pub(crate) fn end(&self) {
        self.doubts.fetch_add(1, Ordering::Release);
    }

    /// The highest sequence that was seen until now.
    pub(crate) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Acquire)
    }

    /// Notes that the stream has a message with this sequence.
    pub(crate) fn saw(&self, sequence: u64) {
        self.seen.fetch_max(sequence, Ordering::AcqRel);
    }

    /// Notes that a message was stored at `sequence`, after `before` had been seen.
    pub(crate) fn stored(&self, sequence: u64, before: u64) {
        if sequence > before {
            return self.saw(sequence);
        }
        let stream = &self.stream;
        tracing::warn!(
            stream,
            sequence,
            before,
            "the stream has lost its end: it was restored or made again"
        );
        self.seen.store(sequence, Ordering::Release);
        self.end();
    }
}

impl Drop for Era {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// Subscribes to the advisories of `stream`, and proves that they arrive.
async fn subscribe(connection: &Connection, stream: &str) -> Result<Subscriber, NotOpened> {
    let before = connection.before();
    let subject = advisories(stream);
    let question = Api::StreamInfo.of(&connection.domain, stream);
    let listening = async {
        let client = &connection.client;
        let mut advisories = client.subscribe(subject.clone()).await?;
        // The server reports a denied subscription only as an event of the connection. So an answer is sent to the
        // subscribed subject: if it arrives, advisories arrive as well.
        let reply = subject.replacen('*', ASKED, 1);
        client.publish_with_reply(question.clone(), reply, "".into()).await?;
        timeout(ANSWER, advisories.next()).await?.ok_or("the subscription ended")?;
        Ok(advisories)
    };
    let listening = connection.answer_since(before, &[&question, &subject], listening).await;
    listening.map_err(NotOpened::NoAnswer)?.map_err(NotOpened::NotListening)
}

/// Counts the signs that the stream may be another one. A subscription ends with its client, and is made again with the
/// next client: the advisories in between are lost, which counts as a sign.
async fn listen(connection: Connection, stream: String, mut advisories: Subscriber, doubts: Arc<AtomicU64>) {
    loop {
        hear(advisories, connection.link.clone(), &doubts).await;
        doubts.fetch_add(1, Ordering::Release);
        advisories = loop {
            match subscribe(&connection, &stream).await {
                Ok(advisories) => break advisories,
                Err(error) => tracing::debug!(?error, stream, "nothing is heard of the stream, trying again"),
            }
            sleep(AGAIN).await;
        };
        doubts.fetch_add(1, Ordering::Release);
    }
}

/// Returns when the client has ended.
async fn hear(mut advisories: Subscriber, mut link: watch::Receiver<Link>, doubts: &AtomicU64) {
    let mut losses = link.borrow_and_update().losses();
    loop {
        tokio::select! {
            Some(message) = advisories.next() => {
                // `$JS.EVENT.ADVISORY.STREAM.<what has happened>.<stream>`
                let what = message.subject.split('.').nth(4).unwrap_or_default();
                if !HARMLESS.contains(&what) {
                    doubts.fetch_add(1, Ordering::Release);
                    tracing::debug!(subject = %message.subject, "the stream may have become another one");
                }
            }
            Ok(()) = link.changed() => {
                let now = link.borrow_and_update().losses();
                doubts.fetch_add(now - losses, Ordering::Release);
                losses = now;
            }
            else => return,
        }
    }
}
