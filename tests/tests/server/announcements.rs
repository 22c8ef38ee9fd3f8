//! The announcements of one context arrive at another once and in order, on memory and on a real NATS server alike. What
//! crashes and losses do to them is in `announcer_crashes`.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use cqrs_core::{
    Backend, Cqrs, Effects, Envelope, Error, Event, EventHandler, HandlerError, Metadata, On, Policy,
    Project, Query, React, Start, View,
    announce::Announce,
    log::StoredCommit,
    memory::{Memory, MemoryEvents, MemoryViews},
    model::EventSource,
    port::{AnyEvents, AnyViews, EventStore, ProjectionId, ViewStore as _},
};
use cqrs_tests::{
    TestContext,
    domain::{Account, AccountEvent, deposit, key, open, withdraw},
    eventually,
};
use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};

/// The public events of the bank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(prefix = "bank")]
pub(crate) enum BankEvent {
    #[event(name = "bank.customer-came")]
    Came { customer: String },
    #[event(name = "bank.money-came")]
    Paid { cents: u64 },
}

/// The bank as other contexts follow it. It has the stored name of accounts, which in the context itself means another
/// type.
pub(crate) struct Bank;

impl EventSource for Bank {
    const NAME: &'static str = "account";
    type Event = BankEvent;
}

pub(crate) struct BankAnnouncer;

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
pub(crate) struct Known {
    pub(crate) customer: String,
    pub(crate) cents: Vec<u64>,
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
pub(crate) struct GetKnown {
    #[query(key)]
    pub(crate) account: String,
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
pub(crate) struct Listener(Arc<Mutex<Vec<String>>>);

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

pub(crate) type Service<V = ()> = Cqrs<(Account,), V>;

pub(crate) async fn bank<B: Backend>(backend: B, public: impl EventStore) -> Service {
    let builder = Cqrs::builder(backend).aggregate::<Account>().announcer::<BankAnnouncer>(public);
    builder.start().await.unwrap()
}

pub(crate) async fn rewards<B: Backend>(
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
pub(crate) async fn told(events: &impl EventStore, account: &str) -> Vec<String> {
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
pub(crate) async fn expected(events: &impl EventStore, account: &str) -> Vec<String> {
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
