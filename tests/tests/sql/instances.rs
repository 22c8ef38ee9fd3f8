//! Several instances of one service: one of them projects at a time, and another becomes active when it ends, in order
//! or not.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use cqrs_core::{
    Backend, Cqrs, Envelope, EventHandler, HandlerError, On, Start, View as _,
    memory::{Memory, MemoryViews},
    operate::ProjectorState,
    port::ViewStore,
};
use cqrs_nats::Nats;
use cqrs_sql::{
    PostgresViews, SqliteViews,
    sqlx::{self, Connection as _, PgConnection},
};
use cqrs_tests::{
    TestContext,
    domain::{Account, AccountEvent, Bank, Statement, bank, deposit, open, statement},
    eventually,
    postgres::TestDatabase,
    server,
    stopped::Process,
};
use tokio::runtime::{Builder, Runtime};

/// An instance with a connection of its own.
async fn instance(context: &str) -> Bank {
    let nats = Nats::connect(server().await.url()).await.unwrap();
    let backend = nats.context(context).await.unwrap();
    bank(backend).await
}

/// An instance in a runtime of its own, which can be ended at any moment.
fn mortal(context: &str) -> (Runtime, Bank) {
    let context = context.to_owned();
    std::thread::spawn(move || {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let bank = runtime.block_on(instance(&context));
        (runtime, bank)
    })
    .join()
    .unwrap()
}

/// Makes `count` deposits and waits until this instance's view has them.
async fn deposit_and_see(bank: &Bank, count: u64, versions: u64) {
    let mut last = None;
    for _ in 0..count {
        last = Some(bank.execute(deposit("1", 1)).await.unwrap());
    }
    let query = bank.query(statement("1")).after(&last.unwrap());
    let seen = query.patience(Duration::from_mins(1)).await.unwrap().unwrap();
    assert_eq!(seen.versions, (1..=versions).collect::<Vec<_>>());
}

fn is_running(bank: &Bank) -> bool {
    bank.projectors()[0].state == ProjectorState::Running
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_do_not_disturb_each_other_and_take_over() {
    let context = TestContext::new("instances").await;
    let first = instance(&context.name).await;
    first.execute(open("1", 0)).await.unwrap();
    deposit_and_see(&first, 10, 11).await;

    let second = instance(&context.name).await;
    let third = instance(&context.name).await;
    deposit_and_see(&second, 40, 51).await;
    deposit_and_see(&first, 40, 91).await;
    let jetstream = async_nats::jetstream::new(context.nats.client().clone());
    let stream = jetstream.get_stream(context.stream()).await.unwrap();
    let before = stream.consumer_info("statement-v1").await.unwrap();
    assert!([&first, &second, &third].into_iter().all(is_running));
    assert_eq!(before.ack_floor.stream_sequence, 91, "one consumer has delivered everything, in its order");

    first.stop().await;
    deposit_and_see(&second, 10, 101).await;
    second.stop().await;
    deposit_and_see(&third, 10, 111).await;
    third.stop().await;
    let fourth = instance(&context.name).await;
    deposit_and_see(&fourth, 10, 121).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_dies_is_followed_by_another() {
    let context = TestContext::new("mortal").await;
    let (runtime, first) = mortal(&context.name);
    let standby = instance(&context.name).await;
    standby.execute(open("1", 0)).await.unwrap();
    deposit_and_see(&standby, 10, 11).await;
    drop(first);
    runtime.shutdown_background();
    deposit_and_see(&standby, 50, 61).await;
    // Another instance starts while none is active, right after a death.
    let (runtime, second) = mortal(&context.name);
    drop((standby, second));
    runtime.shutdown_background();
    let last = instance(&context.name).await;
    deposit_and_see(&last, 10, 71).await;
}

/// An instance that keeps its views in another store than the context's buckets.
async fn instance_with<V: ViewStore>(context: &str, views: V) -> Bank {
    let nats = Nats::connect(server().await.url()).await.unwrap();
    let events = nats.context(context).await.unwrap().events;
    bank((events, views)).await
}

/// None is a standby for the others: each has views in its own store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_with_views_in_different_stores_go_on_beside_each_other() {
    let (context, database) = (TestContext::new("places").await, TestDatabase::new("places").await);
    let buckets = instance(&context.name).await;
    buckets.execute(open("1", 0)).await.unwrap();
    deposit_and_see(&buckets, 10, 11).await;

    let views = MemoryViews::default();
    let memory_place = views.name();
    let memory = instance_with(&context.name, views).await;
    let another = instance_with(&context.name, MemoryViews::default()).await;
    let sqlite = instance_with(&context.name, SqliteViews::in_memory("places").await.unwrap()).await;
    let postgres = instance_with(&context.name, database.views().await).await;
    deposit_and_see(&memory, 10, 21).await;
    deposit_and_see(&another, 10, 31).await;
    deposit_and_see(&sqlite, 10, 41).await;
    deposit_and_see(&postgres, 10, 51).await;
    deposit_and_see(&buckets, 10, 61).await;

    // Of those on one store, one is active.
    let second = instance_with(&context.name, database.views().await).await;
    deposit_and_see(&second, 10, 71).await;
    postgres.stop().await;
    deposit_and_see(&second, 10, 81).await;
    let jetstream = async_nats::jetstream::new(context.nats.client().clone());
    let mut stream = jetstream.get_stream(context.stream()).await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.consumer_count, 5, "one for each store");
    let place = memory_place.unwrap();
    let forgotten = stream.consumer_info(format!("statement-v1=at={place}")).await.unwrap();
    assert_eq!(forgotten.config.inactive_threshold, Duration::from_hours(1), "the memory may not come back");
}

/// The views in a database, of an instance with connections of its own.
async fn instance_in(url: String, context: String, database: String) -> Bank {
    instance_with(&context, PostgresViews::connect(&url, &database).await.unwrap()).await
}

/// A worker whose save takes longer than `priority_timeout` keeps its pin, unless it is stopped meanwhile: then another
/// saves the same events, and they are written once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_slower_than_a_turn_is_written_once() {
    let context = TestContext::new("slow").await;
    let database = TestDatabase::new("slow").await;
    let bank = || instance_in(database.url.clone(), context.name.clone(), database.context.clone());
    let process = Process::new();
    let first = process.spawn(bank()).await.unwrap();
    let open = open("1", 0);
    let receipt = first.execute(open).await.unwrap();
    first.seen("statement", &receipt).await.unwrap();
    let second = bank().await;

    // This lock stops saves at the documents.
    let mut holder = PgConnection::connect(&database.url).await.unwrap();
    let mut lock = holder.begin().await.unwrap();
    let table = database.views().await.table(&Statement::projection());
    let sql = format!("LOCK TABLE {table} IN SHARE MODE");
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *lock).await.unwrap();
    let mut last = receipt;
    for _ in 0..10 {
        last = second.execute(deposit("1", 1)).await.unwrap();
    }
    let waiting = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%\"{}\"%'",
        database.context
    );
    // A transaction sees the same list of activities until its end.
    let mut watcher = PgConnection::connect(&database.url).await.unwrap();
    let mut are_waiting = async || {
        let waiting = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(waiting.clone()));
        waiting.fetch_one(&mut watcher).await.unwrap()
    };
    eventually("a worker saves", async || are_waiting().await == 1).await;
    let longer_than_a_turn = tokio::time::Instant::now() + Duration::from_secs(5);
    while tokio::time::Instant::now() < longer_than_a_turn {
        assert_eq!(are_waiting().await, 1, "another one had its turn");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let go_on = process.stop();
    eventually("both workers save the same", async || are_waiting().await == 2).await;
    drop(go_on);
    lock.rollback().await.unwrap();
    for bank in [&first, &second] {
        let query = bank.query(statement("1")).after(&last);
        let seen = query.patience(Duration::from_mins(1)).await.unwrap().unwrap();
        assert_eq!(seen.versions, (1..=11).collect::<Vec<_>>());
        eventually("it goes on", async || bank.projectors()[0].state == ProjectorState::Running).await;
    }
    first.stop().await;
    second.stop().await;
}

/// Handles an event for as many milliseconds as its amount says.
#[derive(Clone, Default)]
struct Slow(Arc<Mutex<Work>>);

#[derive(Default)]
struct Work {
    /// The versions whose handling has begun, how many are handled now, and the maximum so far.
    begun: Vec<u64>,
    now: usize,
    most: usize,
}

/// Ends also when the handler is dropped.
struct End<'a>(&'a Slow);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().now -= 1;
    }
}

impl EventHandler for Slow {
    const NAME: &'static str = "slow";
    const START: Start = Start::Beginning;
    type Of = Account;
}

impl On<AccountEvent> for Slow {
    async fn on(&self, event: &Envelope<AccountEvent>) -> Result<(), HandlerError> {
        let _end = {
            let mut work = self.0.lock().unwrap();
            work.begun.push(event.version);
            work.now += 1;
            work.most = work.most.max(work.now);
            End(self)
        };
        if let AccountEvent::Deposited { amount } = event.data {
            tokio::time::sleep(Duration::from_millis(amount)).await;
        }
        Ok(())
    }
}

/// Also if nothing dies, and each event takes longer than `priority_timeout`.
async fn each_event_is_handled_once<B: Backend + Clone>(instances: impl IntoIterator<Item = B>) {
    let slow = Slow::default();
    let mut banks = Vec::new();
    let backends: Vec<B> = instances.into_iter().collect();
    let writer = Cqrs::builder(backends[0].clone()).aggregate::<Account>().start().await.unwrap();
    writer.execute(open("1", 0)).await.unwrap();
    // More than is read ahead.
    for amount in [1_500, 2_500, 6_000].into_iter().chain([0; 997]) {
        writer.execute(deposit("1", amount)).await.unwrap();
    }
    for backend in backends {
        let builder = Cqrs::builder(backend).aggregate::<Account>().event_handler(slow.clone());
        banks.push(builder.start().await.unwrap());
    }
    eventually("all is handled", async || {
        let work = slow.0.lock().unwrap();
        work.begun.contains(&1_001) && work.now == 0
    })
    .await;
    for bank in banks {
        bank.caught_up().await.unwrap();
        bank.stop().await;
    }
    let work = slow.0.lock().unwrap();
    assert_eq!((&work.begun, work.most), (&(1..=1_001).collect(), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_handler_keeps_its_turn() {
    let context = TestContext::new("slow").await;
    let mut backends = Vec::new();
    for _ in 0..3 {
        backends.push(Nats::connect(context.url()).await.unwrap().context(&context.name).await.unwrap());
    }
    each_event_is_handled_once(backends).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_handler_keeps_its_turn_in_memory() {
    let memory = Memory::default();
    each_event_is_handled_once([memory.clone(), memory]).await;
}
