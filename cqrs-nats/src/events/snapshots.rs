//! Snapshots of aggregates in a key-value bucket beside the log, `<context>__snapshots`.
//!
//! The key is `<aggregate>.<encoded id>`, and `<aggregate>.<encoded id>.commands.<number>` for the parts with the ids of
//! older commands; the value is what `cqrs-core` wrote. A header names the log, so
//! that snapshots of a stream that was deleted and created again are ignored. The bucket is a cache and may be deleted
//! at any time; the first save creates it, and in another JetStream domain the first load.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{
    HeaderMap, Request,
    client::RequestErrorKind,
    jetstream::{
        context::{PublishError, PublishErrorKind},
        message::PublishMessage,
        stream::Config,
    },
};
use bytes::Bytes;
use cqrs_core::{AggregateKey, StoreError, port::SnapshotPart};
use tokio::{sync::OnceCell, time::timeout};

use crate::{
    client::{
        api::Api,
        connection::{Connection, NoAnswer},
        direct_get::{Answer, read},
        errors::{no_answer, store_error, unavailable},
        found::Found,
        leader_get::last_of,
        stream::create,
    },
    topology::Topology,
    wire::{names::Bucket, subject::encode_token},
};

/// How long reading a snapshot may take; after that, replaying the log is better.
const READ: Duration = Duration::from_secs(1);

/// How long saving a snapshot may take, with the creation of the bucket.
const SAVE: Duration = Duration::from_secs(5);

/// The header that names the log.
const LOG: &str = "Cqrs-Log";

/// The most bytes that the protocol's lines and headers add to a message.
const OVERHEAD: usize = 1_024;

/// The bucket of a context's snapshots.
#[derive(Debug)]
pub(crate) struct SnapshotBucket {
    connection: Connection,
    topology: Arc<Topology>,
    bucket: Bucket,
    /// The log's id, which is requested when the first snapshot is found.
    log: OnceCell<String>,
    /// Whether the server denies reading snapshots; then no further one is requested.
    denied: AtomicBool,
    /// Whether the bucket is known to exist in another domain.
    provided: AtomicBool,
}

impl SnapshotBucket {
    pub(crate) fn new(connection: Connection, topology: Arc<Topology>) -> Self {
        let bucket = topology.names().snapshots_bucket();
        let [denied, provided] = [const { AtomicBool::new(false) }; 2];
        Self { connection, topology, bucket, log: OnceCell::new(), denied, provided }
    }

    /// The last snapshot of the aggregate that the answering replica has, if it is of this log.
    pub(crate) async fn load(
        &self,
        aggregate: &AggregateKey,
        part: SnapshotPart,
    ) -> Result<Option<Bytes>, StoreError> {
        if self.denied.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let Some(found) = self.read(aggregate, part).await? else { return Ok(None) };
        // An unreadable snapshot counts as missing: it is a cache.
        let log = found.headers.as_ref().ok().and_then(|headers| headers.get(LOG));
        if log.map(async_nats::HeaderValue::as_str) == Some(self.log_id().await?) {
            // A client that deletes a key leaves an empty message.
            return Ok(Some(found.payload).filter(|snapshot| !snapshot.is_empty()));
        }
        tracing::debug!(%aggregate, ?log, "the snapshot is of another log");
        Ok(None)
    }

    async fn read(&self, aggregate: &AggregateKey, part: SnapshotPart) -> Result<Option<Found>, StoreError> {
        let what = || format!("reading the snapshot of {aggregate}");
        if !self.connection.is_up().await {
            return Err(self.connection.down(what()));
        }
        timeout(READ, self.provide()).await.map_err(|elapsed| unavailable(what(), elapsed))??;
        let key = self.subject(aggregate, part);
        if self.connection.unreadable.has(&key) {
            return last_of(&self.connection, &self.bucket.stream, &key, what).await;
        }
        let subject =
            Api::DirectGet.of(&self.connection.domain, format_args!("{}.{key}", self.bucket.stream));
        let request = Request::new().timeout(Some(READ));
        let get = self.connection.client.send_request(subject.clone(), request);
        let answer = match self.connection.answer(&[&subject], get).await {
            Ok(answer) => answer,
            // The message itself may have ended the connection.
            Err(NoAnswer::Lost) if self.connection.is_up().await => {
                let found = last_of(&self.connection, &self.bucket.stream, &key, what).await;
                return found.inspect_err(|_| self.connection.unreadable.note(&key, true));
            }
            Err(why) => {
                self.denied.store(matches!(why, NoAnswer::NotPermitted(_)), Ordering::Relaxed);
                return Err(no_answer(what(), why));
            }
        };
        match answer.map(read) {
            Ok(Ok(Answer::Message(found))) => Ok(Some(found)),
            Ok(Ok(Answer::End { .. })) => Ok(None),
            Ok(Err(error)) => Err(unavailable(what(), error)),
            // A bucket that does not exist yet has no responders.
            Err(error) if error.kind() == RequestErrorKind::NoResponders => Ok(None),
            Err(error) => Err(store_error(what(), error)),
        }
    }

    /// Saves a snapshot of the aggregate in place of the one before.
    pub(crate) async fn save(
        &self,
        aggregate: &AggregateKey,
        part: SnapshotPart,
        snapshot: Bytes,
    ) -> Result<(), StoreError> {
        let what = || format!("saving a snapshot of {aggregate} in stream {}", self.bucket.stream);
        let (bytes, limit) = (snapshot.len() + OVERHEAD, self.connection.client.max_payload());
        if bytes > limit {
            return Err(StoreError::TooLarge { what: format!("the snapshot of {aggregate}"), bytes, limit });
        }
        if !self.connection.is_up().await {
            return Err(self.connection.down(what()));
        }
        let mut headers = HeaderMap::new();
        headers.insert(LOG, self.log_id().await?);
        let subject = self.written(aggregate, part);
        let publish = || self.publish(&subject, headers.clone(), snapshot.clone());
        let save = async {
            self.provide().await?;
            match publish().await {
                Err(error) if error.kind() == PublishErrorKind::StreamNotFound => {
                    create(&self.connection, &self.config(), what).await?;
                    publish().await.map_err(|error| store_error(what(), error))
                }
                published => published.map_err(|error| store_error(what(), error)),
            }
        };
        let saved = timeout(SAVE, self.connection.answer(&[&subject], save)).await;
        let saved = saved.map_err(|elapsed| unavailable(what(), elapsed));
        let saved = saved.and_then(|saved| saved.map_err(|why| no_answer(what(), why))?);
        // The bucket may have been deleted.
        saved.inspect_err(|_| self.provided.store(false, Ordering::Relaxed))
    }

    /// Creates the bucket in another domain, unless it is known to exist. There a missing bucket is not told by the
    /// absence of a responder: a leaf node passes on each request to its domain, and no answer comes.
    async fn provide(&self) -> Result<(), StoreError> {
        if self.connection.domain.name().is_none() || self.provided.load(Ordering::Relaxed) {
            return Ok(());
        }
        let what = || format!("creating stream {}", self.bucket.stream);
        match create(&self.connection, &self.config(), what).await {
            // An operator has created it, perhaps with other settings, if this service may not.
            Ok(()) | Err(StoreError::Refused { .. } | StoreError::NotPermitted { .. }) => {
                self.provided.store(true, Ordering::Relaxed);
                Ok(())
            }
            failed => failed,
        }
    }

    async fn publish(&self, subject: &str, headers: HeaderMap, snapshot: Bytes) -> Result<(), PublishError> {
        let message = PublishMessage::build().headers(headers).payload(snapshot);
        self.connection.jetstream.send_publish(subject.to_owned(), message).await?.await?;
        Ok(())
    }

    async fn log_id(&self) -> Result<&str, StoreError> {
        let id = self.log.get_or_try_init(|| self.topology.log_id(&self.connection)).await;
        id.map(String::as_str).map_err(|error| unavailable("asking which log the snapshots are of", error))
    }

    fn subject(&self, aggregate: &AggregateKey, part: SnapshotPart) -> String {
        let state = format!("{}{}.{}", self.bucket.prefix, aggregate.name(), encode_token(aggregate.id()));
        match part {
            SnapshotPart::State => state,
            SnapshotPart::Commands(number) => format!("{state}.commands.{number}"),
        }
    }

    /// The subject to publish a part of the aggregate's snapshot to.
    fn written(&self, aggregate: &AggregateKey, part: SnapshotPart) -> String {
        self.connection.domain.key_value(self.subject(aggregate, part))
    }

    fn config(&self) -> Config {
        let description = format!("snapshots of the context {}, a cache", self.topology.context());
        self.topology.bucket_config(&self.bucket, "snapshots", description)
    }
}
