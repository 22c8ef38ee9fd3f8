//! The figures from each view store, also when the process that fills it is killed.

use async_nats::jetstream;
use cqrs_tests::{
    TestContext, eventually,
    postgres::{TestDatabase, postgres},
};
use serde_json::Value;

use crate::{
    EVENTS, fold, northwind_figures,
    scenario::check_scenario,
    support::{NORTHWIND, Run, Small, order_service},
};

/// A view store on the command line, with the resources of a test.
struct Store {
    context: TestContext,
    views: String,
    database: Option<TestDatabase>,
    /// The folder of stores in files.
    folder: tempfile::TempDir,
}

impl Store {
    async fn new(views: &str) -> Self {
        let (context, folder) =
            (TestContext::new(&format!("views-{views}")).await, tempfile::tempdir().unwrap());
        let database = match views {
            // The schema has the context's name.
            "postgres" => {
                let url = postgres().await.url().to_owned();
                Some(TestDatabase::of(url, context.name.clone()))
            }
            _ => None,
        };
        Self { context, views: views.to_owned(), database, folder }
    }

    /// The program with these arguments, on the shared NATS server with its views in this store.
    async fn run(&self, arguments: &[&str]) -> Run {
        let store = ["--context", &self.context.name, "--views", &self.views];
        let folder = self.folder.path().to_str().unwrap();
        let run = order_service(arguments.iter().chain(&store).chain(&["--data", folder]));
        let run = match &self.database {
            Some(database) => run.env("DATABASE_URL", &database.url),
            None => run,
        };
        run.nats().await
    }

    async fn report(&self, arguments: &[&str]) -> Value {
        let report = ["report", "--format", "json"];
        self.run(&[&report, arguments].concat()).await.run().json()
    }

    /// Begins an import and kills it when a part of the events is stored.
    async fn import_is_killed(&self) {
        let importing = self.run(&["import", NORTHWIND]).await.begin();
        let jetstream = jetstream::new(self.context.nats.client().clone());
        eventually("a part is stored", async || match jetstream.get_stream(self.context.stream()).await {
            Ok(stream) => stream.cached_info().state.messages > EVENTS / 4,
            Err(_) => false,
        })
        .await;
        let ended = importing.kill();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(9), "it had ended before");
    }
}

/// All view stores that this program was built with.
fn every_store() -> impl Iterator<Item = &'static str> {
    let stores = ["kv", "sqlite", "postgres", "memory"];
    stores.into_iter().filter(|store| *store != "postgres" || cfg!(feature = "postgres"))
}

/// The scenario queries every view of the service, also the one of both aggregates.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scenario_runs_on_every_store() {
    for views in every_store() {
        let output = Store::new(views).await.run(&[]).await.run();
        assert!(output.success(), "{output:?}");
        check_scenario(&output.stdout);
    }
}

/// The import is killed and run again; then the views have the figures of the files.
async fn a_killed_import_is_run_again(views: &str) {
    let store = Store::new(views).await;
    store.import_is_killed().await;

    let figures = store.run(&["import", NORTHWIND, "--format", "json"]).await.run().json();
    let (new, repeats) = (figures["new_events"].as_u64().unwrap(), figures["repeats"].as_u64().unwrap());
    assert!(new > 0 && repeats > 0, "it was not killed half-way: {figures}");
    assert_eq!(figures, northwind_figures(EVENTS - repeats, repeats));

    let report = store.report(&[]).await;
    let (expected, months) = fold::northwind();
    assert_eq!(fold::reported(&report), expected);
    if !["sqlite", "postgres"].contains(&views) {
        assert_eq!(report.get("months"), None);
        let refused = store.run(&["report", "--year", "1997"]).await.run();
        assert!(!refused.success() && refused.stderr.contains("--views sqlite or postgres"), "{refused:?}");
        return;
    }
    for year in ["1996", "1997", "1998"] {
        let mut expected = months.clone();
        expected.retain(|(month, _), _| month.starts_with(year));
        let reported = fold::reported_months(&store.report(&["--year", year]).await);
        assert!(!expected.is_empty());
        assert_eq!(reported, expected, "{year}");
        if year == "1998" {
            assert_eq!(
                fold::reported_months(&report),
                reported,
                "the last year, unless another is asked for"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_import_is_run_again_into_buckets() {
    a_killed_import_is_run_again("kv").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_import_is_run_again_into_sqlite() {
    a_killed_import_is_run_again("sqlite").await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_import_is_run_again_into_postgres() {
    a_killed_import_is_run_again("postgres").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_import_is_run_again_into_memory_which_is_built_from_the_log() {
    a_killed_import_is_run_again("memory").await;
}

/// The state, position and commits behind of each projection.
fn states(status: &Value) -> Vec<(String, String, u64, u64)> {
    let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
    let number = |row: &Value, field: &str| row[field].as_u64().unwrap();
    let row = |row| {
        (text(row, "projection"), text(row, "state"), number(row, "position"), number(row, "commits_behind"))
    };
    status.as_array().unwrap().iter().map(row).collect()
}

async fn the_status_says_how_far_each_projection_is(views: &str, tables: usize) {
    let (store, small) = (Store::new(views).await, Small::new());
    let elsewhere = ["import", small.path(), "--context", &store.context.name, "--views", "memory"];
    assert!(order_service(elsewhere).nats().await.run().success());
    let status = async || store.run(&["status", "--format", "json"]).await.run().json();

    // No process has built the views in this store, and `status` builds none.
    for _ in 0..2 {
        let status = status().await;
        let rows = states(&status);
        // Six views, the process, and the announcer.
        assert_eq!(rows.len(), 8 + tables);
        assert!(
            rows.iter().all(|(_, state, position, _)| state == "stands_still" && *position == 0),
            "{rows:?}"
        );
        // Eight events of orders, and one of the stock.
        let behind = |view: &str| rows.iter().find(|(name, ..)| name == view).unwrap().3;
        assert_eq!((behind("order-summary-v1"), behind("stock-level-v1"), behind("history-v1")), (8, 1, 9));
        assert!(status.as_array().unwrap().iter().all(|row| row["seconds_behind"].as_f64().unwrap() > 0.0));
        assert!(status.as_array().unwrap().iter().all(|row| row["seconds_to_go"].is_null()));
        assert!(status.as_array().unwrap().iter().all(|row| row["process"] == false));
    }
    let table = store.run(&["status"]).await.run();
    assert!(table.has_row_with("history no process runs it 0 9"), "{}", table.stdout);
    assert!(table.stdout.contains("order-service serve runs what no process runs"), "{}", table.stdout);

    let mut serving = store.run(&["serve"]).await.begin();
    serving.says("until Ctrl-C");
    eventually("everything is caught up", async || {
        states(&status().await)
            .iter()
            .all(|(_, state, position, behind)| state == "caught_up" && *position > 0 && *behind == 0)
    })
    .await;
    assert!(status().await.as_array().unwrap().iter().all(|row| row["process"] == true));
    let table = store.run(&["status"]).await.run();
    assert!(table.has_row("history caught up 9 0 0 s 0"), "{}", table.stdout);
    assert!(!table.stdout.contains("no process"), "{}", table.stdout);
    assert!(serving.interrupt().0.success());
    let table = store.run(&["status"]).await.run();
    assert!(table.has_row("history no process runs it 9 0 0 s 0"), "{}", table.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_says_how_far_each_projection_is_in_buckets() {
    the_status_says_how_far_each_projection_is("kv", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_says_how_far_each_projection_is_in_a_database() {
    the_status_says_how_far_each_projection_is("sqlite", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_are_listed_page_by_page() {
    let store = Store::new("sqlite").await;
    assert!(store.run(&["import", NORTHWIND]).await.run().success());
    for views in ["sqlite", "kv"] {
        let (mut seen, mut after) = (Vec::new(), None::<String>);
        loop {
            let mut arguments = vec!["orders", "--country", "Germany", "--limit", "50", "--format", "json"];
            arguments.extend(after.iter().flat_map(|after| ["--after", after]));
            let run =
                order_service(arguments.iter().chain(&["--context", &store.context.name, "--views", views]));
            let folder = store.folder.path().to_str().unwrap();
            let page = run.arguments(["--data", folder]).nats().await.run().json();
            let orders = page["orders"].as_array().unwrap();
            assert!(orders.iter().all(|order| order["sale"]["country"] == "Germany"));
            seen.extend(orders.iter().map(|order| order["order"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => after = Some(next.to_owned()),
                None => break,
            }
        }
        assert_eq!(seen.len(), 122, "{views}");
        assert!(seen.is_sorted() && seen.windows(2).all(|two| two[0] != two[1]), "{seen:?}");
    }
    let never = store.run(&["orders", "--status", "paid"]).await.run();
    assert!(never.stdout.contains("There are more: --after 1"), "{}", never.stdout);
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn events_in_memory_go_with_views_in_every_store_but_buckets_and_begin_anew() {
    let (small, folder) = (Small::new(), tempfile::tempdir().unwrap());
    let file = format!("sqlite:{}/views.db", folder.path().display());
    let database = TestDatabase::new("views-of-memory").await;
    let import = async |views: &str| {
        let arguments =
            ["--memory", "--context", &database.context, "--views", views, "import", small.path()];
        let run = order_service(arguments).arguments(["--format", "json"]).env("DATABASE_URL", &database.url);
        run.run()
    };
    for views in ["memory", "sqlite", &file, &file, "postgres", "postgres"] {
        let figures = import(views).await.json();
        assert_eq!((&figures["orders"], &figures["new_events"]), (&2.into(), &9.into()), "{views}");
    }
    database.run(&format!("DROP SCHEMA \"{}-passing\" CASCADE", database.context)).await;
    import("kv").await.is_refused_with(&["--views kv", "--nats", "--views memory, sqlite or postgres"]);
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_database_that_cannot_be_had_is_one_clear_line_without_secrets() {
    for (views, words) in [
        ("postgres", "needs DATABASE_URL"),
        ("postgres://anna:s3cret@127.0.0.1:1/shop", "postgres://127.0.0.1:1/shop cannot be reached"),
        ("mysql://anna:s3cret@host/shop", "--views takes kv, memory, sqlite"),
        (
            "sqlite:no/such/folder/views.db",
            "no/such/folder cannot be written, so there is no place for views.db",
        ),
    ] {
        order_service(["--memory", "--views", views, "report"]).run().is_refused_with(&[words]);
    }
    let address = order_service(["--memory", "--views", "postgres", "report"]);
    address
        .env("DATABASE_URL", "postgres://anna:s3cret@host:port/shop")
        .run()
        .is_refused_with(&["not the address"]);
}
