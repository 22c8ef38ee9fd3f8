//! How a service stops while a part of it does not end.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cqrs_core::{
    AggregateKey, Cqrs, Effects, Envelope, EventHandler, HandlerError, On, Policy, React, Start,
    intercept::{Call, Interceptor, Next, Outcome, Refused},
    log::Position,
    memory::{Memory, MemoryViews},
    operate::{ProjectorState, Unfinished},
    port::{Batch, BoxFuture, ProjectError, Projection, ProjectionId, ProjectionSettings},
};
use cqrs_tests::{
    domain::{Account, AccountEvent, deposit, key, open},
    eventually,
};
use tokio::runtime::Handle;

/// Never finishes the opening of the account `stuck`, and counts the other events.
#[derive(Clone, Default)]
struct Clerk {
    begun: Arc<AtomicU64>,
    done: Arc<AtomicU64>,
}

impl EventHandler for Clerk {
    const NAME: &'static str = "clerk";
    const START: Start = Start::Beginning;
    type Of = Account;
}

impl On<AccountEvent> for Clerk {
    async fn on(&self, event: &Envelope<AccountEvent>) -> Result<(), HandlerError> {
        if event.subject() == "stuck" {
            self.begun.fetch_add(1, Ordering::SeqCst);
            pending::<()>().await;
        }
        self.done.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

fn stuck() -> AggregateKey {
    key("stuck")
}

#[tokio::test]
async fn a_handler_that_never_ends_is_dropped_and_named_and_its_event_comes_again() {
    let (memory, clerk) = (Memory::default(), Clerk::default());
    let start = async || {
        let builder = Cqrs::builder(memory.clone()).aggregate::<Account>().event_handler(clerk.clone());
        builder.stop_patience(Duration::from_millis(200)).start().await.unwrap()
    };
    for times in 1..=2 {
        let tasks = Handle::current().metrics().num_alive_tasks();
        let service = start().await;
        if times == 1 {
            for account in ["one", "stuck", "other"] {
                service.execute(open(account, 0)).await.unwrap();
            }
        }
        eventually("it is handled", async || clerk.begun.load(Ordering::SeqCst) == times).await;
        let unfinished = service.stop().await;
        let [Unfinished { projection, commits: Some(commits), events, .. }] = unfinished.as_slice() else {
            panic!("{unfinished:?}")
        };
        assert_eq!(*projection, ProjectionId::new("clerk", 1));
        assert!(commits.contains(&2), "{commits:?}");
        assert_eq!(*events, [(stuck(), Position { sequence: 2, index: 0 })]);
        let text = unfinished[0].to_string();
        assert!(
            text.starts_with("clerk-v1 did not finish in time") && text.contains("account/stuck"),
            "{text}"
        );
        assert_eq!(service.projectors()[0].state, ProjectorState::Stopped);
        assert_eq!(service.stop().await, [], "what has stopped is told once");
        drop(service);
        eventually("its tasks have ended", async || Handle::current().metrics().num_alive_tasks() == tasks)
            .await;
    }
    assert!(clerk.done.load(Ordering::SeqCst) >= 2);
}

#[tokio::test]
async fn what_ends_in_time_is_waited_for() {
    let (memory, clerk) = (Memory::default(), Clerk::default());
    let service =
        Cqrs::builder(memory).aggregate::<Account>().event_handler(clerk.clone()).start().await.unwrap();
    for account in 0..20 {
        service.execute(open(account.to_string(), 0)).await.unwrap();
    }
    service.caught_up().await.unwrap();
    assert_eq!(service.stop().await, []);
    assert_eq!(clerk.done.load(Ordering::SeqCst), 20);
}

#[tokio::test]
async fn a_handler_that_never_ends_does_not_outlive_the_last_handle() {
    let (memory, clerk) = (Memory::default(), Clerk::default());
    let tasks = Handle::current().metrics().num_alive_tasks();
    let builder = Cqrs::builder(memory).aggregate::<Account>().event_handler(clerk.clone());
    let service = builder.stop_patience(Duration::from_millis(50)).start().await.unwrap();
    service.execute(open("stuck", 0)).await.unwrap();
    eventually("it is handled", async || clerk.begun.load(Ordering::SeqCst) == 1).await;
    drop(service);
    eventually("its tasks have ended", async || Handle::current().metrics().num_alive_tasks() == tasks).await;
}

/// A projection whose first batch never ends.
#[derive(Default)]
struct Endless {
    begun: Arc<AtomicU64>,
    views: MemoryViews,
}

impl Projection for Endless {
    type Store = MemoryViews;

    fn store(&self) -> &MemoryViews {
        &self.views
    }

    fn settings(&self) -> ProjectionSettings {
        ProjectionSettings::new(vec!["account"], 100)
    }

    async fn project(&self, _: &ProjectionId, _: Batch<'_>) -> Result<u64, ProjectError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        pending().await
    }
}

#[tokio::test]
async fn a_store_that_never_answers_is_dropped_and_its_batch_is_named() {
    let begun = Arc::new(AtomicU64::new(0));
    let id = ProjectionId::new("endless", 1);
    let builder = Cqrs::builder(Memory::default()).aggregate::<Account>();
    let builder = builder.projection(id.clone(), Endless { begun: Arc::clone(&begun), ..Endless::default() });
    let service = builder.stop_patience(Duration::from_millis(50)).start().await.unwrap();
    service.execute(open("one", 0)).await.unwrap();
    eventually("its batch has begun", async || begun.load(Ordering::SeqCst) == 1).await;
    let unfinished = service.stop().await;
    let [Unfinished { projection, commits, events, .. }] = unfinished.as_slice() else {
        panic!("{unfinished:?}")
    };
    assert_eq!((projection, commits, events.len()), (&id, &Some(1..=1), 0));
}

/// Pays into the account `stuck` for each account that is opened.
#[derive(Default, Clone, serde::Serialize, serde::Deserialize)]
struct Generous;

impl Policy for Generous {
    const NAME: &'static str = "generous";
    const START: Start = Start::Beginning;
    type Of = Account;
}

impl React<AccountEvent> for Generous {
    fn react(&mut self, event: &Envelope<AccountEvent>, effects: &mut Effects) {
        if matches!(event.data, AccountEvent::Opened { .. }) {
            effects.send(deposit(event.subject(), 1));
        }
    }
}

/// Refuses every command of a policy, and counts them.
struct Closed(Arc<AtomicU64>);

impl Interceptor for Closed {
    fn around<'a>(&'a self, call: Call<'a>, next: Next<'a>) -> BoxFuture<'a, Result<Outcome, Refused>> {
        Box::pin(async move {
            if call.name == "deposit" {
                self.0.fetch_add(1, Ordering::SeqCst);
                pending::<()>().await;
            }
            next.run(call).await
        })
    }
}

#[tokio::test]
async fn a_command_of_a_policy_that_never_ends_is_dropped_and_its_batch_is_named() {
    let begun = Arc::new(AtomicU64::new(0));
    let builder = Cqrs::builder(Memory::default()).aggregate::<Account>().policy::<Generous>();
    let builder = builder.interceptor(Closed(Arc::clone(&begun))).stop_patience(Duration::from_millis(50));
    let service = builder.start().await.unwrap();
    service.execute(open("one", 0)).await.unwrap();
    eventually("its command is sent", async || begun.load(Ordering::SeqCst) == 1).await;
    let unfinished = service.stop().await;
    let [Unfinished { projection, commits, .. }] = unfinished.as_slice() else { panic!("{unfinished:?}") };
    assert_eq!((projection.name, commits), ("generous", &Some(1..=1)));
}
