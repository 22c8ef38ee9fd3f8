//! Commands on stores that answer as a test wants: which state the commands are decided on, and which answers they get.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};

use cqrs_derive::{Aggregate, Command, Event};

use super::*;
use crate::{
    base::{future::BoxFuture, id::CommandId, store_error::StoreError},
    memory::{
        events::{MemoryEvents, MemorySubscription},
        views::MemoryViews,
    },
    model::aggregate::{Apply, Handle},
    port::{
        event_store::{AppendError, EventStore, Expected, Log, Page, Search},
        listing::{AggregatePage, Listing},
        subscription::{Delivery, Subscribe},
    },
    service::Cqrs,
    write::resources::Limits,
};

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(prefix = "till", crate = crate)]
enum TillEvent {
    Filled(u64),
    Taken(u64),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("only {0}")]
struct TooFew(u64);

#[derive(Debug, Default, Clone, Aggregate)]
#[aggregate(id = u32, event = TillEvent, rejection = TooFew, crate = crate)]
struct Till(u64);

impl Apply<TillEvent> for Till {
    fn apply(&mut self, event: &TillEvent) {
        match event {
            TillEvent::Filled(coins) => self.0 += coins,
            TillEvent::Taken(coins) => self.0 -= coins,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Till, upsert, crate = crate)]
struct Fill(#[command(id)] u32, u64);

#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Till, upsert, crate = crate)]
struct Take(#[command(id)] u32, u64);

impl Handle<Fill> for Till {
    fn handle(&self, command: &Fill, _: &Context) -> crate::model::aggregate::Handled<Self> {
        Ok(TillEvent::Filled(command.1).into())
    }
}

impl Handle<Take> for Till {
    fn handle(&self, command: &Take, _: &Context) -> crate::model::aggregate::Handled<Self> {
        if command.1 > self.0 { Err(TooFew(self.0)) } else { Ok(TillEvent::Taken(command.1).into()) }
    }
}

/// The effect of one append.
enum Fate {
    Stored,
    /// It is not stored, and the store gives this answer.
    Answer(AppendError),
}

type Stage = Box<dyn Fn() -> BoxFuture<'static, Fate> + Send + Sync>;

/// A store with prepared effects for its next appends.
#[derive(Clone, Default)]
struct Staged {
    inner: MemoryEvents,
    stages: Arc<Mutex<VecDeque<Stage>>>,
    appends: Arc<AtomicU64>,
    /// Whether reads that any replica may answer show only the first commit of an aggregate.
    lags: Arc<AtomicBool>,
}

impl Staged {
    /// The prepared event happens during an append.
    fn next<F: Future<Output = Fate> + Send + 'static>(&self, stage: impl Fn() -> F + Send + Sync + 'static) {
        self.stages.lock().unwrap().push_back(Box::new(move || Box::pin(stage())));
    }

    fn answers(&self, error: fn(StoreError) -> AppendError) {
        self.next(move || async move { Fate::Answer(error(unavailable())) });
    }

    fn conflicts(&self) {
        self.next(|| async { Fate::Answer(AppendError::Conflict) });
    }
}

fn unavailable() -> StoreError {
    StoreError::Unavailable { what: "a test".into(), source: None }
}

impl EventStore for Staged {
    type Subscription = MemorySubscription;

    fn source(&self) -> &'static str {
        "/staged"
    }

    fn era(&self) -> u64 {
        self.inner.era()
    }

    async fn append(&self, commit: &Commit, expected: Expected) -> Result<u64, AppendError> {
        self.appends.fetch_add(1, Ordering::Relaxed);
        let stage = self.stages.lock().unwrap().pop_front();
        if let Some(stage) = stage
            && let Fate::Answer(error) = stage().await
        {
            return Err(error);
        }
        self.inner.append(commit, expected).await
    }

    async fn read(&self, aggregate: &AggregateKey, after: u64, max: usize) -> Result<Page, StoreError> {
        let mut page = self.inner.read(aggregate, after, max).await?;
        if self.lags.load(Ordering::Relaxed) {
            let first = self.inner.next_after(aggregate, 0).await?;
            page.commits.retain(|stored| Some(stored) == first.as_ref());
        }
        Ok(Page { confirmed: false, ..page })
    }

    async fn last(&self, aggregate: &AggregateKey) -> Result<Option<StoredCommit>, StoreError> {
        if self.lags.load(Ordering::Relaxed) {
            return self.inner.next_after(aggregate, 0).await;
        }
        self.inner.last(aggregate).await
    }

    async fn last_confirmed(&self, aggregate: &AggregateKey) -> Result<Option<StoredCommit>, StoreError> {
        self.inner.last_confirmed(aggregate).await
    }

    async fn next_after(
        &self,
        aggregate: &AggregateKey,
        after: u64,
    ) -> Result<Option<StoredCommit>, StoreError> {
        self.inner.next_after(aggregate, after).await
    }

    async fn commit_at(&self, sequence: u64) -> Result<Option<Delivery>, StoreError> {
        self.inner.commit_at(sequence).await
    }

    async fn log(&self, aggregates: &[&'static str]) -> Result<Log, StoreError> {
        self.inner.log(aggregates).await
    }

    async fn search(&self, search: Search) -> Result<Page, StoreError> {
        self.inner.search(search).await
    }

    async fn aggregates(&self, listing: Listing<'_>) -> Result<AggregatePage, StoreError> {
        self.inner.aggregates(listing).await
    }

    async fn subscribe(&self, request: Subscribe<'_>) -> Result<MemorySubscription, StoreError> {
        self.inner.subscribe(request).await
    }

    async fn forget(&self, subscriber: &str) -> Result<(), StoreError> {
        self.inner.forget(subscriber).await
    }
}

type Tills = Cqrs<(Till,), ()>;

async fn tills<S: EventStore>(store: S) -> Tills {
    Cqrs::builder((store, MemoryViews::default())).aggregate::<Till>().start().await.unwrap()
}

/// A store, a service on it, and another writer of the same log.
async fn scene() -> (Staged, Tills, Tills) {
    let store = Staged::default();
    let other = tills(store.inner.clone()).await;
    (store.clone(), tills(store).await, other)
}

/// The events of till 1.
async fn log(store: &Staged) -> Vec<(u64, u64, CommandId)> {
    let key = AggregateKey::new("till", "1").unwrap();
    let commits = store.inner.read(&key, 0, 100).await.unwrap().commits;
    let event = |stored: &StoredCommit| {
        let commit = &stored.commit;
        (stored.sequence, commit.first_version, commit.events[0].origin.command_id)
    };
    commits.iter().map(event).collect()
}

fn id(text: &str) -> CommandId {
    CommandId::derived([text])
}

#[tokio::test]
async fn a_commit_behind_another_history_has_no_receipt() {
    let (store, tills, other) = scene().await;
    tills.execute(Fill(1, 500)).await.unwrap();
    let (inner, others) = (store.inner.clone(), other.clone());
    store.next(move || {
        let (inner, others) = (inner.clone(), others.clone());
        async move {
            inner.put_back(0);
            others.execute(Fill(1, 35)).await.unwrap();
            Fate::Stored
        }
    });
    let error = tills.execute(Take(1, 300)).id(id("take")).await.unwrap_err();
    let CommandError::Failed(Error::Misplaced { command, sequence: 2, .. }) = error else {
        panic!("{error:?}")
    };
    assert_eq!(command, id("take"));
    // The log alone decides, and not the state in memory.
    store.inner.put_back(0);
    assert_eq!(tills.execute(Take(1, 300)).await.unwrap_err().rejection(), Some(&TooFew(0)));
    assert_eq!(tills.execute(Fill(1, 1)).await.unwrap().version, 1);
}

#[tokio::test(start_paused = true)]
async fn an_unclear_append_is_not_sent_again_to_another_history() {
    let (store, tills, other) = scene().await;
    tills.execute(Fill(1, 500)).await.unwrap();
    let (inner, others) = (store.inner.clone(), other.clone());
    store.next(move || {
        let (inner, others) = (inner.clone(), others.clone());
        async move {
            inner.put_back(0);
            others.execute(Fill(1, 35)).await.unwrap();
            Fate::Answer(AppendError::Unknown(unavailable()))
        }
    });
    let error = tills.execute(Take(1, 300)).await.unwrap_err();
    let CommandError::Failed(Error::Unknown { source, .. }) = error else { panic!("{error:?}") };
    assert!(source.to_string().contains("does not have the commit of till/1 at sequence 1"), "{source}");
    assert_eq!(log(&store).await.len(), 1, "it was not sent again");
    assert_eq!(tills.execute(Take(1, 300)).await.unwrap_err().rejection(), Some(&TooFew(35)));
}

#[tokio::test(start_paused = true)]
async fn an_append_that_was_not_stored_is_decided_again_on_another_history() {
    let (store, tills, other) = scene().await;
    tills.execute(Fill(1, 500)).await.unwrap();
    let (inner, others) = (store.inner.clone(), other.clone());
    store.next(move || {
        let (inner, others) = (inner.clone(), others.clone());
        async move {
            inner.put_back(0);
            others.execute(Fill(1, 35)).await.unwrap();
            Fate::Answer(AppendError::Busy(unavailable()))
        }
    });
    assert_eq!(tills.execute(Take(1, 300)).await.unwrap_err().rejection(), Some(&TooFew(35)));
    assert_eq!(log(&store).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_stored_is_unknown_and_not_failed() {
    let (store, tills, _) = scene().await;
    store.answers(AppendError::Unknown);
    store.answers(AppendError::Failed);
    let error = tills.execute(Fill(1, 1)).await.unwrap_err();
    assert!(matches!(error, CommandError::Failed(Error::Unknown { .. })), "{error:?}");
    // The same when no time is left.
    store.answers(AppendError::Unknown);
    (0..10_000).for_each(|_| store.answers(AppendError::Busy));
    let error = tills.execute(Fill(1, 1)).await.unwrap_err();
    assert!(matches!(error, CommandError::Failed(Error::Unknown { .. })), "{error:?}");
    let error = tills.execute(Fill(1, 1)).await.unwrap_err();
    assert!(matches!(error, CommandError::Failed(Error::Store(_))), "nothing was unclear: {error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_look_does_not_take_another_writers_commit_for_its_own() {
    let (store, tills, other) = scene().await;
    tills.execute(Fill(1, 10)).await.unwrap();
    store.next(move || {
        let other = other.clone();
        async move {
            other.execute(Take(1, 8)).id(id("other")).await.unwrap();
            Fate::Answer(AppendError::Unknown(unavailable()))
        }
    });
    let receipt = tills.execute(Take(1, 1)).id(id("ours")).await.unwrap();
    assert_eq!((receipt.version, receipt.position.sequence, receipt.repeat), (3, 3, false));
    assert_eq!(log(&store).await[1..], [(2, 2, id("other")), (3, 3, id("ours"))]);
}

#[tokio::test(start_paused = true)]
async fn after_the_last_attempt_the_command_is_looked_for_once_more() {
    let (store, tills, other) = scene().await;
    tills.execute(Fill(1, 10)).await.unwrap();
    (1..Limits::default().attempts).for_each(|_| store.conflicts());
    store.next(move || {
        let other = other.clone();
        async move {
            // The same command, sent by another instance.
            other.execute(Take(1, 1)).id(id("take")).await.unwrap();
            Fate::Answer(AppendError::Conflict)
        }
    });
    let receipt = tills.execute(Take(1, 1)).id(id("take")).await.unwrap();
    assert!(receipt.repeat && receipt.version == 2, "{receipt:?}");
    (0..Limits::default().attempts).for_each(|_| store.conflicts());
    let error = tills.execute(Take(1, 1)).await.unwrap_err();
    assert!(matches!(error, CommandError::Failed(Error::Conflict { attempts: 16, .. })), "{error:?}");
}

#[tokio::test]
async fn a_refusal_is_confirmed_with_the_leader_and_not_with_a_replica() {
    let (store, tills, other) = scene().await;
    tills.execute(Fill(1, 10)).await.unwrap();
    store.lags.store(true, Ordering::Relaxed);
    for version in 2..=4 {
        other.execute(Fill(1, 10)).await.unwrap();
        let all = 10 * version;
        let refused = tills.execute(Take(1, all + 1)).await.unwrap_err();
        assert_eq!(refused.rejection(), Some(&TooFew(all)));
    }
    // The other service has no state in memory.
    let cold = self::tills(store.clone()).await;
    assert_eq!(cold.execute(Take(1, 41)).await.unwrap_err().rejection(), Some(&TooFew(40)));
    assert_eq!(cold.execute(Take(1, 40)).await.unwrap().version, 5);
}

#[tokio::test(start_paused = true)]
async fn after_a_conflict_the_leader_is_asked_and_not_a_replica() {
    let (store, tills, other) = scene().await;
    tills.execute(Fill(1, 10)).await.unwrap();
    store.lags.store(true, Ordering::Relaxed);
    other.execute(Fill(1, 10)).await.unwrap();
    other.execute(Fill(1, 10)).await.unwrap();
    let before = store.appends.load(Ordering::Relaxed);
    assert_eq!(tills.execute(Fill(1, 1)).await.unwrap().version, 4);
    assert_eq!(
        store.appends.load(Ordering::Relaxed) - before,
        2,
        "once on the old state, once on the new one"
    );
}

/// Another writer appends an event that no till can apply: it takes more than the till has.
async fn append_what_panics(store: &MemoryEvents) {
    let key = AggregateKey::new("till", "1").unwrap();
    let StoredCommit { sequence, mut commit } = store.last(&key).await.unwrap().unwrap();
    commit.first_version += 1;
    commit.events[0].event_type = "till.taken".into();
    commit.events[0].data = "99".into();
    store.append(&commit, Expected::Exact(sequence)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_events_are_applied_reaches_every_caller() {
    let (store, tills, _) = scene().await;
    tills.execute(Fill(1, 10)).await.unwrap();
    let inner = store.inner.clone();
    store.next(move || {
        let inner = inner.clone();
        async move {
            // The other callers enter the queue.
            tokio::time::sleep(Duration::from_secs(1)).await;
            append_what_panics(&inner).await;
            Fate::Answer(AppendError::Conflict)
        }
    });
    let calls: Vec<_> = (0..5)
        .map(|_| {
            let tills = tills.clone();
            tokio::spawn(async move { tills.execute(Fill(1, 1)).await })
        })
        .collect();
    for call in calls {
        let ended = call.await;
        assert!(ended.as_ref().is_err_and(tokio::task::JoinError::is_panic), "{ended:?}");
    }
    assert_eq!(tills.execute(Fill(2, 1)).await.unwrap().version, 1);
}
