//! The view store in JetStream key-value buckets: one bucket for each projection.
//!
//! A document is the value of `d.<encoded key>`, a note that of `n.<encoded key>`, the checkpoint that of `checkpoint`,
//! all in the same bucket, so that one atomic batch writes them together, the checkpoint last. The documents and the
//! checkpoint name the revision that they replace (compare-and-set): a stale read can make a save fail, but never
//! overwrite a newer document. The records of views as a whole are in a bucket of their own.
//!
//! Of this crate it imports `client`, `wire` and `topology`, and nothing of the log.

mod bucket;
mod watcher;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::jetstream::{
    consumer::{DeliverPolicy, pull},
    context::PublishErrorKind,
    stream::Config,
};
use bytes::Bytes;
use cqrs_core::{
    StoreError,
    port::{ProjectionId, Reached, Save, SaveError, SavedCheckpoint, SavedDocument, ViewStore},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use uuid::Uuid;

use crate::{
    client::{
        atomic_batch::{self, OPERATION},
        connection::{Connection, LAST_WORD, NoAnswer},
        diagnosis::Call,
        direct_get::{Get, direct_get},
        errors::{code, is_overtaken, no_answer, unavailable, write_error},
        found::Found,
        leader_get::{OneByOne, last_of, unless_missing},
        scan::{self, Passed, Scan, passing},
        settings::Kind,
        stream::{self, patiently, provide},
    },
    topology::Topology,
    views::{
        bucket::{DOCUMENTS, NOTES},
        watcher::{Seen, Watcher},
    },
    wire::{names::Bucket, subject::decode_token},
};

/// How long listing a view may take.
const LISTING: Duration = Duration::from_secs(30);

/// About how far a leader may lag behind the deliveries of one of its replicas.
const LEADER_LAG: Duration = Duration::from_millis(1);

/// The views of a bounded context in key-value buckets. Clones share the connection.
#[derive(Debug, Clone)]
pub struct KvViews {
    connection: Connection,
    topology: Arc<Topology>,
    watchers: Arc<Mutex<HashMap<ProjectionId, Watcher>>>,
}

impl KvViews {
    pub(crate) fn new(connection: Connection, topology: Topology) -> Self {
        Self { connection, topology: Arc::new(topology), watchers: Arc::default() }
    }

    fn bucket(&self, projection: &ProjectionId) -> Bucket {
        self.topology.names().bucket(projection)
    }

    /// The last message on a subject, from the bucket's leader.
    async fn confirmed(&self, bucket: &Bucket, subject: &str) -> Result<SavedDocument, StoreError> {
        let what = || bucket.what("reading");
        let found = last_of(&self.connection, &bucket.stream, subject, what).await?;
        Ok(found.map_or(SavedDocument { document: None, revision: 0 }, |found| {
            let revision = found.sequence;
            SavedDocument { document: value(found), revision }
        }))
    }

    /// Creates the bucket, or checks the existing one.
    async fn open_bucket(&self, bucket: &Bucket) -> Result<(), StoreError> {
        let advice = "change it, or delete it and the view is built anew";
        let (connection, wanted) = (&self.connection, self.config(bucket));
        let opened = patiently(|| provide(connection, Kind::View, &wanted)).await;
        opened.map(drop).map_err(|why| why.into_store_error(&bucket.stream, bucket.what("opening"), advice))
    }

    /// Stores all messages or none; returns the sequence of the last one.
    async fn publish(
        &self,
        bucket: &Bucket,
        mut messages: Vec<atomic_batch::Message>,
    ) -> Result<u64, SaveError> {
        let domain = &self.connection.domain;
        for message in &mut messages {
            message.subject = domain.key_value(std::mem::take(&mut message.subject));
        }
        let publish = atomic_batch::publish(&self.connection, &bucket.stream, messages);
        let subjects = domain.key_value(format!("$KV.{}", bucket.name));
        let before = self.connection.before();
        let answer = self.connection.answer_since(before, &[&subjects], publish).await;
        match answer.map_err(|why| no_answer(bucket.what("writing"), why))? {
            Ok(ack) => Ok(ack.sequence),
            Err(error) if is_overtaken(&error) => Err(SaveError::Conflict),
            Err(error) if code(&error).is_some() => {
                // If one message of a batch was not permitted, the server refuses the batch as incomplete: wait for the
                // event that names the permission.
                let word = self.connection.answer_since(before, &[&subjects], sleep(LAST_WORD)).await;
                word.map_err(|why| no_answer(bucket.what("writing"), why))?;
                Err(write_error(bucket.what("writing"), error).into())
            }
            Err(error) => {
                let nobody = error.kind() == PublishErrorKind::StreamNotFound;
                let call = if nobody { Call::Nobody } else { Call::Write };
                Err(self
                    .connection
                    .diagnose(&bucket.stream, call, bucket.what("writing"), error)
                    .await
                    .into())
            }
        }
    }

    /// All documents or all notes of a projection, with their keys.
    async fn listed(
        &self,
        projection: &ProjectionId,
        kind: &'static str,
    ) -> Result<Vec<(String, Bytes)>, StoreError> {
        let bucket = self.bucket(projection);
        let all = format!("{}{kind}>", bucket.prefix);
        if !self.connection.unreadable.has(&all) {
            let name = format!("listing-{}", Uuid::new_v4().simple());
            let listing = Box::pin(self.list_at(&bucket, kind, &all, &name));
            match self
                .connection
                .answer(&scan::subjects(&self.connection.domain, &bucket.stream, &name), listing)
                .await
            {
                Ok(listed) => return listed,
                // One of the listed messages may have ended the connection.
                Err(NoAnswer::Lost) if self.connection.is_up().await => {}
                Err(why) => return Err(no_answer(bucket.what("listing"), why)),
            }
        }
        let listed = timeout(LISTING, self.list_one_by_one(&bucket, kind, all)).await;
        listed.map_err(|error| unavailable(bucket.what("listing"), error))?
    }

    async fn list_one_by_one(
        &self,
        bucket: &Bucket,
        kind: &str,
        all: String,
    ) -> Result<Vec<(String, Bytes)>, StoreError> {
        let (mut documents, mut is_unreadable) = (HashMap::new(), false);
        let mut messages = OneByOne::new([all.clone()], 0, u64::MAX);
        while let Some(found) = messages.next(&self.connection, &bucket.stream).await? {
            is_unreadable |= found.headers.is_err();
            put(&mut documents, bucket, kind, found);
        }
        self.connection.unreadable.note(&all, is_unreadable);
        Ok(documents.into_iter().collect())
    }

    fn config(&self, bucket: &Bucket) -> Config {
        let description = format!("a view of the context {}", self.topology.context());
        // Atomic batches write documents and checkpoint together.
        Config { allow_atomic_publish: true, ..self.topology.bucket_config(bucket, "views", description) }
    }

    async fn list_at(
        &self,
        bucket: &Bucket,
        kind: &str,
        all: &str,
        name: &str,
    ) -> Result<Vec<(String, Bytes)>, StoreError> {
        let last = self.confirmed(bucket, all).await?.revision;
        if last == 0 {
            return Ok(Vec::new());
        }
        let config = pull::Config {
            deliver_policy: DeliverPolicy::LastPerSubject,
            filter_subject: all.to_owned(),
            ..passing(name, "lists what a view has")
        };
        let what = || bucket.what("listing");
        let mut scan = Scan::open(&self.connection, &bucket.stream, config, what()).await?;
        let listed = timeout(LISTING, read_until(&mut scan, bucket, kind, last)).await;
        scan.close().await;
        listed.map_err(|elapsed| unavailable(what(), elapsed))?
    }

    /// The position of the checkpoint on the leader.
    async fn confirmed_reached(&self, projection: &ProjectionId) -> Result<Reached, StoreError> {
        Ok(self.checkpoint(projection).await?.checkpoint.unwrap_or_default().reached())
    }

    /// The position of the projection's checkpoint, as it changes.
    fn watch(&self, projection: &ProjectionId) -> watch::Receiver<Seen> {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || Watcher::start(self.connection.clone(), self.bucket(projection));
        watchers.entry(projection.clone()).or_insert_with(start).reached.subscribe()
    }
}

impl ViewStore for KvViews {
    async fn open(&self, projection: &ProjectionId) -> Result<(), StoreError> {
        self.open_bucket(&self.bucket(projection)).await
    }

    async fn checkpoint(&self, projection: &ProjectionId) -> Result<SavedCheckpoint, StoreError> {
        let bucket = self.bucket(projection);
        let found = self.confirmed(&bucket, &bucket.checkpoint()).await?;
        let checkpoint = found.document.map(|document| serde_json::from_slice(&document)).transpose();
        let checkpoint = checkpoint.map_err(|error| StoreError::BadDocument {
            view: projection.to_string(),
            key: "checkpoint".to_owned(),
            reason: error.to_string(),
        })?;
        Ok(SavedCheckpoint { checkpoint, revision: found.revision })
    }

    async fn load(
        &self,
        projection: &ProjectionId,
        keys: &[String],
    ) -> Result<Vec<SavedDocument>, StoreError> {
        let bucket = self.bucket(projection);
        let subjects: Vec<String> = keys.iter().map(|key| bucket.document(key)).collect();
        let get = Get::Last { multi_last: &subjects, batch: subjects.len() };
        let take = |found: Found| {
            let (subject, revision) = (found.subject().to_owned(), found.sequence);
            (subject, (value(found), revision))
        };
        let batch = direct_get(&self.connection, &bucket.stream, get, take).await?;
        let mut found: HashMap<_, _> = batch.found.into_iter().collect();
        let saved = |subject| match found.remove(subject) {
            Some((document, revision)) => SavedDocument { document, revision },
            None => SavedDocument { document: None, revision: 0 },
        };
        Ok(subjects.iter().map(saved).collect())
    }

    async fn notes(
        &self,
        projection: &ProjectionId,
        prefix: &str,
    ) -> Result<Vec<(String, Bytes)>, StoreError> {
        let mut notes = self.listed(projection, NOTES).await?;
        notes.retain(|(key, _)| key.starts_with(prefix));
        notes.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(notes)
    }

    async fn save(&self, projection: &ProjectionId, save: Save<'_>) -> Result<u64, SaveError> {
        let bucket = self.bucket(projection);
        let messages = bucket.messages(projection, &save, self.connection.client.max_payload())?;
        if !self.connection.is_up().await {
            return Err(self.connection.down(bucket.what("writing")).into());
        }
        // The checkpoint is the last message of the batch, and the answer names its sequence.
        let revision = self.publish(&bucket, messages).await?;
        if let Some(watcher) = self.watchers.lock().unwrap_or_else(PoisonError::into_inner).get(projection) {
            watcher.raise(Seen { reached: save.checkpoint.reached(), revision });
        }
        Ok(revision)
    }

    fn max_writes(&self) -> usize {
        // Half of what a batch takes: larger batches take longer and gain nothing.
        atomic_batch::MAX_MESSAGES / 2
    }

    /// Each context has one set of buckets beside its log.
    fn name(&self) -> Option<String> {
        None
    }

    async fn get(&self, projection: &ProjectionId, key: &str) -> Result<Option<Bytes>, StoreError> {
        let bucket = self.bucket(projection);
        let subject = bucket.document(key);
        if self.topology.is_replicated() {
            // A replica may not have what the leader has confirmed, and queries must read their own writes.
            return Ok(self.confirmed(&bucket, &subject).await?.document);
        }
        let get = Get::Last { multi_last: &[subject], batch: 1 };
        let batch = direct_get(&self.connection, &bucket.stream, get, value).await?;
        Ok(batch.found.into_iter().next().flatten())
    }

    async fn list(&self, projection: &ProjectionId) -> Result<Vec<(String, Bytes)>, StoreError> {
        self.listed(projection, DOCUMENTS).await
    }

    async fn reached(&self, projection: &ProjectionId, sequence: u64) -> Result<Reached, StoreError> {
        let mut reached = self.watch(projection);
        let waited = reached.wait_for(|seen| seen.reached.sequence >= sequence).await;
        let mut reached = waited.map_err(|error| unavailable("waiting for a view", error))?.reached;
        // The replica of the watcher's consumer may have a checkpoint that the leader, which answers the queries, does
        // not show yet.
        while self.topology.is_replicated() {
            reached = self.confirmed_reached(projection).await?;
            if reached.sequence >= sequence {
                break;
            }
            sleep(LEADER_LAG).await;
        }
        Ok(reached)
    }

    async fn remove(&self, projection: &ProjectionId) -> Result<(), StoreError> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner).remove(projection);
        let bucket = self.bucket(projection);
        stream::delete(&self.connection, &bucket.stream, || bucket.what("removing")).await
    }

    async fn about(&self, view: &str) -> Result<SavedDocument, StoreError> {
        let bucket = self.topology.names().views_bucket();
        let subject = bucket.document(view);
        let ask = || self.confirmed(&bucket, &subject);
        // A caller that takes a record for missing cannot overwrite it, but may act on it.
        let answer = if self.topology.is_replicated() { unless_missing(ask).await } else { ask().await };
        match answer {
            // No view has a record yet.
            Err(StoreError::Missing { .. }) => Ok(SavedDocument { document: None, revision: 0 }),
            answer => answer,
        }
    }

    async fn set_about(&self, view: &str, content: Bytes, revision: u64) -> Result<u64, SaveError> {
        let bucket = self.topology.names().views_bucket();
        self.open_bucket(&bucket).await?;
        if !self.connection.is_up().await {
            return Err(self.connection.down(bucket.what("writing")).into());
        }
        let message = atomic_batch::Message {
            subject: bucket.document(view),
            payload: Some(content),
            expected: Some(revision),
        };
        self.publish(&bucket, vec![message]).await
    }
}

/// Reads the documents of a bucket, at least up to the sequence `last`. The consumer may be on a replica that lags, so
/// that `pending` 0 alone does not show the end.
async fn read_until(
    scan: &mut Scan,
    bucket: &Bucket,
    kind: &str,
    last: u64,
) -> Result<Vec<(String, Bytes)>, StoreError> {
    let mut documents = HashMap::new();
    loop {
        let Passed { found, pending } = scan.next().await?;
        let sequence = found.sequence;
        put(&mut documents, bucket, kind, found);
        if sequence >= last && pending == 0 {
            return Ok(documents.into_iter().collect());
        }
    }
}

/// Applies a message to the documents: it sets a key or deletes it.
fn put(documents: &mut HashMap<String, Bytes>, bucket: &Bucket, kind: &str, found: Found) {
    let key = found.subject().strip_prefix(&bucket.prefix).and_then(|key| key.strip_prefix(kind));
    let Some(key) = key.and_then(|token| decode_token(token).ok()) else { return };
    match value(found) {
        Some(document) => documents.insert(key, document),
        None => documents.remove(&key),
    };
}

/// The value in a message; `None` if the message is a deletion.
fn value(found: Found) -> Option<Bytes> {
    let is_deleted = found.headers.is_ok_and(|headers| headers.get(OPERATION).is_some());
    (!is_deleted).then_some(found.payload)
}
