//! Views in their own tables, in both databases: rebuilt beside the active build, with tables that cannot be created,
//! and of another context's log.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cqrs_core::{
    Cqrs, Envelope, Error, Event, StoreError,
    announce::Announce,
    memory::MemoryEvents,
    model::EventSource,
    port::{EventStore, ProjectionId},
};
use cqrs_sql::{
    PostgresViews, SqlProject, SqlView, SqlViews, SqliteViews, Tables,
    sqlx::{self, PgConnection, Postgres, Sqlite, SqliteConnection},
};
use cqrs_tests::{
    TestContext,
    domain::{Account, AccountEvent, GetStatement, Open, Statement, deposit},
    eventually,
    postgres::TestDatabase,
};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

/// How the tables of [`Rows`] are created.
#[derive(Debug, Clone, Copy)]
enum Index {
    /// With an index whose name belongs to the build.
    Own,
    /// With an index that has the same name in each build.
    Fixed,
    /// They are not created.
    Broken,
}

impl Index {
    fn statement(self) -> &'static str {
        match self {
            Self::Own => "CREATE INDEX {rows.by_version} ON {rows} (version)",
            Self::Fixed => "CREATE INDEX by_version ON {rows} (version)",
            Self::Broken => "CREATE INDEX by_version ON {rows} (no_such_column)",
        }
    }
}

/// A row for each event.
struct Rows(Index);

const ROWS: ProjectionId = ProjectionId::new("rows", 1);

/// The bank's announcement, and the rows that another context keeps of it.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(name = "bank.money-came")]
struct MoneyCame;

struct Bank;

impl EventSource for Bank {
    const NAME: &'static str = "bank";
    type Event = MoneyCame;
}

struct BankAnnouncer;

impl Announce for BankAnnouncer {
    const NAME: &'static str = "bank-announcer";
    type Of = Account;
    type As = Bank;

    fn announce(event: &Envelope<AccountEvent>) -> Option<MoneyCame> {
        matches!(event.data, AccountEvent::Deposited { .. }).then_some(MoneyCame)
    }
}

struct Heard;

const HEARD: ProjectionId = ProjectionId::new("heard", 1);

macro_rules! views_in {
    ($module:ident, $views:ident, $database:ty, $connection:ty) => {
        impl SqlView<$database> for Rows {
            const NAME: &'static str = ROWS.name;
            const TABLES: &'static [&'static str] = &["rows"];
            type Of = (Account,);

            async fn create(&self, tables: &Tables, connection: &mut $connection) -> sqlx::Result<()> {
                let table = "CREATE TABLE {rows} (account text NOT NULL, version bigint NOT NULL)";
                for statement in [table, self.0.statement()] {
                    sqlx::query(tables.sql(statement)).execute(&mut *connection).await?;
                }
                Ok(())
            }
        }

        impl SqlProject<AccountEvent, $database> for Rows {
            async fn project(
                &self,
                event: &Envelope<AccountEvent>,
                tables: &Tables,
                connection: &mut $connection,
            ) -> sqlx::Result<()> {
                assert!(!matches!(event.data, AccountEvent::Deposited { amount: 13 }), "no thirteen");
                let insert = sqlx::query(tables.sql("INSERT INTO {rows} VALUES ($1, $2)"));
                let version = i64::try_from(event.version).unwrap();
                insert.bind(event.subject()).bind(version).execute(connection).await?;
                Ok(())
            }
        }

        impl SqlView<$database> for Heard {
            const NAME: &'static str = HEARD.name;
            const TABLES: &'static [&'static str] = &["heard"];
            type Of = (Bank,);

            async fn create(&self, tables: &Tables, connection: &mut $connection) -> sqlx::Result<()> {
                let table = "CREATE TABLE {heard} (account text NOT NULL)";
                sqlx::query(tables.sql(table)).execute(connection).await?;
                Ok(())
            }
        }

        impl SqlProject<MoneyCame, $database> for Heard {
            async fn project(
                &self,
                event: &Envelope<MoneyCame>,
                tables: &Tables,
                connection: &mut $connection,
            ) -> sqlx::Result<()> {
                let insert = sqlx::query(tables.sql("INSERT INTO {heard} VALUES ($1)"));
                insert.bind(event.subject()).execute(connection).await?;
                Ok(())
            }
        }

        mod $module {
            use super::*;

            type Views = SqlViews<$database>;

            async fn views() -> ([Views; 2], impl Sized) {
                super::$views().await
            }

            async fn bank<E: EventStore>(events: E, views: &Views, index: Index) -> Service {
                let builder =
                    Cqrs::builder((events, views.clone())).aggregate::<Account>().view::<Statement>();
                builder.projection(ROWS, views.projection(Rows(index))).start().await.unwrap()
            }

            /// The number of rows in the active build.
            async fn rows(bank: &Service, views: &Views) -> i64 {
                let build = bank.active_build(ROWS.name).await.unwrap().unwrap();
                let select = views.rows::<Rows>(&build).sql("SELECT count(*) FROM {rows}");
                sqlx::query_scalar(select).fetch_one(views.pool()).await.unwrap()
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_rebuild_whose_tables_cannot_be_created_fails_alone() {
                let ([views, other], _guard) = views().await;
                let events = MemoryEvents::default();
                let first = bank(events.clone(), &views, Index::Fixed).await;
                open(&first).await;
                for _ in 0..2 {
                    let error = first.rebuild(ROWS.name).await.unwrap_err();
                    assert!(matches!(error, Error::Store(StoreError::Refused { .. })), "{error:?}");
                }
                assert_eq!(first.abandon_rebuild(ROWS.name).await.unwrap(), None, "nothing has begun");
                deposit_and_see(&first).await;
                assert_eq!(rows(&first, &views).await, 2);
                first.stop().await;

                let second = bank(events, &other, Index::Own).await;
                deposit_and_see(&second).await;
                second.rebuild(ROWS.name).await.unwrap().finished().await.unwrap();
                let build = second.active_build(ROWS.name).await.unwrap().unwrap();
                assert_eq!(build, ProjectionId { build: 2, ..ROWS });
                assert_eq!(rows(&second, &other).await, 3);
                second.rebuild(ROWS.name).await.unwrap().finished().await.unwrap();
                assert_eq!(rows(&second, &other).await, 3);
                second.stop().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn tables_that_cannot_be_created_keep_nothing_else_from_running() {
                let ([views, other], _guard) = views().await;
                let events = MemoryEvents::default();
                let first = bank(events.clone(), &views, Index::Broken).await;
                let opened = first
                    .execute(Open { account: "1".into(), owner: "anna".into(), amount: 0 })
                    .await
                    .unwrap();
                let statement =
                    first.query(GetStatement { account: "1".into() }).after(&opened).await.unwrap();
                assert_eq!(statement.unwrap().versions, [1]);
                let error = first.seen(ROWS.name, &opened).await.unwrap_err();
                let Error::ProjectionHalted { reason, .. } = error else { panic!("{error:?}") };
                assert!(reason.contains("creating the tables of rows-v1"), "{reason}");
                first.stop().await;

                let second = bank(events, &other, Index::Own).await;
                deposit_and_see(&second).await;
                assert_eq!(rows(&second, &other).await, 2);
                second.stop().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_rule_that_panics_is_about_its_event() {
                let ([views, _other], _guard) = views().await;
                let bank = bank(MemoryEvents::default(), &views, Index::Own).await;
                open(&bank).await;
                bank.execute(deposit("1", 13)).await.unwrap();
                bank.execute(Open { account: "2".into(), owner: "otto".into(), amount: 0 }).await.unwrap();
                let error = bank.caught_up().await.unwrap_err();
                assert!(matches!(error, Error::SetAside { dead_letters: 1, .. }), "{error:?}");
                assert!(error.to_string().contains("the rules panicked: no thirteen"), "{error}");
                assert_eq!(rows(&bank, &views).await, 2, "the other events are there");
                bank.stop().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_view_in_tables_follows_a_public_log() {
                let ([views, _other], _guard) = views().await;
                let (public, own) = (MemoryEvents::default(), MemoryEvents::default());
                let builder = Cqrs::builder((own, cqrs_core::memory::MemoryViews::default()));
                let builder = builder.aggregate::<Account>().view::<Statement>();
                let bank: Service = builder.announcer::<BankAnnouncer>(public.clone()).start().await.unwrap();
                open(&bank).await;
                for _ in 0..3 {
                    bank.execute(deposit("1", 1)).await.unwrap();
                }
                bank.caught_up().await.unwrap();

                let builder = Cqrs::builder((MemoryEvents::default(), views.clone()));
                let follower = builder.following(&public).projection(HEARD, views.projection(Heard));
                let follower = follower.start().await.unwrap();
                follower.caught_up().await.unwrap();
                let select = views.rows::<Heard>(&HEARD).sql("SELECT count(*) FROM {heard}");
                let heard: i64 = sqlx::query_scalar(select).fetch_one(views.pool()).await.unwrap();
                assert_eq!(heard, 3);
                follower.stop().await;
                bank.stop().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn who_asks_two_instances_never_goes_back_in_time() {
                let (views, _guard) = views().await;
                let context = TestContext::new("rows").await;
                let [one, other] = &views;
                let banks = [
                    bank(context.backend().await.events, one, Index::Own).await,
                    bank(context.backend().await.events, other, Index::Own).await,
                ];
                open(&banks[0]).await;
                let over = Arc::new(AtomicBool::new(false));
                let writer = {
                    let (bank, over) = (banks[0].clone(), Arc::clone(&over));
                    tokio::spawn(async move {
                        while !over.load(Ordering::Relaxed) {
                            bank.execute(deposit("1", 1)).await.unwrap();
                            // So that the new build can catch up.
                            sleep(Duration::from_millis(1)).await;
                        }
                    })
                };
                let reader = {
                    let (banks, over, views) = (banks.clone(), Arc::clone(&over), views.clone());
                    tokio::spawn(async move {
                        let (mut seen, mut back) = (0, Vec::new());
                        for (bank, views) in banks.iter().zip(&views).cycle() {
                            let now = rows(bank, views).await;
                            if now < seen {
                                back.push((seen, now));
                            }
                            seen = now;
                            if over.load(Ordering::Relaxed) {
                                break;
                            }
                        }
                        back
                    })
                };
                banks[1].rebuild(ROWS.name).await.unwrap().finished().await.unwrap();
                let second = ProjectionId { build: 2, ..ROWS };
                eventually("both answer from the new one", async || {
                    banks[0].active_build(ROWS.name).await.unwrap().as_ref() == Some(&second)
                })
                .await;
                over.store(true, Ordering::Relaxed);
                assert_eq!(reader.await.unwrap(), [], "what was seen, and what came after it");
                writer.await.unwrap();
                for bank in &banks {
                    bank.stop().await;
                }
            }
        }
    };
}

views_in!(sqlite, in_a_file, Sqlite, SqliteConnection);
views_in!(postgres, in_a_database, Postgres, PgConnection);

async fn in_a_file() -> ([SqliteViews; 2], tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let open = async || SqliteViews::open(folder.path().join("views.db"), "rows").await.unwrap();
    ([open().await, open().await], folder)
}

async fn in_a_database() -> ([PostgresViews; 2], TestDatabase) {
    let database = TestDatabase::new("rows").await;
    ([database.views().await, database.views().await], database)
}

type Service = Cqrs<(Account,), (Statement,)>;

async fn open(bank: &Service) {
    let opened = bank.execute(Open { account: "1".into(), owner: "anna".into(), amount: 0 }).await.unwrap();
    for projection in bank.projectors() {
        bank.seen(projection.projection.name, &opened).await.unwrap();
    }
}

async fn deposit_and_see(bank: &Service) {
    let receipt = bank.execute(deposit("1", 1)).await.unwrap();
    bank.seen(ROWS.name, &receipt).await.unwrap();
}
