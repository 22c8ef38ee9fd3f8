//! The view store in SQLite against the contract, in memory and in a file.

use cqrs_sql::SqliteViews;

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
