//! Views in SQLite and Postgres: the adapters for `cqrs-core`.

mod dialect;
mod errors;
mod layout;
mod names;
mod postgres;
mod projection;
mod reached;
mod sqlite;
mod transaction;
mod view;
mod views;

pub use errors::SqlError;
pub use postgres::PostgresViews;
pub use projection::SqlProjection;
pub use sqlite::SqliteViews;
/// The client, in the version that this crate uses.
pub use sqlx;
pub use view::{SqlProject, SqlSources, SqlView, Tables};
pub use views::{Sql, SqlViews};
