//! The announcements of one context arrive at another once and in order, whatever happens in between, on memory and on
//! a real NATS server alike.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cqrs_core::{
    Backend, CommandError, CommandId, Cqrs, Effects, Envelope, Error, Event, EventHandler, HandlerError,
    Metadata, On, Policy, Project, Query, React, Start, View,
    announce::Announce,
    log::StoredCommit,
    memory::{Memory, MemoryEvents, MemoryViews},
    model::EventSource,
    port::{AnyEvents, AnyViews, EventStore, ProjectionId, ViewStore},
};
use cqrs_nats::{Nats, NatsEvents};
use cqrs_tests::{
    TestContext,
    domain::{Account, AccountEvent, deposit, key, open, withdraw},
    eventually,
    flaky::Flaky,
};
use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};

/// The public events of the bank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(prefix = "bank")]
enum BankEvent {
    #[event(name = "bank.customer-came")]
    Came { customer: String },
    #[event(name = "bank.money-came")]
    Paid { cents: u64 },
}

/// The bank as other contexts follow it. It has the stored name of accounts, which in the context itself means another
/// type.
struct Bank;

impl EventSource for Bank {
    const NAME: &'static str = "account";
    type Event = BankEvent;
}

struct BankAnnouncer;

impl Announce for BankAnnouncer {
    const NAME: &'static str = "bank-announcer";
    type Of = Account;
    type As = Bank;

    fn announce(event: &Envelope<AccountEvent>) -> Option<BankEvent> {
        match &event.data {
            AccountEvent::Opened { owner } => Some(BankEvent::Came { customer: owner.clone() }),
            AccountEvent::Deposited { amount } => Some(BankEvent::Paid { cents: amount * 100 }),
            // Withdrawals are not public.
            AccountEvent::Withdrawn { .. } => None,
        }
    }
}

/// What another context knows of the bank's accounts.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    customer: String,
    cents: Vec<u64>,
}

impl View for Known {
    const NAME: &'static str = "known";
    type Of = Bank;
}

impl Project<BankEvent> for Known {
    fn project(&mut self, event: &Envelope<BankEvent>) {
        match &event.data {
            BankEvent::Came { customer } => customer.clone_into(&mut self.customer),
            BankEvent::Paid { cents } => self.cents.push(*cents),
        }
    }
}

#[derive(Debug, Serialize, Deserialize, Query)]
#[query(view = Known, answer = Option<Known>)]
struct GetKnown {
    #[query(key)]
    account: String,
}

/// After a deposit of 500 cents at the bank the customer gets 1 in the other context, which has accounts of another
/// type.
#[derive(Default, Serialize, Deserialize)]
struct Rewards;

impl Policy for Rewards {
    const NAME: &'static str = "rewards";
    const START: Start = Start::Beginning;
    type Of = Bank;
}

impl React<BankEvent> for Rewards {
    fn react(&mut self, event: &Envelope<BankEvent>, effects: &mut Effects) {
        if let BankEvent::Paid { cents: 500 } = event.data {
            effects.send(deposit(event.subject(), 1));
        }
    }
}

#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<String>>>);

impl EventHandler for Listener {
    const NAME: &'static str = "listener";
    const START: Start = Start::Beginning;
    type Of = Bank;
}

impl On<BankEvent> for Listener {
    async fn on(&self, event: &Envelope<BankEvent>) -> Result<(), HandlerError> {
        self.0.lock().unwrap().push(event.event_type().name.to_owned());
        Ok(())
    }
}

macro_rules! on_every_backend {
    ($($case:ident)+) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let contexts = [super::Memory::default(), super::Memory::default(), super::Memory::default()];
                super::$case(contexts, super::MemoryEvents::default()).await;
            })+
        }
        mod nats {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let bank = super::TestContext::new("bank").await;
                let [one, other] = [super::TestContext::new("one").await, super::TestContext::new("two").await];
                let contexts = [bank.backend().await, one.backend().await, other.backend().await];
                super::$case(contexts, bank.nats.public_log(&bank.name).await.unwrap()).await;
            })+
        }
    };
}

on_every_backend! {
    what_is_announced_is_followed_by_views_policies_and_handlers
    an_announcement_tells_where_it_comes_from_and_no_more
    two_instances_announce_nothing_twice
    an_announcer_that_has_lost_its_progress_announces_nothing_twice
    services_with_different_view_stores_share_an_announcer
    contexts_with_projections_of_one_name_follow_each_for_itself
}

type Service<V = ()> = Cqrs<(Account,), V>;

async fn bank<B: Backend>(backend: B, public: impl EventStore) -> Service {
    let builder = Cqrs::builder(backend).aggregate::<Account>().announcer::<BankAnnouncer>(public);
    builder.start().await.unwrap()
}

async fn rewards<B: Backend>(
    backend: B,
    public: &(impl EventStore + Clone),
    listener: Listener,
) -> Service<(Known,)> {
    let builder = Cqrs::builder(backend).aggregate::<Account>();
    let builder = builder.following(public).view::<Known>().following(public).policy::<Rewards>();
    builder.following(public).event_handler(listener).start().await.unwrap()
}

async fn commits(events: &impl EventStore, account: &str) -> Vec<StoredCommit> {
    events.read(&key(account), 0, 1_000).await.unwrap().commits
}

/// The events about an account in a log, as text.
async fn told(events: &impl EventStore, account: &str) -> Vec<String> {
    let commits = commits(events, account).await;
    let versions: Vec<_> = commits.iter().map(|stored| stored.commit.first_version).collect();
    let events = commits.iter().flat_map(|stored| &stored.commit.events);
    let word = |event: &cqrs_core::log::RecordedEvent| {
        format!("{} {}", event.event_type, std::str::from_utf8(&event.data).unwrap())
    };
    let told: Vec<_> = events.map(word).collect();
    if told.len() == versions.len() {
        assert!(versions.iter().copied().eq(1..=versions.len() as u64), "{account}: {versions:?}");
    }
    told
}

/// The expected events about an account in the public log, from those in the bank's own.
async fn expected(events: &impl EventStore, account: &str) -> Vec<String> {
    let mut expected = Vec::new();
    for told in told(events, account).await {
        let (kind, data) = told.split_once(' ').unwrap();
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        match kind {
            "account.opened" => {
                expected.push(format!("bank.customer-came {{\"customer\":{}}}", data["owner"]));
            }
            "account.deposited" => {
                let cents = data["amount"].as_u64().unwrap() * 100;
                expected.push(format!("bank.money-came {{\"cents\":{cents}}}"));
            }
            _ => {}
        }
    }
    expected
}

async fn until_announced(own: &impl EventStore, public: &impl EventStore, account: &str) {
    let expected = expected(own, account).await;
    eventually(&format!("{account} is announced"), async || {
        told(public, account).await.len() >= expected.len()
    })
    .await;
    assert_eq!(told(public, account).await, expected, "{account}");
}

async fn what_is_announced_is_followed_by_views_policies_and_handlers<B, E>(
    [own, other, _]: [B; 3],
    public: E,
) where
    B: Backend + Clone,
    E: EventStore + Clone,
{
    let (events, _) = other.clone().split();
    let listener = Listener::default();
    let follower = rewards(other, &public, listener.clone()).await;
    for account in ["1", "2"] {
        follower.execute(open(account, 0)).await.unwrap();
    }
    let bank = bank(own, public.clone()).await;
    bank.execute(open("1", 5)).await.unwrap();
    bank.execute(open("2", 0)).await.unwrap();
    bank.execute(withdraw("1", 3)).await.unwrap();
    bank.execute(deposit("1", 7)).await.unwrap();
    bank.caught_up().await.unwrap();
    follower.caught_up().await.unwrap();
    let known = async |account: &str| follower.query(GetKnown { account: account.into() }).await.unwrap();
    let expected = Known { customer: "anna".into(), cents: vec![500, 700] };
    assert_eq!(known("1").await, Some(expected));
    assert_eq!(known("2").await, Some(Known { customer: "anna".into(), cents: vec![] }));
    eventually("the reward is there", async || told(&events, "1").await.len() == 2).await;
    assert_eq!(told(&events, "1").await[1], "account.deposited {\"amount\":1}");
    let mut heard = listener.0.lock().unwrap().clone();
    heard.sort();
    let came = "bank.customer-came";
    assert_eq!(heard, [came, came, "bank.money-came", "bank.money-came"]);
    // A view of another log does not wait for a receipt of the own log.
    let receipt = follower.execute(deposit("2", 1)).await.unwrap();
    let query = GetKnown { account: "2".into() };
    let answer = follower.query(query).after(&receipt).patience(Duration::from_secs(1)).await;
    assert!(answer.unwrap().is_some());
    bank.stop().await;
    follower.stop().await;
}

async fn an_announcement_tells_where_it_comes_from_and_no_more<B, E>([own, ..]: [B; 3], public: E)
where
    B: Backend + Clone,
    E: EventStore + Clone,
{
    let (events, _) = own.clone().split();
    let bank = bank(own, public.clone()).await;
    let mut metadata = Metadata::default();
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    metadata.insert("traceparent", trace).unwrap();
    metadata.insert("user", "otto").unwrap();
    bank.execute(open("1", 5)).metadata(metadata).await.unwrap();
    bank.caught_up().await.unwrap();
    let inside = &commits(&events, "1").await[0].commit.events[1];
    let outside = &commits(&public, "1").await[1].commit.events[0];
    assert_eq!(outside.origin.correlation_id, inside.origin.correlation_id);
    assert_eq!(outside.origin.causation_id, Some(inside.id.into()));
    assert_eq!(outside.origin.time, inside.origin.time);
    assert_eq!(outside.origin.metadata.iter().collect::<Vec<_>>(), [("traceparent", trace)]);
    assert_ne!(outside.id, inside.id);
    let error = bank.rebuild("bank-announcer").await.unwrap_err();
    assert!(matches!(error, Error::NotRebuilt { .. }), "{error}");
}

async fn two_instances_announce_nothing_twice<B, E>([own, ..]: [B; 3], public: E)
where
    B: Backend + Clone,
    E: EventStore + Clone,
{
    let (events, _) = own.clone().split();
    let services = [bank(own.clone(), public.clone()).await, bank(own.clone(), public.clone()).await];
    let accounts: Vec<_> = (0..10).map(|number| number.to_string()).collect();
    for (number, account) in accounts.iter().enumerate() {
        services[number % 2].execute(open(account, 5)).await.unwrap();
        services[(number + 1) % 2].execute(deposit(account, 6)).await.unwrap();
    }
    for account in &accounts {
        until_announced(&events, &public, account).await;
    }
    for service in services {
        service.stop().await;
    }
}

async fn an_announcer_that_has_lost_its_progress_announces_nothing_twice<B, E>([own, ..]: [B; 3], public: E)
where
    B: Backend + Clone,
    E: EventStore + Clone,
{
    let (events, views) = own.split();
    let (events, views) = (AnyEvents::new(events), AnyViews::new(views));
    let progress = events.capabilities().progress_store().unwrap().clone();
    let announcer = ProjectionId::new(BankAnnouncer::NAME, 1);
    for round in 0..3 {
        progress.remove(&announcer).await.unwrap();
        let service = bank((events.clone(), views.clone()), public.clone()).await;
        for account in ["1", "2"] {
            if round == 0 {
                service.execute(open(account, 5)).await.unwrap();
            }
            service.execute(deposit(account, 10 + round)).await.unwrap();
        }
        service.caught_up().await.unwrap();
        service.stop().await;
        for account in ["1", "2"] {
            assert_eq!(told(&public, account).await, expected(&events, account).await);
        }
    }
}

/// The view store makes no difference: one of them announces, and the other is its standby.
async fn services_with_different_view_stores_share_an_announcer<B, E>([own, ..]: [B; 3], public: E)
where
    B: Backend + Clone,
    E: EventStore + Clone,
{
    let (events, _) = own.clone().split();
    let first = bank(own.clone(), public.clone()).await;
    let (own_events, _) = own.split();
    let second = bank((own_events, MemoryViews::default()), public.clone()).await;
    for account in ["1", "2"] {
        first.execute(open(account, 5)).await.unwrap();
        second.execute(deposit(account, 6)).await.unwrap();
    }
    for service in [first.caught_up().boxed(), second.caught_up().boxed()] {
        tokio::time::timeout(Duration::from_secs(30), service).await.expect("it goes on").unwrap();
    }
    for account in ["1", "2"] {
        assert_eq!(told(&public, account).await, expected(&events, account).await);
    }
    first.stop().await;
    second.stop().await;
}

async fn contexts_with_projections_of_one_name_follow_each_for_itself<B, E>(
    [own, one, other]: [B; 3],
    public: E,
) where
    B: Backend + Clone,
    E: EventStore + Clone,
{
    let bank = bank(own, public.clone()).await;
    let listeners = [Listener::default(), Listener::default()];
    let mut followers = Vec::new();
    for (backend, listener) in [one, other].into_iter().zip(&listeners) {
        let follower = rewards(backend, &public, listener.clone()).await;
        followers.push(follower);
    }
    for number in 0..10 {
        bank.execute(open(number.to_string(), 6)).await.unwrap();
    }
    bank.caught_up().await.unwrap();
    for (follower, listener) in followers.iter().zip(&listeners) {
        follower.caught_up().await.unwrap();
        assert_eq!(listener.0.lock().unwrap().len(), 20);
        let known = follower.query(GetKnown { account: "9".into() }).await.unwrap();
        assert_eq!(known.unwrap().cents, [600]);
    }
}

/// Sends a command under one id until it is done, as a caller does.
async fn until_done<T, E: std::error::Error + 'static, F>(send: impl Fn() -> F)
where
    F: IntoFuture<Output = Result<T, CommandError<E>>>,
{
    while let Err(error) = send().await {
        assert!(matches!(error, CommandError::Failed(_)), "{error}");
    }
}

/// The events at the bank. Commands have fixed ids, so that it can be repeated.
async fn story(bank: &Service) {
    let id = |text: String| CommandId::derived(["story".to_owned(), text]);
    for account in ["1", "2"] {
        until_done(|| bank.execute(open(account, 5)).id(id(format!("open {account}")))).await;
    }
    for number in 1..4 {
        for account in ["1", "2"] {
            let named = |what| id(format!("{what} {number} {account}"));
            until_done(|| bank.execute(deposit(account, number)).id(named("deposit"))).await;
            until_done(|| bank.execute(withdraw(account, 1)).id(named("withdraw"))).await;
        }
    }
}

async fn world<E, V, P>(events: E, views: V, public: P) -> Service
where
    E: EventStore,
    V: ViewStore,
    P: EventStore,
{
    bank((events, views), public).await
}

/// Long enough for every pause.
const ALL_OVER: Duration = Duration::from_mins(25);

/// How long a process hangs before it counts as dead.
const DEAD: Duration = Duration::from_secs(50);

async fn check(events: &MemoryEvents, public: &MemoryEvents, seed: &str) {
    for account in ["1", "2"] {
        let expected = expected(events, account).await;
        assert_eq!(expected.len(), 5, "{seed}");
        assert_eq!(told(public, account).await, expected, "{seed}");
    }
}

/// The process dies at every call of a store in turn, before and after its effect, and another becomes active.
#[tokio::test(start_paused = true)]
async fn a_crash_at_any_step_leaves_nothing_unsaid_and_says_nothing_twice() {
    for after_effect in [false, true] {
        let (mut died, mut call) = (true, 0);
        while died {
            let (events, views) = (MemoryEvents::default(), MemoryViews::default());
            let public = MemoryEvents::default();
            let dying = Flaky::ends_at(events.clone(), call, after_effect);
            let failures = dying.beside(());
            {
                let (views, public) = (dying.beside(views.clone()), dying.beside(public.clone()));
                let bank = world(dying, views, public).await;
                // It may not finish.
                let _ = tokio::time::timeout(DEAD, story(&bank)).await;
                tokio::time::sleep(DEAD).await;
            }
            died = failures.failures() > 0;
            let bank = world(events.clone(), views, public.clone()).await;
            story(&bank).await;
            tokio::time::sleep(ALL_OVER).await;
            check(&events, &public, &format!("call {call}, after its effect: {after_effect}")).await;
            call += 1;
        }
        assert!(call > 30, "there are more calls than {call}");
    }
}

/// Stores that lose requests and answers all the time.
#[tokio::test(start_paused = true)]
async fn whatever_is_lost_everything_is_announced_once() {
    let mut failures = 0;
    for seed in 0..60 {
        let (events, public) = (MemoryEvents::default(), MemoryEvents::default());
        let flaky = [(&events, seed), (&public, seed ^ 0x1234)];
        let [own, told] = flaky.map(|(store, seed)| Flaky::new(store.clone(), seed));
        let views = Flaky::new(MemoryViews::default(), seed ^ 0xABCD);
        let bank = world(own.clone(), views.clone(), told.clone()).await;
        story(&bank).await;
        tokio::time::sleep(ALL_OVER).await;
        check(&events, &public, &format!("seed {seed}")).await;
        failures += own.failures() + views.failures() + told.failures();
    }
    assert!(failures > 1_000, "{failures}");
}

/// Both services of one life, until they are ended at any moment.
async fn life(url: String, names: [String; 2], round: u64, busy: Arc<AtomicBool>) {
    let nats = Nats::connect(&url).await.unwrap();
    let public: NatsEvents = nats.public_log(&names[0]).await.unwrap();
    let bank = bank(nats.context(&names[0]).await.unwrap(), public.clone()).await;
    let follower = rewards(nats.context(&names[1]).await.unwrap(), &public, Listener::default()).await;
    for number in 0_u64.. {
        for account in ACCOUNTS {
            let opened = bank.execute(open(account, 5)).await;
            assert!(matches!(opened, Ok(_) | Err(CommandError::AlreadyExists(_))), "{opened:?}");
            let _ = follower.execute(open(account, 0)).await;
            bank.execute(deposit(account, (round + 1) * 1_000 + number)).await.unwrap();
            if number == 3 {
                busy.store(true, Ordering::Relaxed);
            }
        }
    }
}

const ACCOUNTS: [&str; 3] = ["a", "b", "c.*"];

/// Two services of two contexts on a real server, whose processes are ended at any moment, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_kills_everything_is_announced_once_and_in_order() {
    let (own, other) = (TestContext::new("bank").await, TestContext::new("other").await);
    let names = [own.name.clone(), other.name.clone()];
    let url = cqrs_tests::server().await.url().to_owned();
    for round in 0..5 {
        let (url, names, busy) = (url.clone(), names.clone(), Arc::new(AtomicBool::new(false)));
        let is_busy = Arc::clone(&busy);
        let runtime = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.spawn(life(url, names, round, busy));
            runtime
        })
        .join()
        .unwrap();
        eventually("it is in the middle of things", async || is_busy.load(Ordering::Relaxed)).await;
        // Every task is dropped, and the connection with them: this is what a killed process leaves behind.
        runtime.shutdown_background();
    }
    let public = own.nats.public_log(&own.name).await.unwrap();
    let bank = bank(own.backend().await, public.clone()).await;
    let follower = rewards(other.backend().await, &public, Listener::default()).await;
    bank.caught_up().await.unwrap();
    follower.caught_up().await.unwrap();
    let events = own.backend().await.events;
    for account in ACCOUNTS {
        let expected = expected(&events, account).await;
        assert!(expected.len() >= 15, "{}", expected.len());
        assert_eq!(told(&public, account).await, expected);
        let known = follower.query(GetKnown { account: account.into() }).await.unwrap().unwrap();
        let cents = known.cents.iter().map(|cents| format!("bank.money-came {{\"cents\":{cents}}}"));
        assert!(cents.eq(expected[1..].iter().cloned()), "{account}");
        // The one deposit of five had its reward, once.
        let rewards = told(&other.backend().await.events, account).await;
        assert_eq!(rewards.len(), 2, "{rewards:?}");
    }
}

#[tokio::test]
async fn nothing_is_announced_behind_another_history() {
    for (kept, reason) in [(0, "account/1 at sequence 1"), (1, "account/1 at sequence 2")] {
        let (memory, public) = (Memory::default(), MemoryEvents::default());
        let start = async || {
            let builder = Cqrs::builder(memory.clone()).aggregate::<Account>();
            builder.announcer::<BankAnnouncer>(public.clone()).start().await.unwrap()
        };
        let bank = start().await;
        bank.execute(open("1", 0)).await.unwrap();
        if kept > 0 {
            bank.execute(deposit("1", 1)).await.unwrap();
        }
        bank.caught_up().await.unwrap();
        public.put_back(kept);
        bank.execute(deposit("1", 2)).await.unwrap();
        eventually("the announcer says why it stands still", async || {
            let state = bank.projectors().swap_remove(0).state;
            matches!(state, cqrs_core::operate::ProjectorState::Retrying { reason: said } if said.contains(reason))
        })
        .await;
        let there = public.read(&key("1"), 0, 9).await.unwrap();
        assert_eq!(there.commits.len(), kept, "nothing was announced behind another history");
        bank.stop().await;
    }
}
