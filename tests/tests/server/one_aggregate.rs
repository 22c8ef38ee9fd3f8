//! Reading one aggregate: its state now, at a version and at a time, and its history page by page.

use std::{sync::Arc, time::Duration};

use cqrs_core::{
    AggregateKey, Backend, Cqrs, Envelope, Error, StoreError,
    futures::{History, Versioned},
    log::{Commit, Position, StoredCommit},
    memory::{MemoryEvents, MemorySubscription, MemoryViews},
    model::replay,
    port::{AppendError, EventStore, Expected, Page},
    testing::ManualClock,
};
use cqrs_tests::{
    TestContext,
    domain::{Account, AccountEvent, Bank, bank, deposit, key, open, withdraw},
    pass_on, raw,
};
use jiff::Timestamp;

cqrs_tests::on_backends! { "one-aggregate", memory nats sliced embedded: {
    every_state_and_every_page_of_a_history
    what_does_not_exist_is_none
} }

/// An account with commits of one and of two events, more than a page of them, and snapshots.
async fn fill(bank: &Bank, account: &str, deposits: u64) {
    bank.execute(open(account, 1)).await.unwrap();
    for amount in 1..=deposits {
        bank.execute(deposit(account, amount)).await.unwrap();
    }
}

async fn whole(bank: &Bank, account: &str, max: usize) -> Vec<Envelope<AccountEvent>> {
    let id = account.to_owned();
    let (mut all, mut after) = (Vec::new(), Some(Position::default()));
    while let Some(position) = after {
        let History { events, next, .. } =
            bank.history::<Account, _>(&id).after(position).max(max).confirmed().await.unwrap();
        assert!(events.len() <= max && (next.is_none() || events.len() == max), "a page is full or the last");
        all.extend(events);
        after = next;
    }
    all
}

async fn every_state_and_every_page_of_a_history<B: Backend + Clone>(backend: B) {
    let (one, other) = (bank(backend.clone()).await, bank(backend).await);
    let id = "a".to_owned();
    fill(&one, "b", 1).await;
    fill(&one, "a", 60).await;
    let last = other.execute(withdraw("a", 7)).await.unwrap();
    let all = whole(&one, "a", 100).await;
    assert_eq!(all.iter().map(|event| event.version).collect::<Vec<_>>(), (1..=63).collect::<Vec<_>>());
    assert!(all.iter().all(|event| event.aggregate == key("a")));
    for max in [1, 2, 3, 62, 63, 64, usize::MAX] {
        let paged = whole(&other, "a", max).await;
        assert!(paged.iter().map(|event| event.id).eq(all.iter().map(|event| event.id)), "pages of {max}");
    }
    let first = one.history::<Account, _>(&id).max(0).await.unwrap();
    assert_eq!((first.events.len(), first.next), (1, Some(all[0].position)));

    let state = |version: usize| replay::<Account>(all[..version].iter().map(|event| &event.data));
    for version in 1..=63 {
        let at = one.aggregate::<Account, _>(&id).at_version(version).await.unwrap().unwrap();
        let event = &all[usize::try_from(version).unwrap() - 1];
        assert_eq!((at.version, at.position), (version, event.position));
        let expected = serde_json::to_value(state(usize::try_from(version).unwrap())).unwrap();
        assert_eq!(serde_json::to_value(at.state).unwrap(), expected, "version {version}");
    }
    for version in [0, 64, u64::MAX] {
        assert!(one.aggregate::<Account, _>(&id).at_version(version).await.unwrap().is_none(), "{version}");
    }
    for bank in [&one, &other] {
        let now = bank.aggregate::<Account, _>(&id).confirmed().await.unwrap().unwrap();
        assert_eq!((now.version, now.position), (63, last.position));
        assert_eq!(serde_json::to_value(now.state).unwrap(), serde_json::to_value(state(63)).unwrap());
    }
    // What was read is what a command may expect.
    assert_eq!(one.execute(deposit("a", 1)).expecting(63).await.unwrap().version, 64);
}

async fn what_does_not_exist_is_none<B: Backend + Clone>(backend: B) {
    let bank = bank(backend).await;
    fill(&bank, "a", 1).await;
    for id in ["b", "", "a.b", "*", ">", "A"].map(str::to_owned) {
        assert!(bank.aggregate::<Account, _>(&id).await.unwrap().is_none(), "{id}");
        assert!(bank.aggregate::<Account, _>(&id).confirmed().await.unwrap().is_none(), "{id}");
        assert!(bank.aggregate::<Account, _>(&id).at_version(1).await.unwrap().is_none(), "{id}");
        assert!(bank.aggregate::<Account, _>(&id).at(Timestamp::MAX).await.unwrap().is_none(), "{id}");
        let history = bank.history::<Account, _>(&id).confirmed().await.unwrap();
        assert_eq!((history.events.len(), history.next), (0, None), "{id}");
    }
    let long = "x".repeat(200);
    let refused = bank.aggregate::<Account, _>(&long).await.unwrap_err();
    assert!(matches!(refused, Error::InvalidId(_)), "{refused}");
    let refused = bank.history::<Account, _>(&long).await.unwrap_err();
    assert!(matches!(refused, Error::InvalidId(_)), "{refused}");
}

/// A log in SQLite takes no commit with a gap before it.
mod unreadable {
    use super::*;

    cqrs_tests::on_backends! { "one-aggregate", memory nats: { what_cannot_be_read_ends_the_page_before_it } }

    /// Appends a copy of the last commit with another version, and with another type of event if it is given.
    async fn damage<S: EventStore>(store: &S, version: u64, event_type: Option<&'static str>) -> u64 {
        let last = store.last(&key("a")).await.unwrap().unwrap();
        let mut commit = Commit { first_version: version, ..last.commit };
        for event in commit.events.iter_mut() {
            event.event_type = event_type.map_or_else(|| event.event_type.clone(), Into::into);
        }
        store.append(&commit, Expected::Exact(last.sequence)).await.unwrap()
    }

    async fn what_cannot_be_read_ends_the_page_before_it<B: Backend + Clone>(backend: B) {
        let (events, _) = backend.clone().split();
        let bank = bank(backend).await;
        let id = "a".to_owned();
        fill(&bank, "a", 40).await; // To version 42.
        let unknown = damage(&events, 43, Some("account.frozen")).await;
        damage(&events, 44, Some("account.deposited")).await;
        let gap = damage(&events, 46, None).await;
        let history = |after| bank.history::<Account, _>(&id).after(after).confirmed();
        let versions = |history: &History<AccountEvent>| {
            history.events.iter().map(|event| event.version).collect::<Vec<_>>()
        };

        let first = history(Position::default()).await.unwrap();
        assert_eq!(versions(&first), (1..=42).collect::<Vec<_>>(), "all that comes before");
        let error = history(first.next.unwrap()).await.unwrap_err();
        assert!(
            matches!(&error, Error::Store(StoreError::UnknownEvent { sequence, .. }) if *sequence == unknown),
            "{error}"
        );
        let behind = history(Position { sequence: unknown, index: u32::MAX }).await.unwrap();
        assert_eq!(versions(&behind), [44]);
        let error = history(behind.next.unwrap()).await.unwrap_err();
        let is_gap = |expected, found, at| (expected, found, at) == (45, 46, gap);
        assert!(
            matches!(&error, Error::Store(StoreError::Gap { expected, found, sequence, .. }) if is_gap(*expected, *found, *sequence)),
            "{error}"
        );
        let last = history(Position { sequence: gap - 1, index: u32::MAX }).await.unwrap();
        assert_eq!((versions(&last), last.next), (vec![46], None));

        // The states before it can be read, and the present one cannot.
        let before = bank.aggregate::<Account, _>(&id).at_version(42).await.unwrap().unwrap();
        assert_eq!(before.version, 42);
        for broken in
            [bank.aggregate::<Account, _>(&id).await, bank.aggregate::<Account, _>(&id).at_version(43).await]
        {
            assert!(
                matches!(broken, Err(Error::Store(StoreError::UnknownEvent { .. }))),
                "{:?}",
                broken.err()
            );
        }
    }
}

/// A message that is no commit, in the subject of the aggregate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_no_commit_hides_nothing_before_or_behind_it() {
    let context = TestContext::new("one-aggregate-foreign").await;
    let backend = context.backend().await;
    let events = backend.events.clone();
    let bank = bank(backend).await;
    let id = "a".to_owned();
    fill(&bank, "a", 20).await; // To version 22.
    raw::publish(context.url(), &format!("{}.event.account.a", context.name), b"", b"no commit").await;
    let sequence = events.log(&["account"]).await.unwrap().last_sequence;
    let history = |after| bank.history::<Account, _>(&id).after(after);
    let first = history(Position::default()).await.unwrap();
    assert_eq!(first.events.len(), 22);
    let error = history(first.next.unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Store(StoreError::NotACommit { .. })), "{error:?}");
    let behind = history(Position { sequence, index: u32::MAX }).await.unwrap();
    assert_eq!((behind.events.len(), behind.next), (0, None));
    assert_eq!(bank.aggregate::<Account, _>(&id).at_version(22).await.unwrap().unwrap().version, 22);
}

/// A store whose replicas lack what was stored last, until the leader is asked.
#[derive(Clone)]
struct Lagging {
    inner: MemoryEvents,
    lack: u64,
}

impl EventStore for Lagging {
    type Subscription = MemorySubscription;

    pass_on! {
        to inner: source name era capabilities last_confirmed next_after commit_at forget log search aggregates subscribe
    }

    async fn append(&self, commit: &Commit, expected: Expected) -> Result<u64, AppendError> {
        self.inner.append(commit, expected).await
    }

    async fn read(&self, aggregate: &AggregateKey, after: u64, max: usize) -> Result<Page, StoreError> {
        let mut page = self.inner.read(aggregate, after, max).await?;
        let end = self.inner.log(&["account"]).await?.last_sequence - self.lack;
        page.commits.retain(|stored| stored.sequence <= end);
        page.more &= page.commits.len() == max;
        Ok(Page { confirmed: false, ..page })
    }

    async fn last(&self, aggregate: &AggregateKey) -> Result<Option<StoredCommit>, StoreError> {
        Ok(self.read(aggregate, 0, usize::MAX).await?.commits.pop())
    }
}

#[tokio::test]
async fn the_leader_is_asked_for_what_a_replica_lacks() {
    let inner = MemoryEvents::default();
    let writing = bank((inner.clone(), MemoryViews::default())).await;
    fill(&writing, "a", 30).await; // To version 32.
    for lack in [1, 5, 31] {
        let lagging = bank((Lagging { inner: inner.clone(), lack }, MemoryViews::default())).await;
        let (id, there) = ("a".to_owned(), 32 - lack);
        let version = |found: Option<Versioned<Account>>| found.map_or(0, |found| found.version);
        let read = || lagging.aggregate::<Account, _>(&id);
        let seen = if lack == 31 { 0 } else { there };
        assert_eq!(version(read().await.unwrap()), seen);
        assert_eq!(version(read().confirmed().await.unwrap()), 32);
        assert_eq!(version(read().at(Timestamp::MAX).await.unwrap()), seen);
        assert_eq!(version(read().at(Timestamp::MAX).confirmed().await.unwrap()), 32);
        // A caller that names a version has seen it.
        assert_eq!(version(read().at_version(32).await.unwrap()), 32);
        let history = || lagging.history::<Account, _>(&id);
        assert_eq!(history().await.unwrap().events.len() as u64, seen);
        assert_eq!(history().confirmed().await.unwrap().events.len(), 32);
    }
}

/// The times of an account's events, second by second, and one that goes back.
#[tokio::test]
async fn a_state_at_a_time_follows_from_the_events_until_then() {
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let builder = Cqrs::builder((MemoryEvents::default(), MemoryViews::default())).clock(Arc::clone(&clock));
    let bank = builder.aggregate::<Account>().start().await.unwrap();
    let id = "a".to_owned();
    let at = async |seconds: i64| {
        let time = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(seconds);
        let found = bank.aggregate::<Account, _>(&id).at(time).await.unwrap();
        found.map(|Versioned { version, .. }| version)
    };
    clock.advance(Duration::from_secs(10));
    bank.execute(open("a", 5)).await.unwrap(); // Two events at one time.
    clock.advance(Duration::from_secs(10));
    bank.execute(deposit("a", 5)).await.unwrap();
    clock.advance(Duration::from_secs(10));
    bank.execute(deposit("a", 5)).await.unwrap();
    assert_eq!([at(9).await, at(10).await, at(19).await, at(20).await], [None, Some(2), Some(2), Some(3)]);
    assert_eq!([at(29).await, at(30).await, at(10_000).await], [Some(3), Some(4), Some(4)]);
    // The clock of another process is late: its event comes after the one of second 30.
    clock.set(Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(25));
    bank.execute(deposit("a", 5)).await.unwrap();
    assert_eq!([at(25).await, at(29).await, at(30).await], [Some(3), Some(3), Some(5)]);
}
