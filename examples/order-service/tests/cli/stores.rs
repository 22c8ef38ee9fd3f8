//! The figures out of each view store, also when the process that fills it is killed half-way.

use async_nats::jetstream;
use cqrs_tests::{
    TestContext, eventually,
    postgres::{TestDatabase, postgres},
};
use serde_json::Value;

use crate::{
    EVENTS, fold, northwind_figures,
    support::{NORTHWIND, Run, order_service},
};

/// A view store on the command line, with what a test has there.
struct Store {
    context: TestContext,
    views: String,
    database: Option<TestDatabase>,
    /// The folder of what is in files.
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
                Some(TestDatabase { url, context: context.name.clone() })
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

/// The import is killed and run again; what the views say then is what the files say.
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_import_is_run_again_into_postgres() {
    a_killed_import_is_run_again("postgres").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_import_is_run_again_into_memory_which_is_built_from_the_log() {
    a_killed_import_is_run_again("memory").await;
}
