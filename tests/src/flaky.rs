//! Stores with failures: they wrap a real adapter and lose requests and answers.

use std::{
    future::pending,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use cqrs_core::{
    AggregateKey, Clock, StoreError,
    log::{Commit, StoredCommit},
    port::{
        AppendError, Capabilities, Deadline, Deadlines, Due, DueQueue, EventStore, Expected, Notices, Page,
        ProjectionId, Save, SaveError, SavedDocument, SnapshotPart, Subscribe, ViewStore,
    },
};

/// A store that fails by a plan: the calls are counted, and the plan decides about each.
#[derive(Debug, Clone)]
pub struct Flaky<S> {
    inner: S,
    plan: Plan,
    calls: Arc<AtomicU64>,
    failures: Arc<AtomicU64>,
    /// The one aggregate whose appends fail.
    busy: Arc<Mutex<Option<String>>>,
}

#[derive(Debug, Clone, Copy)]
enum Plan {
    /// Nothing fails by itself.
    Works,
    /// The seed decides.
    Random(u64),
    /// All calls end at this one, right before or right after its effect.
    EndsAt { call: u64, after_effect: bool },
}

/// What happens to one call.
enum Fate {
    Works,
    /// The call has its effect, and the answer is lost.
    LosesAnswer,
    /// The call has no effect, and the caller cannot know.
    LosesRequest,
    /// The call has no effect, and the caller gets the error to wait.
    Waits,
    /// The call has its effect, and the caller gets no answer to this or any later call.
    EndsAfter,
    /// The call has no effect, and the caller gets no answer to this or any later call.
    Ends,
}

impl<S> Flaky<S> {
    /// `inner` with failures in about every second writing call; the same seed fails the same calls.
    pub fn new(inner: S, seed: u64) -> Self {
        Self {
            inner,
            plan: Plan::Random(seed),
            calls: Arc::default(),
            failures: Arc::default(),
            busy: Arc::default(),
        }
    }

    /// `inner` without failures, until a test sets some.
    pub fn works(inner: S) -> Self {
        let busy = Arc::default();
        Self { inner, plan: Plan::Works, calls: Arc::default(), failures: Arc::default(), busy }
    }

    /// Fails appends to the aggregate of that id from now on; with `None`, no appends.
    pub fn be_busy_for(&self, id: Option<&str>) {
        *self.busy() = id.map(str::to_owned);
    }

    fn busy(&self) -> MutexGuard<'_, Option<String>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `inner` until its caller dies at the call with that number, from 0, before or after the call's effect.
    pub fn ends_at(inner: S, call: u64, after_effect: bool) -> Self {
        let plan = Plan::EndsAt { call, after_effect };
        Self { inner, plan, calls: Arc::default(), failures: Arc::default(), busy: Arc::default() }
    }

    /// Another store in the same plan: its calls are counted together with those of this one.
    pub fn beside<T>(&self, inner: T) -> Flaky<T> {
        let (calls, failures) = (Arc::clone(&self.calls), Arc::clone(&self.failures));
        Flaky { inner, plan: self.plan, calls, failures, busy: Arc::clone(&self.busy) }
    }

    /// How many calls have failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Snapshots are saved beside the commands, at varying times: a plan that counts calls to repeat a failure leaves
    /// them out.
    fn fate_of_a_snapshot(&self) -> Fate {
        match self.plan {
            Plan::Random(_) => self.fate(),
            Plan::EndsAt { .. } | Plan::Works => Fate::Works,
        }
    }

    fn fate(&self) -> Fate {
        // SplitMix64: well mixed from a counter, so that runs are the same for the same seed.
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let seed = match self.plan {
            Plan::Works => return Fate::Works,
            Plan::Random(seed) => seed,
            Plan::EndsAt { call: last, .. } if call < last => return Fate::Works,
            Plan::EndsAt { call: last, after_effect } => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                return if call == last && after_effect { Fate::EndsAfter } else { Fate::Ends };
            }
        };
        let mut x = seed.wrapping_add(call.wrapping_mul(0x9E37_79B9_7F4A_7C15));
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

#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl<S: EventStore + Deadlines + Notices + Clone> EventStore for Flaky<S> {
    type Subscription = S::Subscription;

    crate::pass_on! {
        to inner: source name era backlog last_confirmed next_after last_before commit_at
            has_subscriber forget log search aggregates
    }

    fn capabilities(&self) -> Capabilities {
        let capabilities = Capabilities::none().deadlines(self.clone()).notices(self.inner.clone());
        match self.inner.capabilities().progress_store() {
            Some(progress) => capabilities.progress(self.beside(progress.clone())),
            None => capabilities,
        }
    }

    async fn append(&self, commit: &Commit, expected: Expected) -> Result<u64, AppendError> {
        if self.busy().as_deref() == Some(commit.aggregate.id()) {
            self.failures.fetch_add(1, Ordering::Relaxed);
            return Err(AppendError::Busy(lost()));
        }
        match self.fate() {
            Fate::Works => self.inner.append(commit, expected).await,
            Fate::LosesAnswer => {
                let _ = self.inner.append(commit, expected).await;
                Err(AppendError::Unknown(lost()))
            }
            Fate::LosesRequest => Err(AppendError::Unknown(lost())),
            Fate::Waits => Err(AppendError::Busy(lost())),
            Fate::EndsAfter => {
                let _ = self.inner.append(commit, expected).await;
                pending().await
            }
            Fate::Ends => pending().await,
        }
    }

    async fn read(&self, aggregate: &AggregateKey, after: u64, max: usize) -> Result<Page, StoreError> {
        // A lagging replica: it returns all but the last commit.
        let mut page = self.inner.read(aggregate, after, max).await?;
        match self.fate() {
            Fate::LosesAnswer if !page.more => drop(page.commits.pop()),
            Fate::Ends | Fate::EndsAfter => pending().await,
            _ => {}
        }
        Ok(Page { confirmed: false, ..page })
    }

    async fn last(&self, aggregate: &AggregateKey) -> Result<Option<StoredCommit>, StoreError> {
        match self.fate() {
            // A lagging replica: it has all but the last commit.
            Fate::LosesAnswer => {
                let mut commits = self.inner.read(aggregate, 0, usize::MAX).await?.commits;
                commits.pop();
                Ok(commits.pop())
            }
            Fate::LosesRequest => Err(lost()),
            Fate::Ends | Fate::EndsAfter => pending().await,
            _ => self.inner.last(aggregate).await,
        }
    }

    async fn subscribe(&self, request: Subscribe<'_>) -> Result<S::Subscription, StoreError> {
        if let Plan::Random(_) = self.plan {
            return self.inner.subscribe(request).await;
        }
        // The tasks of a dead process still run in the test, and would stay the active subscriber: they get a name of
        // their own.
        let subscriber = format!("{}-of-the-dead", request.subscriber);
        self.inner.subscribe(Subscribe { subscriber: &subscriber, ..request }).await
    }

    async fn load_snapshot(
        &self,
        aggregate: &AggregateKey,
        part: SnapshotPart,
    ) -> Result<Option<Bytes>, StoreError> {
        match self.fate_of_a_snapshot() {
            Fate::Works => self.inner.load_snapshot(aggregate, part).await,
            // No snapshot yet, like a lagging replica.
            Fate::LosesAnswer => Ok(None),
            Fate::LosesRequest | Fate::Waits => Err(lost()),
            Fate::Ends | Fate::EndsAfter => pending().await,
        }
    }

    async fn save_snapshot(
        &self,
        aggregate: &AggregateKey,
        part: SnapshotPart,
        snapshot: Bytes,
    ) -> Result<(), StoreError> {
        match self.fate_of_a_snapshot() {
            Fate::Works => self.inner.save_snapshot(aggregate, part, snapshot).await,
            Fate::LosesAnswer => {
                let _ = self.inner.save_snapshot(aggregate, part, snapshot).await;
                Err(lost())
            }
            Fate::LosesRequest => Err(lost()),
            Fate::Ends | Fate::EndsAfter => pending().await,
            // A truncated snapshot.
            Fate::Waits => {
                self.inner.save_snapshot(aggregate, part, snapshot.slice(..snapshot.len() / 2)).await
            }
        }
    }
}

#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl<S: Deadlines + Clone> Deadlines for Flaky<S> {
    type Queue = FlakyQueue<S>;

    async fn prepare(&self) -> Result<(), StoreError> {
        self.inner.prepare().await
    }

    async fn arm(&self, deadline: &Deadline) -> Result<(), StoreError> {
        self.change(self.inner.arm(deadline)).await
    }

    async fn disarm(&self, id: &str, order: u64) -> Result<(), StoreError> {
        self.change(self.inner.disarm(id, order)).await
    }

    async fn due(&self, clock: Arc<dyn Clock>) -> Result<FlakyQueue<S>, StoreError> {
        Ok(FlakyQueue { queue: self.inner.due(clock).await?, store: self.inner.clone(), plan: self.plan })
    }

    async fn overdue(&self, now: jiff::Timestamp) -> Result<u64, StoreError> {
        self.inner.overdue(now).await
    }
}

/// The deadlines of a [`Flaky`] store.
pub struct FlakyQueue<S: Deadlines> {
    queue: S::Queue,
    store: S,
    plan: Plan,
}

impl<S: Deadlines + Clone> DueQueue for FlakyQueue<S> {
    async fn next(&mut self) -> Result<Due, StoreError> {
        let due = self.queue.next().await?;
        if let Plan::Random(_) = self.plan {
            return Ok(due);
        }
        // The tasks of a dead process still run in the test, and would hold their deadlines: they hold none.
        let (id, store) = (due.id().to_owned(), self.store.clone());
        Ok(Due::new(id.clone(), due.payload().clone(), move |again| async move {
            if again.is_none() { store.disarm(&id, u64::MAX).await } else { Ok(()) }
        }))
    }
}

impl<S> Flaky<S> {
    async fn change(&self, change: impl Future<Output = Result<(), StoreError>>) -> Result<(), StoreError> {
        match self.fate() {
            Fate::Works => change.await,
            Fate::LosesAnswer => {
                let _ = change.await;
                Err(lost())
            }
            Fate::LosesRequest | Fate::Waits => Err(lost()),
            Fate::EndsAfter => {
                let _ = change.await;
                pending().await
            }
            Fate::Ends => pending().await,
        }
    }
}

#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl<S: ViewStore> ViewStore for Flaky<S> {
    crate::pass_on! {
        to inner: open checkpoint place get list page reached remove about set_about
    }

    async fn load(
        &self,
        projection: &ProjectionId,
        keys: &[String],
    ) -> Result<Vec<SavedDocument>, StoreError> {
        match self.fate() {
            Fate::LosesRequest => Err(lost()),
            Fate::Ends | Fate::EndsAfter => pending().await,
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
            Fate::EndsAfter => {
                let _ = self.inner.save(projection, save).await;
                pending().await
            }
            Fate::Ends => pending().await,
        }
    }

    fn max_writes(&self) -> usize {
        // A small limit, so that batches are split.
        self.inner.max_writes().min(3)
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
}
