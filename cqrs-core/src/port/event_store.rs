//! The port to the log of events.

use std::future::Future;

use bytes::Bytes;
use jiff::Timestamp;

use crate::{
    base::{
        id::{AggregateKey, CorrelationId},
        store_error::StoreError,
    },
    log::commit::{Commit, StoredCommit},
    port::{
        capabilities::Capabilities,
        listing::{AggregatePage, Listing},
        subscription::{Delivery, Subscribe, Subscription},
    },
};

/// A log of commits: appended with optimistic concurrency, read by aggregate, followed from any sequence.
///
/// The contract in words; `contract::event_store` (feature `contract`) is the same as tests:
///
/// - An append is atomic, and stored only if the aggregate's last commit is the expected one (compare-and-set). Of any
///   number of concurrent appends with the same expectation at most one is stored.
/// - Sequences grow over the whole log; a reader sees an aggregate's commits in the order of appends.
/// - Ids are opaque: any text of at most [`MAX_ID_BYTES`](crate::model::MAX_ID_BYTES) bytes is an id of its own, and no
///   id can reach another aggregate's commits.
pub trait EventStore: Send + Sync + 'static {
    /// The type that [`subscribe`](EventStore::subscribe) returns.
    type Subscription: Subscription;

    /// The CloudEvents `source` of the commits in this log, such as `/orders`.
    fn source(&self) -> &str;

    /// A name for this log that no other log has: contexts that follow another context's log subscribe there under the
    /// names of their own logs. By default it is the [`source`](EventStore::source).
    fn name(&self) -> &str {
        self.source()
    }

    /// A number that changes whenever this log may be another one: the connection was lost, the log was deleted,
    /// created again or restored from a copy, or it has lost its end. Data that was read in one era is compared with
    /// the log before it is used in another. It is called with every command, so it must not block.
    ///
    /// A store whose log lives as long as the process, and never changes but by appends, has one era.
    fn era(&self) -> u64 {
        0
    }

    /// What the store offers besides the log: deadlines, notices, and a place for the progress of projections that have
    /// effects. A service without the capability that it needs does not start, or says so when it is called.
    fn capabilities(&self) -> Capabilities {
        Capabilities::none()
    }

    /// Appends `commit` if the aggregate's last commit is the expected one, and returns its sequence in the log.
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
    ) -> impl Future<Output = Result<u64, AppendError>> + Send;

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

    /// The aggregate's last commit, as far as the answering replica knows: like a [`read`](EventStore::read) it may
    /// miss the newest commits.
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

    /// The aggregate's last commit, from the log's current leader: it includes everything that was stored before the
    /// call.
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

    /// The aggregate's first commit with a sequence greater than `after`, from the log's current leader: it includes
    /// everything that was stored before the call.
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

    /// The last message of each aggregate before `sequence`, in the order of `aggregates`, as far as the answering
    /// replica knows: like a [`read`](EventStore::read) it may miss the newest commits.
    ///
    /// The default reads each aggregate from its beginning.
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

    /// The message at `sequence`, from the log's current leader; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn commit_at(&self, sequence: u64) -> impl Future<Output = Result<Option<Delivery>, StoreError>> + Send;

    /// The identity of this log, and its end for the aggregate types of these names. It includes everything that was
    /// stored before the call.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn log(&self, aggregates: &[&'static str]) -> impl Future<Output = Result<Log, StoreError>> + Send;

    /// How many commits of some aggregate types come after a sequence. It includes everything that was stored before
    /// the call.
    ///
    /// The default counts every sequence up to the last commit, also those of other aggregate types.
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
    /// There is no index for it: the log is read from the search's time on, and only matching commits are kept in
    /// memory. Commits that are stored during the search may be missing; if the page is not
    /// [`confirmed`](Page::confirmed), commits that were stored right before it may be missing, too. Commits that
    /// cannot be read are left out, and then the page says that there are [`more`](Page::more).
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn search(&self, search: Search) -> impl Future<Output = Result<Page, StoreError>> + Send;

    /// The aggregates of a type that have a commit, page by page, in an order of the store's own that never changes. It
    /// includes every aggregate that had a commit before the first page was asked for, and none twice. An aggregate that
    /// gets its first commit between two pages may be listed or not.
    ///
    /// A page may have fewer aggregates than were asked for, and still say where the next one begins.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn aggregates(
        &self,
        listing: Listing<'_>,
    ) -> impl Future<Output = Result<AggregatePage, StoreError>> + Send;

    /// Follows the commits of some aggregate types after a sequence, first the stored ones and then new ones as they
    /// come.
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

    /// Whether a subscriber of this name is active, in this process or in another one: it reads the log, or waits for
    /// the next commit. `None` if the store cannot tell, which is the default.
    ///
    /// For operators, who ask whether a projection has a process: after a crash a store may take a subscriber for active
    /// until it notices that its process is gone.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn has_subscriber(
        &self,
        subscriber: &str,
    ) -> impl Future<Output = Result<Option<bool>, StoreError>> + Send {
        let _ = subscriber;
        std::future::ready(Ok(None))
    }

    /// Removes what the store keeps about a subscriber that will not return. Nothing happens if it keeps nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// It can be called again.
    fn forget(&self, subscriber: &str) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The part of the aggregate's snapshot that was saved last, or an older one, or `None`: the caller compares it with
    /// the log. The default keeps no snapshots.
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
        part: SnapshotPart,
    ) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send {
        let _ = (aggregate, part);
        std::future::ready(Ok(None))
    }

    /// Keeps a part of the aggregate's snapshot in place of the one before. It is a cache that belongs to this log, so the
    /// store may lose it at any time.
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
        part: SnapshotPart,
        snapshot: Bytes,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        let _ = (aggregate, part, snapshot);
        std::future::ready(Ok(()))
    }
}

/// Which part of an aggregate's snapshot. Each is kept for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SnapshotPart {
    /// The state, and the last commands.
    State,
    /// The ids of older commands: the part with this number, from 0. Its content does not change.
    Commands(u32),
}

/// A search for commits; see [`EventStore::search`].
#[derive(Debug, Clone, Copy)]
pub struct Search {
    /// The business transaction.
    pub correlation_id: CorrelationId,
    /// Commits that were stored before this time need not be read.
    pub since: Timestamp,
    /// The most commits to return.
    pub max: usize,
}

/// The condition of an append: the aggregate's last commit must be this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The aggregate has no commit.
    NoStream,
    /// The aggregate's last commit has this sequence.
    Exact(u64),
}

impl Expected {
    /// The expected sequence: 0 for [`NoStream`](Expected::NoStream).
    pub fn sequence(self) -> u64 {
        match self {
            Self::NoStream => 0,
            Self::Exact(sequence) => sequence,
        }
    }

    /// The condition that the aggregate's last commit has this sequence; 0 means that it has no commit.
    pub fn after(sequence: u64) -> Self {
        if sequence == 0 { Self::NoStream } else { Self::Exact(sequence) }
    }
}

/// A failed append, by what is known about the commit.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The aggregate's last commit is another than the expected one.
    #[error("the aggregate's last commit is another than the expected one")]
    Conflict,
    /// Not stored, for a reason that passes: another write is in progress, or the connection is lost. The same append
    /// can be sent again.
    #[error("the append has to wait")]
    Busy(#[source] StoreError),
    /// No answer: the commit may be stored, now or later.
    #[error("no answer to the append")]
    Unknown(#[source] StoreError),
    /// Not stored, and never will be.
    #[error("the append failed")]
    Failed(#[source] StoreError),
}

/// Some commits of a read or a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The commits, in order.
    pub commits: Vec<StoredCommit>,
    /// Whether there are more after them.
    pub more: bool,
    /// Whether the answer is certain to be current; a replica may lag.
    pub confirmed: bool,
}

/// The identity of a log, and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// An id that no other log has, also not a later one of the same name.
    pub id: String,
    /// The sequence of the last commit of the requested aggregate types; 0 if there is none.
    pub last_sequence: u64,
}

/// The part of a log after a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// The number of commits.
    pub commits: u64,
    /// The time of the first of them, if known.
    pub since: Option<Timestamp>,
}
