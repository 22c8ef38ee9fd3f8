//! A log that becomes another one while an aggregate is read, and a store that cannot say for long that it is the same.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use cqrs_core::{
    AggregateKey, CommandError, Cqrs, Error, StoreError,
    log::{Commit, StoredCommit},
    memory::{Memory, MemoryEvents, MemorySubscription, MemoryViews},
    port::{AppendError, Delivery, EventStore, Expected, Page},
};
use cqrs_tests::domain::{Account, AccountRejection, bank, deposit, open, statement, withdraw};

/// An account with so many events that several pages are read.
const EVENTS: u64 = 600;

/// When the other log takes the place of the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Switch {
    Never,
    /// Before the answer to the call with this number.
    Before(u64),
    /// After it.
    After(u64),
}

/// A log, which keeps no snapshots, and the log that takes its place.
#[derive(Clone)]
struct Replaced {
    first: MemoryEvents,
    second: MemoryEvents,
    switch: Arc<Mutex<Switch>>,
    switched: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    era: Arc<AtomicU64>,
    /// Whether each call begins a new era, as the connection of a store does that is lost again and again.
    restless: bool,
}

impl Replaced {
    fn new([first, second]: &[MemoryEvents; 2], switch: Switch) -> Self {
        Self {
            first: first.clone(),
            second: second.clone(),
            switch: Arc::new(Mutex::new(switch)),
            switched: Arc::default(),
            calls: Arc::default(),
            era: Arc::default(),
            restless: false,
        }
    }

    fn now(&self) -> &MemoryEvents {
        if self.switched.load(SeqCst) { &self.second } else { &self.first }
    }

    fn replace(&self) {
        self.switched.store(true, SeqCst);
        self.era.fetch_add(1, SeqCst);
    }

    /// The answer of the log that is there when the call arrives.
    async fn answer<T>(&self, call: impl AsyncFnOnce(&MemoryEvents) -> T) -> T {
        let number = self.calls.fetch_add(1, SeqCst);
        let switch = *self.switch.lock().unwrap();
        if switch == Switch::Before(number) {
            self.replace();
        }
        if self.restless {
            self.era.fetch_add(1, SeqCst);
        }
        let answer = call(self.now()).await;
        if switch == Switch::After(number) {
            self.replace();
        }
        answer
    }
}

impl EventStore for Replaced {
    type Subscription = MemorySubscription;

    cqrs_tests::pass_on! {
        to first: source name capabilities backlog last_before has_subscriber forget log search aggregates subscribe
    }

    fn era(&self) -> u64 {
        self.era.load(SeqCst)
    }

    async fn append(&self, commit: &Commit, expected: Expected) -> Result<u64, AppendError> {
        self.now().append(commit, expected).await
    }

    async fn read(&self, of: &AggregateKey, after: u64, max: usize) -> Result<Page, StoreError> {
        self.answer(async |log| log.read(of, after, max).await).await
    }

    async fn last(&self, of: &AggregateKey) -> Result<Option<StoredCommit>, StoreError> {
        self.answer(async |log| log.last(of).await).await
    }

    async fn last_confirmed(&self, of: &AggregateKey) -> Result<Option<StoredCommit>, StoreError> {
        self.answer(async |log| log.last_confirmed(of).await).await
    }

    async fn next_after(&self, of: &AggregateKey, after: u64) -> Result<Option<StoredCommit>, StoreError> {
        self.answer(async |log| log.next_after(of, after).await).await
    }

    async fn commit_at(&self, sequence: u64) -> Result<Option<Delivery>, StoreError> {
        self.answer(async |log| log.commit_at(sequence).await).await
    }
}

type Accounts = Cqrs<(Account,), ()>;

async fn accounts(events: Replaced) -> Accounts {
    let builder = Cqrs::builder((events, MemoryViews::default())).aggregate::<Account>();
    builder.append_patience(Duration::from_secs(5)).start().await.unwrap()
}

/// A log in which the account was opened, and has so many deposits of one amount.
async fn log(deposits: u64, amount: u64) -> MemoryEvents {
    let log = MemoryEvents::default();
    let nothing_else = Replaced::new(&[log.clone(), log.clone()], Switch::Never);
    let accounts = accounts(nothing_else).await;
    accounts.execute(open("a", 0)).await.unwrap();
    for _ in 0..deposits {
        accounts.execute(deposit("a", amount)).await.unwrap();
    }
    log
}

/// The balance, as a refused command says it.
async fn balance(accounts: &Accounts) -> u64 {
    match accounts.execute(withdraw("a", u64::MAX)).await {
        Err(CommandError::Rejected(AccountRejection::Insufficient { balance, .. })) => balance,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_state_is_never_folded_from_two_logs() {
    // The second log has other events at the same sequences and versions, and more of them.
    let logs = [log(EVENTS, 1).await, log(EVENTS + 50, 1_000).await];
    let (old, new) = (EVENTS, (EVENTS + 50) * 1_000);
    let mut seen = [false; 2];
    for call in 0..12 {
        for switch in [Switch::Before(call), Switch::After(call)] {
            let events = Replaced::new(&logs, switch);
            let switched = Arc::clone(&events.switched);
            let accounts = accounts(events).await;
            let first = balance(&accounts).await;
            assert!(first == old || first == new, "{switch:?}: {first} is in neither log");
            seen[usize::from(first == new)] = true;
            while !switched.load(SeqCst) {
                balance(&accounts).await;
            }
            assert_eq!(balance(&accounts).await, new, "{switch:?}");
        }
    }
    assert_eq!(seen, [true; 2], "the switches were all before, or all after the first answer");
}

/// The state is in memory, and the log has more commits, which are read one by one from the leader. The other log ends
/// among these, or later.
#[tokio::test]
async fn a_known_state_is_never_continued_from_another_log() {
    let mut seen = [false; 2];
    let cases = (0..8).flat_map(|call| [Switch::Before(call), Switch::After(call)]);
    for (deposits, switch) in
        [23, 40].iter().flat_map(|deposits| cases.clone().map(move |switch| (*deposits, switch)))
    {
        let logs = [log(20, 1).await, log(deposits, 1_000).await];
        let events = Replaced::new(&logs, Switch::Never);
        let (calls, switched) = (Arc::clone(&events.calls), Arc::clone(&events.switched));
        let armed = Arc::clone(&events.switch);
        let accounts = accounts(events).await;
        assert_eq!(balance(&accounts).await, 20);

        let other = self::accounts(Replaced::new(&logs, Switch::Never)).await;
        for _ in 0..5 {
            other.execute(deposit("a", 1)).await.unwrap();
        }
        calls.store(0, SeqCst);
        *armed.lock().unwrap() = switch;
        let (old, new) = (25, deposits * 1_000);
        let first = balance(&accounts).await;
        assert!(first == old || first == new, "{deposits} {switch:?}: {first} is in neither log");
        seen[usize::from(first == new)] = true;
        while !switched.load(SeqCst) {
            balance(&accounts).await;
        }
        assert_eq!(balance(&accounts).await, new, "{deposits} {switch:?}");
    }
    assert_eq!(seen, [true; 2], "the switches were all before, or all after the first answer");
}

#[tokio::test]
async fn a_store_that_is_in_doubt_at_each_call_can_be_read() {
    let log = log(EVENTS, 1).await;
    let events = Replaced { restless: true, ..Replaced::new(&[log.clone(), log], Switch::Never) };
    let calls = Arc::clone(&events.calls);
    let accounts = accounts(events).await;
    assert_eq!(balance(&accounts).await, EVENTS);
    let calls = calls.load(SeqCst);
    assert!(calls < 20, "{calls} calls for some hundred events");
    assert_eq!(accounts.execute(deposit("a", 1)).await.unwrap().version, EVENTS + 2);
}

/// The receipt of another service says nothing about this one's log, whether that is longer or shorter.
#[tokio::test]
async fn a_receipt_of_another_log_is_void() {
    let [one, other] = [bank(Memory::default()).await, bank(Memory::default()).await];
    one.execute(open("a", 1)).await.unwrap();
    let early = one.execute(deposit("a", 1)).await.unwrap();
    let late = one.execute(deposit("a", 1)).await.unwrap();
    assert!(one.query(statement("a")).after(&late).await.unwrap().is_some());
    other.execute(open("a", 1)).await.unwrap();
    other.execute(open("b", 1)).await.unwrap();
    for receipt in [early, late] {
        let answer = other.query(statement("a")).after(&receipt).await;
        assert!(matches!(answer, Err(Error::ReceiptVoid { .. })), "{answer:?}");
    }
}
