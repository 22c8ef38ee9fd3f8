//! The log lines, and the ids in them.

use cqrs_core::{
    Aggregate, Apply, Command, Context, CorrelationId, Cqrs, Effects, Envelope, Event, EventHandler, Handle,
    Handled, HandlerError, On, Policy, Project, React, Start, View,
    announce::Announce,
    memory::{Memory, MemoryEvents, MemoryViews},
    model::EventSource,
};
use cqrs_nats::Topology;
use cqrs_sql::{
    SqlProject, SqlView, SqliteViews, Tables,
    sqlx::{self, Sqlite, SqliteConnection},
};
use cqrs_tests::{
    TestContext,
    domain::{Account, deposit, open},
    eventually,
    lines::Lines,
    watched::{Snapshots, Watched},
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(name = "lamp.lit")]
struct Lit;

#[derive(Debug, thiserror::Error)]
enum Never {}

#[derive(Default, Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(id = u32, event = Lit, rejection = Never)]
struct Lamp;

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Lamp, upsert)]
struct Light(#[command(id)] u32);

impl Apply<Lit> for Lamp {
    fn apply(&mut self, _: &Lit) {}
}

impl Handle<Light> for Lamp {
    fn handle(&self, _: &Light, context: &Context) -> Handled<Self> {
        tracing::info!("lighting {}", context.command_id);
        Ok(Lit.into())
    }
}

impl View for Lamp {
    const NAME: &'static str = "lamps";
    type Of = Lamp;
}

impl Project<Lit> for Lamp {
    fn project(&mut self, envelope: &Envelope<Lit>) {
        tracing::info!("shining {}", envelope.id);
    }
}

#[tokio::test]
async fn spans_carry_the_ids() {
    let lines = Lines::collect();
    let cqrs = Cqrs::builder(Memory::default()).aggregate::<Lamp>().view::<Lamp>().start().await.unwrap();
    let correlation: CorrelationId = "0198c0de-0000-7000-8000-000000000001".parse().unwrap();
    let receipt = cqrs.execute(Light(7)).correlation(correlation).await.unwrap();
    cqrs.caught_up().await.unwrap();

    let text = lines.text();
    for (what, also) in
        [(": lighting ", "execute{command=\"light\""), (": shining ", "project{projection=lamps-v1}")]
    {
        let line = text.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {text}"));
        let command = format!("command_id={}", receipt.command_id);
        let correlation = format!("correlation_id={correlation}");
        for part in [also, "aggregate=\"lamp\"", "id=", &command, &correlation] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
}

/// Follows lamps with each kind of projection, and logs the events.
#[derive(Default, Clone, Serialize, Deserialize)]
struct Watcher;

impl Policy for Watcher {
    const NAME: &'static str = "policy";
    const START: Start = Start::Beginning;
    type Of = Lamp;
}

impl React<Lit> for Watcher {
    fn react(&mut self, _: &Envelope<Lit>, _: &mut Effects) {
        tracing::info!("seen by a policy");
    }
}

impl EventHandler for Watcher {
    const NAME: &'static str = "handler";
    const START: Start = Start::Beginning;
    type Of = Lamp;
}

impl On<Lit> for Watcher {
    async fn on(&self, _: &Envelope<Lit>) -> Result<(), HandlerError> {
        tokio::task::yield_now().await;
        tracing::info!("seen by a handler");
        Ok(())
    }
}

impl Announce for Watcher {
    const NAME: &'static str = "announcer";
    type Of = Lamp;
    type As = Street;

    fn announce(_: &Envelope<Lit>) -> Option<Lit> {
        tracing::info!("seen by an announcer");
        Some(Lit)
    }
}

/// The announcements about lamps.
struct Street;

impl EventSource for Street {
    const NAME: &'static str = "street";
    type Event = Lit;
}

impl SqlView<Sqlite> for Watcher {
    const NAME: &'static str = "rows";
    const TABLES: &'static [&'static str] = &[];
    type Of = (Lamp,);

    async fn create(&self, _: &Tables, _: &mut SqliteConnection) -> sqlx::Result<()> {
        Ok(())
    }
}

impl SqlProject<Lit, Sqlite> for Watcher {
    async fn project(&self, _: &Envelope<Lit>, _: &Tables, _: &mut SqliteConnection) -> sqlx::Result<()> {
        tokio::task::yield_now().await;
        tracing::info!("seen by a view in tables");
        Ok(())
    }
}

#[tokio::test]
async fn whatever_follows_an_event_logs_in_the_events_span() {
    let lines = Lines::collect();
    let folder = tempfile::tempdir().unwrap();
    let views = SqliteViews::open(folder.path().join("views.db"), "lamps").await.unwrap();
    let builder = Cqrs::builder((MemoryEvents::default(), views.clone())).aggregate::<Lamp>().view::<Lamp>();
    let builder = builder.policy::<Watcher>().event_handler(Watcher);
    let builder = builder.announcer::<Watcher>(MemoryEvents::default());
    let builder = builder.read_model(views.projection(Watcher));
    let cqrs = builder.start().await.unwrap();
    let receipt = cqrs.execute(Light(7)).await.unwrap();
    cqrs.caught_up().await.unwrap();
    let text = lines.text();
    for follower in ["shining", "by a policy", "by a handler", "by an announcer", "by a view in tables"] {
        let line =
            text.lines().find(|line| line.contains(follower)).unwrap_or_else(|| panic!("{follower}: {text}"));
        let command = format!("command_id={}", receipt.command_id);
        for part in [
            ":event{event_id=",
            "event_type=\"lamp.lit\"",
            "aggregate=\"lamp\"",
            "id=\"7\"",
            "version=1",
            &command,
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
    cqrs.stop().await;
}

#[tokio::test]
async fn logs_of_a_handler_are_in_its_callers_span_whoever_leads() {
    let lines = Lines::collect();
    // While the first command's load is in progress, the others enter the queue.
    let store = (Watched::new(MemoryEvents::default()), MemoryViews::default());
    let cqrs = Cqrs::builder(store).aggregate::<Lamp>().start().await.unwrap();
    let light = async || cqrs.execute(Light(1)).await.unwrap();
    let (first, second, third) = tokio::join!(light(), light(), light());
    assert_eq!(second.position.sequence, third.position.sequence, "those who waited share an append");
    let text = lines.text();
    assert_eq!(text.matches(": lighting ").count(), 3, "{text}");
    for receipt in [first, second, third] {
        let id = receipt.command_id;
        let line = text.lines().find(|line| line.ends_with(&format!(": lighting {id}"))).unwrap();
        let span = format!("execute{{command=\"light\" aggregate=\"lamp\" id=\"1\" command_id={id}");
        assert!(line.contains(&span), "{line}");
    }
}

#[tokio::test]
async fn a_start_says_what_is_known_of_durability() {
    let lines = Lines::collect();
    let context = TestContext::new("durable").await;
    context.nats.open(Topology::new(&*context.name)).await.unwrap();
    context.nats.open(Topology::new(format!("{}-memory", context.name)).in_memory()).await.unwrap();
    let text = lines.text();
    let line = |words: &str| {
        text.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("{words}: {text}"))
    };
    let file = line("`sync_interval`");
    assert!(file.contains(" INFO ") && file.contains("replicas=1 storage=\"file\""), "{file}");
    let memory = line("lost when its servers end");
    assert!(memory.contains(" WARN ") && memory.contains("replicas=1 storage=\"memory\""), "{memory}");
}

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(name = "shelf.filled")]
struct Filled(u64);

/// Its state is too large for a snapshot.
#[derive(Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(id = u32, event = Filled, rejection = Never, snapshot(every = 1))]
struct Shelf {
    fillings: u64,
    padding: Vec<u64>,
}

impl Default for Shelf {
    fn default() -> Self {
        Self { fillings: 0, padding: vec![u64::MAX; 100_000] }
    }
}

impl Apply<Filled> for Shelf {
    fn apply(&mut self, event: &Filled) {
        self.fillings += 1;
        assert_eq!(event.0, self.fillings);
    }
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Shelf, upsert)]
struct Fill(#[command(id)] u32);

impl Handle<Fill> for Shelf {
    fn handle(&self, _: &Fill, _: &Context) -> Handled<Self> {
        Ok(Filled(self.fillings + 1).into())
    }
}

#[tokio::test]
async fn a_state_that_is_too_large_for_a_snapshot_is_replayed_and_said_once() {
    let lines = Lines::collect();
    let warned = || lines.text().matches("snapshots of this aggregate type are not saved").count();
    let store = Watched::new(MemoryEvents::default());
    let start = || Cqrs::builder((store.clone(), MemoryViews::default())).aggregate::<Shelf>().start();
    let service = start().await.unwrap();
    service.execute(Fill(1)).await.unwrap();
    eventually("it is said", async || warned() == 1).await;
    for _ in 2..=3 {
        service.execute(Fill(1)).await.unwrap();
    }
    assert_eq!(start().await.unwrap().execute(Fill(1)).await.unwrap().version, 4);
    assert_eq!((store.saved(), store.commits_read()), (0, 3));
    eventually("the second service says it once, as the first did", async || warned() == 2).await;
}

#[tokio::test]
async fn snapshots_that_the_store_refuses_are_said_once_for_the_type() {
    let lines = Lines::collect();
    let warned = || lines.without_spans(&["WARN", "ERROR"]);
    for (snapshots, expected) in [(Snapshots::Unavailable, 0), (Snapshots::Refused, 3)] {
        let before = warned().len();
        let store = Watched::new(MemoryEvents::default()).with(snapshots);
        let start = || Cqrs::builder((store.clone(), MemoryViews::default())).aggregate::<Account>().start();
        let tried =
            |what: &str| lines.text().matches(&format!("snapshots of this aggregate type {what}")).count();
        let (saves, loads) = (tried("are not saved"), tried("cannot be loaded"));
        for _ in 0..2 {
            // The second service has nothing in memory, so it loads each aggregate.
            let service = start().await.unwrap();
            for account in ["1", "2"] {
                let _ = service.execute(open(account, 1)).await;
                for _ in 0..6 {
                    service.execute(deposit(account, 1)).await.unwrap();
                }
            }
        }
        eventually("both have failed more than once in the second service", async || {
            tried("are not saved") >= saves + 4 && tried("cannot be loaded") >= loads + 2
        })
        .await;
        // One line of the first service, and one of each kind of the second.
        assert_eq!(warned().len() - before, expected, "{snapshots:?}: {:#?}", warned());
    }
}
