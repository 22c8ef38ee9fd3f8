//! The announcements of one context arrive at another exactly once and in order, also when processes are killed and
//! messages are lost in between.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cqrs_core::{
    CommandError, CommandId, Cqrs,
    memory::{Memory, MemoryEvents, MemoryViews},
    port::{EventStore, ViewStore},
};
use cqrs_nats::{Nats, NatsEvents};
use cqrs_tests::{
    TestContext,
    domain::{Account, deposit, key, open, withdraw},
    eventually,
    flaky::Flaky,
};

use crate::announcements::{BankAnnouncer, GetKnown, Listener, Service, bank, expected, rewards, told};

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
