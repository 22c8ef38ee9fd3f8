//! Tests of the same behaviour on several backends: [`on_backends`](crate::on_backends).

use std::future::{Ready, ready};

use cqrs_core::memory::{Memory, MemoryEvents};
use cqrs_nats::{NatsBackend, Topology};
use cqrs_sql::{PostgresViews, SqliteBackend, SqliteViews};
use tempfile::TempDir;

use crate::{TestContext, postgres::TestDatabase};

/// Makes a test of every named function, on each of the named backends of this module. The given name is used for their
/// contexts. With `of`, each test gets what that function makes of the backend.
#[macro_export]
macro_rules! on_backends {
    ($name:literal, $($backend:ident)+: $cases:tt) => {
        $crate::on_backends! { $name of std::convert::identity, $($backend)+: $cases }
    };
    ($name:literal of $prepared:path, $($backend:ident)+: $cases:tt) => {
        $($crate::on_backends! { @ $backend $name $prepared; $cases })+
    };
    (@ $backend:ident $name:literal $prepared:path; { $($case:ident)+ }) => {
        mod $backend {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let (_guard, backend) = $crate::backends::$backend($name).await;
                super::$case($prepared(backend)).await;
            })+
        }
    };
}

/// Everything in memory.
pub fn memory(_: &str) -> Ready<((), Memory)> {
    ready(((), Memory::default()))
}

/// A context on the shared NATS server.
///
/// # Panics
///
/// When no server can be had.
///
/// # Cancel safety
///
/// Dropping it loses nothing.
pub async fn nats(name: &str) -> (TestContext, NatsBackend) {
    let context = TestContext::new(name).await;
    let backend = context.backend().await;
    (context, backend)
}

/// The same with slices: few, so that several aggregates of a test share one.
///
/// # Panics
///
/// When no server can be had.
///
/// # Cancel safety
///
/// Dropping it loses nothing.
pub async fn sliced(name: &str) -> (TestContext, NatsBackend) {
    let context = TestContext::new(name).await;
    let topology = Topology::new(&*context.name).slices(8).notices();
    let backend = context.nats.open(topology).await.expect("the context");
    (context, backend)
}

/// Events in memory, and views in an SQLite database there.
///
/// # Panics
///
/// When there is no such database.
///
/// # Cancel safety
///
/// Dropping it loses nothing.
pub async fn sqlite(name: &str) -> ((), (MemoryEvents, SqliteViews)) {
    ((), (MemoryEvents::default(), SqliteViews::in_memory(name).await.expect("the views")))
}

/// Events and views in one SQLite file.
///
/// # Panics
///
/// When the file cannot be opened.
///
/// # Cancel safety
///
/// Dropping it loses nothing.
pub async fn embedded(name: &str) -> (TempDir, SqliteBackend) {
    let folder = tempfile::tempdir().expect("a folder");
    let backend = SqliteBackend::open(folder.path().join("events.db"), name).await.expect("the backend");
    (folder, backend)
}

/// Events in memory, and views on the shared Postgres.
///
/// # Panics
///
/// When no server can be had.
///
/// # Cancel safety
///
/// Dropping it loses nothing.
pub async fn postgres(name: &str) -> (TestDatabase, (MemoryEvents, PostgresViews)) {
    let database = TestDatabase::new(name).await;
    let views = database.views().await;
    (database, (MemoryEvents::default(), views))
}
