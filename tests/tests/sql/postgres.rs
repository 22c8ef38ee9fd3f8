//! The view store in Postgres: the contract, and failures of a real server.

use std::time::Duration;

use cqrs_core::{
    StoreError,
    port::{SaveError, ViewStore},
};
use cqrs_sql::{
    PostgresViews, SqlError,
    sqlx::{self, Connection as _, PgConnection},
};
use cqrs_tests::{
    counting::{COUNTING, count, counted},
    eventually,
    postgres::{LocalPostgres, TestDatabase},
};
use futures_util::future::join_all;

cqrs_core::view_store_contract!(async {
    let database = TestDatabase::new("contract").await;
    (database.views().await, database)
});

/// Counts until it succeeds, through transient failures.
async fn count_at_last(views: &PostgresViews) {
    eventually("a save", async || match count(views).await {
        Ok(_) => true,
        Err(SaveError::Conflict) => false,
        Err(SaveError::Failed(error)) => {
            assert!(error.is_transient(), "{error:?}");
            false
        }
    })
    .await;
}

#[tokio::test]
async fn contexts_in_one_database_are_apart() {
    let (one, other) = (TestDatabase::new("one").await, TestDatabase::new("other").await);
    let (ones, others) = (one.views().await, other.views().await);
    for views in [&ones, &others] {
        views.open(&COUNTING).await.expect("the view");
    }
    count(&ones).await.expect("a save");
    assert_eq!((counted(&ones).await, counted(&others).await), (1, 0));
    ones.remove(&COUNTING).await.expect("a removal");
    count(&others).await.expect("a save");
}

#[tokio::test]
async fn many_may_open_a_new_context_at_once() {
    let database = TestDatabase::new("race").await;
    let open = async || {
        let views = database.views().await;
        views.open(&COUNTING).await.expect("the view");
        views
    };
    let all = join_all((0..8).map(|_| open())).await;
    count(&all[0]).await.expect("a save");
    assert_eq!(counted(&all[7]).await, 1);
}

#[tokio::test]
async fn a_save_wakes_those_who_wait_in_other_processes() {
    let database = TestDatabase::new("notify").await;
    let (one, other) = (database.views().await, database.views().await);
    one.open(&COUNTING).await.expect("the view");
    let waiting = async { other.reached(&COUNTING, 3).await.expect("a wait") };
    let saving = async {
        for _ in 0..3 {
            count(&one).await.expect("a save");
        }
    };
    tokio::join!(waiting, saving);

    // Now it listens. Its connection is ended, and the waiting calls do not notice.
    let listening = async {
        let of_this_test = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%:{}\"%'",
            database.context
        );
        database.run(&of_this_test).await;
        count(&one).await.expect("a save");
    };
    let waiting = async { other.reached(&COUNTING, 4).await.expect("a wait") };
    tokio::join!(waiting, listening);

    // A removed view goes back for all waiting calls.
    one.remove(&COUNTING).await.expect("a removal");
    one.open(&COUNTING).await.expect("the view, anew");
    let early = tokio::time::timeout(Duration::from_millis(50), other.reached(&COUNTING, 2)).await;
    assert!(early.is_err(), "a removed view is nowhere");
    let waiting = async { other.reached(&COUNTING, 1).await.expect("a wait") };
    let saving = async { count(&one).await.expect("a save") };
    tokio::join!(waiting, saving);
}

#[tokio::test]
async fn a_removed_view_cannot_be_saved_to_by_those_who_knew_it() {
    let database = TestDatabase::new("removed").await;
    let views = database.views().await;
    views.open(&COUNTING).await.expect("the view");
    count(&views).await.expect("a save");
    let known = views.checkpoint(&COUNTING).await.expect("the checkpoint");
    views.remove(&COUNTING).await.expect("a removal");
    views.open(&COUNTING).await.expect("the view, anew");
    for _ in 0..3 {
        count(&views).await.expect("a save");
        let checkpoint = known.checkpoint.as_ref().expect("a checkpoint");
        let late = cqrs_core::port::Save { writes: &[], notes: &[], checkpoint, revision: known.revision };
        let answer = views.save(&COUNTING, late).await;
        assert!(matches!(answer, Err(SaveError::Conflict)), "{answer:?}");
    }
    assert_eq!(counted(&views).await, 3);
}

/// The runtime stands still while another thread asks for the lock, so that nothing gives it back later.
#[tokio::test]
async fn a_save_that_is_refused_holds_no_lock_any_more() {
    let database = TestDatabase::new("locks").await;
    let views = database.views().await;
    views.open(&COUNTING).await.expect("the view");
    count(&views).await.expect("a save");
    let stale = cqrs_core::port::Checkpoint::default();
    let document = [cqrs_core::port::Write { key: "1".into(), document: Some("{}".into()), revision: 9 }];
    let known = views.checkpoint(&COUNTING).await.expect("the checkpoint").revision;
    for (writes, revision) in [(&[][..], known + 1), (&document[..], known)] {
        let save = cqrs_core::port::Save { writes, notes: &[], checkpoint: &stale, revision };
        let answer = views.save(&COUNTING, save).await;
        assert!(matches!(answer, Err(SaveError::Conflict)), "{answer:?}");
        let lock = format!(
            "BEGIN; LOCK TABLE \"{0}\".\"projections\" IN ACCESS EXCLUSIVE MODE NOWAIT; ROLLBACK",
            database.context
        );
        let url = database.url.clone();
        let locking = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut connection = PgConnection::connect(&url).await?;
                sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut connection).await.map(drop)
            })
        });
        locking.join().expect("no panic").expect("the lock");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_saves_are_whole_or_absent() {
    let database = TestDatabase::new("dropped").await;
    let views = database.views().await;
    views.open(&COUNTING).await.expect("the view");
    for micros in (0..200).map(|step| step * 50) {
        let _ = tokio::time::timeout(Duration::from_micros(micros), count(&views)).await;
        counted(&views).await;
    }
    count_at_last(&views).await;
    println!("{} of 201 saves were stored", counted(&views).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_keeps_each_save_whole_and_once() {
    let mut server = LocalPostgres::start().await;
    let views = PostgresViews::connect(&server.url(), "killed").await.expect("the views");
    views.open(&COUNTING).await.expect("the view");
    let (mut confirmed, mut unknown) = (0, 0);
    for _ in 0..5 {
        let (saver, saving) = (views.clone(), tokio::sync::Notify::new());
        let working = async {
            for saves in 0.. {
                match count(&saver).await {
                    Ok(number) => confirmed = number,
                    Err(_) => break,
                }
                if saves == 20 {
                    saving.notify_one();
                }
            }
        };
        let killing = async {
            saving.notified().await;
            server.kill();
        };
        tokio::join!(working, killing);
        server.restart().await;
        count_at_last(&views).await;
        let number = counted(&views).await;
        // The save before this one may be stored although its caller got no answer.
        assert!(number == confirmed + 1 || number == confirmed + 2, "{number} after {confirmed}");
        unknown += number - confirmed - 1;
        confirmed = number;
    }
    println!("{unknown} of 5 saves were stored without an answer");
}

#[tokio::test]
async fn a_save_whose_connection_is_ended_changes_nothing() {
    let database = TestDatabase::new("ended").await;
    let views = database.views().await;
    views.open(&COUNTING).await.expect("the view");
    count(&views).await.expect("a save");

    // This lock stops the save at the documents.
    let mut holder = PgConnection::connect(&database.url).await.expect("a connection");
    let mut lock = holder.begin().await.expect("a transaction");
    let sql = format!("LOCK TABLE {} IN SHARE MODE", views.table(&COUNTING));
    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *lock).await.expect("a lock");
    let saving = count(&views);
    let ending = async {
        eventually("the save's connection is found", async || {
            let ended: Vec<bool> = sqlx::query_scalar(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted AND relation = $1::regclass",
            )
            .bind(views.table(&COUNTING))
            .fetch_all(&mut *lock)
            .await
            .expect("the locks");
            ended == [true]
        })
        .await;
    };
    let (saved, ()) = tokio::join!(saving, ending);
    assert!(
        matches!(&saved, Err(SaveError::Failed(error @ StoreError::Unavailable { .. })) if error.is_transient()),
        "{saved:?}"
    );
    assert_eq!(counted(&views).await, 1);
    lock.rollback().await.expect("the end of the lock");
    assert_eq!(count(&views).await.expect("the next save"), 2);
}

#[tokio::test]
async fn who_cannot_connect_is_told_why_without_secrets() {
    let server = LocalPostgres::start().await;
    let refused = async |url: &str| {
        let error = PostgresViews::connect(url, "orders").await.expect_err("no views");
        let text = format!("{error} {error:?}");
        assert!(!text.contains("wr0ng") && !text.contains(cqrs_tests::postgres::PASSWORD), "{text}");
        error
    };
    let error = refused(&server.url_as("postgres", "wr0ng")).await;
    assert!(matches!(error, SqlError::Unauthorized { .. }), "{error:?}");
    let error = refused(&server.url().replace("/postgres?", "/missing?")).await;
    assert!(matches!(error, SqlError::NoDatabase { .. }), "{error:?}");
    let error = refused("postgres://anna:wr0ng@127.0.0.1:1/db").await;
    assert!(matches!(error, SqlError::Unreachable { .. }), "{error:?}");
    let error = refused("postgres://anna:wr0ng@host:port/db").await;
    assert!(matches!(error, SqlError::Address { .. }), "{error:?}");
    let error = refused(&server.url().replace("sslmode=disable", "sslmode=require")).await;
    assert!(matches!(error, SqlError::Tls { .. }), "{error:?}");
    let error = PostgresViews::connect(&server.url(), "Orders!").await.expect_err("no views");
    assert!(matches!(error, SqlError::Context { .. }), "{error:?}");
}

#[tokio::test]
async fn a_user_needs_no_more_rights_than_to_what_there_is() {
    let server = LocalPostgres::start().await;
    let admin = PostgresViews::connect(&server.url(), "orders").await.expect("the views");
    admin.open(&COUNTING).await.expect("the view");
    let run = async |sql: &'static str| {
        let mut connection = PgConnection::connect(&server.url()).await.expect("a connection");
        sqlx::raw_sql(sql).execute(&mut connection).await.expect("a statement");
    };
    run("CREATE ROLE clerk LOGIN PASSWORD 'clerk'").await;
    let url = server.url_as("clerk", "clerk");
    let error = PostgresViews::connect(&url, "invoices").await.expect_err("no right to create a schema");
    assert!(matches!(error, SqlError::NotPermitted { .. }), "{error:?}");

    run("GRANT USAGE ON SCHEMA orders TO clerk; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA orders TO clerk")
    .await;
    let views = PostgresViews::connect(&url, "orders").await.expect("the views");
    views.open(&COUNTING).await.expect("the view, which is there");
    count(&views).await.expect("a save");

    run("REVOKE UPDATE ON ALL TABLES IN SCHEMA orders FROM clerk").await;
    let answer = count(&views).await;
    assert!(matches!(answer, Err(SaveError::Failed(StoreError::Refused { .. }))), "{answer:?}");
    assert_eq!(counted(&views).await, 1);
}

#[tokio::test]
async fn tables_of_another_layout_are_left_alone() {
    let database = TestDatabase::new("layout").await;
    database.views().await;
    database.run(&format!("UPDATE \"{}\".layout SET version = 7", database.context)).await;
    let error = PostgresViews::connect(&database.url, &database.context).await.expect_err("no views");
    assert!(matches!(error, SqlError::Layout { found: 7, known: 1, .. }), "{error:?}");
}

#[tokio::test]
async fn names_that_postgres_would_cut_short_are_refused() {
    let database = TestDatabase::new("long").await;
    let views = database.views().await;
    let long = cqrs_core::port::ProjectionId::new(
        "a-name-that-is-by-far-too-long-to-be-the-name-of-a-table-in-a-database",
        1,
    );
    let answer = views.open(&long).await;
    assert!(matches!(answer, Err(StoreError::Refused { .. })), "{answer:?}");
}

#[tokio::test]
async fn what_is_not_text_is_refused() {
    let database = TestDatabase::new("text").await;
    let views = database.views().await;
    views.open(&COUNTING).await.expect("the view");
    for document in [&b"\xff"[..], b"\0"] {
        let write = cqrs_core::port::Write {
            key: "a".into(),
            document: Some(bytes::Bytes::copy_from_slice(document)),
            revision: 0,
        };
        let checkpoint = cqrs_core::port::Checkpoint { log: "log".into(), sequence: 1, ..Default::default() };
        let save =
            cqrs_core::port::Save { writes: &[write], notes: &[], checkpoint: &checkpoint, revision: 0 };
        let answer = views.save(&COUNTING, save).await;
        assert!(matches!(answer, Err(SaveError::Failed(StoreError::Refused { .. }))), "{answer:?}");
    }
    assert_eq!(counted(&views).await, 0);
}
