//! Calls of users and operators ask a store again that fails for a moment; and a service says what its store cannot do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use cqrs_core::{
    Cqrs, Error, StoreError, View as _,
    log::Commit,
    memory::{MemoryEvents, MemorySubscription, MemoryViews},
    port::{
        AggregatePage, AppendError, Backlog, EventStore, Expected, Listing, Log, Page, ProjectionId, Reached,
        Save, SaveError, Search, ViewStore,
    },
};
use cqrs_tests::{
    domain::{
        Account, CountOpenings, Idle, Openings, RichAccounts, Statement, deposit, key, open, statement,
    },
    mortal::Generous,
};

/// A store whose next reads fail; the count of those that will is shared.
#[derive(Clone, Default)]
struct Failing<S> {
    inner: S,
    left: Arc<AtomicU32>,
}

impl<S> Failing<S> {
    fn check(&self) -> Result<(), StoreError> {
        match self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)) {
            Ok(_) => Err(StoreError::Unavailable { what: "the test's plan".into(), source: None }),
            Err(_) => Ok(()),
        }
    }
}

#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl EventStore for Failing<MemoryEvents> {
    type Subscription = MemorySubscription;

    cqrs_tests::pass_on! {
        to inner: source name era capabilities last last_confirmed next_after last_before commit_at has_subscriber forget
            subscribe load_snapshot save_snapshot
    }

    async fn append(&self, commit: &Commit, expected: Expected) -> Result<u64, AppendError> {
        self.inner.append(commit, expected).await
    }

    async fn read(
        &self,
        aggregate: &cqrs_core::AggregateKey,
        after: u64,
        max: usize,
    ) -> Result<Page, StoreError> {
        self.check()?;
        self.inner.read(aggregate, after, max).await
    }

    async fn log(&self, aggregates: &[&'static str]) -> Result<Log, StoreError> {
        self.check()?;
        self.inner.log(aggregates).await
    }

    async fn backlog(&self, aggregates: &[&'static str], after: u64) -> Result<Backlog, StoreError> {
        self.check()?;
        self.inner.backlog(aggregates, after).await
    }

    async fn search(&self, search: Search) -> Result<Page, StoreError> {
        self.check()?;
        self.inner.search(search).await
    }

    async fn aggregates(&self, listing: Listing<'_>) -> Result<AggregatePage, StoreError> {
        self.check()?;
        self.inner.aggregates(listing).await
    }
}

#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl ViewStore for Failing<MemoryViews> {
    cqrs_tests::pass_on! { to inner: open checkpoint load notes max_writes place remove about set_about }

    async fn save(&self, projection: &ProjectionId, save: Save<'_>) -> Result<u64, SaveError> {
        self.inner.save(projection, save).await
    }

    async fn get(&self, projection: &ProjectionId, key: &str) -> Result<Option<bytes::Bytes>, StoreError> {
        self.check()?;
        self.inner.get(projection, key).await
    }

    async fn list(&self, projection: &ProjectionId) -> Result<Vec<(String, bytes::Bytes)>, StoreError> {
        self.check()?;
        self.inner.list(projection).await
    }

    async fn page(
        &self,
        projection: &ProjectionId,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<(String, bytes::Bytes)>, StoreError> {
        self.check()?;
        self.inner.page(projection, after, max).await
    }

    async fn reached(&self, projection: &ProjectionId, sequence: u64) -> Result<Reached, StoreError> {
        self.check()?;
        self.inner.reached(projection, sequence).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_asks_a_store_again_that_fails_for_a_moment() {
    let left = Arc::<AtomicU32>::default();
    let events = Failing { inner: MemoryEvents::default(), left: Arc::clone(&left) };
    let views = Failing { inner: MemoryViews::default(), left: Arc::clone(&left) };
    let builder =
        Cqrs::builder((events, views)).aggregate::<Account>().view::<Statement>().view::<Openings>();
    let bank = builder.start().await.unwrap();
    bank.execute(open("1", 5)).await.unwrap();
    let receipt = bank.execute(deposit("1", 2)).await.unwrap();
    bank.caught_up().await.unwrap();
    let fails = || left.store(3, Relaxed);
    let asked_again = |call: &str| assert_eq!(left.load(Relaxed), 0, "{call} met no failure");

    fails();
    assert_eq!(bank.query(statement("1")).await.unwrap().unwrap().balance, 7);
    asked_again("a query by key");
    fails();
    assert_eq!(bank.query(RichAccounts { at_least: 1 }).await.unwrap(), ["1"]);
    asked_again("a query over all documents");
    fails();
    assert_eq!(bank.query(CountOpenings).after(&receipt).await.unwrap(), 1);
    asked_again("a query after a receipt");
    fails();
    bank.seen(Statement::NAME, &receipt).await.unwrap();
    asked_again("seen");
    fails();
    assert!(bank.progress().await.unwrap().iter().all(|status| status.pending == 0));
    asked_again("progress");
    fails();
    assert_eq!(bank.trace(receipt.correlation_id).await.unwrap().commands.len(), 1);
    asked_again("trace");
    fails();
    assert_eq!(bank.transactions_of(&key("1")).await.unwrap().len(), 2);
    asked_again("transactions_of");
    fails();
    assert_eq!(bank.aggregates::<Account, _>().await.unwrap().keys, [key("1")]);
    asked_again("aggregates");
    fails();
    bank.settled().await.unwrap();
    asked_again("settled");

    left.store(u32::MAX, Relaxed);
    let patience = Duration::from_secs(2);
    let error = bank.query(statement("1")).patience(patience).await.unwrap_err();
    assert!(matches!(error, Error::Store(StoreError::Unavailable { .. })), "{error}");
}

/// An event store with a log and nothing else.
struct OnlyALog {
    log_of: MemoryEvents,
}

impl EventStore for OnlyALog {
    type Subscription = MemorySubscription;

    cqrs_tests::pass_on! {
        to log_of: source name era backlog read last last_confirmed next_after last_before commit_at has_subscriber forget log
            search aggregates subscribe load_snapshot save_snapshot
    }

    async fn append(&self, commit: &Commit, expected: Expected) -> Result<u64, AppendError> {
        self.log_of.append(commit, expected).await
    }
}

#[tokio::test]
async fn what_a_store_does_not_offer_is_said_when_it_is_needed() {
    let store = || OnlyALog { log_of: MemoryEvents::default() };
    let builder = || Cqrs::builder((store(), MemoryViews::default())).aggregate::<Account>();
    let error = builder().policy::<Generous>().start().await.map(drop).unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, Error::Config(_)) && text.contains("generous") && text.contains("deadlines"),
        "{text}"
    );

    let bank = builder().event_handler(Idle).start().await.unwrap();
    let error = bank.notices::<Account, _>().await.map(drop).unwrap_err();
    assert!(matches!(error, Error::Store(StoreError::Refused { .. })), "{error}");
    bank.execute(open("1", 5)).await.unwrap();
    // Without a place beside the log, the handler's progress is with the views.
    bank.settled().await.unwrap();
}
