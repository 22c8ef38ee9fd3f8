//! Typed queries of rows, in both databases: after a receipt, through a rebuild, while there is no build yet, after errors
//! of the database, and through interceptors.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use cqrs_core::{
    Answer, Cqrs, Envelope, Error, Query, StoreError,
    by_name::Router,
    intercept::{Call, CallKind, Interceptor, Next, Outcome, Refused},
    memory::MemoryEvents,
    port::{BoxFuture, EventStore},
};
use cqrs_sql::{
    InPostgres, InSqlite, PostgresViews, Rows, SqlProject, SqlView, SqlViews, SqliteViews, Tables,
    sqlx::{self, PgConnection, Postgres, Sqlite, SqliteConnection},
};
use cqrs_tests::{
    domain::{Account, AccountEvent, deposit, open},
    postgres::TestDatabase,
    with_causes,
};
use serde::{Deserialize, Serialize};
use tokio_util::task::AbortOnDropHandle;

/// A row for each event.
struct Ledger;

/// The ledger, as a newer program has it.
struct NewLedger;

/// Another view, with the same rows.
struct Copy;

macro_rules! ledger {
    ($view:ty, $name:literal, $version:literal, $database:ty, $connection:ty) => {
        impl SqlView<$database> for $view {
            const NAME: &'static str = $name;
            const VERSION: u32 = $version;
            const TABLES: &'static [&'static str] = &["entries"];
            type Of = (Account,);

            async fn create(&self, tables: &Tables, connection: &mut $connection) -> sqlx::Result<()> {
                let create = "CREATE TABLE {entries} (account text NOT NULL, version bigint NOT NULL)";
                sqlx::query(tables.sql(create)).execute(connection).await?;
                Ok(())
            }
        }

        impl SqlProject<AccountEvent, $database> for $view {
            async fn project(
                &self,
                event: &Envelope<AccountEvent>,
                tables: &Tables,
                connection: &mut $connection,
            ) -> sqlx::Result<()> {
                let insert = sqlx::query(tables.sql("INSERT INTO {entries} VALUES ($1, $2)"));
                let version = i64::try_from(event.version).unwrap();
                insert.bind(event.subject()).bind(version).execute(connection).await?;
                Ok(())
            }
        }
    };
}

/// How a statement goes wrong.
#[derive(Debug, Clone, Copy)]
enum Failure {
    /// The connection is lost, as often as this.
    Lost(u32),
    /// The statement names no table.
    NoTable,
    /// There is no row to fetch.
    NoRow,
}

/// The kind, the name and the targets of a call.
type Seen = (CallKind, &'static str, &'static [&'static str]);

/// Sees every call, and refuses those of the name.
struct Sees {
    calls: Arc<Mutex<Vec<Seen>>>,
    refuses: &'static str,
}

impl Interceptor for Sees {
    fn around<'a>(&'a self, call: Call<'a>, next: Next<'a>) -> BoxFuture<'a, Result<Outcome, Refused>> {
        self.calls.lock().unwrap().push((call.kind, call.name, call.targets));
        if call.name == self.refuses {
            return Box::pin(async { Err(Refused::new("not for you")) });
        }
        next.run(call)
    }
}

macro_rules! queries_in {
    ($module:ident, $views:ident, $In:ident, $database:ty, $connection:ty) => {
        ledger!(Ledger, "ledger", 1, $database, $connection);
        ledger!(NewLedger, "ledger", 2, $database, $connection);
        ledger!(Copy, "copy", 1, $database, $connection);

        mod $module {
            use super::*;

            /// How many entries an account has, and the table that they are in.
            #[derive(Serialize, Deserialize, Query)]
            #[query(view = $In<Ledger>, answer = (i64, String))]
            struct Entries {
                account: String,
            }

            impl Answer<Entries> for $In<Ledger> {
                async fn answer(query: Entries, rows: &Rows<$database>) -> Result<(i64, String), Error> {
                    let count = "SELECT count(*) FROM {entries} WHERE account = $1";
                    let counting =
                        || sqlx::query_scalar(rows.sql(count)).bind(&query.account).fetch_one(rows.pool());
                    let table = rows.tables().name("entries").unwrap();
                    Ok((rows.read(counting).await?, table.to_owned()))
                }
            }

            /// How many entries there are, according to a newer program.
            #[derive(Query)]
            #[query(view = $In<NewLedger>, answer = i64)]
            struct NewEntries;

            impl Answer<NewEntries> for $In<NewLedger> {
                async fn answer(_: NewEntries, rows: &Rows<$database>) -> Result<i64, Error> {
                    let count = || {
                        sqlx::query_scalar(rows.sql("SELECT count(*) FROM {entries}")).fetch_one(rows.pool())
                    };
                    rows.read(count).await
                }
            }

            /// Fails, and counts the attempts.
            #[derive(Query)]
            #[query(view = $In<Ledger>, answer = i64)]
            struct Fails(Failure, Arc<AtomicU32>);

            impl Answer<Fails> for $In<Ledger> {
                async fn answer(Fails(failure, attempts): Fails, rows: &Rows<$database>) -> Result<i64, Error> {
                    let attempt = || async {
                        let before = attempts.fetch_add(1, Relaxed);
                        let statement = match failure {
                            Failure::Lost(times) if before < times => return Err(sqlx::Error::PoolTimedOut),
                            Failure::Lost(_) => "SELECT count(*) FROM {entries}",
                            Failure::NoTable => "SELECT count(*) FROM no_such_table",
                            Failure::NoRow => "SELECT version FROM {entries} WHERE version < 0",
                        };
                        sqlx::query_scalar(rows.sql(statement)).fetch_one(rows.pool()).await
                    };
                    rows.read(attempt).await
                }
            }

            /// What two views have, joined by the database.
            #[derive(Query)]
            #[query(view = ($In<Ledger>, $In<Copy>), answer = i64)]
            struct InBoth;

            impl Answer<InBoth> for ($In<Ledger>, $In<Copy>) {
                async fn answer(_: InBoth, (ledger, copy): &Self::Reader) -> Result<i64, Error> {
                    let one = ledger.tables().name("entries").unwrap();
                    let other = copy.tables().name("entries").unwrap();
                    let joined = format!("SELECT count(*) FROM {one} JOIN {other} USING (account, version)");
                    ledger
                        .read(|| {
                            let joined = sqlx::AssertSqlSafe(joined.clone());
                            sqlx::query_scalar(joined).fetch_one(ledger.pool())
                        })
                        .await
                }
            }

            type Views = SqlViews<$database>;
            type Bank = Cqrs<(Account,), ($In<Ledger>, $In<Copy>)>;

            async fn bank<E: EventStore>(events: E, views: &Views) -> Bank {
                let builder = Cqrs::builder((events, views.clone())).aggregate::<Account>();
                let builder = builder.read_model(views.projection(Ledger));
                builder.read_model(views.projection(Copy)).start().await.unwrap()
            }

            fn entries() -> Entries {
                Entries { account: "1".into() }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn rows_are_read_after_a_receipt() {
                let (views, _guard) = $views().await;
                let bank = bank(MemoryEvents::default(), &views).await;
                let mut receipt = bank.execute(open("1", 0)).await.unwrap();
                for number in 1..20 {
                    let asked = tokio::spawn(bank.query(entries()).after(&receipt).into_future());
                    assert_eq!(asked.await.unwrap().unwrap().0, number);
                    assert_eq!(bank.query(InBoth).after(&receipt).await.unwrap(), number);
                    receipt = bank.execute(deposit("1", 1)).await.unwrap();
                }
                let mut late = receipt.clone();
                late.position.sequence += 1_000;
                let patience = Duration::from_millis(50);
                let error = bank.query(entries()).after(&late).patience(patience).await.unwrap_err();
                let Error::ViewBehind { view, sequence, waited, .. } = error else { panic!("{error:?}") };
                assert_eq!((view, sequence, waited), ("ledger", late.position.sequence, patience));
                bank.stop().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn rows_are_read_from_the_active_build() {
                let (views, _guard) = $views().await;
                let bank = bank(MemoryEvents::default(), &views).await;
                let opened = bank.execute(open("1", 0)).await.unwrap();
                let (_, first) = bank.query(entries()).after(&opened).await.unwrap();
                let asking = {
                    let bank = bank.clone();
                    AbortOnDropHandle::new(tokio::spawn(async move {
                        let mut tables = Vec::new();
                        loop {
                            let receipt = bank.execute(deposit("1", 1)).await.unwrap();
                            let (count, table) = bank.query(entries()).after(&receipt).await.unwrap();
                            assert_eq!(count.unsigned_abs(), receipt.version, "in {table}");
                            if tables.last() != Some(&table) {
                                tables.push(table);
                            }
                            if tables.len() == 2 {
                                return tables;
                            }
                        }
                    }))
                };
                bank.rebuild("ledger").await.unwrap().finished().await.unwrap();
                let tables = asking.await.unwrap();
                assert_eq!(tables, [first.clone(), first.replace("ledger-v1", "ledger-v1-b2")]);
                bank.remove_old_builds("ledger").await.unwrap();
                assert_eq!(bank.query(entries()).await.unwrap().1, tables[1]);
                bank.stop().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_version_that_is_being_built_does_not_answer() {
                let (views, _guard) = $views().await;
                let events = MemoryEvents::default();
                let old = bank(events.clone(), &views).await;
                let opened = old.execute(open("1", 0)).await.unwrap();
                old.query(entries()).after(&opened).await.unwrap();

                let builder = Cqrs::builder((events.clone(), views.clone())).aggregate::<Account>();
                let builder = builder.read_model(views.projection(NewLedger)).build_changed_views();
                let looking = builder.without_projectors().start().await.unwrap();
                let patience = Duration::from_millis(50);
                for query in [looking.query(NewEntries), looking.query(NewEntries).after(&opened)] {
                    let error = query.patience(patience).await.unwrap_err();
                    let Error::ViewBuilding { view, version } = error else { panic!("{error:?}") };
                    assert_eq!((view, version), ("ledger", 2));
                }
                assert_eq!(old.query(entries()).await.unwrap().0, 1, "the old version answers");

                let builder = Cqrs::builder((events, views.clone())).aggregate::<Account>();
                let builder = builder.read_model(views.projection(NewLedger)).build_changed_views();
                let new = builder.start().await.unwrap();
                // This one waits until it is built.
                assert_eq!(new.query(NewEntries).after(&opened).await.unwrap(), 1);
                assert_eq!(looking.query(NewEntries).after(&opened).await.unwrap(), 1);
                for bank in [&looking, &new] {
                    bank.stop().await;
                }
                old.stop().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn an_error_of_the_database_is_the_answer() {
                let (views, _guard) = $views().await;
                let bank = bank(MemoryEvents::default(), &views).await;
                let opened = bank.execute(open("1", 0)).await.unwrap();
                bank.query(entries()).after(&opened).await.unwrap();
                let attempts = Arc::<AtomicU32>::default();
                let fails = |failure| {
                    attempts.store(0, Relaxed);
                    bank.query(Fails(failure, Arc::clone(&attempts)))
                };

                assert_eq!(fails(Failure::Lost(2)).await.unwrap(), 1);
                assert_eq!(attempts.load(Relaxed), 3, "what may pass is asked again");
                let error = fails(Failure::Lost(u32::MAX)).patience(Duration::from_secs(1)).await;
                let error = error.unwrap_err();
                let Error::Store(StoreError::Unavailable { .. }) = &error else { panic!("{error:?}") };
                assert!(attempts.load(Relaxed) > 1);

                for failure in [Failure::NoTable, Failure::NoRow] {
                    let error = fails(failure).await.unwrap_err();
                    let Error::Store(StoreError::Refused { what, .. }) = &error else { panic!("{error:?}") };
                    assert_eq!(what, "reading view ledger-v1");
                    assert_eq!(attempts.load(Relaxed), 1, "what does not pass is not asked again");
                    let cause = if matches!(failure, Failure::NoTable) { "no_such_table" } else { "no rows" };
                    assert!(with_causes(&error).contains(cause), "{}", with_causes(&error));
                }

                views.pool().close().await;
                let error = bank.query(entries()).patience(Duration::from_secs(1)).await.unwrap_err();
                assert!(matches!(&error, Error::Store(StoreError::Unavailable { .. })), "{error:?}");
                bank.stop().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn interceptors_see_the_query_and_each_view() {
                let (views, _guard) = $views().await;
                let calls = Arc::default();
                let builder = Cqrs::builder((MemoryEvents::default(), views.clone())).aggregate::<Account>();
                let builder = builder.read_model(views.projection(Ledger));
                let builder = builder.read_model(views.projection(Copy));
                let builder = builder.interceptor(Sees { calls: Arc::clone(&calls), refuses: "fails" });
                let bank = builder.start().await.unwrap();
                let opened = bank.execute(open("1", 0)).await.unwrap();
                assert_eq!(bank.query(entries()).after(&opened).await.unwrap().0, 1);
                assert_eq!(bank.query(InBoth).after(&opened).await.unwrap(), 1);
                let error = bank.query(Fails(Failure::NoTable, Arc::default())).await.unwrap_err();
                assert!(matches!(&error, Error::Refused(refused) if refused.reason == "not for you"));
                // Off a wire, too.
                let router = Router::new(bank.clone()).query::<Entries, _>();
                let answer = router.answer("entries", br#"{"account":"1"}"#).await.unwrap();
                assert!(answer.starts_with(b"[1,"), "{answer:?}");
                let expected: [Seen; 5] = [
                    (CallKind::Command, "open", &["account"]),
                    (CallKind::Query, "entries", &["ledger"]),
                    (CallKind::Query, "in_both", &["ledger", "copy"]),
                    (CallKind::Query, "fails", &["ledger"]),
                    (CallKind::Query, "entries", &["ledger"]),
                ];
                assert_eq!(*calls.lock().unwrap(), expected);
                bank.stop().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn an_answer_reads_a_build_that_is_named_by_hand() {
                let (views, _guard) = $views().await;
                let bank = bank(MemoryEvents::default(), &views).await;
                bank.execute(open("1", 5)).await.unwrap();
                bank.caught_up().await.unwrap();
                let rows = views.rows::<Ledger>(&<Ledger as SqlView<$database>>::id());
                assert_eq!(<$In<Ledger>>::answer(entries(), &rows).await.unwrap().0, 2);
                bank.stop().await;
            }
        }
    };
}

queries_in!(sqlite, in_a_file, InSqlite, Sqlite, SqliteConnection);
queries_in!(postgres, in_a_database, InPostgres, Postgres, PgConnection);

async fn in_a_file() -> (SqliteViews, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (SqliteViews::open(folder.path().join("views.db"), "bank").await.unwrap(), folder)
}

async fn in_a_database() -> (PostgresViews, TestDatabase) {
    let database = TestDatabase::new("queries").await;
    (database.views().await, database)
}

/// The rows of a view cannot be changed by an answer.
#[tokio::test]
async fn an_answer_in_sqlite_only_reads() {
    #[derive(Query)]
    #[query(view = InSqlite<Ledger>, answer = ())]
    struct Forget;

    impl Answer<Forget> for InSqlite<Ledger> {
        async fn answer(_: Forget, rows: &Rows<Sqlite>) -> Result<(), Error> {
            rows.read(|| sqlx::query(rows.sql("DELETE FROM {entries}")).execute(rows.pool())).await.map(drop)
        }
    }

    let (views, _guard) = in_a_file().await;
    let builder = Cqrs::builder((MemoryEvents::default(), views.clone())).aggregate::<Account>();
    let bank = builder.read_model(views.projection(Ledger)).start().await.unwrap();
    let error = with_causes(&bank.query(Forget).await.unwrap_err());
    assert!(error.contains("readonly"), "{error}");
    bank.stop().await;
}
