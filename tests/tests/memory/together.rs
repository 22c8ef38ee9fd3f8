//! Commands that wait for the same aggregate are carried out together (group commit), and none of them is affected by
//! another: neither by its refusal, nor by its panic, nor by its caller's drop of the future.

use std::{sync::Arc, time::Duration};

use cqrs_core::{
    Aggregate, AggregateKey, Apply, Command, CommandError, CommandId, Context, Cqrs, Error, Event, Handle,
    Handled, StoreError,
    log::{Commit, StoredCommit},
    memory::{MemoryEvents, MemorySubscription, MemoryViews},
    port::{AppendError, EventStore, Expected},
};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(prefix = "till")]
enum TillEvent {
    Filled(u64),
    Taken(u64),
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("there are {0}")]
struct TooFew(u64);

#[derive(Default, Clone, Aggregate)]
#[aggregate(id = u32, event = TillEvent, rejection = TooFew)]
struct Till(u64);

impl Apply<TillEvent> for Till {
    fn apply(&mut self, event: &TillEvent) {
        match event {
            TillEvent::Filled(amount) => self.0 += amount,
            TillEvent::Taken(amount) => self.0 -= amount,
        }
    }
}

#[derive(Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Till, upsert)]
struct Fill(#[command(id)] u32, u64);

#[derive(Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Till)]
struct Take(#[command(id)] u32, u64);

#[derive(Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Till, upsert)]
struct Explode(#[command(id)] u32);

impl Handle<Fill> for Till {
    fn handle(&self, command: &Fill, _: &Context) -> Handled<Self> {
        Ok(TillEvent::Filled(command.1).into())
    }
}

impl Handle<Take> for Till {
    fn handle(&self, command: &Take, _: &Context) -> Handled<Self> {
        if command.1 > self.0 {
            return Err(TooFew(self.0));
        }
        Ok(TillEvent::Taken(command.1).into())
    }
}

impl Handle<Explode> for Till {
    fn handle(&self, _: &Explode, _: &Context) -> Handled<Self> {
        panic!("boom");
    }
}

/// A store whose appends wait until the test adds a permit for each.
#[derive(Clone)]
struct Gated {
    inner: MemoryEvents,
    gate: Arc<Semaphore>,
    /// What the next appends answer instead of being stored: "no".
    refuse: Arc<std::sync::atomic::AtomicUsize>,
}

impl Gated {
    fn new() -> Self {
        Self { inner: MemoryEvents::default(), gate: Arc::new(Semaphore::new(0)), refuse: Arc::default() }
    }

    fn open(&self) {
        self.gate.add_permits(10_000);
    }

    /// The commits of till 1.
    async fn commits(&self) -> Vec<StoredCommit> {
        let key = AggregateKey::new("till", "1").unwrap();
        self.inner.read(&key, 0, 10_000).await.unwrap().commits
    }
}

#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl EventStore for Gated {
    type Subscription = MemorySubscription;

    cqrs_tests::pass_on! { to inner: all but append }

    async fn append(&self, commit: &Commit, expected: Expected) -> Result<u64, AppendError> {
        self.gate.acquire().await.unwrap().forget();
        let left = self.refuse.load(std::sync::atomic::Ordering::Relaxed);
        if commit.events.len() > 1 && left > 0 {
            self.refuse.store(left - 1, std::sync::atomic::Ordering::Relaxed);
            let what = "several".to_owned();
            return Err(AppendError::Failed(StoreError::Refused { what, source: None }));
        }
        self.inner.append(commit, expected).await
    }
}

type Tills = Cqrs<(Till,), ()>;

async fn tills(store: &Gated) -> Tills {
    Cqrs::builder((store.clone(), MemoryViews::default())).aggregate::<Till>().start().await.unwrap()
}

/// Sends a command from a task of its own, and lets the task run as far as it can.
async fn send<C>(tills: &Tills, command: C) -> tokio::task::JoinHandle<Result<u64, CommandError<TooFew>>>
where
    C: Command<Aggregate = Till> + Send,
    Till: Handle<C>,
{
    let tills = tills.clone();
    let sent = tokio::spawn(async move { Ok(tills.execute(command).await?.version) });
    settle().await;
    sent
}

/// The time is paused, so this ends at once, after all other tasks have run as far as they can.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn commands_that_wait_share_an_append_and_keep_their_order_and_answers() {
    let store = Gated::new();
    let tills = tills(&store).await;
    let mut sent = vec![send(&tills, Fill(1, 10)).await];
    for amount in [4, 7, 6, 1] {
        sent.push(send(&tills, Take(1, amount)).await);
    }
    store.open();
    let mut answers = Vec::new();
    for sent in sent {
        answers.push(sent.await.unwrap().map_err(|error| error.to_string()));
    }
    let refused = |text: &str| Err(text.to_owned());
    assert_eq!(answers, [Ok(1), Ok(2), refused("there are 6"), Ok(3), refused("there are 0")]);
    let commits = store.commits().await;
    let sizes: Vec<_> = commits.iter().map(|stored| stored.commit.events.len()).collect();
    assert_eq!(sizes, [1, 2], "the first alone, and those who waited for it together");
}

#[tokio::test(start_paused = true)]
async fn a_hot_aggregate_needs_few_appends_and_loses_nothing() {
    let store = Gated::new();
    let tills = tills(&store).await;
    let mut sent = Vec::new();
    for _ in 0..300 {
        let tills = tills.clone();
        sent.push(tokio::spawn(async move { tills.execute(Fill(1, 1)).await.unwrap().version }));
    }
    settle().await;
    store.open();
    let mut versions = Vec::new();
    for sent in sent {
        versions.push(sent.await.unwrap());
    }
    assert_eq!(versions, (1..=300).collect::<Vec<_>>(), "first come, first served");
    assert_eq!(store.commits().await.len(), 6, "one alone, and then at most 64 together");
}

#[tokio::test(start_paused = true)]
async fn the_same_command_twice_at_once_takes_effect_once() {
    let store = Gated::new();
    let tills = tills(&store).await;
    let first = send(&tills, Fill(1, 1)).await;
    let id = CommandId::derived(["twice"]);
    let twice = [0, 1].map(|_| {
        let tills = tills.clone();
        tokio::spawn(async move { tills.execute(Fill(1, 5)).id(id).await.unwrap() })
    });
    settle().await;
    store.open();
    first.await.unwrap().unwrap();
    let mut receipts = Vec::new();
    for sent in twice {
        receipts.push(sent.await.unwrap());
    }
    assert_eq!(receipts.iter().map(|receipt| receipt.version).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(receipts.iter().map(|receipt| receipt.repeat).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_its_callers_alone() {
    let store = Gated::new();
    let tills = tills(&store).await;
    let first = send(&tills, Fill(1, 1)).await;
    let before = send(&tills, Fill(1, 2)).await;
    let exploding = send(&tills, Explode(1)).await;
    let after = send(&tills, Fill(1, 3)).await;
    store.open();
    assert_eq!(first.await.unwrap().unwrap(), 1);
    assert_eq!(before.await.unwrap().unwrap(), 2);
    assert!(exploding.await.unwrap_err().is_panic());
    assert_eq!(after.await.unwrap().unwrap(), 3);
    // The same for a single command; the state is still good.
    assert!(send(&tills, Explode(1)).await.await.unwrap_err().is_panic());
    assert_eq!(tills.execute(Take(1, 6)).await.unwrap().version, 4);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_takes_nobody_with_it() {
    let store = Gated::new();
    let tills = tills(&store).await;
    let leading = send(&tills, Fill(1, 1)).await;
    let waiting = send(&tills, Fill(1, 2)).await;
    let gone = send(&tills, Fill(1, 100)).await;
    let last = send(&tills, Fill(1, 3)).await;
    leading.abort();
    gone.abort();
    settle().await;
    store.open();
    assert_eq!(waiting.await.unwrap().unwrap(), 1, "what was under way was dropped before it was stored");
    assert_eq!(last.await.unwrap().unwrap(), 2, "what waited was dropped before its turn");
    assert_eq!(tills.execute(Take(1, 5)).await.unwrap().version, 3);
}

#[tokio::test(start_paused = true)]
async fn what_the_store_refuses_together_is_sent_one_by_one() {
    let store = Gated::new();
    let tills = tills(&store).await;
    let mut sent = vec![send(&tills, Fill(1, 1)).await];
    for amount in 2..6 {
        sent.push(send(&tills, Fill(1, amount)).await);
    }
    store.refuse.store(1, std::sync::atomic::Ordering::Relaxed);
    store.open();
    for (version, sent) in (1..).zip(sent) {
        assert_eq!(sent.await.unwrap().unwrap(), version);
    }
    assert_eq!(store.commits().await.len(), 5);
}

/// Each command of a group commit is decided on the version that the one before it leaves; and again, if the store refuses
/// the group.
#[tokio::test(start_paused = true)]
async fn a_command_expects_the_version_that_its_predecessor_leaves() {
    for refused in [0, 1] {
        let store = Gated::new();
        let tills = tills(&store).await;
        let mut sent = Vec::new();
        for expected in [0, 1, 1, 2, 2, 1, 3] {
            let call = tills.execute(Fill(1, 1)).expecting(expected);
            sent.push(tokio::spawn(async move { Ok(call.await?.version) }));
            settle().await;
        }
        store.refuse.store(refused, std::sync::atomic::Ordering::Relaxed);
        store.open();
        let mut answers = Vec::new();
        for sent in sent {
            answers.push(match sent.await.unwrap() {
                Ok(version) => Ok(version),
                Err(CommandError::<TooFew>::Changed { expected, found, .. }) => Err((expected, found)),
                Err(other) => panic!("{other}"),
            });
        }
        assert_eq!(answers, [Ok(1), Ok(2), Err((1, 2)), Ok(3), Err((2, 3)), Err((1, 3)), Ok(4)]);
        let events = store.commits().await.iter().map(|stored| stored.commit.events.len()).sum::<usize>();
        assert_eq!(events, 4);
    }
}

#[tokio::test(start_paused = true)]
async fn more_commands_than_may_wait_are_told_so() {
    let store = Gated::new();
    let tills = tills(&store).await;
    let leading = send(&tills, Fill(1, 1)).await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..10_001 {
        let tills = tills.clone();
        waiting.spawn(async move { tills.execute(Fill(1, 1)).await });
    }
    settle().await;
    store.open();
    leading.await.unwrap().unwrap();
    let answers = waiting.join_all().await;
    let overloaded = |answer: &&Result<_, _>| {
        matches!(answer, Err(CommandError::Failed(Error::Overloaded { waiting: 10_000, .. })))
    };
    assert_eq!(answers.iter().filter(overloaded).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 10_000);
}
