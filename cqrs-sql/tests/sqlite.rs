//! The stores in SQLite against the contracts: views in memory and in a file, and a whole context in one file.
#![cfg(feature = "sqlite")]

use cqrs_sql::{SqliteBackend, SqliteViews};

mod in_memory {
    use super::*;

    cqrs_core::view_store_contract!(async {
        (SqliteViews::in_memory("contract").await.expect("a database"), ())
    });
}

mod in_a_file {
    use super::*;

    cqrs_core::view_store_contract!(async {
        let folder = tempfile::tempdir().expect("a folder");
        let views = SqliteViews::open(folder.path().join("views.db"), "contract").await.expect("a database");
        (views, folder)
    });
}

/// A context in a new file, and the folder of the file.
async fn context() -> (SqliteBackend, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let backend = SqliteBackend::open(folder.path().join("context.db"), "contract").await.expect("a file");
    (backend, folder)
}

mod beside_events {
    use super::*;

    cqrs_core::view_store_contract!(async {
        let (backend, folder) = context().await;
        (backend.views, (backend.events, folder))
    });
}

cqrs_core::event_store_contract!(async {
    let (backend, folder) = context().await;
    (backend.events, folder)
});

cqrs_core::deadlines_contract!(async {
    let (backend, folder) = context().await;
    (backend.events, folder)
});

cqrs_core::notices_contract!(async {
    let (backend, folder) = context().await;
    (backend.events, folder)
});

/// The public log is a log like the context's own, and neither has what is in the other.
mod public_log {
    use super::*;

    cqrs_core::event_store_contract!(async {
        let (backend, folder) = context().await;
        (backend.public_log().await.expect("a log"), (backend, folder))
    });
}
