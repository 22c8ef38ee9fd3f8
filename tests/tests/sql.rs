//! The view store in Postgres: the contract, and what a real server does to it.

use cqrs_tests::postgres::TestDatabase;

cqrs_core::view_store_contract!(async {
    let database = TestDatabase::new("contract").await;
    (database.views().await, database)
});
