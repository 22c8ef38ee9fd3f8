//! The event store on JetStream.

use std::sync::Arc;

use async_nats::jetstream::{
    ErrorCode,
    context::PublishErrorKind,
    message::PublishMessage,
    stream::{ConsumerErrorKind, LastRawMessageErrorKind},
};
use bytes::Bytes;
use cqrs_core::{
    AggregateKey, AppendError, Appended, Backlog, Commit, Delivery, EventStore, Expected, Log, Page, Search,
    StoreError, StoredCommit, Subscribe, Unreadable,
};

use crate::{
    NatsSubscription, Topology,
    atomic_batch::EXPECTED,
    backlog,
    connection::{Connection, NoAnswer},
    diagnosis::Call,
    direct_get::{Found, Get, direct_get, direct_get_last},
    errors::{append_error, no_answer, store_error, unavailable},
    snapshots::SnapshotBucket,
    subject::{aggregate_of, encode_token, filter_of, subject_of},
    subscription::Turns,
    wire,
};

/// What the protocol's own lines add to a message, at most.
const OVERHEAD: usize = 512;

/// A bounded context's log in a JetStream stream. Clones share the connection.
#[derive(Debug, Clone)]
pub struct NatsEvents {
    pub(crate) connection: Connection,
    pub(crate) topology: Arc<Topology>,
    turns: Turns,
    snapshots: Arc<SnapshotBucket>,
}

impl NatsEvents {
    pub(crate) fn new(connection: Connection, topology: Topology) -> Self {
        let topology = Arc::new(topology);
        let snapshots = Arc::new(SnapshotBucket::new(connection.clone(), Arc::clone(&topology)));
        Self { connection, topology, turns: Turns::default(), snapshots }
    }

    fn subject(&self, aggregate: &AggregateKey) -> String {
        subject_of(self.topology.log(), aggregate)
    }

    /// Where the stream's leader is asked for a message.
    fn leader_get(&self) -> String {
        format!("$JS.API.STREAM.MSG.GET.{}", self.topology.stream())
    }

    fn message(&self, commit: &Commit, expected: Expected) -> Result<PublishMessage, StoreError> {
        let aggregate = &commit.aggregate;
        let (mut headers, payload) = wire::encode(commit)
            .map_err(|error| StoreError::refused(format!("the events of {aggregate} are not JSON"), error))?;
        if let Some(first) = commit.events.first() {
            let [name, id] = [aggregate.name(), aggregate.id()].map(encode_token);
            headers.add("Nats-Msg-Id", format_args!("{name}.{id}.{}", first.origin.command_id));
        }
        headers.add("Nats-Expected-Stream", self.topology.stream());
        headers.add(EXPECTED, expected.sequence());
        let limit = self.connection.client.max_payload();
        let bytes = payload.len() + headers.bytes() + OVERHEAD;
        if bytes > limit {
            return Err(StoreError::TooLarge { what: format!("the commit of {aggregate}"), bytes, limit });
        }
        Ok(PublishMessage::build().headers(headers.into_map()).payload(payload))
    }
}

impl EventStore for NatsEvents {
    type Subscription = NatsSubscription;

    fn source(&self) -> &str {
        self.topology.source_name()
    }

    async fn append(&self, commit: &Commit, expected: Expected) -> Result<Appended, AppendError> {
        let what = || format!("appending to {} in stream {}", commit.aggregate, self.topology.stream());
        let message = self.message(commit, expected).map_err(AppendError::Failed)?;
        if !self.connection.is_up().await {
            return Err(AppendError::Busy(unavailable(what(), "there is no connection")));
        }
        let subject = self.subject(&commit.aggregate);
        let publish = async {
            let ack = self.connection.appends.send_publish(subject.clone(), message).await?;
            ack.await
        };
        let diagnose = |call, error: async_nats::Error| {
            self.connection.diagnose(self.topology.stream(), call, what(), error)
        };
        match self.connection.answer(&[&subject], publish).await {
            Ok(Ok(ack)) => Ok(Appended { sequence: ack.sequence, duplicate: ack.duplicate }),
            Ok(Err(error)) => Err(match error.kind() {
                // Nobody was there to take it.
                PublishErrorKind::StreamNotFound => {
                    AppendError::Busy(diagnose(Call::Nobody, error.into()).await)
                }
                PublishErrorKind::TimedOut => AppendError::Unknown(diagnose(Call::Write, error.into()).await),
                _ => append_error(what(), error, self.topology.is_replicated()),
            }),
            Err(NoAnswer::Lost) => Err(AppendError::Unknown(unavailable(what(), NoAnswer::Lost))),
            Err(denied) => Err(AppendError::Failed(no_answer(what(), denied))),
        }
    }

    async fn read(&self, aggregate: &AggregateKey, after: u64, max: usize) -> Result<Page, StoreError> {
        let subject = self.subject(aggregate);
        let get = Get::From { next_by_subj: &subject, seq: after + 1, batch: max };
        let take = |found: Found| stored(aggregate.clone(), found.sequence, &found.headers, found.payload);
        let batch = direct_get(&self.connection, self.topology.stream(), get, take).await?;
        Ok(Page {
            commits: batch.found.into_iter().collect::<Result<_, _>>()?,
            more: batch.more,
            // Any replica may have answered, or a mirror that an operator has set up.
            confirmed: false,
        })
    }

    async fn last(&self, aggregate: &AggregateKey) -> Result<Option<StoredCommit>, StoreError> {
        let subject = self.subject(aggregate);
        let found = direct_get_last(&self.connection, self.topology.stream(), &subject).await?;
        let take = |found: Found| stored(aggregate.clone(), found.sequence, &found.headers, found.payload);
        found.map(take).transpose()
    }

    async fn next_after(
        &self,
        aggregate: &AggregateKey,
        after: u64,
    ) -> Result<Option<StoredCommit>, StoreError> {
        let what = || format!("reading {aggregate} from the stream's leader");
        let stream = self.connection.reads.get_stream_no_info(self.topology.stream());
        let stream = stream.await.map_err(|error| store_error(what(), error))?;
        let get =
            stream.raw_message_builder().sequence(after + 1).next_by_subject(self.subject(aggregate)).send();
        let answer =
            self.connection.answer(&[&self.leader_get()], get).await.map_err(|why| no_answer(what(), why))?;
        match answer {
            Ok(message) => {
                stored(aggregate.clone(), message.sequence, &message.headers, message.payload).map(Some)
            }
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(self.connection.failure(self.topology.stream(), what(), error).await),
        }
    }

    async fn commit_at(&self, sequence: u64) -> Result<Option<Delivery>, StoreError> {
        let what = || format!("reading sequence {sequence} from the stream's leader");
        let stream = self.connection.reads.get_stream_no_info(self.topology.stream());
        let stream = stream.await.map_err(|error| store_error(what(), error))?;
        let answer = self.connection.answer(&[&self.leader_get()], stream.get_raw_message(sequence)).await;
        match answer.map_err(|why| no_answer(what(), why))? {
            Ok(message) => {
                let log = self.topology.log();
                Ok(Some(delivered(log, &[], &message.subject, sequence, &message.headers, message.payload)))
            }
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(store_error(what(), error)),
        }
    }

    async fn log(&self, aggregates: &[&'static str]) -> Result<Log, StoreError> {
        let what = || format!("asking how far stream {} goes", self.topology.stream());
        let stream = self.connection.reads.get_stream_no_info(self.topology.stream());
        let stream = stream.await.map_err(|error| store_error(what(), error))?;
        let mut last_sequence = 0;
        for aggregate in aggregates {
            let filter = filter_of(self.topology.log(), aggregate);
            let get = stream.get_last_raw_message_by_subject(&filter);
            match self.connection.answer(&[&self.leader_get()], get).await {
                Ok(Ok(message)) => last_sequence = last_sequence.max(message.sequence),
                Ok(Err(error)) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {}
                Ok(Err(error)) => {
                    return Err(self.connection.failure(self.topology.stream(), what(), error).await);
                }
                Err(why) => return Err(no_answer(what(), why)),
            }
        }
        let id = self.topology.log_id(&self.connection).await.map_err(|error| unavailable(what(), error))?;
        Ok(Log { id, last_sequence })
    }

    async fn backlog(&self, aggregates: &[&'static str], after: u64) -> Result<Backlog, StoreError> {
        backlog::after(&self.connection, &self.topology, aggregates, after).await
    }

    async fn search(&self, search: Search) -> Result<Page, StoreError> {
        self.look_through(search).await
    }

    async fn subscribe(&self, request: Subscribe<'_>) -> Result<NatsSubscription, StoreError> {
        NatsSubscription::open(&self.connection, &self.topology, &self.turns, request).await
    }

    async fn forget(&self, subscriber: &str) -> Result<(), StoreError> {
        let what = || format!("removing consumer {subscriber} of stream {}", self.topology.stream());
        let stream = self.connection.jetstream.get_stream_no_info(self.topology.stream());
        let stream = stream.await.map_err(|error| store_error(what(), error))?;
        match stream.delete_consumer(subscriber).await {
            Ok(_) => Ok(()),
            Err(error) => match error.kind() {
                ConsumerErrorKind::JetStream(inner)
                    if inner.error_code() == ErrorCode::CONSUMER_NOT_FOUND =>
                {
                    Ok(())
                }
                _ => Err(store_error(what(), error)),
            },
        }
    }

    async fn load_snapshot(&self, aggregate: &AggregateKey) -> Result<Option<Bytes>, StoreError> {
        self.snapshots.load(aggregate).await
    }

    async fn save_snapshot(&self, aggregate: &AggregateKey, snapshot: Bytes) -> Result<(), StoreError> {
        self.snapshots.save(aggregate, snapshot).await
    }
}

/// The commit in a message of the stream.
pub(crate) fn stored(
    aggregate: AggregateKey,
    sequence: u64,
    headers: &async_nats::HeaderMap,
    payload: Bytes,
) -> Result<StoredCommit, StoreError> {
    let commit = wire::decode(aggregate, headers, payload)
        .map_err(|reason| StoreError::NotACommit { sequence, reason })?;
    Ok(StoredCommit { sequence, commit })
}

/// The commit in a message on any subject of the log, most likely of an aggregate of one of these names, or what is
/// wrong with the message.
pub(crate) fn delivered(
    log: &str,
    names: &[&'static str],
    subject: &str,
    sequence: u64,
    headers: &async_nats::HeaderMap,
    payload: Bytes,
) -> Delivery {
    let unreadable = |aggregate, reason| Unreadable { sequence, aggregate, reason };
    let Some(aggregate) = aggregate_of(log, names, subject) else {
        let aggregate = AggregateKey::new("", format!("at {sequence}")).expect("a short id");
        return Err(unreadable(aggregate, format!("its subject {subject:?} names no aggregate")));
    };
    let commit = wire::decode(aggregate.clone(), headers, payload);
    commit.map(|commit| StoredCommit { sequence, commit }).map_err(|reason| unreadable(aggregate, reason))
}
