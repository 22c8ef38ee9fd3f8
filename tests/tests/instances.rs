//! Several instances of one service: one of them projects at a time, and another goes on when it ends,
//! in order or not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use cqrs_core::{Cqrs, ProjectorState, View as _};
use cqrs_nats::{Nats, NatsBackend};
use cqrs_sql::sqlx::{self, Connection as _, PgConnection};
use cqrs_tests::{
    TestContext,
    domain::{Account, Deposit, GetStatement, Open, Statement},
    eventually,
    postgres::TestDatabase,
    server,
};
use tokio::runtime::{Builder, Runtime};

type Bank = Cqrs<NatsBackend, (Account,), (Statement,)>;

/// An instance with a connection of its own.
async fn instance(context: &str) -> Bank {
    let nats = Nats::connect(server().await.url()).await.unwrap();
    let backend = nats.context(context).await.unwrap();
    Cqrs::builder(backend).aggregate::<Account>().view::<Statement>().start().await.unwrap()
}

/// An instance in a runtime of its own, which can be ended from one moment to the next.
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

fn deposit() -> Deposit {
    Deposit { account: "1".into(), amount: 1 }
}

/// Makes `count` deposits and waits until this instance's view has them.
async fn deposit_and_see(bank: &Bank, count: u64, versions: u64) {
    let mut last = None;
    for _ in 0..count {
        last = Some(bank.execute(deposit()).await.unwrap());
    }
    let query = bank.query(GetStatement { account: "1".into() }).after(&last.unwrap());
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
    first.execute(Open { account: "1".into(), owner: "anna".into(), amount: 0 }).await.unwrap();
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
    standby.execute(Open { account: "1".into(), owner: "anna".into(), amount: 0 }).await.unwrap();
    deposit_and_see(&standby, 10, 11).await;
    drop(first);
    runtime.shutdown_background();
    deposit_and_see(&standby, 50, 61).await;
    // And one that comes while nobody reads, right after a death.
    let (runtime, second) = mortal(&context.name);
    drop((standby, second));
    runtime.shutdown_background();
    let last = instance(&context.name).await;
    deposit_and_see(&last, 10, 71).await;
}

/// What a save takes is longer than a worker's turn: another one gets it, and both have the same events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_slower_than_a_turn_is_written_once() {
    let context = TestContext::new("slow").await;
    let database = TestDatabase::new("slow").await;
    let bank = async || {
        let nats = Nats::connect(server().await.url()).await.unwrap();
        let backend = (nats.context(&context.name).await.unwrap().events, database.views().await);
        Cqrs::builder(backend).aggregate::<Account>().view::<Statement>().start().await.unwrap()
    };
    let (first, second) = (bank().await, bank().await);
    let open = Open { account: "1".into(), owner: "anna".into(), amount: 0 };
    let receipt = first.execute(open).await.unwrap();
    first.seen("statement", &receipt).await.unwrap();

    // Saves get as far as the documents, behind this lock, and stay there until both workers wait.
    let mut holder = PgConnection::connect(&database.url).await.unwrap();
    let mut lock = holder.begin().await.unwrap();
    let table = database.views().await.table(&Statement::projection());
    let sql = format!("LOCK TABLE {table} IN SHARE MODE");
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *lock).await.unwrap();
    let mut last = receipt;
    for _ in 0..10 {
        last = first.execute(deposit()).await.unwrap();
    }
    let waiting = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%\"{}\"%'",
        database.context
    );
    eventually("both workers save the same", async || {
        let waiting = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(waiting.clone()));
        waiting.fetch_one(&mut *lock).await.unwrap() == 2
    })
    .await;
    lock.rollback().await.unwrap();
    for bank in [&first, &second] {
        let query = bank.query(GetStatement { account: "1".into() }).after(&last);
        let seen = query.patience(Duration::from_mins(1)).await.unwrap().unwrap();
        assert_eq!(seen.versions, (1..=11).collect::<Vec<_>>());
        eventually("it goes on", async || bank.projectors()[0].state == ProjectorState::Running).await;
    }
    first.stop().await;
    second.stop().await;
}
