//! The event store on JetStream, with snapshots and notices beside it.
//!
//! Of this crate it imports `client`, `wire` and `topology`, and no view.

pub(crate) mod append;
pub(crate) mod era;
pub(crate) mod subscription;
pub(crate) mod backlog;
pub(crate) mod search;
pub(crate) mod listing;
pub(crate) mod snapshots;
pub(crate) mod notices;

use std::{collections::HashMap, sync::Arc};

use async_nats::{
    HeaderMap, HeaderName, HeaderValue,
    header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
    jetstream::{context::PublishErrorKind, message::PublishMessage},
};
use bytes::Bytes;
use cqrs_core::{
    AggregateKey, StoreError,
    log::{Commit, StoredCommit},
    port::{
        AggregatePage, AnyViews, AppendError, Backlog, Capabilities, Delivery, EventStore, Expected, Listing,
        Log, Page, Search, SnapshotPart, Subscribe,
    },
};

use crate::{
    client::{
        connection::{Connection, NoAnswer},
        diagnosis::Call,
        direct_get::{Get, direct_get, direct_get_last},
        errors::{no_answer, unavailable},
        found::Found,
        leader_get::{Which, leader_get},
        stream::delete_consumer,
    },
    events::{
        append::append_error,
        era::Era,
        snapshots::SnapshotBucket,
        subscription::{NatsSubscription, consumer::Turns, taken},
    },
    topology::Topology,
    wire::{
        self, CONTENT_TYPE,
        stored::{delivered_found, stored},
    },
};

/// The most bytes that the headers add to a message, which the server counts as a part of it. The longest are the names
/// of the stream, and of the aggregate and its id.
const OVERHEAD: usize = 1024;

/// How many aggregates' last commits one request reads: each may be as large as a message can be.
const LAST_AT_ONCE: usize = 64;

/// A bounded context's log in a JetStream stream. Clones share the connection.
#[derive(Debug, Clone)]
pub struct NatsEvents {
    pub(crate) connection: Connection,
    pub(crate) topology: Arc<Topology>,
    turns: Turns,
    snapshots: Arc<SnapshotBucket>,
    era: Arc<Era>,
    /// The place beside the log for the progress of what has effects.
    progress: AnyViews,
}

impl NatsEvents {
    pub(crate) fn new(connection: Connection, topology: Topology, era: Era, progress: AnyViews) -> Self {
        let topology = Arc::new(topology);
        let snapshots = Arc::new(SnapshotBucket::new(connection.clone(), Arc::clone(&topology)));
        Self { connection, topology, turns: Turns::default(), snapshots, era: Arc::new(era), progress }
    }

    fn subject(&self, aggregate: &AggregateKey) -> String {
        self.topology.subjects().subject_of(aggregate)
    }

    /// Notes what an answer says about the stream: a missing stream may be another one when it exists again.
    fn noted(
        &self,
        read: Result<Option<StoredCommit>, StoreError>,
    ) -> Result<Option<StoredCommit>, StoreError> {
        match &read {
            Ok(Some(stored)) => self.era.saw(stored.sequence),
            Err(StoreError::Missing { .. }) => self.era.end(),
            _ => {}
        }
        read
    }

    /// A commit of the aggregate, from the stream's leader.
    async fn ask_leader(
        &self,
        aggregate: &AggregateKey,
        which: Which<'_>,
    ) -> Result<Option<StoredCommit>, StoreError> {
        let what = || format!("reading {aggregate} from the stream's leader");
        let found = leader_get(&self.connection, self.topology.stream(), which, what).await;
        self.noted(found.and_then(|found| found.map(|found| stored(aggregate.clone(), found)).transpose()))
    }

    fn message(&self, commit: &Commit, expected: Expected) -> Result<PublishMessage, StoreError> {
        let aggregate = &commit.aggregate;
        let (content_type, payload) = wire::encode(commit)
            .map_err(|error| StoreError::refused(format!("the events of {aggregate} are not JSON"), error))?;
        let mut headers = HeaderMap::new();
        headers.insert(const { HeaderName::from_static(CONTENT_TYPE) }, content_type);
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, HeaderValue::from(expected.sequence()));
        let limit = self.connection.client.max_payload();
        let bytes = payload.len() + OVERHEAD;
        if bytes > limit {
            return Err(StoreError::TooLarge { what: format!("the commit of {aggregate}"), bytes, limit });
        }
        Ok(PublishMessage::build().headers(headers).payload(payload))
    }
}

/// The log's stream is gone, and another one has its subjects. Only an aggregate's first commit can be stored there: any
/// later one expects a commit that is not there. A header could exclude that too; it would be in each message for ever.
fn another_stream(what: &str, stream: &str) -> StoreError {
    StoreError::Refused { what: format!("{what}: the server stored it in stream {stream}"), source: None }
}

impl EventStore for NatsEvents {
    type Subscription = NatsSubscription;

    fn source(&self) -> &str {
        self.topology.source_name()
    }

    /// The stream's name: contexts may share a source.
    fn name(&self) -> &str {
        self.topology.stream()
    }

    fn era(&self) -> u64 {
        self.era.number()
    }

    fn capabilities(&self) -> Capabilities {
        let all = Capabilities::none().deadlines(self.clone()).notices(self.clone());
        all.progress(self.progress.clone()).outages(self.connection.part.outages().clone())
    }

    async fn append(&self, commit: &Commit, expected: Expected) -> Result<u64, AppendError> {
        let what = || format!("appending to {} in stream {}", commit.aggregate, self.topology.stream());
        let message = self.message(commit, expected).map_err(AppendError::Failed)?;
        let era = self.era.number();
        if !self.connection.is_up().await {
            return Err(AppendError::Busy(self.connection.down(what())));
        }
        if self.era.number() != era {
            // The connection was established again while this append waited: the caller must first check the stream.
            return Err(AppendError::Busy(unavailable(what(), "the connection is another one")));
        }
        let subject = self.subject(&commit.aggregate);
        let seen = self.era.seen();
        let publish = async {
            let ack = self.connection.appends.send_publish(subject.clone(), message).await?;
            ack.await
        };
        let diagnose = |call, error: async_nats::Error| {
            self.connection.diagnose(self.topology.stream(), call, what(), error)
        };
        match self.connection.answer(&[&subject], publish).await {
            Ok(Ok(ack)) => {
                if ack.stream != self.topology.stream() {
                    self.era.end();
                    return Err(AppendError::Failed(another_stream(&what(), &ack.stream)));
                }
                self.era.stored(ack.sequence, seen);
                Ok(ack.sequence)
            }
            Ok(Err(error)) => Err(match error.kind() {
                // No responders: no server took the message.
                PublishErrorKind::StreamNotFound => {
                    self.era.end();
                    AppendError::Busy(diagnose(Call::Nobody, error.into()).await)
                }
                PublishErrorKind::TimedOut => {
                    self.era.end();
                    AppendError::Unknown(diagnose(Call::Write, error.into()).await)
                }
                _ => append_error(what(), error, self.topology.is_replicated()),
            }),
            Err(NoAnswer::Lost) => Err(AppendError::Unknown(unavailable(what(), NoAnswer::Lost))),
            Err(denied) => Err(AppendError::Failed(no_answer(what(), denied))),
        }
    }

    async fn read(&self, aggregate: &AggregateKey, after: u64, max: usize) -> Result<Page, StoreError> {
        let subject = self.subject(aggregate);
        let get = Get::From { next_by_subj: &subject, seq: after.saturating_add(1), batch: max };
        let take = |found| stored(aggregate.clone(), found);
        let batch = direct_get(&self.connection, self.topology.stream(), get, take).await;
        let batch = batch.inspect_err(|error| {
            if let StoreError::Missing { .. } = error {
                self.era.end();
            }
        })?;
        let commits: Vec<StoredCommit> = batch.found.into_iter().collect::<Result<_, _>>()?;
        commits.last().inspect(|last| self.era.saw(last.sequence));
        Ok(Page {
            commits,
            more: batch.more,
            // Any replica may have answered, or a mirror that an operator has set up.
            confirmed: false,
        })
    }

    async fn last(&self, aggregate: &AggregateKey) -> Result<Option<StoredCommit>, StoreError> {
        let subject = self.subject(aggregate);
        let found = direct_get_last(&self.connection, self.topology.stream(), &subject).await?;
        let take = |found| stored(aggregate.clone(), found);
        self.noted(found.map(take).transpose())
    }

    async fn last_confirmed(&self, aggregate: &AggregateKey) -> Result<Option<StoredCommit>, StoreError> {
        let subject = self.subject(aggregate);
        self.ask_leader(aggregate, Which::Last { last_by_subj: &subject }).await
    }

    async fn next_after(
        &self,
        aggregate: &AggregateKey,
        after: u64,
    ) -> Result<Option<StoredCommit>, StoreError> {
        let subject = self.subject(aggregate);
        self.ask_leader(aggregate, Which::Next { next_by_subj: &subject, seq: after.saturating_add(1) }).await
    }

    async fn last_before(
        &self,
        aggregates: &[AggregateKey],
        sequence: u64,
    ) -> Result<Vec<Option<Delivery>>, StoreError> {
        let mut all = Vec::with_capacity(aggregates.len());
        // 0 would mean no bound.
        let Some(up_to_seq) = sequence.checked_sub(1).filter(|up_to| *up_to > 0) else {
            all.resize(aggregates.len(), None);
            return Ok(all);
        };
        for part in aggregates.chunks(LAST_AT_ONCE) {
            let subjects: Vec<_> = part.iter().map(|aggregate| self.subject(aggregate)).collect();
            let batch = subjects.len();
            let take = |found: Found| {
                let (subject, at) = (found.subject().to_owned(), found.sequence);
                (subject, (at, delivered_found(self.topology.subjects(), &[], found)))
            };
            let stream = self.topology.stream();
            let get = Get::LastUpTo { multi_last: &subjects, batch, up_to_seq };
            let mut found = direct_get(&self.connection, stream, get, take).await?.found;
            if found.is_empty() {
                // A server whose stream ends before the bound, such as a lagging replica, finds no messages with it.
                let get = Get::Last { multi_last: &subjects, batch };
                found = direct_get(&self.connection, stream, get, take).await?.found;
            }
            let mut found: HashMap<_, _> = found.into_iter().collect();
            let before =
                |subject| found.remove(subject).filter(|(at, _)| *at < sequence).map(|(_, last)| last);
            all.extend(subjects.iter().map(before));
        }
        Ok(all)
    }

    async fn commit_at(&self, sequence: u64) -> Result<Option<Delivery>, StoreError> {
        let what = || format!("reading sequence {sequence} from the stream's leader");
        let which = Which::At { seq: sequence };
        let found = leader_get(&self.connection, self.topology.stream(), which, what).await?;
        Ok(found.map(|found| delivered_found(self.topology.subjects(), &[], found)))
    }

    async fn log(&self, aggregates: &[&'static str]) -> Result<Log, StoreError> {
        let what = || format!("asking how far stream {} goes", self.topology.stream());
        let mut last_sequence = 0;
        for aggregate in aggregates {
            let filter = self.topology.subjects().filter_of(aggregate);
            let which = Which::Last { last_by_subj: &filter };
            let last = leader_get(&self.connection, self.topology.stream(), which, what).await?;
            last_sequence = last.map_or(last_sequence, |last| last.sequence.max(last_sequence));
        }
        let id = self.topology.log_id(&self.connection).await.map_err(|error| unavailable(what(), error))?;
        Ok(Log { id, last_sequence })
    }

    async fn backlog(&self, aggregates: &[&'static str], after: u64) -> Result<Backlog, StoreError> {
        backlog::after(&self.connection, &self.topology, aggregates, after).await
    }

    async fn search(&self, search: Search) -> Result<Page, StoreError> {
        search::look_through(&self.connection, &self.topology, search).await
    }

    async fn aggregates(&self, listing: Listing<'_>) -> Result<AggregatePage, StoreError> {
        listing::page(&self.connection, &self.topology, listing).await
    }

    async fn subscribe(&self, request: Subscribe<'_>) -> Result<NatsSubscription, StoreError> {
        NatsSubscription::open(&self.connection, &self.topology, &self.turns, request).await
    }

    async fn has_subscriber(&self, subscriber: &str) -> Result<Option<bool>, StoreError> {
        taken::is_taken(&self.connection, self.topology.stream(), subscriber).await
    }

    async fn forget(&self, subscriber: &str) -> Result<(), StoreError> {
        let stream = self.topology.stream();
        let what = || format!("removing consumer {subscriber} of stream {stream}");
        delete_consumer(&self.connection, stream, subscriber, what).await
    }

    async fn load_snapshot(
        &self,
        aggregate: &AggregateKey,
        part: SnapshotPart,
    ) -> Result<Option<Bytes>, StoreError> {
        self.snapshots.load(aggregate, part).await
    }

    async fn save_snapshot(
        &self,
        aggregate: &AggregateKey,
        part: SnapshotPart,
        snapshot: Bytes,
    ) -> Result<(), StoreError> {
        self.snapshots.save(aggregate, part, snapshot).await
    }
}
