//! Waiting until nothing more follows, and where the progress of what has effects is kept.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use cqrs_core::{
    Aggregate, Apply, Backend, Command, Context, Cqrs, Effects, Envelope, Error, Event, EventHandler, Handle,
    Handled, HandlerError, On, Policy, Project, Query, React, Start, View,
    memory::{Memory, MemoryEvents, MemoryViews},
    port::EventStore,
    testing::ManualClock,
};
use cqrs_sql::SqliteBackend;
use cqrs_tests::{TestContext, eventually, flaky::Flaky, scratch::Scratch};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(prefix = "domino")]
enum DominoEvent {
    Fell { left: u32 },
}

#[derive(Debug, thiserror::Error)]
enum Never {}

#[derive(Default, Clone, Aggregate)]
#[aggregate(id = u32, event = DominoEvent, rejection = Never, commands(Push))]
struct Domino;

impl Apply<DominoEvent> for Domino {
    fn apply(&mut self, _: &DominoEvent) {}
}

#[derive(Debug, Serialize, Deserialize, Command)]
#[command(aggregate = Domino, upsert)]
struct Push {
    #[command(id)]
    domino: u32,
    left: u32,
}

/// The number of the domino at which the handler panics.
const BROKEN: u32 = 13;

/// The number of the domino that the view cannot count.
const CURSED: u32 = 66;

impl Handle<Push> for Domino {
    fn handle(&self, command: &Push, _: &Context) -> Handled<Self> {
        assert_ne!(command.domino, BROKEN, "broken");
        Ok(DominoEvent::Fell { left: command.left }.into())
    }
}

/// Each domino pushes the next one.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Row;

impl Policy for Row {
    const NAME: &'static str = "row";
    const START: Start = Start::Beginning;
    type Of = Domino;
}

impl React<DominoEvent> for Row {
    fn react(&mut self, event: &Envelope<DominoEvent>, effects: &mut Effects) {
        let DominoEvent::Fell { left } = event.data;
        if left > 0 {
            effects.send(Push { domino: event.subject().parse::<u32>().unwrap() + 1, left: left - 1 });
        }
    }
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Fallen(u32);

impl View for Fallen {
    const NAME: &'static str = "fallen";
    type Of = Domino;
}

impl Project<DominoEvent> for Fallen {
    fn key(_: &Envelope<DominoEvent>) -> Option<String> {
        Some("all".to_owned())
    }

    fn project(&mut self, event: &Envelope<DominoEvent>) {
        assert_ne!(event.subject(), CURSED.to_string(), "cursed");
        self.0 += 1;
    }
}

#[derive(Query)]
#[query(view = Fallen, answer = Option<Fallen>)]
struct GetFallen {
    #[query(key)]
    of: String,
}

/// Each domino pushes the next one an hour later.
#[derive(Debug, Default, Serialize, Deserialize)]
struct SlowRow;

impl Policy for SlowRow {
    const NAME: &'static str = "slow-row";
    const START: Start = Start::Beginning;
    type Of = Domino;
}

impl React<DominoEvent> for SlowRow {
    fn react(&mut self, event: &Envelope<DominoEvent>, effects: &mut Effects) {
        let DominoEvent::Fell { left } = event.data;
        if left > 0 {
            let next = Push { domino: event.subject().parse::<u32>().unwrap() + 1, left: left - 1 };
            effects.at("next", event.time + Duration::from_hours(1), next);
        }
    }
}

type Dominoes = Cqrs<(Domino,), (Fallen,)>;

async fn dominoes(backend: impl Backend) -> Dominoes {
    let builder = Cqrs::builder(backend).aggregate::<Domino>().view::<Fallen>().policy::<Row>();
    builder.patience(Duration::from_secs(1)).start().await.unwrap()
}

async fn fallen(dominoes: &Dominoes) -> u32 {
    let all = dominoes.query(GetFallen { of: "all".to_owned() }).await.unwrap();
    all.unwrap_or_default().0
}

/// Each step is a command that follows from an event of the step before.
async fn all_that_follows_has_happened(backend: impl Backend) {
    let dominoes = dominoes(backend).await;
    for first in [100, 200] {
        dominoes.execute(Push { domino: first, left: 40 }).await.unwrap();
    }
    dominoes.settled().await.unwrap();
    assert_eq!(fallen(&dominoes).await, 82);
    dominoes.settled().await.unwrap();
    dominoes.stop().await;
}

/// A deadline counts as soon as its time has come by the clock of the service.
async fn what_is_due_has_happened(backend: impl Backend) {
    let clock = Arc::new(ManualClock::new("2026-01-02T03:00:00Z".parse().unwrap()));
    let builder = Cqrs::builder(backend).aggregate::<Domino>().view::<Fallen>().policy::<SlowRow>();
    let dominoes = builder.clock(Arc::clone(&clock)).start().await.unwrap();
    for first in [100, 200, 300] {
        dominoes.execute(Push { domino: first, left: 2 }).await.unwrap();
    }
    for fell in [3, 6, 9, 9] {
        dominoes.settled().await.unwrap();
        assert_eq!(fallen(&dominoes).await, fell);
        clock.advance(Duration::from_hours(1));
    }
    dominoes.stop().await;
}

/// A command that cannot be executed is told, after everything else has happened.
async fn what_is_set_aside_is_told(backend: impl Backend) {
    let dominoes = dominoes(backend).await;
    dominoes.execute(Push { domino: BROKEN - 1, left: 9 }).await.unwrap();
    dominoes.execute(Push { domino: 100, left: 20 }).await.unwrap();
    let error = dominoes.settled().await.unwrap_err();
    assert!(
        matches!(&error, Error::IntentsSetAside { policy: "row", key, dead_intents: 1, .. } if key == "12"),
        "{error}"
    );
    assert_eq!(fallen(&dominoes).await, 22);
    dominoes.stop().await;
}

/// Commands that never end, directly and as what follows from each other.
fn traffic(dominoes: &Dominoes) -> tokio::task::JoinHandle<()> {
    let dominoes = dominoes.clone();
    tokio::spawn(async move {
        dominoes.execute(Push { domino: 10_000, left: u32::MAX }).await.unwrap();
        for domino in 1_000_000.. {
            let receipt = dominoes.execute(Push { domino, left: 0 }).await.unwrap();
            // Not faster than the projections, which would never get to the end.
            dominoes.seen("row", &receipt).await.unwrap();
            dominoes.seen("fallen", &receipt).await.unwrap();
        }
    })
}

async fn all_that_follows_from_one_command_has_happened(backend: impl Backend) {
    let dominoes = dominoes(backend).await;
    let traffic = traffic(&dominoes);
    for first in [100, 200] {
        let receipt = dominoes.execute(Push { domino: first, left: 20 }).await.unwrap();
        dominoes.settled_after(&receipt).await.unwrap();
        let trace = dominoes.trace(receipt.correlation_id).await.unwrap();
        assert_eq!(trace.commands.len(), 21);
        let last = trace.commands.last().unwrap().events[0].position.sequence;
        for status in dominoes.progress().await.unwrap() {
            assert!(status.sequence >= last, "{status:?}");
        }
    }
    traffic.abort();
    dominoes.stop().await;
}

/// Events and commands that are set aside fail the wait for the command that led to them, and no other wait.
async fn what_is_set_aside_on_the_way_is_told(backend: impl Backend) {
    let dominoes = dominoes(backend).await;
    let broken = dominoes.execute(Push { domino: BROKEN - 2, left: 9 }).await.unwrap();
    let cursed = dominoes.execute(Push { domino: CURSED - 1, left: 3 }).await.unwrap();
    let good = dominoes.execute(Push { domino: 100, left: 3 }).await.unwrap();
    let traffic = traffic(&dominoes);
    dominoes.settled_after(&good).await.unwrap();
    let error = dominoes.settled_after(&broken).await.unwrap_err();
    assert!(
        matches!(&error, Error::IntentsSetAside { policy: "row", key, dead_intents: 1, .. } if key == "12"),
        "{error}"
    );
    let error = dominoes.settled_after(&cursed).await.unwrap_err();
    assert!(
        matches!(&error, Error::SetAside { view, aggregate, .. } if view == "fallen-v1" && aggregate.id() == "66"),
        "{error}"
    );
    // What could follow all the same has followed.
    assert_eq!(dominoes.trace(cursed.correlation_id).await.unwrap().commands.len(), 4);
    traffic.abort();
    dominoes.stop().await;
}

async fn what_another_log_has_recorded_is_not_waited_for(backend: impl Backend) {
    let (one, other) = (dominoes(backend).await, dominoes(Memory::default()).await);
    let receipt = other.execute(Push { domino: 1, left: 0 }).await.unwrap();
    let error = one.settled_after(&receipt).await.unwrap_err();
    assert!(matches!(error, Error::ReceiptVoid { .. }), "{error}");
    one.stop().await;
}

mod after_a_command {
    use super::{
        all_that_follows_from_one_command_has_happened, what_another_log_has_recorded_is_not_waited_for,
        what_is_set_aside_on_the_way_is_told,
    };

    cqrs_tests::on_backends! { "settled-after", memory nats sqlite: {
        all_that_follows_from_one_command_has_happened
        what_is_set_aside_on_the_way_is_told
        what_another_log_has_recorded_is_not_waited_for
    } }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_follows_from_one_command_has_happened_in_a_file() {
    let scratch = Scratch::new().unwrap();
    let backend = SqliteBackend::open(scratch.path().join("dominoes.db"), "dominoes").await.unwrap();
    all_that_follows_from_one_command_has_happened(backend).await;
}

/// A deadline counts once it is due.
#[tokio::test]
async fn a_deadline_that_is_not_due_is_not_waited_for() {
    let clock = Arc::new(ManualClock::new("2026-01-02T03:00:00Z".parse().unwrap()));
    let builder = Cqrs::builder(Memory::default()).aggregate::<Domino>().view::<Fallen>();
    let dominoes = builder.policy::<SlowRow>().clock(Arc::clone(&clock)).start().await.unwrap();
    let receipt = dominoes.execute(Push { domino: 100, left: 2 }).await.unwrap();
    for fell in [1, 2, 3, 3] {
        dominoes.settled_after(&receipt).await.unwrap();
        assert_eq!(fallen(&dominoes).await, fell);
        clock.advance(Duration::from_hours(1));
    }
    dominoes.stop().await;
}

/// The store refuses the second domino's events for longer than the caller waits, and takes all others.
#[tokio::test]
async fn a_policy_that_makes_no_progress_with_what_follows_is_told() {
    let events = Flaky::works(MemoryEvents::default());
    let builder = Cqrs::builder((events.clone(), MemoryViews::default())).aggregate::<Domino>();
    let builder = builder.view::<Fallen>().policy::<Row>().append_patience(Duration::ZERO);
    let dominoes = builder.patience(Duration::from_secs(1)).start().await.unwrap();
    events.be_busy_for(Some("101"));
    let traffic = traffic(&dominoes);
    let receipt = dominoes.execute(Push { domino: 100, left: 1 }).await.unwrap();
    let error = dominoes.settled_after(&receipt).await.unwrap_err();
    assert!(matches!(error, Error::Unsettled { policy: "row", open: 1, .. }), "{error}");
    events.be_busy_for(None);
    // The policy pauses longer and longer before it tries again.
    eventually("it goes on", async || dominoes.settled_after(&receipt).await.is_ok()).await;
    assert_eq!(dominoes.trace(receipt.correlation_id).await.unwrap().commands.len(), 2);
    traffic.abort();
    dominoes.stop().await;
}

/// Sends a letter for each event.
struct Letters {
    sent: Arc<Mutex<Vec<String>>>,
}

impl EventHandler for Letters {
    const NAME: &'static str = "letters";
    const START: Start = Start::Beginning;
    type Of = Domino;
}

impl On<DominoEvent> for Letters {
    async fn on(&self, event: &Envelope<DominoEvent>) -> Result<(), HandlerError> {
        self.sent.lock().unwrap().push(event.subject().to_owned());
        Ok(())
    }
}

/// The views move to another, empty store, and are built again there; nothing else is.
async fn views_that_move_repeat_no_effect<E: EventStore + Clone>(events: E) {
    let sent = Arc::default();
    for round in 1..=3 {
        let builder = Cqrs::builder((events.clone(), MemoryViews::default())).aggregate::<Domino>();
        let letters = Letters { sent: Arc::clone(&sent) };
        let builder = builder.view::<Fallen>().policy::<Row>().event_handler(letters);
        let service = builder.start().await.unwrap();
        service.execute(Push { domino: round * 100, left: 2 }).await.unwrap();
        service.settled().await.unwrap();
        assert_eq!(fallen(&service).await, round * 3, "the view is built again");
        service.stop().await;
    }
    let mut sent = sent.lock().unwrap().clone();
    sent.sort();
    assert_eq!(sent, ["100", "101", "102", "200", "201", "202", "300", "301", "302"]);
}

mod memory {
    use super::*;

    #[tokio::test]
    async fn all_that_follows_has_happened() {
        super::all_that_follows_has_happened(Memory::default()).await;
    }

    #[tokio::test]
    async fn what_is_due_has_happened() {
        super::what_is_due_has_happened(Memory::default()).await;
    }

    #[tokio::test]
    async fn what_is_set_aside_is_told() {
        super::what_is_set_aside_is_told(Memory::default()).await;
    }

    #[tokio::test]
    async fn views_that_move_repeat_no_effect() {
        super::views_that_move_repeat_no_effect(MemoryEvents::default()).await;
    }

    /// The store refuses the second domino's events for longer than the caller waits.
    #[tokio::test(start_paused = true)]
    async fn a_policy_that_makes_no_progress_is_told() {
        let events = Flaky::works(MemoryEvents::default());
        let builder = Cqrs::builder((events.clone(), MemoryViews::default())).aggregate::<Domino>();
        let builder = builder.policy::<Row>().append_patience(Duration::ZERO);
        let service = builder.patience(Duration::from_secs(20)).start().await.unwrap();
        events.be_busy_for(Some("101"));
        service.execute(Push { domino: 100, left: 1 }).await.unwrap();
        let error = service.settled().await.unwrap_err();
        assert!(matches!(error, Error::Unsettled { policy: "row", open: 1, .. }), "{error}");
        events.be_busy_for(None);
        service.settled().await.unwrap();
        service.stop().await;
    }

    /// Commands and queries borrow nothing.
    #[tokio::test]
    async fn calls_are_spawned_joined_and_selected() {
        let dominoes = dominoes(Memory::default()).await;
        let push = |domino| dominoes.execute(Push { domino, left: 0 });
        let (one, other) = tokio::join!(push(1), push(2));
        assert_eq!((one.unwrap().version, other.unwrap().version), (1, 1));
        let receipt = tokio::spawn(push(3)).await.unwrap().unwrap();
        let get = || dominoes.query(GetFallen { of: "all".to_owned() });
        let asked = tokio::spawn(get().after(&receipt)).await.unwrap().unwrap();
        assert_eq!(asked, Some(Fallen(3)));
        tokio::select! {
            receipt = push(4) => assert_eq!(receipt.unwrap().version, 1),
            () = std::future::pending() => {}
        }
        dominoes.settled().await.unwrap();
        assert_eq!(get().await.unwrap(), Some(Fallen(4)));
    }
}

mod nats {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn all_that_follows_has_happened() {
        let context = TestContext::new("settled").await;
        super::all_that_follows_has_happened(context.backend().await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_set_aside_is_told() {
        let context = TestContext::new("settled").await;
        super::what_is_set_aside_is_told(context.backend().await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn views_that_move_repeat_no_effect() {
        let context = TestContext::new("settled").await;
        super::views_that_move_repeat_no_effect(context.backend().await.events).await;
    }
}
