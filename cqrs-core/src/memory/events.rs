//! The event store in memory: a vector of commits, and an index by aggregate.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    ops::Bound,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use foldhash::fast::RandomState;
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};
use uuid::Uuid;

use crate::{
    base::{id::AggregateKey, store_error::StoreError},
    log::commit::{Commit, StoredCommit},
    memory::{deadlines::MemoryDeadlines, lock, random, views::MemoryViews},
    port::{
        capabilities::Capabilities,
        clock::Clock,
        deadlines::{Deadline, Deadlines},
        event_store::{AppendError, Backlog, EventStore, Expected, Log, Page, Search, SnapshotPart},
        listing::{AggregatePage, Listing},
        notices::{Notice, Notices},
        subscription::{Delivery, Subscribe, Subscription},
    },
};

/// An event store in memory. Clones share the same log.
#[derive(Clone)]
pub struct MemoryEvents {
    log: Arc<Mutex<Commits>>,
    /// The last sequence, for subscribers that wait for the next commit.
    last: watch::Sender<u64>,
    /// How often the log was restored; see [`MemoryEvents::put_back`].
    era: Arc<AtomicU64>,
    news: broadcast::Sender<StoredCommit>,
    deadlines: MemoryDeadlines,
    progress: MemoryViews,
    turns: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
}

/// How many commits a listener may lag behind before it misses some.
const NEWS: usize = 1_024;

/// The commit of sequence `n` is `all[n - 1]`.
struct Commits {
    id: Arc<str>,
    all: Vec<Arc<Commit>>,
    by_aggregate: HashMap<AggregateKey, Vec<u64>, RandomState>,
    by_type: HashMap<String, OfType, RandomState>,
    snapshots: HashMap<(AggregateKey, SnapshotPart), Bytes>,
}

/// What the log has of one aggregate type.
#[derive(Default)]
struct OfType {
    sequences: Vec<u64>,
    ids: BTreeSet<Arc<str>>,
}

impl Commits {
    fn new() -> Self {
        Self {
            id: format!("memory-{}", Uuid::from_u128(random())).into(),
            all: Vec::new(),
            by_aggregate: HashMap::default(),
            by_type: HashMap::default(),
            snapshots: HashMap::default(),
        }
    }

    fn push(&mut self, commit: Arc<Commit>) -> u64 {
        let sequence = self.all.len() as u64 + 1;
        let of_type = match self.by_type.get_mut(commit.aggregate.name()) {
            Some(of_type) => of_type,
            None => self.by_type.entry(commit.aggregate.name().to_owned()).or_default(),
        };
        of_type.sequences.push(sequence);
        if let Some(of_it) = self.by_aggregate.get_mut(&commit.aggregate) {
            of_it.push(sequence);
        } else {
            of_type.ids.insert(commit.aggregate.shared_id());
            self.by_aggregate.insert(commit.aggregate.clone(), vec![sequence]);
        }
        self.all.push(commit);
        sequence
    }

    fn stored(&self, sequence: u64) -> Option<StoredCommit> {
        let index = usize::try_from(sequence.checked_sub(1)?).ok()?;
        let commit = self.all.get(index)?;
        Some(StoredCommit { sequence, commit: Commit::clone(commit) })
    }

    /// The sequences of an aggregate type after `after`.
    fn after_of_type(&self, aggregate: &str, after: u64) -> &[u64] {
        let all = self.by_type.get(aggregate).map_or(&[][..], |of_type| &of_type.sequences);
        &all[all.partition_point(|sequence| *sequence <= after)..]
    }

    /// How many commits of some aggregate types come after `after`, and the first of them.
    fn backlog(&self, aggregates: &[&'static str], after: u64) -> (u64, Option<u64>) {
        let parts = aggregates.iter().map(|aggregate| self.after_of_type(aggregate, after));
        let first = parts.clone().filter_map(<[u64]>::first).min().copied();
        (parts.map(|part| part.len() as u64).sum(), first)
    }

    /// The sequences of an aggregate's commits after `after`.
    fn after(&self, aggregate: &AggregateKey, after: u64) -> &[u64] {
        let all = self.by_aggregate.get(aggregate).map_or(&[][..], Vec::as_slice);
        &all[all.partition_point(|sequence| *sequence <= after)..]
    }
}

impl Default for MemoryEvents {
    fn default() -> Self {
        Self {
            log: Arc::new(Mutex::new(Commits::new())),
            last: watch::Sender::new(0),
            era: Arc::default(),
            news: broadcast::Sender::new(NEWS),
            deadlines: MemoryDeadlines::default(),
            progress: MemoryViews::default(),
            turns: Arc::default(),
        }
    }
}

impl fmt::Debug for MemoryEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryEvents").field("last", &*self.last.borrow()).finish_non_exhaustive()
    }
}

#[cfg(any(test, feature = "contract"))]
impl MemoryEvents {
    /// Restores the log to its first `commits`, as an operator does with an older copy; with 0 it is another log. For
    /// tests.
    pub fn put_back(&self, commits: usize) {
        let mut log = lock(&self.log);
        let mut kept = std::mem::replace(&mut *log, Commits::new());
        if commits > 0 {
            log.id = kept.id;
        }
        kept.all.truncate(commits);
        for commit in kept.all {
            log.push(commit);
        }
        log.snapshots = kept.snapshots;
        self.era.fetch_add(1, Ordering::Release);
        self.last.send_replace(log.all.len() as u64);
    }
}

impl EventStore for MemoryEvents {
    type Subscription = MemorySubscription;

    fn source(&self) -> &'static str {
        "/memory"
    }

    fn era(&self) -> u64 {
        self.era.load(Ordering::Acquire)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::none().deadlines(self.clone()).notices(self.clone()).progress(self.progress.clone())
    }

    async fn append(&self, commit: &Commit, expected: Expected) -> Result<u64, AppendError> {
        let mut log = lock(&self.log);
        if log.by_aggregate.get(&commit.aggregate).and_then(|of_it| of_it.last()).copied().unwrap_or(0)
            != expected.sequence()
        {
            return Err(AppendError::Conflict);
        }
        let sequence = log.push(Arc::new(commit.clone()));
        // Still under the lock, so that waiting subscribers never see the number fall. To notify nobody would cost as
        // much as to notify many.
        self.last.send_if_modified(|last| {
            *last = sequence;
            self.last.receiver_count() > 0
        });
        if self.news.receiver_count() > 0 {
            // It fails when no listener is left.
            let _ = self.news.send(StoredCommit { sequence, commit: commit.clone() });
        }
        Ok(sequence)
    }

    async fn read(&self, aggregate: &AggregateKey, after: u64, max: usize) -> Result<Page, StoreError> {
        let log = lock(&self.log);
        let found = log.after(aggregate, after);
        let commits = found.iter().take(max).filter_map(|sequence| log.stored(*sequence)).collect();
        Ok(Page { commits, more: found.len() > max, confirmed: true })
    }

    async fn last(&self, aggregate: &AggregateKey) -> Result<Option<StoredCommit>, StoreError> {
        let log = lock(&self.log);
        Ok(log.after(aggregate, 0).last().and_then(|sequence| log.stored(*sequence)))
    }

    async fn last_confirmed(&self, aggregate: &AggregateKey) -> Result<Option<StoredCommit>, StoreError> {
        self.last(aggregate).await
    }

    async fn next_after(
        &self,
        aggregate: &AggregateKey,
        after: u64,
    ) -> Result<Option<StoredCommit>, StoreError> {
        let log = lock(&self.log);
        Ok(log.after(aggregate, after).first().and_then(|sequence| log.stored(*sequence)))
    }

    async fn last_before(
        &self,
        aggregates: &[AggregateKey],
        sequence: u64,
    ) -> Result<Vec<Option<Delivery>>, StoreError> {
        let log = lock(&self.log);
        let last = |aggregate| {
            let all = log.after(aggregate, 0);
            let before = &all[..all.partition_point(|at| *at < sequence)];
            before.last().and_then(|at| log.stored(*at)).map(Ok)
        };
        Ok(aggregates.iter().map(last).collect())
    }

    async fn commit_at(&self, sequence: u64) -> Result<Option<Delivery>, StoreError> {
        Ok(lock(&self.log).stored(sequence).map(Ok))
    }

    async fn log(&self, aggregates: &[&'static str]) -> Result<Log, StoreError> {
        let log = lock(&self.log);
        let last =
            aggregates.iter().filter_map(|aggregate| log.by_type.get(*aggregate)?.sequences.last()).max();
        Ok(Log { id: log.id.to_string(), last_sequence: last.copied().unwrap_or(0) })
    }

    async fn backlog(&self, aggregates: &[&'static str], after: u64) -> Result<Backlog, StoreError> {
        let log = lock(&self.log);
        let (commits, first) = log.backlog(aggregates, after);
        let first = first.and_then(|sequence| log.stored(sequence));
        let since = first.and_then(|stored| stored.commit.events.first().map(|event| event.origin.time));
        Ok(Backlog { commits, since })
    }

    async fn search(&self, search: Search) -> Result<Page, StoreError> {
        let log = lock(&self.log);
        let is_wanted = |commit: &Commit| {
            commit.events.iter().any(|event| event.origin.correlation_id == search.correlation_id)
        };
        let mut found = (1..).zip(&log.all).filter(|(_, commit)| is_wanted(commit));
        let stored = |(sequence, commit): (u64, &Arc<Commit>)| StoredCommit {
            sequence,
            commit: Commit::clone(commit),
        };
        let commits = found.by_ref().take(search.max).map(stored).collect();
        Ok(Page { commits, more: found.next().is_some(), confirmed: true })
    }

    async fn aggregates(&self, listing: Listing<'_>) -> Result<AggregatePage, StoreError> {
        let log = lock(&self.log);
        let Some(of_type) = log.by_type.get(listing.aggregate) else {
            return Ok(listing.page(Vec::new(), false));
        };
        let after = listing.after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.key.id()));
        let mut rest = of_type.ids.range::<str, _>((after, Bound::Unbounded));
        let key = |id: &Arc<str>| AggregateKey::new(listing.aggregate, Arc::clone(id)).ok();
        let keys = rest.by_ref().take(listing.max).filter_map(key).collect();
        Ok(listing.page(keys, rest.next().is_some()))
    }

    async fn subscribe(&self, request: Subscribe<'_>) -> Result<MemorySubscription, StoreError> {
        let new = || Arc::new(Semaphore::new(1));
        let turn = Arc::clone(lock(&self.turns).entry(request.subscriber.to_owned()).or_insert_with(new));
        Ok(MemorySubscription {
            subscriber: request.subscriber.to_owned(),
            held: Arc::clone(&turn).try_acquire_owned().ok(),
            turn,
            log: Arc::clone(&self.log),
            last: self.last.subscribe(),
            era: (self.era(), Arc::clone(&self.era)),
            aggregates: request.aggregates.to_vec(),
            seen: request.after,
        })
    }

    async fn has_subscriber(&self, subscriber: &str) -> Result<Option<bool>, StoreError> {
        let held = |turn: &Arc<Semaphore>| turn.available_permits() == 0;
        Ok(Some(lock(&self.turns).get(subscriber).is_some_and(held)))
    }

    async fn forget(&self, _: &str) -> Result<(), StoreError> {
        Ok(())
    }

    async fn load_snapshot(
        &self,
        aggregate: &AggregateKey,
        part: SnapshotPart,
    ) -> Result<Option<Bytes>, StoreError> {
        Ok(lock(&self.log).snapshots.get(&(aggregate.clone(), part)).cloned())
    }

    async fn save_snapshot(
        &self,
        aggregate: &AggregateKey,
        part: SnapshotPart,
        snapshot: Bytes,
    ) -> Result<(), StoreError> {
        lock(&self.log).snapshots.insert((aggregate.clone(), part), snapshot);
        Ok(())
    }
}

/// Follows a [`MemoryEvents`].
pub struct MemorySubscription {
    subscriber: String,
    /// The permit of the active subscriber of this name; `held` has it if this one is active.
    turn: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
    log: Arc<Mutex<Commits>>,
    last: watch::Receiver<u64>,
    /// The era in which it was opened, and the present one.
    era: (u64, Arc<AtomicU64>),
    aggregates: Vec<&'static str>,
    seen: u64,
}

impl MemorySubscription {
    fn take(&mut self, max: usize) -> Vec<Delivery> {
        let log = lock(&self.log);
        let mut taken = Vec::new();
        while taken.len() < max {
            let Some(stored) = log.stored(self.seen.saturating_add(1)) else {
                break;
            };
            self.seen = stored.sequence;
            if self.aggregates.contains(&stored.commit.aggregate.name()) {
                taken.push(Ok(stored));
            }
        }
        taken
    }
}

impl Subscription for MemorySubscription {
    fn pending(&self) -> u64 {
        lock(&self.log).backlog(&self.aggregates, self.seen).0
    }

    fn is_standby(&self) -> bool {
        self.held.is_none()
    }

    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, StoreError> {
        if self.is_standby() {
            // The former active subscriber may have saved more since: this one begins again from the checkpoint.
            let _over = self.turn.acquire().await;
            let what = "the worker that was reading has gone".to_owned();
            return Err(StoreError::Interrupted { subscriber: self.subscriber.clone(), what });
        }
        loop {
            let (opened, now) = (self.era.0, Arc::clone(&self.era.1));
            let is_other = move || now.load(Ordering::Acquire) != opened;
            if is_other() {
                let what = "the log became another one".to_owned();
                return Err(StoreError::Unavailable { what, source: None });
            }
            let taken = self.take(max);
            if !taken.is_empty() {
                return Ok(taken);
            }
            let seen = self.seen;
            if self.last.wait_for(|last| *last > seen || is_other()).await.is_err() {
                let what = "the event store in memory is gone".to_owned();
                return Err(StoreError::Unavailable { what, source: None });
            }
        }
    }

    async fn leave(self) {}

    async fn done(&mut self, _: u64) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Deadlines for MemoryEvents {
    type Queue = <MemoryDeadlines as Deadlines>::Queue;

    async fn prepare(&self) -> Result<(), StoreError> {
        self.deadlines.prepare().await
    }

    async fn arm(&self, deadline: &Deadline) -> Result<(), StoreError> {
        self.deadlines.arm(deadline).await
    }

    async fn disarm(&self, id: &str, order: u64) -> Result<(), StoreError> {
        self.deadlines.disarm(id, order).await
    }

    async fn due(&self, clock: Arc<dyn Clock>) -> Result<Self::Queue, StoreError> {
        self.deadlines.due(clock).await
    }

    async fn overdue(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.deadlines.overdue(now).await
    }
}

impl Notices for MemoryEvents {
    type Listener = MemoryNotices;

    async fn listen(&self, aggregates: &[&'static str]) -> Result<MemoryNotices, StoreError> {
        Ok(MemoryNotices { news: self.news.subscribe(), aggregates: aggregates.to_vec() })
    }
}

/// Listens to a [`MemoryEvents`].
pub struct MemoryNotices {
    news: broadcast::Receiver<StoredCommit>,
    aggregates: Vec<&'static str>,
}

impl Notice for MemoryNotices {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            match self.news.recv().await {
                Ok(stored) if self.aggregates.contains(&stored.commit.aggregate.name()) => {
                    return Some(Ok(stored));
                }
                // A listener that lags has missed these commits.
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
