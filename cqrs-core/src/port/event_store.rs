//! The port to the log of events.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;

use crate::{
    base::{
        error::StoreError,
        id::{AggregateKey, CorrelationId},
    },
    log::commit::{Commit, StoredCommit},
    port::subscription::{Delivery, Subscribe, Subscription},
};

/// A log of commits: appended with a condition, read by aggregate, followed from any place.
///
/// The contract in words; `contract::event_store` (feature `contract`) is the same as tests:
///
/// - An append is atomic, and stored only if the aggregate's last commit is the expected one. Of any
///   number of concurrent appends with the same expectation at most one is stored.
/// - Sequences grow over the whole log; a reader sees an aggregate's commits in the order of appends.
/// - Ids are opaque: any text of at most [`MAX_ID_BYTES`](crate::model::MAX_ID_BYTES) bytes is an id of its
///   own, and no id can reach another aggregate's commits.
pub trait EventStore: Send + Sync + 'static {
    /// What [`subscribe`](EventStore::subscribe) returns.
    type Subscription: Subscription;

    /// The CloudEvents `source` of what this log records, such as `/orders`.
    fn source(&self) -> &str;

    /// What tells this log from all others: several contexts that follow one log are known there by the names of their
    /// own. Unless an adapter knows better, it is the [`source`](EventStore::source).
    fn name(&self) -> &str {
        self.source()
    }

    /// A number that changes whenever this log may have become another one: the connection was lost, the log was
    /// deleted, made again or restored from a copy, or it has lost its end. What was read in one era is compared with
    /// the log before it is relied on in another. It is asked for with every command, so it waits for nothing.
    ///
    /// A store whose log lives as long as the process, and never changes but by appends, has one era.
    fn era(&self) -> u64 {
        0
    }

    /// Appends `commit` if the aggregate's last commit is the expected one.
    ///
    /// # Errors
    ///
    /// [`AppendError`], which says what is known about the commit.
    ///
    /// # Cancel safety
    ///
    /// A dropped append may be stored, now or later.
    fn append(
        &self,
        commit: &Commit,
        expected: Expected,
    ) -> impl Future<Output = Result<Appended, AppendError>> + Send;

    /// The aggregate's commits with a sequence greater than `after`, at most `max` of them, in order.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn read(
        &self,
        aggregate: &AggregateKey,
        after: u64,
        max: usize,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send;

    /// The aggregate's last commit, as far as whoever answers knows: like a [`read`](EventStore::read) it may miss
    /// what was stored right before.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn last(
        &self,
        aggregate: &AggregateKey,
    ) -> impl Future<Output = Result<Option<StoredCommit>, StoreError>> + Send;

    /// The aggregate's last commit, from the log's current leader: what was stored before the call is seen.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn last_confirmed(
        &self,
        aggregate: &AggregateKey,
    ) -> impl Future<Output = Result<Option<StoredCommit>, StoreError>> + Send;

    /// The aggregate's first commit with a sequence greater than `after`, from the log's current
    /// leader: what was stored before the call is seen.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn next_after(
        &self,
        aggregate: &AggregateKey,
        after: u64,
    ) -> impl Future<Output = Result<Option<StoredCommit>, StoreError>> + Send;

    /// What each of some aggregates has last before `sequence`, in the order of the aggregates, as far as whoever
    /// answers knows: like a [`read`](EventStore::read) it may miss what was stored right before.
    ///
    /// Unless an adapter knows better, it reads each aggregate from its beginning.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn last_before(
        &self,
        aggregates: &[AggregateKey],
        sequence: u64,
    ) -> impl Future<Output = Result<Vec<Option<Delivery>>, StoreError>> + Send {
        async move {
            let mut all = Vec::with_capacity(aggregates.len());
            for aggregate in aggregates {
                let mut last = None;
                loop {
                    let after = last.as_ref().map_or(0, |stored: &StoredCommit| stored.sequence);
                    let page = self.read(aggregate, after, 100).await?;
                    let more = page.more;
                    let mut before = page.commits.into_iter().take_while(|stored| stored.sequence < sequence);
                    match before.by_ref().last() {
                        Some(stored) => last = Some(stored),
                        None => break,
                    }
                    if !more {
                        break;
                    }
                }
                all.push(last.map(Ok));
            }
            Ok(all)
        }
    }

    /// What stands at `sequence`, from the log's current leader; none where nothing does.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn commit_at(&self, sequence: u64) -> impl Future<Output = Result<Option<Delivery>, StoreError>> + Send;

    /// Which log this is, and how far it goes for the aggregate types of these names.
    /// What was stored before the call is seen.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn log(&self, aggregates: &[&'static str]) -> impl Future<Output = Result<Log, StoreError>> + Send;

    /// How much there is for some aggregate types after a place. What was stored before the call is counted.
    ///
    /// Unless an adapter knows better, every place up to the last one is counted, whosever it is.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn backlog(
        &self,
        aggregates: &[&'static str],
        after: u64,
    ) -> impl Future<Output = Result<Backlog, StoreError>> + Send {
        async move {
            let last = self.log(aggregates).await?.last_sequence;
            Ok(Backlog { commits: last.saturating_sub(after), since: None })
        }
    }

    /// The commits that have an event of a business transaction, in the order of the log.
    ///
    /// There is no index for it: the log is read from the search's time on, and no more is kept than what is found. What
    /// is stored while it goes on may be missing, and if it is not [`confirmed`](Page::confirmed), what was stored right
    /// before. Commits that are left out since they cannot be read count as [`more`](Page::more).
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn search(&self, search: Search) -> impl Future<Output = Result<Page, StoreError>> + Send;

    /// Follows the commits of some aggregate types from a place on, first the stored ones and then
    /// new ones as they come.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing; the subscriber's name may stay known to the store.
    fn subscribe(
        &self,
        request: Subscribe<'_>,
    ) -> impl Future<Output = Result<Self::Subscription, StoreError>> + Send;

    /// Forgets what the store keeps about a subscriber that will not come back. Nothing happens if it keeps
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// It can be called again.
    fn forget(&self, subscriber: &str) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The aggregate's snapshot that was saved last, or an older one, or none: whoever asks checks it against
    /// the log. A store that keeps none has nothing to implement.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the aggregate is then read from the log alone.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn load_snapshot(
        &self,
        aggregate: &AggregateKey,
    ) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send {
        let _ = aggregate;
        std::future::ready(Ok(None))
    }

    /// Keeps a snapshot of the aggregate instead of the one before. It is a cache that belongs to this log: it
    /// may be lost, also at once.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing but the snapshot is lost.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may keep the snapshot, now or later.
    fn save_snapshot(
        &self,
        aggregate: &AggregateKey,
        snapshot: Bytes,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        let _ = (aggregate, snapshot);
        std::future::ready(Ok(()))
    }
}

/// A shared store is a store.
#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl<S: EventStore> EventStore for Arc<S> {
    type Subscription = S::Subscription;

    fn source(&self) -> &str {
        S::source(self)
    }

    fn name(&self) -> &str {
        S::name(self)
    }

    fn era(&self) -> u64 {
        S::era(self)
    }

    fn append(
        &self,
        commit: &Commit,
        expected: Expected,
    ) -> impl Future<Output = Result<Appended, AppendError>> + Send {
        S::append(self, commit, expected)
    }

    fn read(
        &self,
        aggregate: &AggregateKey,
        after: u64,
        max: usize,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send {
        S::read(self, aggregate, after, max)
    }

    fn last(
        &self,
        aggregate: &AggregateKey,
    ) -> impl Future<Output = Result<Option<StoredCommit>, StoreError>> + Send {
        S::last(self, aggregate)
    }

    fn last_confirmed(
        &self,
        aggregate: &AggregateKey,
    ) -> impl Future<Output = Result<Option<StoredCommit>, StoreError>> + Send {
        S::last_confirmed(self, aggregate)
    }

    fn next_after(
        &self,
        aggregate: &AggregateKey,
        after: u64,
    ) -> impl Future<Output = Result<Option<StoredCommit>, StoreError>> + Send {
        S::next_after(self, aggregate, after)
    }

    fn last_before(
        &self,
        aggregates: &[AggregateKey],
        sequence: u64,
    ) -> impl Future<Output = Result<Vec<Option<Delivery>>, StoreError>> + Send {
        S::last_before(self, aggregates, sequence)
    }

    fn commit_at(&self, sequence: u64) -> impl Future<Output = Result<Option<Delivery>, StoreError>> + Send {
        S::commit_at(self, sequence)
    }

    fn log(&self, aggregates: &[&'static str]) -> impl Future<Output = Result<Log, StoreError>> + Send {
        S::log(self, aggregates)
    }

    fn backlog(
        &self,
        aggregates: &[&'static str],
        after: u64,
    ) -> impl Future<Output = Result<Backlog, StoreError>> + Send {
        S::backlog(self, aggregates, after)
    }

    fn search(&self, search: Search) -> impl Future<Output = Result<Page, StoreError>> + Send {
        S::search(self, search)
    }

    fn subscribe(
        &self,
        request: Subscribe<'_>,
    ) -> impl Future<Output = Result<Self::Subscription, StoreError>> + Send {
        S::subscribe(self, request)
    }

    fn forget(&self, subscriber: &str) -> impl Future<Output = Result<(), StoreError>> + Send {
        S::forget(self, subscriber)
    }

    fn load_snapshot(
        &self,
        aggregate: &AggregateKey,
    ) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send {
        S::load_snapshot(self, aggregate)
    }

    fn save_snapshot(
        &self,
        aggregate: &AggregateKey,
        snapshot: Bytes,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        S::save_snapshot(self, aggregate, snapshot)
    }
}

/// Which commits are looked for.
#[derive(Debug, Clone, Copy)]
pub struct Search {
    /// The business transaction.
    pub correlation_id: CorrelationId,
    /// What was stored before this time need not be looked at.
    pub since: Timestamp,
    /// How many commits are returned, at most.
    pub max: usize,
}

/// The belief about an aggregate under which a commit may be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The aggregate has no commit.
    NoStream,
    /// The aggregate's last commit has this sequence.
    Exact(u64),
}

impl Expected {
    /// The expectation as a number: 0 for [`NoStream`](Expected::NoStream).
    pub fn sequence(self) -> u64 {
        match self {
            Self::NoStream => 0,
            Self::Exact(sequence) => sequence,
        }
    }

    /// The expectation that the aggregate's last commit is `sequence`, where 0 is none.
    pub fn after(sequence: u64) -> Self {
        if sequence == 0 { Self::NoStream } else { Self::Exact(sequence) }
    }
}

/// A successful append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The commit's place in the log.
    pub sequence: u64,
    /// The store says that a commit of the same command was there already. It does not say whether it
    /// has the same content: the caller compares.
    pub duplicate: bool,
}

/// An append that did not succeed, by what is known about the commit.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The aggregate's last commit is another than the expected one.
    #[error("the aggregate's last commit is another than the expected one")]
    Conflict,
    /// Not stored, for a reason that passes: another write is under way, or there is no connection at
    /// the moment. The same append can be sent again.
    #[error("the append has to wait")]
    Busy(#[source] StoreError),
    /// No answer: it may be stored now, or later.
    #[error("no answer to the append")]
    Unknown(#[source] StoreError),
    /// Not stored.
    #[error("the append failed")]
    Failed(#[source] StoreError),
}

/// Some commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The commits, in order.
    pub commits: Vec<StoredCommit>,
    /// Whether there are more after them.
    pub more: bool,
    /// Whether the answer is certain to be up to date; a replica may answer with an older state.
    pub confirmed: bool,
}

/// Which log it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// What tells this log from any other, also from a later one of the same name.
    pub id: String,
    /// The sequence of the last commit of the aggregate types that were asked about; 0 for none.
    pub last_sequence: u64,
}

/// What there is after a place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// How many commits.
    pub commits: u64,
    /// When the first of them happened, where that is known.
    pub since: Option<Timestamp>,
}
