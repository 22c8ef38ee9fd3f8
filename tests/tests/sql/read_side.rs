//! Queries after a receipt, and many of them at once, on every view store.

use std::time::Duration;

use cqrs_core::{
    Aggregate, Apply, Backend, Command, Context, Cqrs, Event, Handle, Handled, Receipt, memory::MemoryEvents,
};
use cqrs_nats::Nats;
use cqrs_sql::{PostgresViews, SqliteViews, sqlx};
use cqrs_tests::{
    configured_server,
    domain::{Account, CountOpenings, Deposit, GetStatement, Open, Openings, Statement},
    ports::Port,
    postgres::LocalPostgres,
};
use futures_util::future::{join_all, try_join_all};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// How many queries run at once.
const MANY: usize = 400;

cqrs_tests::on_backends! { "read", memory nats sqlite postgres: {
    a_view_is_waited_for_also_after_events_that_it_leaves_out
    a_view_is_not_waited_for_after_events_that_it_does_not_follow
    a_view_that_does_not_get_there_is_an_error_that_says_how_far_and_how_long
} }

/// An aggregate that no view follows.
#[derive(Debug, Default, Clone, Aggregate)]
#[aggregate(id = u32, event = NoteWritten, rejection = std::convert::Infallible)]
struct Notes;

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(name = "note.written")]
struct NoteWritten;

impl Apply<NoteWritten> for Notes {
    fn apply(&mut self, _: &NoteWritten) {}
}

#[derive(Debug, Serialize, Deserialize, Command)]
#[command(aggregate = Notes, upsert)]
struct WriteNote(#[command(id)] u32);

impl Handle<WriteNote> for Notes {
    fn handle(&self, _: &WriteNote, _: &Context) -> Handled<Self> {
        Ok(NoteWritten.into())
    }
}

type Bank = Cqrs<(Account, Notes), (Statement, Openings)>;

async fn bank<B: Backend>(backend: B) -> Bank {
    let builder = Cqrs::builder(backend).aggregate::<Account>().aggregate::<Notes>();
    builder.view::<Statement>().view::<Openings>().start().await.unwrap()
}

async fn open(bank: &Bank) -> Receipt {
    bank.execute(Open { account: "a".into(), owner: "anna".into(), amount: 0 }).await.unwrap()
}

async fn deposit(bank: &Bank) -> Receipt {
    bank.execute(Deposit { account: "a".into(), amount: 1 }).await.unwrap()
}

fn statement() -> GetStatement {
    GetStatement { account: "a".into() }
}

/// A receipt for a command that was not carried out.
fn later(receipt: &Receipt) -> Receipt {
    let mut later = receipt.clone();
    later.position.sequence += 1_000;
    later
}

async fn a_view_is_waited_for_also_after_events_that_it_leaves_out<B: Backend>(backend: B) {
    let bank = bank(backend).await;
    open(&bank).await;
    for _ in 0..3 {
        let deposited = deposit(&bank).await;
        // A deposit changes no document of the view, and yet the view's position includes it.
        assert_eq!(bank.query(CountOpenings).after(&deposited).await.unwrap(), 1);
        let openings = bank.progress().await.unwrap().swap_remove(1);
        assert_eq!(openings.sequence, deposited.position.sequence);
    }
}

async fn a_view_is_not_waited_for_after_events_that_it_does_not_follow<B: Backend>(backend: B) {
    let bank = bank(backend).await;
    let opened = open(&bank).await;
    bank.query(statement()).after(&opened).await.unwrap();
    let written = bank.execute(WriteNote(1)).await.unwrap();
    assert!(written.position.sequence > opened.position.sequence);
    // The view will never reach it, which is known without waiting.
    let seen =
        bank.query(statement()).after(&later(&written)).patience(Duration::from_mins(1)).await.unwrap();
    assert_eq!(seen.unwrap().versions, [1]);
    bank.seen("openings", &written).await.unwrap();
    bank.caught_up().await.unwrap();
}

async fn a_view_that_does_not_get_there_is_an_error_that_says_how_far_and_how_long<B: Backend>(backend: B) {
    let bank = bank(backend).await;
    let late = later(&open(&bank).await);
    let patience = Duration::from_millis(50);
    let error = bank.query(statement()).after(&late).patience(patience).await.unwrap_err();
    let cqrs_core::Error::ViewBehind { view, at, sequence, waited } = error else { panic!("{error:?}") };
    assert_eq!((view, sequence, waited), ("statement", late.position.sequence, patience));
    assert!(at < sequence, "{at}");
    // A call that gave up leaves nothing behind that affects others.
    let deposited = deposit(&bank).await;
    assert_eq!(bank.query(statement()).after(&deposited).await.unwrap().unwrap().versions, [1, 2]);
}

/// Deposits while many queries wait for them, each for one of them.
async fn many_ask_at_once(bank: &Bank) {
    let asking = async |receipt: Receipt| {
        let seen = bank.query(statement()).after(&receipt).patience(Duration::from_mins(1)).await?.unwrap();
        assert!(seen.versions.len() as u64 >= receipt.version);
        Ok::<_, cqrs_core::Error>(())
    };
    let mut waiting = Vec::new();
    for _ in 0..MANY {
        waiting.push(asking(deposit(bank).await));
    }
    try_join_all(waiting).await.unwrap();
}

/// Many queries wait in vain.
async fn many_wait_in_vain(bank: &Bank, receipt: &Receipt) {
    let late = later(receipt);
    let patience = Duration::from_secs(2);
    let waiting = (0..MANY).map(|_| bank.query(statement()).after(&late).patience(patience).into_future());
    for answer in join_all(waiting).await {
        assert!(matches!(answer, Err(cqrs_core::Error::ViewBehind { .. })), "{answer:?}");
    }
}

/// How many connections a NATS server has had.
async fn connections(monitor: u16) -> u64 {
    let mut stream = TcpStream::connect(("127.0.0.1", monitor)).await.unwrap();
    stream.write_all(b"GET /varz HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let varz: serde_json::Value = serde_json::from_str(body).unwrap();
    varz["total_connections"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_queries_share_a_connection_to_nats_and_one_watch() {
    let port = Port::reserve();
    let monitor = port.number();
    let server = configured_server(format!("http: 127.0.0.1:{monitor}")).await;
    let before = connections(monitor).await;
    let nats = Nats::connect(server.url()).await.unwrap();
    let bank = bank(nats.context("shop").await.unwrap()).await;
    open(&bank).await;
    many_ask_at_once(&bank).await;
    assert_eq!(connections(monitor).await, before + 1);

    let last = deposit(&bank).await;
    bank.query(statement()).after(&last).await.unwrap();
    let sent = || nats.client().statistics().out_messages.load(std::sync::atomic::Ordering::Relaxed);
    let sent_before = sent();
    many_wait_in_vain(&bank, &last).await;
    // The projectors send requests now and then; waiting queries send none.
    assert!(sent() - sent_before < 50, "{} requests", sent() - sent_before);
    let jetstream = async_nats::jetstream::new(nats.client().clone());
    let mut bucket = jetstream.get_stream("KV_shop__statement-v1").await.unwrap();
    assert_eq!(bucket.info().await.unwrap().state.consumer_count, 1, "one watch for all who wait");
    assert_eq!(connections(monitor).await, before + 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_queries_share_a_pool_of_connections_to_postgres_and_one_that_listens() {
    let server = LocalPostgres::start().await;
    let views = PostgresViews::connect(&server.url(), "shop").await.unwrap();
    sqlx::query("ALTER SYSTEM SET log_statement = 'all'").execute(views.pool()).await.unwrap();
    let bank = bank((MemoryEvents::default(), views.clone())).await;
    open(&bank).await;
    many_ask_at_once(&bank).await;
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cqrs'";
    let connected: i64 = sqlx::query_scalar(sql).fetch_one(views.pool()).await.unwrap();
    let most = i64::from(views.pool().options().get_max_connections());
    assert!((1..=most + 1).contains(&connected), "{connected} connections, a pool of {most} and a listener");

    let last = deposit(&bank).await;
    bank.query(statement()).after(&last).await.unwrap();
    bank.stop().await;
    sqlx::query("SELECT pg_reload_conf()").execute(views.pool()).await.unwrap();
    cqrs_tests::eventually("statements are logged", async || {
        sqlx::query("SELECT 'is it logged?'").execute(views.pool()).await.unwrap();
        server.log().contains("is it logged?")
    })
    .await;
    let asked = || server.log().matches("FROM \"shop\".\"projections\"").count();
    let asked_before = asked();
    many_wait_in_vain(&bank, &last).await;
    let asked = asked() - asked_before;
    // Each query looks once. The listener looks every five seconds, in case a notification was lost.
    assert!((MANY..MANY + 5).contains(&asked), "{asked} times");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_queries_share_a_few_connections_to_a_file_of_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let views = SqliteViews::open(folder.path().join("views.db"), "shop").await.unwrap();
    let bank = bank((MemoryEvents::default(), views.clone())).await;
    open(&bank).await;
    many_ask_at_once(&bank).await;
    assert!((1..=4).contains(&views.pool().size()), "{} connections that read", views.pool().size());
}
