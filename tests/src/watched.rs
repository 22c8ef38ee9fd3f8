//! A store that counts calls, and whose snapshots can fail.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use cqrs_core::{
    AggregateKey, StoreError,
    log::Commit,
    port::{AppendError, Delivery, EventStore, Expected, Page, SnapshotPart},
};

/// An event store, watched. Clones share the counts.
#[derive(Debug, Clone)]
pub struct Watched<S> {
    inner: S,
    counts: Arc<Counts>,
    /// What happens to snapshots.
    pub snapshots: Snapshots,
}

/// What happens to the snapshots of a [`Watched`] store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snapshots {
    /// They are kept.
    Kept,
    /// Each call fails, and may succeed later.
    Unavailable,
    /// Each call is refused.
    Refused,
    /// A save does not end, and a load returns the snapshot before.
    Stuck,
}

#[derive(Debug, Default)]
struct Counts {
    saved: AtomicU64,
    asked: AtomicU64,
    commits: AtomicU64,
    looks_before: AtomicU64,
    /// Reads from the beginning, and other reads.
    reads: [Gauge; 2],
}

#[derive(Debug, Default)]
struct Gauge {
    now: AtomicU64,
    most: AtomicU64,
}

impl<S> Watched<S> {
    /// Watches `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner, counts: Arc::default(), snapshots: Snapshots::Kept }
    }

    /// The same store with other behaviour of its snapshots.
    pub fn with(self, snapshots: Snapshots) -> Self {
        Self { snapshots, ..self }
    }

    /// How many snapshots have been saved.
    pub fn saved(&self) -> u64 {
        self.counts.saved.load(Ordering::Relaxed)
    }

    /// How often a snapshot was loaded.
    pub fn asked(&self) -> u64 {
        self.counts.asked.load(Ordering::Relaxed)
    }

    /// How many commits have been read in pages since the last call.
    pub fn commits_read(&self) -> u64 {
        self.counts.commits.swap(0, Ordering::Relaxed)
    }

    /// How often `last_before` was called since the last call of this.
    pub fn looks_before(&self) -> u64 {
        self.counts.looks_before.swap(0, Ordering::Relaxed)
    }

    /// The most concurrent reads since the last call: of the first commits of aggregates, and of later ones.
    pub fn most_reads(&self) -> [u64; 2] {
        self.counts.reads.each_ref().map(|gauge| gauge.most.swap(0, Ordering::Relaxed))
    }

    fn fate(&self) -> Result<(), StoreError> {
        let what = "a snapshot, by the test's plan".to_owned();
        match self.snapshots {
            Snapshots::Kept | Snapshots::Stuck => Ok(()),
            Snapshots::Unavailable => Err(StoreError::Unavailable { what, source: None }),
            Snapshots::Refused => Err(StoreError::Refused { what, source: None }),
        }
    }
}

#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl<S: EventStore> EventStore for Watched<S> {
    type Subscription = S::Subscription;

    crate::pass_on! {
        to inner: source name era capabilities backlog last last_confirmed next_after commit_at has_subscriber
            forget log search aggregates subscribe
    }

    async fn append(&self, commit: &Commit, expected: Expected) -> Result<u64, AppendError> {
        self.inner.append(commit, expected).await
    }

    async fn read(&self, aggregate: &AggregateKey, after: u64, max: usize) -> Result<Page, StoreError> {
        let gauge = &self.counts.reads[usize::from(after > 0)];
        let now = gauge.now.fetch_add(1, Ordering::Relaxed) + 1;
        gauge.most.fetch_max(now, Ordering::Relaxed);
        // Lets concurrent reads start.
        tokio::task::yield_now().await;
        let page = self.inner.read(aggregate, after, max).await;
        gauge.now.fetch_sub(1, Ordering::Relaxed);
        let page = page?;
        self.counts.commits.fetch_add(page.commits.len() as u64, Ordering::Relaxed);
        Ok(page)
    }

    async fn last_before(
        &self,
        aggregates: &[AggregateKey],
        sequence: u64,
    ) -> Result<Vec<Option<Delivery>>, StoreError> {
        self.counts.looks_before.fetch_add(1, Ordering::Relaxed);
        self.inner.last_before(aggregates, sequence).await
    }

    async fn load_snapshot(
        &self,
        aggregate: &AggregateKey,
        part: SnapshotPart,
    ) -> Result<Option<Bytes>, StoreError> {
        self.counts.asked.fetch_add(1, Ordering::Relaxed);
        self.fate()?;
        self.inner.load_snapshot(aggregate, part).await
    }

    async fn save_snapshot(
        &self,
        aggregate: &AggregateKey,
        part: SnapshotPart,
        snapshot: Bytes,
    ) -> Result<(), StoreError> {
        self.fate()?;
        if self.snapshots == Snapshots::Stuck {
            std::future::pending::<()>().await;
        }
        self.inner.save_snapshot(aggregate, part, snapshot).await?;
        self.counts.saved.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
