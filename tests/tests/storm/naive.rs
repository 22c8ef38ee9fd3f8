//! A client that takes a missing answer for a failure, and what the checker says of it.

use std::sync::Arc;

use bytes::Bytes;
use cqrs_core::{
    AggregateKey, AppendError, Appended, Backend as _, Backlog, CommandId, Commit, Cqrs, Delivery,
    EventStore, Expected, Log, Page, Search, StoreError, StoredCommit, Subscribe, memory::MemoryViews,
};
use cqrs_nats::{Nats, NatsEvents, NatsSubscription};
use cqrs_tests::{
    domain::{Account, Deposit, Open},
    history::{Call, Entry, Kind, Outcome, Request, Stored, check},
    own_server,
    proxy::Proxy,
};
use tokio::time::Instant;

use crate::workload::outcome;

/// A store whose answers get lost once, right after the second append has reached the server.
struct LosesAnAnswer {
    events: NatsEvents,
    /// The same log on a way without faults.
    witness: NatsEvents,
    proxy: Arc<Proxy>,
    /// Whether it reports that as a failure.
    naive: bool,
}

impl LosesAnAnswer {
    async fn is_stored(&self, commit: &Commit, expected: Expected) -> bool {
        matches!(self.witness.next_after(&commit.aggregate, expected.sequence()).await, Ok(Some(_)))
    }

    /// The append is stored when this returns, and whoever sent it has no answer.
    async fn append_without_answer(&self, commit: &Commit, expected: Expected) -> AppendError {
        self.proxy.stall_answers();
        let stored = async {
            while !self.is_stored(commit, expected).await {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            answer = self.events.append(commit, expected) => panic!("an answer came: {answer:?}"),
            () = stored => {}
        }
        self.proxy.reset();
        self.proxy.pass();
        let error = StoreError::Unavailable { what: "no answer in time".into(), source: None };
        if self.naive { AppendError::Failed(error) } else { AppendError::Unknown(error) }
    }
}

#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl EventStore for LosesAnAnswer {
    type Subscription = NatsSubscription;

    fn source(&self) -> &str {
        self.events.source()
    }

    fn name(&self) -> &str {
        self.events.name()
    }

    fn era(&self) -> u64 {
        self.events.era()
    }

    async fn backlog(&self, aggregates: &[&'static str], after: u64) -> Result<Backlog, StoreError> {
        self.events.backlog(aggregates, after).await
    }

    async fn append(&self, commit: &Commit, expected: Expected) -> Result<Appended, AppendError> {
        // The first commit of an account is let through, and so is everything after the lost answer.
        if expected == Expected::NoStream || commit.first_version != 2 {
            return self.events.append(commit, expected).await;
        }
        if self.is_stored(commit, expected).await {
            return self.events.append(commit, expected).await;
        }
        Err(self.append_without_answer(commit, expected).await)
    }

    async fn read(&self, aggregate: &AggregateKey, after: u64, max: usize) -> Result<Page, StoreError> {
        self.events.read(aggregate, after, max).await
    }

    async fn last(&self, aggregate: &AggregateKey) -> Result<Option<StoredCommit>, StoreError> {
        self.events.last(aggregate).await
    }

    async fn last_confirmed(&self, aggregate: &AggregateKey) -> Result<Option<StoredCommit>, StoreError> {
        self.events.last_confirmed(aggregate).await
    }

    async fn next_after(
        &self,
        aggregate: &AggregateKey,
        after: u64,
    ) -> Result<Option<StoredCommit>, StoreError> {
        self.events.next_after(aggregate, after).await
    }

    async fn last_before(
        &self,
        aggregates: &[AggregateKey],
        sequence: u64,
    ) -> Result<Vec<Option<Delivery>>, StoreError> {
        self.events.last_before(aggregates, sequence).await
    }

    async fn commit_at(&self, sequence: u64) -> Result<Option<Delivery>, StoreError> {
        self.events.commit_at(sequence).await
    }

    async fn forget(&self, subscriber: &str) -> Result<(), StoreError> {
        self.events.forget(subscriber).await
    }

    async fn log(&self, aggregates: &[&'static str]) -> Result<Log, StoreError> {
        self.events.log(aggregates).await
    }

    async fn search(&self, search: Search) -> Result<Page, StoreError> {
        self.events.search(search).await
    }

    async fn subscribe(&self, request: Subscribe<'_>) -> Result<NatsSubscription, StoreError> {
        self.events.subscribe(request).await
    }

    async fn load_snapshot(&self, aggregate: &AggregateKey) -> Result<Option<Bytes>, StoreError> {
        self.events.load_snapshot(aggregate).await
    }

    async fn save_snapshot(&self, aggregate: &AggregateKey, snapshot: Bytes) -> Result<(), StoreError> {
        self.events.save_snapshot(aggregate, snapshot).await
    }
}

/// What a caller sees who deposits once, and again under another id if it is told that this failed; and
/// the log after that.
async fn deposit_once(naive: bool) -> (Vec<Entry>, Vec<Stored>) {
    let server = own_server().await;
    let proxy = Arc::new(Proxy::start(server.port()).await.unwrap());
    let events =
        async |url: &str| Nats::connect(url).await.unwrap().context("naive").await.unwrap().split().0;
    let (witness, behind) = (events(server.url()).await, events(&proxy.url()).await);
    let store = LosesAnAnswer { events: behind, witness: witness.clone(), proxy, naive };
    let bank = Cqrs::builder((store, MemoryViews::default())).aggregate::<Account>().start().await.unwrap();
    let (account, start) = ("1".to_owned(), Instant::now());
    bank.execute(Open { account: account.clone(), owner: "anna".into(), amount: 0 }).await.unwrap();
    let mut history = Vec::new();
    for attempt in ["first", "second"] {
        let id = CommandId::derived([attempt]);
        let begun = start.elapsed();
        let answer = bank.execute(Deposit { account: account.clone(), amount: 5 }).id(id).await;
        let call = Call { start: begun, end: start.elapsed(), outcome: outcome(answer) };
        let done = matches!(call.outcome, Outcome::Done { .. });
        let request = Request::Deposit(5);
        history.push(Entry { id, account: account.clone(), request, calls: vec![call] });
        if done {
            break;
        }
    }
    let key = AggregateKey::new("account", account).unwrap();
    let log = witness.read(&key, 0, 100).await.unwrap().commits;
    server.stop().await;
    (history, log.iter().map(Stored::from).collect())
}

/// The opening is not of interest, and not in the history.
fn kinds(history: &[Entry], log: &[Stored]) -> Vec<Kind> {
    let violations = check(history, log).into_iter();
    violations.map(|violation| violation.kind).filter(|kind| *kind == Kind::Unwanted).collect()
}

#[tokio::test]
async fn a_client_that_takes_no_answer_for_a_failure_is_caught() {
    let (history, log) = deposit_once(true).await;
    assert!(matches!(history[0].last().outcome, Outcome::Failed(_)), "{history:?}");
    assert_eq!((history.len(), log.len()), (2, 3), "the money is there twice");
    assert_eq!(kinds(&history, &log), [Kind::Unwanted]);
}

#[tokio::test]
async fn the_real_client_finds_its_commit_after_a_lost_answer() {
    let (history, log) = deposit_once(false).await;
    assert!(matches!(history[0].last().outcome, Outcome::Done { .. }), "{history:?}");
    assert_eq!((history.len(), log.len()), (1, 2));
    assert_eq!(kinds(&history, &log), []);
}
