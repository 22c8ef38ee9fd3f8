//! The crash matrix: whatever dies at whatever step, each event is in each view once, dead letters are set aside once,
//! each command of a policy takes effect once, and everything is caught up soon after.
//!
//! | | |
//! |---|---|
//! | steps | 35, and 4 more of a view in tables of its own where the views are in a database: `steps.rs` |
//! | stores of the views | NATS KV, SQLite, Postgres; memory, where the events outlive the views; the SQLite file of the events, without a server |
//! | kinds of death | the worker (it aborts at that very instruction), the NATS server (`kill -9` while the worker stands there, and again up a little later), Postgres (the same) |
//!
//! That makes 334 crashes: 35 + 39 + 39 + 29 + 40 of the worker (memory has no write to die in; in a file it dies in an
//! append, too), 35 + 39 + 39 of the NATS server and 39 of Postgres. The tests print the crashes and the times until everything was caught up, and
//! `the_matrix_is_as_large_as_it_says` counts them. The worker is a process of its own, with a view of documents, a
//! view whose rules panic at an event, a view in tables, a policy with states, refusals and deadlines, and a handler
//! (`cqrs_tests::mortal`). The expected final state is computed from the log by a separate fold, in `check.rs`.
//!
//! In addition, a worker is stopped (SIGSTOP) at some steps while another becomes active, and is then resumed.
//!
//! `CRASH_STEP="after-append account/bank"` runs the steps that begin so, and `RUST_LOG=debug` shows the worker's log.
#![cfg(not(feature = "testcontainers"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod check;
mod death;
mod steps;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use cqrs_core::{
    memory::MemoryViews,
    port::{Deadlines, EventStore},
};
use cqrs_nats::Nats;
use cqrs_nats_server::LocalServer;
use cqrs_sql::{PostgresViews, SqliteBackend, SqliteViews};
use cqrs_tests::{
    TestContext,
    mortal::{Store, run},
    ports::Port,
    postgres::{LocalPostgres, TestDatabase, postgres},
    server_binary, unique_context,
};
use futures_util::{StreamExt as _, stream};

use crate::{
    check::{check, fill, until_done},
    death::Worker,
    steps::{Step, chosen},
};

/// Where the views are.
#[derive(Debug, Clone, Copy)]
enum Place {
    Kv,
    Sqlite,
    Postgres,
    Memory,
    /// In the SQLite file of the events.
    BesideEvents,
}

#[test]
fn the_matrix_is_as_large_as_it_says() {
    let [kv, database, memory, file] =
        [steps::ON_KV, steps::ON_DATABASE, steps::ON_MEMORY, steps::IN_FILE].map(|on| steps::steps(on).len());
    assert_eq!((kv, database, memory, file), (35, 39, 29, 40));
    assert_eq!(steps::points_without_a_step(), [], "every point of the code is met");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_with_views_in_nats_dies() {
    workers_die(Place::Kv, steps::ON_KV).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_with_views_in_sqlite_dies() {
    workers_die(Place::Sqlite, steps::ON_DATABASE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_with_views_in_postgres_dies() {
    workers_die(Place::Postgres, steps::ON_DATABASE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_with_views_in_memory_dies() {
    workers_die(Place::Memory, steps::ON_MEMORY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_with_everything_in_a_file_dies() {
    let deaths = stream::iter(chosen(steps::IN_FILE)).map(async |step| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("all.db");
        let SqliteBackend { events, views, .. } = SqliteBackend::open(&file, "crash").await.unwrap();
        fill(&events).await;
        let place = format!("all:{}", file.display());
        Worker::start("none", "crash", folder.path(), &place, "die", step).until_dead().await;
        (step, another_goes_on(&events, &views, folder.path(), step).await)
    });
    let place = Place::BesideEvents;
    report("the worker dies", place, &deaths.buffer_unordered(place.at_once()).collect::<Vec<_>>().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_dies_under_a_worker_with_views_in_nats() {
    servers_die(Place::Kv, steps::ON_KV).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_dies_under_a_worker_with_views_in_sqlite() {
    servers_die(Place::Sqlite, steps::ON_DATABASE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_dies_under_a_worker_with_views_in_postgres() {
    servers_die(Place::Postgres, steps::ON_DATABASE).await;
}

/// One after the other, because they share the server that dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_dies_under_a_worker() {
    let mut postgres = LocalPostgres::start().await;
    let mut times = Vec::new();
    for step in chosen(steps::ON_DATABASE) {
        let context = TestContext::new("crash").await;
        let (events, folder) = (context.backend().await.events, tempfile::tempdir().unwrap());
        fill(&events).await;
        let url = postgres.url();
        let mut worker = Worker::start(context.url(), &context.name, folder.path(), &url, "wait", step);
        worker.until_it_waits().await;
        postgres.kill();
        worker.go_on().await;
        postgres.restart().await;
        let views = PostgresViews::connect(&url, &context.name).await.unwrap();
        times.push((step, ends_well(worker, &events, &views, folder.path(), step).await));
    }
    report("Postgres dies", Place::Postgres, &times);
}

/// Where workers are stopped.
const FROZEN: [&str; 8] = [
    "before-save statement-v1 1",
    "in-save statement-v1 1",
    "before-park picky-v1 1",
    "before-carry-out generous-v1 1",
    "before-append account/expires 1",
    "before-settle generous-v1 1",
    "before-due nine/expires 1",
    "before-handle any 4",
];

/// A process that is stopped for longer than `priority_timeout` does not know that another has become active in its
/// place. (In a database, a process that is stopped within a write holds its locks, and no other makes progress.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_with_views_in_nats_is_stopped_and_goes_on() {
    let steps = chosen(steps::ON_KV).into_iter();
    let steps = steps.filter(|step| FROZEN.contains(&step.to_string().as_str()));
    let frozen = stream::iter(steps).map(async |step| (step, worker_freezes(step).await));
    report(
        "the worker is stopped",
        Place::Kv,
        &frozen.buffer_unordered(Place::Kv.at_once()).collect::<Vec<_>>().await,
    );
}

/// A worker is stopped, another becomes active in its place, and then the first is resumed.
async fn worker_freezes(step: Step) -> Duration {
    let context = TestContext::new("frozen").await;
    let (backend, folder) = (context.backend().await, tempfile::tempdir().unwrap());
    fill(&backend.events).await;
    let (events, views, folder) = (&backend.events, &backend.views, folder.path());
    let mut worker = Worker::start(context.url(), &context.name, folder, "kv", "wait", step);
    worker.until_it_waits().await;
    worker.freeze().await;
    let since = Instant::now();
    let service = run(events.clone(), views.clone(), &handled(folder)).await.unwrap();
    until_done(events, views, step).await;
    let took = since.elapsed();
    worker.thaw().await;
    worker.go_on().await;
    // It ends after the work that it had begun.
    worker.stop().await;
    until_done(events, views, step).await;
    service.stop().await;
    check(events, views, &handled(folder), step).await;
    took
}

async fn workers_die(place: Place, on: u8) {
    let deaths = stream::iter(chosen(on)).map(async |step| (step, worker_dies(place, step).await));
    report("the worker dies", place, &deaths.buffer_unordered(place.at_once()).collect::<Vec<_>>().await);
}

/// A worker dies, and another becomes active in its place.
async fn worker_dies(place: Place, step: Step) -> Duration {
    let context = TestContext::new("crash").await;
    let (backend, folder) = (context.backend().await, tempfile::tempdir().unwrap());
    fill(&backend.events).await;
    let (spec, _database) = place.prepare(&context.name, folder.path()).await;
    let worker = Worker::start(context.url(), &context.name, folder.path(), &spec, "die", step);
    worker.until_dead().await;
    let (events, folder) = (&backend.events, folder.path());
    match place {
        Place::Kv => another_goes_on(events, &backend.views, folder, step).await,
        Place::Memory => another_goes_on(events, &MemoryViews::default(), folder, step).await,
        Place::Sqlite => {
            let views = SqliteViews::open(&spec, &context.name).await.unwrap();
            another_goes_on(events, &views, folder, step).await
        }
        Place::Postgres => {
            let views = PostgresViews::connect(&spec, &context.name).await.unwrap();
            another_goes_on(events, &views, folder, step).await
        }
        Place::BesideEvents => unreachable!("there the events are not on the server"),
    }
}

async fn another_goes_on<E, V>(events: &E, views: &V, folder: &Path, step: Step) -> Duration
where
    E: EventStore + Deadlines + Clone,
    V: Store,
{
    let since = Instant::now();
    let service = run(events.clone(), views.clone(), &handled(folder)).await.unwrap();
    until_done(events, views, step).await;
    let took = since.elapsed();
    service.stop().await;
    check(events, views, &handled(folder), step).await;
    took
}

async fn servers_die(place: Place, on: u8) {
    let deaths = stream::iter(chosen(on)).map(async |step| (step, server_dies(place, step).await));
    report(
        "the NATS server dies",
        place,
        &deaths.buffer_unordered(place.at_once()).collect::<Vec<_>>().await,
    );
}

/// The server dies while the worker waits at the step, and then the worker continues.
async fn server_dies(place: Place, step: Step) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let port = Port::reserve();
    let build = |binary| LocalServer::builder(binary).data(folder.path().join("nats")).port(port.number());
    let server = build(server_binary().await).start().await.unwrap();
    let (url, name) = (server.url().to_owned(), unique_context("crash"));
    let backend = Nats::connect(&url).await.unwrap().context(&name).await.unwrap();
    fill(&backend.events).await;
    let (spec, _database) = place.prepare(&name, folder.path()).await;
    let mut worker = Worker::start(&url, &name, folder.path(), &spec, "wait", step);
    worker.until_it_waits().await;
    server.kill().await;
    worker.go_on().await;
    let server = build(server_binary().await).start().await.unwrap();
    let (events, folder) = (&backend.events, folder.path());
    let took = match place {
        Place::Kv => ends_well(worker, events, &backend.views, folder, step).await,
        Place::Sqlite => {
            let views = SqliteViews::open(&spec, &name).await.unwrap();
            ends_well(worker, events, &views, folder, step).await
        }
        Place::Postgres => {
            let views = PostgresViews::connect(&spec, &name).await.unwrap();
            ends_well(worker, events, &views, folder, step).await
        }
        Place::Memory => unreachable!("what the worker has in memory nobody else can look into"),
        Place::BesideEvents => unreachable!("there the events are not on the server"),
    };
    server.stop().await;
    took
}

async fn ends_well<V: Store>(
    worker: Worker,
    events: &impl EventStore,
    views: &V,
    folder: &Path,
    step: Step,
) -> Duration {
    let since = Instant::now();
    until_done(events, views, step).await;
    let took = since.elapsed();
    worker.stop().await;
    check(events, views, &handled(folder), step).await;
    took
}

impl Place {
    /// How many crashes run at the same time: each mostly waits. In Postgres each has some twenty connections, and a
    /// server accepts a hundred by default.
    fn at_once(self) -> usize {
        if matches!(self, Self::Postgres) { 2 } else { 6 }
    }

    /// The arguments of the worker, and the resources to remove at the end.
    async fn prepare(self, context: &str, folder: &Path) -> (String, Option<TestDatabase>) {
        match self {
            Self::Kv => ("kv".to_owned(), None),
            Self::Memory => ("memory".to_owned(), None),
            Self::BesideEvents => unreachable!("there the events are not on the server"),
            Self::Sqlite => (format!("sqlite:{}", folder.join("views.db").display()), None),
            Self::Postgres => {
                let url = postgres().await.url().to_owned();
                (url.clone(), Some(TestDatabase::of(url, context.to_owned())))
            }
        }
    }
}

/// The file of the handler.
fn handled(folder: &Path) -> PathBuf {
    folder.join("handled")
}

/// Prints the crashes. No time is asserted: the machine may be busy.
fn report(what: &str, place: Place, times: &[(Step, Duration)]) {
    let mut times = times.to_vec();
    times.sort_by_key(|(_, time)| *time);
    for (step, time) in &times {
        println!("{time:.1?} after {step}");
    }
    let times: Vec<_> = times.into_iter().map(|(_, time)| time).collect();
    let (Some(longest), median) = (times.last(), times.get(times.len() / 2)) else { return };
    let within = times.iter().filter(|time| **time <= Duration::from_secs(5)).count();
    println!(
        "{what}, views in {place:?}: {} steps, caught up after {:.1?} at the most, {:.1?} in the middle, {within} \
         within 5 s",
        times.len(),
        longest,
        median.unwrap_or(longest),
    );
}
