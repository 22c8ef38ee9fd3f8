//! What a stopped service leaves behind: no task and no file descriptor, on any store.
//!
//! One test in a program of its own, because descriptors belong to the whole process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use cqrs_core::{
    Backend, Cqrs, Effects, Envelope, Policy, React, Start,
    memory::{Memory, MemoryEvents},
};
use cqrs_nats::{Nats, Topology};
use cqrs_sql::{PostgresViews, SqliteViews};
use cqrs_tests::{
    TestContext,
    domain::{Account, AccountEvent, Idle, Statement, deposit, open, statement, withdraw},
    eventually,
    postgres::TestDatabase,
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

/// How often each service starts and stops.
const ROUNDS: u64 = 4;

/// Sends a command and arms a deadline for each account that is opened.
#[derive(Default, Clone, Serialize, Deserialize)]
struct Generous;

impl Policy for Generous {
    const NAME: &'static str = "generous";
    const START: Start = Start::Beginning;
    type Of = Account;
}

impl React<AccountEvent> for Generous {
    fn react(&mut self, event: &Envelope<AccountEvent>, effects: &mut Effects) {
        let account = event.subject().to_owned();
        if matches!(event.data, AccountEvent::Opened { .. }) {
            effects.send(deposit(account.clone(), 1));
            effects.at("late", event.time + std::time::Duration::from_hours(1), withdraw(account, 1));
        }
    }
}

/// Runs everything that a service can run, and then stops it.
async fn live<B: Backend>(backend: B, round: u64) {
    let builder = Cqrs::builder(backend).aggregate::<Account>().view::<Statement>();
    let service = builder.policy::<Generous>().event_handler(Idle).start().await.unwrap();
    let account = round.to_string();
    service.execute(open(account.clone(), 0)).await.unwrap();
    for _ in 0..6 {
        service.execute(deposit(account.clone(), 1)).await.unwrap();
    }
    eventually("the policy's deposit is in the view", async || {
        // A busy server may take longer for an answer than a query waits.
        let seen = service.query(statement(account.clone())).await;
        seen.is_ok_and(|seen| seen.is_some_and(|statement| statement.balance == 7))
    })
    .await;
    let mut rebuild = service.rebuild("statement").await.unwrap();
    rebuild.finished().await.unwrap();
    assert_eq!(service.stop().await, []);
}

fn descriptors() -> Vec<String> {
    let all = fs::read_dir("/proc/self/fd").unwrap();
    // The descriptor that reads this list is closed when it is checked.
    all.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok()).map(|to| to.display().to_string()).collect()
}

/// Runs `round` again and again. The first run may start what stays; each later one leaves the same number as before.
async fn leaves_nothing(store: &str, mut round: impl AsyncFnMut(u64)) {
    round(0).await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let (tasks_before, before) = (tasks(), descriptors().len());
    for number in 1..=ROUNDS {
        round(number).await;
    }
    eventually(&format!("{store}: there are {tasks_before} tasks again"), async || tasks() <= tasks_before)
        .await;
    eventually(
        &format!("{store}: there are {before} descriptors again, not {:#?}", descriptors()),
        async || descriptors().len() <= before,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_was_stopped_leaves_no_task_and_no_descriptor() {
    leaves_nothing("memory", async |round| live(Memory::default(), round).await).await;

    // On one connection: anything that a service leaves behind on it would stay.
    let context = TestContext::new("leaks").await;
    leaves_nothing("nats, one connection", async |round| live(context.backend().await, round).await).await;
    let name = cqrs_tests::unique_context("leaks");
    leaves_nothing("nats", async |round| {
        let nats = Nats::connect(context.url()).await.unwrap();
        live(nats.open(Topology::new(&*name)).await.unwrap(), round).await;
    })
    .await;
    let jetstream = async_nats::jetstream::new(context.nats.client().clone());
    for stream in [Topology::new(&*name).stream().to_owned(), format!("KV_{name}__statement-v1")] {
        jetstream.delete_stream(stream).await.unwrap();
    }

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("views.db");
    let events = MemoryEvents::default();
    leaves_nothing("sqlite", async |round| {
        let views = SqliteViews::open(&file, "leaks").await.unwrap();
        live((events.clone(), views), round).await;
    })
    .await;

    let (database, events) = (TestDatabase::new("leaks").await, MemoryEvents::default());
    leaves_nothing("postgres", async |round| {
        let views = PostgresViews::connect(&database.url, &database.context).await.unwrap();
        live((events.clone(), views), round).await;
    })
    .await;
}
