//! Postgres: a pool of connections, and one that listens for notifications.

use std::{str::FromStr as _, time::Duration};

use cqrs_core::port::Source;
use sqlx::{
    AssertSqlSafe, Connection, PgConnection, PgPool, Postgres,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};

use crate::{
    SqlError, SqlViews,
    dialect::{Dialect, Row, Value, statements},
};

/// The oldest supported Postgres, as `server_version_num`.
const MIN_SERVER: i64 = 140_000;

/// How long a call waits for a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often checkpoints are read without a notification: a connection can be dead without a sign.
const CHECK: Duration = Duration::from_secs(5);

/// The views of a bounded context in a Postgres database.
///
/// The context has its own schema. Saves are announced to all processes with `NOTIFY`, so no process polls. Behind a
/// connection pooler that does not pass notifications on, saves are noticed within 5 seconds.
pub type PostgresViews = SqlViews<Postgres>;

impl SqlViews<Postgres> {
    /// Connects to `url`, such as `postgres://user:password@host:5432/database?sslmode=verify-full`, for the
    /// bounded context `context`.
    ///
    /// # Errors
    ///
    /// [`SqlError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the connection.
    pub async fn connect(url: &str, context: &str) -> Result<Self, SqlError> {
        let options = PgConnectOptions::from_str(url).map_err(|source| SqlError::Address {
            example: "postgres://user:password@host:5432/database",
            source: Source::new(source),
        })?;
        Self::connect_with(options.application_name("cqrs"), context).await
    }

    /// Connects with options of your own, for the bounded context `context`.
    ///
    /// # Errors
    ///
    /// [`SqlError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the connection.
    pub async fn connect_with(options: PgConnectOptions, context: &str) -> Result<Self, SqlError> {
        let place = shown(&options);
        // The pool would retry until its timeout, and not return the reason.
        let connecting = tokio::time::timeout(PATIENCE, PgConnection::connect_with(&options)).await;
        let connection = connecting.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        let connection = connection.map_err(|error| SqlError::new(&place, error))?;
        // If the server fails now, the pool's check reports it.
        let _ = connection.close().await;
        let pool = PgPoolOptions::new().acquire_timeout(PATIENCE).connect_lazy_with(options);
        Self::with_pool(pool, context).await
    }

    /// Uses a pool of your own, of at least two connections, for the bounded context `context`.
    ///
    /// # Errors
    ///
    /// [`SqlError`].
    ///
    /// # Cancel safety
    ///
    /// It can be called again.
    pub async fn with_pool(pool: PgPool, context: &str) -> Result<Self, SqlError> {
        let place = shown(&pool.connect_options());
        check_server(&pool, &place).await?;
        Self::new(pool.clone(), pool, context, place).await
    }
}

/// Checks the server's version, and that it can store any text.
async fn check_server(pool: &PgPool, place: &str) -> Result<(), SqlError> {
    let (encoding, version, number): (String, String, i64) = sqlx::query_as(
        "SELECT current_setting('server_encoding'), current_setting('server_version'), \
         current_setting('server_version_num')::bigint",
    )
    .fetch_one(pool)
    .await
    .map_err(|error| SqlError::new(place, error))?;
    let unfit =
        |found, wanted: &str| Err(SqlError::Unfit { place: place.to_owned(), found, wanted: wanted.into() });
    match (number, encoding.as_str()) {
        (..MIN_SERVER, _) => unfit(format!("version {version}"), "at least 14"),
        (_, "UTF8") => Ok(()),
        _ => unfit(format!("the encoding {encoding}"), "UTF8"),
    }
}

/// The address of the database, without secrets.
fn shown(options: &PgConnectOptions) -> String {
    let host = match options.get_socket() {
        Some(folder) => folder.display().to_string(),
        None => options.get_host().to_owned(),
    };
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    format!("postgres://{host}:{}/{database}", options.get_port())
}

/// The channel of a context's notifications.
fn channel(context: &str) -> String {
    format!("cqrs:{context}")
}

/// The connection that listens for notifications.
#[derive(Debug)]
pub struct News {
    pool: PgPool,
    channel: String,
    listener: Option<PgListener>,
}

impl Dialect for Postgres {
    // Named, since the database's default isolation level may differ: later statements must see the result of a
    // transaction that they waited for.
    const BEGIN: &'static str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
    const DOT: &'static str = "\".\"";
    const MAX_NAME: usize = 63;
    const EACH: &'static str = "json_array_elements($1::json)";
    // Keys are compared as bytes, which is fast and the same everywhere.
    const KEY: &'static str = "text COLLATE \"C\"";
    const NEW_ID: &'static str = "replace(gen_random_uuid()::text, '-', '')";
    const TABLES: &'static str = "SELECT tablename::text, '', 0::bigint FROM pg_tables \
         WHERE schemaname = $1 AND starts_with(tablename, $2)";
    const EXCLUDE: Option<&'static str> =
        Some("SELECT '', '', 0::bigint FROM pg_advisory_xact_lock(7166182839430312303)");
    const NOTIFY: Option<&'static str> = Some("SELECT '', '', 0::bigint FROM pg_notify('cqrs:' || $1, '')");

    /// An existing schema is not created again, because that needs the right to create one.
    fn create_place(context: &str) -> Option<String> {
        Some(format!(
            "DO $$ BEGIN IF to_regnamespace('\"{context}\"') IS NULL THEN CREATE SCHEMA \"{context}\"; \
             END IF; END $$"
        ))
    }

    /// The names of a table's indexes are in its schema.
    fn own_names(_context: &str, projection: &str) -> String {
        projection.to_owned()
    }

    type News = News;

    fn news(pool: PgPool, context: &str) -> News {
        News { pool, channel: channel(context), listener: None }
    }

    async fn next(news: &mut News) -> Result<(), sqlx::Error> {
        let Some(listener) = &mut news.listener else {
            let mut listener = PgListener::connect_with(&news.pool).await?;
            listener.listen(&news.channel).await?;
            news.listener = Some(listener);
            return Ok(());
        };
        // After a lost connection, `try_recv` listens again before it returns.
        match tokio::time::timeout(CHECK, listener.try_recv()).await {
            Ok(received) => received.map(drop),
            Err(_) => Ok(()),
        }
    }

    statements!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_addresses_are_not_shown() {
        let options = PgConnectOptions::from_str("postgres://anna:s3cret@host:5433/db?sslmode=disable");
        assert_eq!(shown(&options.expect("an address")), "postgres://host:5433/db");
    }
}
