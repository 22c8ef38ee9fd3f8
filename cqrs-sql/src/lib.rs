//! Views in SQLite and Postgres: the adapters for `cqrs-core`.

mod dialect;
mod errors;
mod layout;
mod names;
mod postgres;
mod reached;
mod sqlite;
mod transaction;
mod views;

pub use errors::SqlError;
pub use postgres::PostgresViews;
pub use sqlite::SqliteViews;
/// The client, in the version that this crate uses.
pub use sqlx;
pub use views::{Sql, SqlViews};
