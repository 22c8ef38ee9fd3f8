//! The event store in SQLite.
//!
//! The log, the snapshots and the deadlines of a context are tables of one file. Of this crate it imports everything
//! but the views.

mod append;
mod deadlines;
mod identity;
mod log;
mod notices;
mod rows;
mod subscription;
mod tables;
mod turn;

use std::sync::Arc;

use bytes::Bytes;
use cqrs_core::{
    AggregateKey, StoreError,
    log::{Commit, StoredCommit},
    port::{
        AggregatePage, AnyViews, AppendError, Backlog, Capabilities, Delivery, EventStore, Expected, Listing,
        Page, Search, SnapshotPart, Subscribe,
    },
};
use sqlx::SqlitePool;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::{
    SqlError,
    dialect::Value,
    errors::store_error,
    names::{Names, original_key, stored_key},
    open_file::OpenFile,
    transaction::number,
};
use append::Append;
use deadlines::HandedOut;
pub use deadlines::SqliteDueQueue;
use log::{Log, limit, one_readable};
pub use notices::SqliteNotices;
pub use subscription::SqliteSubscription;
use tables::Tables;
use turn::Turns;

/// The events, snapshots and deadlines of a bounded context in an SQLite file. Clones share the connections.
///
/// An append returns when the disk has it (WAL mode with `synchronous = FULL`), so that it outlasts a power failure as
/// far as the disk keeps its word. See [`embedded`](crate::embedded) for what it is for, and its limits.
#[derive(Debug, Clone)]
pub struct SqliteEvents {
    log: Arc<Log>,
    appends: mpsc::Sender<Append>,
    handed_out: Arc<Mutex<HandedOut>>,
    source: Arc<str>,
    name: Arc<str>,
    /// The place beside the log for the progress of what has effects: the views of the same file.
    progress: AnyViews,
}

impl SqliteEvents {
    /// Opens the log of a context, or its public log.
    pub(crate) async fn open(
        writer: SqlitePool,
        reader: SqlitePool,
        file: Arc<OpenFile>,
        names: &Names<sqlx::Sqlite>,
        progress: AnyViews,
        place: &str,
        public: bool,
    ) -> Result<Self, SqlError> {
        let tables = Tables::new(names, public);
        tables.provide(&writer, names, place).await?;
        let context = names.context();
        let log = if public { format!("{context}.public") } else { context.to_owned() };
        let turns = Turns::beside(&file.real_path(), &log);
        let opened = Log::open(writer, reader, tables, file, turns, place.to_owned()).await?;
        let name = format!("{}-{}", log.replace('.', "-"), opened.identity.known().log);
        let opened = Arc::new(opened);
        let (appends, waiting) = mpsc::channel(append::WAITING);
        tokio::spawn(append::run(Arc::clone(&opened), waiting));
        Ok(Self {
            log: opened,
            appends,
            handed_out: Arc::default(),
            source: format!("/{context}").into(),
            name: name.into(),
            progress,
        })
    }
}

impl EventStore for SqliteEvents {
    type Subscription = SqliteSubscription;

    fn source(&self) -> &str {
        &self.source
    }

    /// The context's name with the log's id: another file may have a context of the same name.
    fn name(&self) -> &str {
        &self.name
    }

    fn era(&self) -> u64 {
        self.log.identity.number()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::none().deadlines(self.clone()).notices(self.clone()).progress(self.progress.clone())
    }

    async fn append(&self, commit: &Commit, expected: Expected) -> Result<u64, AppendError> {
        let era = self.era();
        append::check_size(commit).map_err(AppendError::Failed)?;
        let (answer, answered) = oneshot::channel();
        let ended =
            || StoreError::unavailable(self.log.about("appending"), "the runtime of the store has ended");
        let append = Append { commit: commit.clone(), expected, era, answer };
        self.appends.send(append).await.map_err(|_| AppendError::Busy(ended()))?;
        answered.await.unwrap_or_else(|_| Err(AppendError::Unknown(ended())))
    }

    async fn read(&self, aggregate: &AggregateKey, after: u64, max: usize) -> Result<Page, StoreError> {
        let (commits, more) = self.log.of_aggregate(aggregate, after, max).await?;
        Ok(Page { commits, more, confirmed: true })
    }

    async fn last(&self, aggregate: &AggregateKey) -> Result<Option<StoredCommit>, StoreError> {
        self.log.last_of(aggregate, u64::MAX).await?.map(one_readable).transpose()
    }

    async fn last_confirmed(&self, aggregate: &AggregateKey) -> Result<Option<StoredCommit>, StoreError> {
        self.last(aggregate).await
    }

    async fn next_after(
        &self,
        aggregate: &AggregateKey,
        after: u64,
    ) -> Result<Option<StoredCommit>, StoreError> {
        Ok(self.log.of_aggregate(aggregate, after, 1).await?.0.pop())
    }

    async fn last_before(
        &self,
        aggregates: &[AggregateKey],
        sequence: u64,
    ) -> Result<Vec<Option<Delivery>>, StoreError> {
        let mut all = Vec::with_capacity(aggregates.len());
        for aggregate in aggregates {
            all.push(self.log.last_of(aggregate, sequence).await?);
        }
        Ok(all)
    }

    async fn commit_at(&self, sequence: u64) -> Result<Option<Delivery>, StoreError> {
        let what = || format!("reading sequence {sequence}");
        Ok(self.log.commits(what, "$2", &[number(sequence)], 2).await?.0.pop())
    }

    async fn log(&self, aggregates: &[&'static str]) -> Result<cqrs_core::port::Log, StoreError> {
        let end = self.log.end_of(aggregates).await;
        let (id, last) =
            end.map_err(|error| store_error(self.log.about("reading the end of the log"), error))?;
        Ok(cqrs_core::port::Log { id, last_sequence: last.cast_unsigned() })
    }

    async fn backlog(&self, aggregates: &[&'static str], after: u64) -> Result<Backlog, StoreError> {
        let backlog = self.log.backlog(aggregates, after).await;
        backlog.map_err(|error| store_error(self.log.about("counting commits"), error))
    }

    /// There is an index, so the search's time makes no difference.
    async fn search(&self, search: Search) -> Result<Page, StoreError> {
        let which = format!(
            "SELECT DISTINCT sequence FROM {} WHERE correlation_id = $2 ORDER BY sequence LIMIT $3",
            self.log.tables.events
        );
        let transaction = search.correlation_id.to_string();
        let values = [Value::Text(&transaction), limit(search.max.saturating_add(1))];
        let what = || format!("searching for {transaction}");
        let (found, more) = self.log.commits(what, &which, &values, search.max).await?;
        let all = found.len();
        let commits: Vec<_> = found.into_iter().filter_map(Result::ok).collect();
        Ok(Page { more: more || commits.len() < all, commits, confirmed: true })
    }

    async fn aggregates(&self, listing: Listing<'_>) -> Result<AggregatePage, StoreError> {
        let after = listing.after.map(|after| stored_key(after.key.id()));
        let ids = self.log.ids(listing.aggregate, after.as_deref(), listing.max).await;
        let what = || self.log.about(&format!("listing the aggregates of type {}", listing.aggregate));
        let (ids, more) = ids.map_err(|error| store_error(what(), error))?;
        let keys =
            ids.into_iter().filter_map(|id| AggregateKey::new(listing.aggregate, original_key(id)).ok());
        Ok(listing.page(keys.collect(), more))
    }

    async fn subscribe(&self, request: Subscribe<'_>) -> Result<SqliteSubscription, StoreError> {
        SqliteSubscription::open(&self.log, request).await
    }

    async fn has_subscriber(&self, subscriber: &str) -> Result<Option<bool>, StoreError> {
        self.log.turns.is_taken(subscriber).map(Some)
    }

    async fn forget(&self, subscriber: &str) -> Result<(), StoreError> {
        self.log.turns.forget(subscriber)
    }

    async fn load_snapshot(
        &self,
        aggregate: &AggregateKey,
        part: SnapshotPart,
    ) -> Result<Option<Bytes>, StoreError> {
        let what = || self.log.about(&format!("reading the snapshot of {aggregate}"));
        self.log.snapshot(aggregate, part).await.map_err(|error| store_error(what(), error))
    }

    async fn save_snapshot(
        &self,
        aggregate: &AggregateKey,
        part: SnapshotPart,
        snapshot: Bytes,
    ) -> Result<(), StoreError> {
        let what = || self.log.about(&format!("saving a snapshot of {aggregate}"));
        self.log.save_snapshot(aggregate, part, &snapshot).await.map_err(|error| store_error(what(), error))
    }
}

#[cfg(test)]
mod tests {
    use cqrs_core::{
        log::{JSON, Origin, RecordedEvent},
        port::{Checkpoint, Deadline, Deadlines as _, ProjectionId, Save, ViewStore as _},
    };
    use jiff::Timestamp;

    use super::*;
    use crate::SqliteBackend;

    const ID: &str = "00000000-0000-4000-8000-000000000001";

    fn commit(id: &str) -> Commit {
        let origin = Origin {
            time: Timestamp::UNIX_EPOCH,
            command: "happen".into(),
            command_id: ID.parse().expect("an id"),
            fingerprint: 0,
            correlation_id: ID.parse().expect("an id"),
            causation_id: None,
            metadata: cqrs_core::Metadata::default(),
        };
        let event = RecordedEvent {
            id: ID.parse().expect("an id"),
            origin: Arc::new(origin),
            event_type: "thing.happened".into(),
            schema_version: 1,
            content_type: JSON.into(),
            data: "{}".into(),
        };
        let aggregate = AggregateKey::new("thing", id).expect("a short id");
        Commit {
            aggregate,
            first_version: 1,
            source: "/orders".into(),
            events: [event].into_iter().collect(),
        }
    }

    /// What `PRAGMA synchronous` is on the one connection that writes, after its last transaction.
    async fn synchronous(events: &SqliteEvents) -> i64 {
        sqlx::query_scalar("PRAGMA synchronous").fetch_one(&events.log.writer).await.expect("an answer")
    }

    #[tokio::test]
    async fn appends_wait_for_the_disk_and_saves_of_views_do_not() {
        const FULL: i64 = 2;
        const NORMAL: i64 = 1;
        let folder = tempfile::tempdir().expect("a folder");
        let backend = SqliteBackend::open(folder.path().join("a.db"), "orders").await.expect("a file");
        let SqliteBackend { events, views, .. } = &backend;
        let id = ProjectionId::new("view", 1);
        views.open(&id).await.expect("a view");
        for sequence in 1..3 {
            events.append(&commit(&sequence.to_string()), Expected::NoStream).await.expect("an append");
            assert_eq!(synchronous(events).await, FULL);
            let revision = views.checkpoint(&id).await.expect("a checkpoint").revision;
            let checkpoint = Checkpoint { sequence, ..Checkpoint::default() };
            let save = Save { writes: &[], notes: &[], checkpoint: &checkpoint, revision };
            views.save(&id, save).await.expect("a save");
            assert_eq!(synchronous(events).await, NORMAL);
        }
        let (at, arming) = (Timestamp::UNIX_EPOCH, ID.parse().expect("an id"));
        let deadline = Deadline { id: "1".to_owned(), at, payload: Bytes::new(), order: 1, arming };
        events.arm(&deadline).await.expect("an arming");
        assert_eq!(synchronous(events).await, FULL);
    }
}
