//! Whether a stream may have become another one: each reason to think so begins another era.
//!
//! A sequence that the server compares tells nothing about which stream it is in: a store that was put back from a
//! copy, or a stream that was made again, has other commits at the same sequences. No append can ask for more, and to
//! look before each one would double its cost. So what is free is watched:
//!
//! - The connection, when it is lost and when it is there again: a store is put back while its server is down.
//! - What the server says about the stream on `$JS.EVENT.ADVISORY.STREAM.*.<stream>`: it was created, deleted, changed
//!   or restored, or has another leader. It says so before it answers the request that has caused it.
//! - Answers: nobody takes a message, or the stream is not there.
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

/// How long to wait before listening is tried again.
const AGAIN: Duration = Duration::from_millis(250);

/// In the place of what has happened, in the answer that shows whether advisories arrive.
const ASKED: &str = "ASKED";

/// What happens to a stream and leaves it as it is.
const HARMLESS: [&str; 4] = [ASKED, "SNAPSHOT_CREATE", "SNAPSHOT_COMPLETE", "BATCH_ABANDONED"];

/// The era of one stream, as far as this process has seen it.
#[derive(Debug)]
pub(crate) struct Era {
    connection: Connection,
    doubts: Arc<AtomicU64>,
    /// The highest sequence that was seen.
    seen: AtomicU64,
    listener: AbortHandle,
}

impl Era {
    /// Begins to listen to what happens to `stream`, which must be there.
    pub(crate) async fn watch(connection: &Connection, stream: &str) -> Result<Self, NotOpened> {
        let advisories = subscribe(connection, stream).await?;
        let doubts = Arc::new(AtomicU64::new(0));
        let listener = listen(connection.clone(), stream.to_owned(), advisories, Arc::clone(&doubts));
        let listener = tokio::spawn(listener).abort_handle();
        Ok(Self { connection: connection.clone(), doubts, seen: AtomicU64::new(0), listener })
    }

    /// The number of the era.
    pub(crate) fn number(&self) -> u64 {
        self.connection.connects() + self.doubts.load(Ordering::Acquire)
    }

    /// The stream may have become another one.
    pub(crate) fn end(&self) {
        self.doubts.fetch_add(1, Ordering::Release);
    }

    /// The highest sequence that was seen until now.
    pub(crate) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Acquire)
    }

    /// A message of the stream has this sequence.
    pub(crate) fn saw(&self, sequence: u64) {
        self.seen.fetch_max(sequence, Ordering::AcqRel);
    }

    /// A message was stored at this sequence, after `before` had been seen.
    pub(crate) fn stored(&self, sequence: u64, before: u64) {
        if sequence > before {
            return self.saw(sequence);
        }
        tracing::warn!(sequence, before, "the stream has lost its end: it was restored or made again");
        self.seen.store(sequence, Ordering::Release);
        self.end();
    }
}

impl Drop for Era {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// Hears what happens to `stream` from now on.
async fn subscribe(connection: &Connection, stream: &str) -> Result<Subscriber, NotOpened> {
    let before = connection.before();
    let subject = advisories(stream);
    let question = Api::StreamInfo.of(stream);
    let listening = async {
        let client = &connection.client;
        let mut advisories = client.subscribe(subject.clone()).await?;
        // A subscription that is not permitted is only mentioned beside it. So an answer is sent there.
        let reply = subject.replacen('*', ASKED, 1);
        client.publish_with_reply(question.clone(), reply, "".into()).await?;
        timeout(ANSWER, advisories.next()).await?.ok_or("the subscription ended")?;
        Ok(advisories)
    };
    let listening = connection.answer_since(before, &[&question, &subject], listening).await;
    listening.map_err(NotOpened::NoAnswer)?.map_err(NotOpened::Deaf)
}

/// Counts what may have made the stream another one. A subscription ends with its client, and begins again with the one
/// that takes its place: what happened in between was not heard.
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
