//! Stores that fail at times: they stand before a real adapter and lose answers.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use cqrs_core::{
    AggregateKey, AppendError, Appended, Commit, Delivery, EventStore, Expected, Log, Page, ProjectionId,
    Save, SaveError, SavedCheckpoint, SavedDocument, StoreError, StoredCommit, Subscribe, ViewStore,
};

/// A store that fails by a plan: the calls are counted, and the seed decides what happens to each.
#[derive(Debug, Clone)]
pub struct Flaky<S> {
    inner: S,
    seed: u64,
    calls: Arc<AtomicU64>,
    failures: Arc<AtomicU64>,
}

/// What happens to one call.
enum Fate {
    Works,
    /// The call has its effect, and the answer is lost.
    LosesAnswer,
    /// The call has no effect, and the caller cannot know.
    LosesRequest,
    /// The call has no effect, and the caller is told to wait.
    Waits,
}

impl<S> Flaky<S> {
    /// `inner` with failures in about every second writing call; the same seed fails the same calls.
    pub fn new(inner: S, seed: u64) -> Self {
        Self { inner, seed, calls: Arc::default(), failures: Arc::default() }
    }

    /// How many calls have failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn fate(&self) -> Fate {
        // SplitMix64: well mixed from a counter, so that runs are the same for the same seed.
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let mut x = self.seed.wrapping_add(call.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let fate = match (x ^ (x >> 31)) % 8 {
            0 | 1 => Fate::LosesAnswer,
            2 => Fate::LosesRequest,
            3 => Fate::Waits,
            _ => return Fate::Works,
        };
        self.failures.fetch_add(1, Ordering::Relaxed);
        fate
    }
}

fn lost() -> StoreError {
    StoreError::Unavailable { what: "the test's plan".into(), source: None }
}

impl<S: EventStore> EventStore for Flaky<S> {
    type Subscription = S::Subscription;

    fn source(&self) -> &str {
        self.inner.source()
    }

    async fn append(&self, commit: &Commit, expected: Expected) -> Result<Appended, AppendError> {
        match self.fate() {
            Fate::Works => self.inner.append(commit, expected).await,
            Fate::LosesAnswer => {
                let _ = self.inner.append(commit, expected).await;
                Err(AppendError::Unknown(lost()))
            }
            Fate::LosesRequest => Err(AppendError::Unknown(lost())),
            Fate::Waits => Err(AppendError::Busy(lost())),
        }
    }

    async fn read(&self, aggregate: &AggregateKey, after: u64, max: usize) -> Result<Page, StoreError> {
        // A replica that lags: it shows all but the last commit, and does not claim more.
        let mut page = self.inner.read(aggregate, after, max).await?;
        if matches!(self.fate(), Fate::LosesAnswer) && !page.more {
            page.commits.pop();
        }
        Ok(Page { confirmed: false, ..page })
    }

    async fn next_after(
        &self,
        aggregate: &AggregateKey,
        after: u64,
    ) -> Result<Option<StoredCommit>, StoreError> {
        self.inner.next_after(aggregate, after).await
    }

    async fn log(&self, aggregates: &[&'static str]) -> Result<Log, StoreError> {
        self.inner.log(aggregates).await
    }

    async fn subscribe(&self, request: Subscribe<'_>) -> Result<S::Subscription, StoreError> {
        self.inner.subscribe(request).await
    }

    async fn commit_at(&self, sequence: u64) -> Result<Option<Delivery>, StoreError> {
        self.inner.commit_at(sequence).await
    }

    async fn forget(&self, subscriber: &str) -> Result<(), StoreError> {
        self.inner.forget(subscriber).await
    }

    async fn load_snapshot(&self, aggregate: &AggregateKey) -> Result<Option<Bytes>, StoreError> {
        match self.fate() {
            Fate::Works => self.inner.load_snapshot(aggregate).await,
            // None yet, as a replica that lags says.
            Fate::LosesAnswer => Ok(None),
            Fate::LosesRequest | Fate::Waits => Err(lost()),
        }
    }

    async fn save_snapshot(&self, aggregate: &AggregateKey, snapshot: Bytes) -> Result<(), StoreError> {
        match self.fate() {
            Fate::Works => self.inner.save_snapshot(aggregate, snapshot).await,
            Fate::LosesAnswer => {
                let _ = self.inner.save_snapshot(aggregate, snapshot).await;
                Err(lost())
            }
            Fate::LosesRequest => Err(lost()),
            // What is cut off on the way is no snapshot.
            Fate::Waits => self.inner.save_snapshot(aggregate, snapshot.slice(..snapshot.len() / 2)).await,
        }
    }
}

impl<S: ViewStore> ViewStore for Flaky<S> {
    async fn open(&self, projection: &ProjectionId) -> Result<(), StoreError> {
        self.inner.open(projection).await
    }

    async fn checkpoint(&self, projection: &ProjectionId) -> Result<SavedCheckpoint, StoreError> {
        self.inner.checkpoint(projection).await
    }

    async fn load(
        &self,
        projection: &ProjectionId,
        keys: &[String],
    ) -> Result<Vec<SavedDocument>, StoreError> {
        match self.fate() {
            Fate::LosesRequest => Err(lost()),
            _ => self.inner.load(projection, keys).await,
        }
    }

    async fn save(&self, projection: &ProjectionId, save: Save<'_>) -> Result<u64, SaveError> {
        let size = save.writes.len() + save.notes.len();
        assert!(size <= self.max_writes(), "{size} documents and notes at once");
        match self.fate() {
            Fate::Works => self.inner.save(projection, save).await,
            Fate::LosesAnswer => {
                let _ = self.inner.save(projection, save).await;
                Err(lost().into())
            }
            Fate::LosesRequest | Fate::Waits => Err(lost().into()),
        }
    }

    fn max_writes(&self) -> usize {
        // Few, so that batches are split.
        self.inner.max_writes().min(3)
    }

    async fn get(&self, projection: &ProjectionId, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.inner.get(projection, key).await
    }

    async fn list(&self, projection: &ProjectionId) -> Result<Vec<(String, Bytes)>, StoreError> {
        self.inner.list(projection).await
    }

    async fn notes(
        &self,
        projection: &ProjectionId,
        prefix: &str,
    ) -> Result<Vec<(String, Bytes)>, StoreError> {
        match self.fate() {
            Fate::LosesRequest => Err(lost()),
            _ => self.inner.notes(projection, prefix).await,
        }
    }

    async fn reached(&self, projection: &ProjectionId, sequence: u64) -> Result<(), StoreError> {
        self.inner.reached(projection, sequence).await
    }

    async fn remove(&self, projection: &ProjectionId) -> Result<(), StoreError> {
        self.inner.remove(projection).await
    }

    async fn about(&self, view: &str) -> Result<SavedDocument, StoreError> {
        self.inner.about(view).await
    }

    async fn set_about(&self, view: &str, content: Bytes, revision: u64) -> Result<u64, SaveError> {
        self.inner.set_about(view, content, revision).await
    }
}
