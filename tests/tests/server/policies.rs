//! The guarantees of a policy, on memory and on a real NATS server alike: each command once, refusals are reported, and
//! events that it cannot handle. Its deadlines are in `policy_deadlines`.

use std::time::{Duration, SystemTime};

use cqrs_core::{
    Apply, Backend, CommandError, CommandId, Context, Cqrs, Effects, Envelope, Error, Handle, Handled,
    Metadata, Policy, React, Receipt, Refusal, Start,
    log::StoredCommit,
    memory::{MemoryEvents, MemoryViews},
    operate::ProjectorState,
    port::{Deadlines, EventStore, ViewStore},
};
use cqrs_tests::{
    domain::{Account, AccountEvent, Open, Touch, Withdraw, deposit, key, open, withdraw},
    eventually,
    flaky::Flaky,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

cqrs_tests::on_backends! { "policies", memory nats sliced: {
    each_command_is_sent_once_and_carries_where_it_comes_from
    a_refusal_is_told_and_what_follows_is_done
    an_event_that_leads_to_an_unknown_command_is_set_aside
    an_event_that_the_rules_cannot_cope_with_is_set_aside_and_tried_again_by_hand
    a_policy_is_never_built_anew
    a_policy_may_begin_with_what_happens_from_now_on
    two_instances_send_nothing_twice
    a_policy_does_not_keep_its_service_alive
} }

/// The events of these accounts in the log, as text.
pub(crate) async fn told(events: &impl EventStore, account: &str) -> Vec<String> {
    commits(events, account).await.iter().flat_map(words).map(|(words, _)| words).collect()
}

async fn commits(events: &impl EventStore, account: &str) -> Vec<StoredCommit> {
    events.read(&key(account), 0, 1_000).await.unwrap().commits
}

fn words(stored: &StoredCommit) -> Vec<(String, CommandId)> {
    let word = |event: &cqrs_core::log::RecordedEvent| {
        let kind = event.event_type.trim_start_matches("account.");
        let data: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
        (format!("{kind} {}", data["amount"]), event.origin.command_id)
    };
    stored.commit.events.iter().map(word).collect()
}

pub(crate) async fn until_told(events: &impl EventStore, account: &str, expected: &[&str]) {
    eventually(&format!("{account} has {expected:?}"), async || told(events, account).await == expected)
        .await;
}

/// The owner of a new account gets 5. After a deposit of 50 the account `bank` pays out 100, which it may not have; for
/// each rejected command the account `consolation` gets 1. After a deposit of 7 the owner has until a deadline to
/// deposit 9, or loses 1; after a deposit of 70 the deadline is later.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Generous {
    opened: u32,
    refused: Vec<String>,
}

impl Policy for Generous {
    const NAME: &'static str = "generous";
    const START: Start = Start::Beginning;
    type Of = Account;

    fn refused(&mut self, refusal: &Refusal, effects: &mut Effects) {
        self.refused.push(refusal.reason().to_owned());
        if let Some(Withdraw { .. }) = refusal.command() {
            effects.send(deposit("consolation", 1));
        }
    }
}

impl React<AccountEvent> for Generous {
    fn react(&mut self, event: &Envelope<AccountEvent>, effects: &mut Effects) {
        let account = event.subject();
        match &event.data {
            AccountEvent::Opened { owner } if owner == "anna" => {
                self.opened += 1;
                effects.send(deposit(account, 5));
            }
            AccountEvent::Opened { owner } if owner == "twice" => {
                effects.send(deposit(account, 5));
                effects.send(deposit(account, 5));
                effects.send(deposit(account, 6));
            }
            AccountEvent::Deposited { amount: 50 } => {
                effects.send(withdraw("bank", 100));
            }
            AccountEvent::Deposited { amount: 7 } => {
                effects.at("nine", event.time + NINE, withdraw(account, 1));
            }
            AccountEvent::Deposited { amount: 77 } => {
                effects.at("nine", event.time + AFTER_A_STOP, withdraw(account, 1));
            }
            AccountEvent::Deposited { amount: 70 } => {
                effects.at("nine", event.time + LONG, withdraw(account, 1));
            }
            AccountEvent::Deposited { amount: 9 } => effects.disarm("nine"),
            AccountEvent::Deposited { amount: 13 } => panic!("no thirteen"),
            _ => {}
        }
    }
}

/// The time until a deposit of 9 is due.
const NINE: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(1_000);

/// Longer than a busy machine takes to arm a deadline and to stop the service.
pub(crate) const AFTER_A_STOP: Duration = Duration::from_secs(8);

pub(crate) type Bank = Cqrs<(Account,), ()>;

pub(crate) async fn bank<B: Backend>(backend: B) -> Bank {
    Cqrs::builder(backend).aggregate::<Account>().policy::<Generous>().start().await.unwrap()
}

async fn each_command_is_sent_once_and_carries_where_it_comes_from<B>(backend: B)
where
    B: Backend<Events: Deadlines> + Clone,
{
    let (events, _) = backend.clone().split();
    let bank = bank(backend).await;
    let mut metadata = Metadata::default();
    metadata.insert("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
    let receipt = bank.execute(open("1", 0)).metadata(metadata.clone()).await.unwrap();
    until_told(&events, "1", &["opened null", "deposited 5"]).await;
    let commits = commits(&events, "1").await;
    let [opened, deposited] = [&commits[0].commit.events[0], &commits[1].commit.events[0]];
    assert_eq!(deposited.origin.correlation_id, receipt.correlation_id);
    assert_eq!(deposited.origin.causation_id, Some(opened.id.into()));
    assert_eq!(deposited.origin.metadata, metadata);
    let derived = CommandId::derived(["generous", &opened.id.to_string(), "0"]);
    assert_eq!(deposited.origin.command_id, derived);
    bank.caught_up().await.unwrap();
    assert_eq!(told(&events, "1").await, ["opened null", "deposited 5"]);
    // Several commands of one event are separate commands, also if their content is the same.
    bank.execute(Open { account: "2".into(), owner: "twice".into(), amount: 0 }).await.unwrap();
    until_told(&events, "2", &["opened null", "deposited 5", "deposited 5", "deposited 6"]).await;
}

async fn a_refusal_is_told_and_what_follows_is_done<B>(backend: B)
where
    B: Backend<Events: Deadlines> + Clone,
{
    let (events, _) = backend.clone().split();
    let bank = bank(backend).await;
    for account in ["bank", "consolation", "1"] {
        bank.execute(open(account, 0)).await.unwrap();
    }
    bank.execute(deposit("1", 50)).await.unwrap();
    until_told(&events, "consolation", &["opened null", "deposited 5", "deposited 1"]).await;
    assert_eq!(told(&events, "bank").await, ["opened null", "deposited 5"]);
}

/// Sends a command of an aggregate that is not a part of the service.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Mistaken;

#[derive(Debug, Default, Clone, cqrs_core::Aggregate)]
#[aggregate(id = String, event = AccountEvent, rejection = std::fmt::Error, commands(Unknown))]
struct Elsewhere;

impl Apply<AccountEvent> for Elsewhere {
    fn apply(&mut self, _: &AccountEvent) {}
}

#[derive(Debug, Clone, Serialize, Deserialize, cqrs_core::Command)]
#[command(aggregate = Elsewhere)]
struct Unknown {
    #[command(id)]
    id: String,
}

impl Handle<Unknown> for Elsewhere {
    fn handle(&self, _: &Unknown, _: &Context) -> Handled<Self> {
        Err(std::fmt::Error)
    }
}

impl Policy for Mistaken {
    const NAME: &'static str = "mistaken";
    const START: Start = Start::Beginning;
    type Of = Account;

    fn is_kept(&self) -> bool {
        false
    }
}

impl React<AccountEvent> for Mistaken {
    fn react(&mut self, event: &Envelope<AccountEvent>, effects: &mut Effects) {
        match &event.data {
            AccountEvent::Deposited { amount: 13 } => effects.send(Unknown { id: "1".into() }),
            AccountEvent::Deposited { amount: 1 } => effects.send(deposit(event.subject(), 2)),
            _ => {}
        }
    }
}

async fn an_event_that_leads_to_an_unknown_command_is_set_aside<B>(backend: B)
where
    B: Backend<Events: Deadlines> + Clone,
{
    let (events, _) = backend.clone().split();
    let bank = Cqrs::builder(backend).aggregate::<Account>().policy::<Mistaken>().start().await.unwrap();
    bank.execute(open("1", 13)).await.unwrap();
    bank.execute(open("2", 1)).await.unwrap();
    until_told(&events, "2", &["opened null", "deposited 1", "deposited 2"]).await;
    let letters = bank.dead_letters("mistaken").await.unwrap().list().await.unwrap();
    let [letter] = letters.as_slice() else { panic!("one letter, not {letters:?}") };
    assert!(letter.reason.contains("put it into the list `commands(…)`"), "{}", letter.reason);
}

async fn an_event_that_the_rules_cannot_cope_with_is_set_aside_and_tried_again_by_hand<B>(backend: B)
where
    B: Backend<Events: Deadlines> + Clone,
{
    let (events, _) = backend.clone().split();
    let bank = bank(backend).await;
    for account in ["bank", "consolation"] {
        bank.execute(open(account, 0)).await.unwrap();
    }
    bank.execute(open("1", 13)).await.unwrap();
    bank.execute(deposit("1", 50)).await.unwrap();
    bank.execute(open("2", 0)).await.unwrap();
    until_told(&events, "2", &["opened null", "deposited 5"]).await;
    let letters = bank.dead_letters("generous").await.unwrap();
    let list = letters.list().await.unwrap();
    // The intents of the first event of the commit were executed, and their events are behind the letter.
    assert!(list[0].reason.contains("no thirteen"), "{:?}", list[0]);
    assert!(list[1..].iter().all(|letter| letter.behind), "{list:?}");
    until_told(&events, "consolation", &["opened null", "deposited 5"]).await;
    letters.edit(list[0].position, &serde_json::json!({ "amount": 14 }).to_string()).await.unwrap();
    letters.retry(&list[0].aggregate).await.unwrap();
    until_told(&events, "consolation", &["opened null", "deposited 5", "deposited 1"]).await;
}

async fn a_policy_is_never_built_anew<B: Backend>(backend: B) {
    let bank = bank(backend).await;
    let error = bank.rebuild("generous").await.unwrap_err();
    assert!(matches!(error, Error::NotRebuilt { projection: "generous" }), "{error}");
}

/// The same policy, which begins at the end of the log.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Late;

impl Policy for Late {
    const NAME: &'static str = "late";
    const START: Start = Start::Now;
    type Of = Account;
}

impl React<AccountEvent> for Late {
    fn react(&mut self, event: &Envelope<AccountEvent>, effects: &mut Effects) {
        if matches!(event.data, AccountEvent::Opened { .. }) {
            effects.send(deposit(event.subject(), 5));
        }
    }
}

async fn a_policy_may_begin_with_what_happens_from_now_on<B>(backend: B)
where
    B: Backend<Events: Deadlines> + Clone,
{
    let (events, _) = backend.clone().split();
    let before = Cqrs::builder(backend.clone()).aggregate::<Account>().start().await.unwrap();
    before.execute(open("1", 0)).await.unwrap();
    let start = async || {
        let bank = Cqrs::builder(backend.clone()).aggregate::<Account>().policy::<Late>();
        let bank = bank.start().await.unwrap();
        eventually("it runs", async || bank.projectors()[0].state == ProjectorState::Running).await;
        bank
    };
    start().await.stop().await;
    // Events while it does not run are not missed.
    before.execute(open("2", 0)).await.unwrap();
    let bank = start().await;
    bank.execute(open("3", 0)).await.unwrap();
    for account in ["2", "3"] {
        until_told(&events, account, &["opened null", "deposited 5"]).await;
    }
    assert_eq!(told(&events, "1").await, ["opened null"]);
}

async fn two_instances_send_nothing_twice<B>(backend: B)
where
    B: Backend<Events: Deadlines> + Clone,
{
    let (events, _) = backend.clone().split();
    let (first, second) = (bank(backend.clone()).await, bank(backend).await);
    let accounts: Vec<_> = (0..30).map(|number| number.to_string()).collect();
    for (number, account) in accounts.iter().enumerate() {
        let service = if number % 2 == 0 { &first } else { &second };
        service.execute(open(account, 7)).await.unwrap();
    }
    for account in &accounts {
        until_told(&events, account, &["opened null", "deposited 7", "deposited 5", "withdrawn 1"]).await;
    }
    first.stop().await;
    second.stop().await;
    for account in &accounts {
        assert_eq!(told(&events, account).await.len(), 4);
    }
}

async fn a_policy_does_not_keep_its_service_alive<B>(backend: B)
where
    B: Backend<Events: Deadlines> + Clone,
{
    let (events, _) = backend.clone().split();
    let first = bank(backend.clone()).await;
    first.execute(open("1", 0)).await.unwrap();
    until_told(&events, "1", &["opened null", "deposited 5"]).await;
    drop(first);
    let plain = Cqrs::builder(backend.clone()).aggregate::<Account>().start().await.unwrap();
    plain.execute(open("2", 0)).await.unwrap();
    plain.execute(Touch { account: "2".into() }).await.unwrap();
    // A service that had continued would have sent its command by now, as the next one does at once.
    let other = Cqrs::builder(backend.clone()).aggregate::<Account>().policy::<Late>().start().await.unwrap();
    eventually("it runs", async || other.projectors()[0].state == ProjectorState::Running).await;
    other.execute(open("3", 0)).await.unwrap();
    until_told(&events, "3", &["opened null", "deposited 5"]).await;
    assert_eq!(told(&events, "2").await, ["opened null"]);
    bank(backend).await;
}

/// The machine's clock and tokio's run together, also while tokio's is paused.
#[derive(Clone)]
pub(crate) struct TokioClock {
    start: (Timestamp, tokio::time::Instant),
}

impl TokioClock {
    pub(crate) fn new() -> Self {
        let start = Timestamp::try_from(SystemTime::UNIX_EPOCH + Duration::from_hours(500_000)).unwrap();
        Self { start: (start, tokio::time::Instant::now()) }
    }
}

impl cqrs_core::Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.start.0 + self.start.1.elapsed()
    }

    fn new_id(&self) -> uuid::Uuid {
        uuid::Uuid::new_v4()
    }
}

pub(crate) async fn world<E, V>(events: E, views: V, clock: &TokioClock) -> Cqrs<(Account,), ()>
where
    E: EventStore + Deadlines,
    V: ViewStore,
{
    let builder = Cqrs::builder((events, views)).aggregate::<Account>().policy::<Generous>();
    builder.clock(clock.clone()).start().await.unwrap()
}

/// Every rule of `Generous`, in one test. Commands have fixed ids, so that it can be repeated.
async fn story(bank: &Bank) {
    let id = |text: &str| CommandId::derived(["story", text]);
    for account in ["bank", "consolation", "expires", "disarmed"] {
        until_done(|| bank.execute(open(account, 0)).id(id(account))).await;
    }
    until_done(|| bank.execute(deposit("expires", 50)).id(id("50"))).await;
    until_done(|| bank.execute(deposit("expires", 70)).id(id("70"))).await;
    until_done(|| bank.execute(deposit("disarmed", 70)).id(id("70 and"))).await;
    until_done(|| bank.execute(deposit("disarmed", 9)).id(id("9"))).await;
}

/// Sends a command under one id until it is done, as a caller does.
async fn until_done<
    F: IntoFuture<Output = Result<Receipt, CommandError<E>>>,
    E: std::error::Error + 'static,
>(
    send: impl Fn() -> F,
) {
    while let Err(error) = send().await {
        assert!(matches!(error, CommandError::Failed(_)), "{error}");
    }
}

async fn check_story(events: &MemoryEvents, seed: &str) {
    let sorted = async |account| {
        let mut told = told(events, account).await;
        told.sort();
        told
    };
    assert_eq!(sorted("bank").await, ["deposited 5", "opened null"], "{seed}");
    assert_eq!(sorted("consolation").await, ["deposited 1", "deposited 5", "opened null"], "{seed}");
    let expected = ["deposited 5", "deposited 50", "deposited 70", "opened null", "withdrawn 1"];
    assert_eq!(sorted("expires").await, expected, "{seed}");
    let expected = ["deposited 5", "deposited 70", "deposited 9", "opened null"];
    assert_eq!(sorted("disarmed").await, expected, "{seed}");
}

/// Long enough for every deadline and pause.
pub(crate) const ALL_OVER: Duration = Duration::from_mins(25);

/// How long a process hangs before it counts as dead; much shorter than a deadline.
const DEAD: Duration = Duration::from_secs(50);

/// The process dies at every call of a store in turn, before and after its effect, and another becomes active.
#[tokio::test(start_paused = true)]
async fn a_crash_at_any_step_leaves_nothing_undone_and_does_nothing_twice() {
    for after_effect in [false, true] {
        let mut died = true;
        let mut call = 0;
        while died {
            let (events, views, clock) = (MemoryEvents::default(), MemoryViews::default(), TokioClock::new());
            let dying = Flaky::ends_at(events.clone(), call, after_effect);
            let failures = dying.beside(());
            {
                let views = dying.beside(views.clone());
                let bank = world(dying, views, &clock).await;
                // It may not finish.
                let _ = tokio::time::timeout(DEAD, story(&bank)).await;
                tokio::time::sleep(DEAD).await;
            }
            died = failures.failures() > 0;
            let bank = world(events.clone(), views, &clock).await;
            story(&bank).await;
            tokio::time::sleep(ALL_OVER).await;
            check_story(&events, &format!("call {call}, after its effect: {after_effect}")).await;
            call += 1;
        }
        assert!(call > 40, "there are more calls than {call}");
    }
}

/// Stores that lose requests and answers all the time.
#[tokio::test(start_paused = true)]
async fn whatever_is_lost_everything_is_done_once() {
    let mut failures = 0;
    for seed in 0..60 {
        let memory = MemoryEvents::default();
        let events = Flaky::new(memory.clone(), seed);
        let views = Flaky::new(MemoryViews::default(), seed ^ 0xABCD);
        let bank = world(events.clone(), views.clone(), &TokioClock::new()).await;
        story(&bank).await;
        tokio::time::sleep(ALL_OVER).await;
        check_story(&memory, &format!("seed {seed}")).await;
        failures += events.failures() + views.failures();
    }
    assert!(failures > 1_000, "{failures}");
}
