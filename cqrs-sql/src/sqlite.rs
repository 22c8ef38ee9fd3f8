//! SQLite: one connection that writes, several that read, and no server.

use std::{path::Path, str::FromStr as _, time::Duration};

use sqlx::{
    AssertSqlSafe, Pool, Sqlite, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{
    SqlError, SqlViews,
    dialect::{Dialect, Row, Value, statements},
};

/// How often saves of other processes are looked for while a call waits for them: SQLite sends no notifications.
const LOOK: Duration = Duration::from_millis(50);

/// How long a save waits for another process that writes.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// How many connections read.
const READERS: u32 = 4;

/// The views of a bounded context in an SQLite file.
///
/// Several processes on one machine may use the file, and one of them writes at a time. The file must be on a local
/// disk. It is in WAL mode with `synchronous = NORMAL`: a crash of the process loses nothing. After a power failure a
/// view may lack its last saves; its checkpoint says so, and it catches up.
///
/// Saves of this process wake waiting calls at once; saves of other processes are noticed within 50 milliseconds.
pub type SqliteViews = SqlViews<Sqlite>;

impl SqlViews<Sqlite> {
    /// Opens the file, or creates it, for the bounded context `context`. It can be a path, or a URL such as
    /// `sqlite:views.db?mode=rw`, in which `mode=rw` does not create it.
    ///
    /// # Errors
    ///
    /// [`SqlError`].
    ///
    /// # Cancel safety
    ///
    /// It can be called again.
    pub async fn open(file: impl AsRef<Path>, context: &str) -> Result<Self, SqlError> {
        match file.as_ref().to_str().filter(|url| url.starts_with("sqlite:")) {
            Some("sqlite::memory:") => Self::in_memory(context).await,
            Some(url) => Self::open_with(options(url)?, context).await,
            None => {
                let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
                Self::open_with(options, context).await
            }
        }
    }

    /// Opens a database with options of your own, for the bounded context `context`.
    ///
    /// # Errors
    ///
    /// [`SqlError`].
    ///
    /// # Cancel safety
    ///
    /// It can be called again.
    pub async fn open_with(options: SqliteConnectOptions, context: &str) -> Result<Self, SqlError> {
        let place = options.get_filename().display().to_string();
        let options = options
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(LOCK_WAIT);
        let writer = SqlitePoolOptions::new().max_connections(1);
        let writer = writer.connect_with(options.clone()).await;
        let writer = writer.map_err(|error| SqlError::new(&place, error))?;
        let reader = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_lazy_with(options.create_if_missing(false).pragma("query_only", "1"));
        Self::new(writer, reader, context, place).await
    }

    /// A database in this process' memory, which is lost with the last clone: for tests.
    ///
    /// # Errors
    ///
    /// [`SqlError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn in_memory(context: &str) -> Result<Self, SqlError> {
        let place = "memory".to_owned();
        // All connections with these options share one database, which is lost with the last of them. A pool closes a
        // connection when a call on it was dropped, so another connection keeps the database, and does nothing else:
        // two active connections would lock each other out of whole tables.
        let options = options("sqlite::memory:")?;
        let connect = async || -> Result<SqlitePool, SqlError> {
            let pool = SqlitePoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None);
            pool.connect_with(options.clone()).await.map_err(|error| SqlError::new(&place, error))
        };
        let (keeper, pool) = (connect().await?, connect().await?);
        let views = Self::new(pool.clone(), pool, context, place).await?;
        // No other code has set it.
        let _ = views.shared.keeper.set(keeper);
        Ok(views)
    }
}

/// The options in a URL; the file is created unless the URL says otherwise.
fn options(url: &str) -> Result<SqliteConnectOptions, SqlError> {
    let options = SqliteConnectOptions::from_str(url)
        .map_err(|source| SqlError::Address { example: "sqlite:views.db", source })?;
    Ok(if url.contains("mode=") { options } else { options.create_if_missing(true) })
}

impl Dialect for Sqlite {
    // A transaction that reads before it writes fails when another one writes in between.
    const BEGIN: &'static str = "BEGIN IMMEDIATE";
    const DOT: &'static str = ".";
    const MAX_NAME: usize = 1_000;
    const EACH: &'static str = "json_each($1)";
    const KEY: &'static str = "text";
    const NEW_ID: &'static str = "lower(hex(randomblob(16)))";
    const TABLES: &'static str = "SELECT substr(name, length($1) + 2), '', 0 FROM sqlite_master \
         WHERE type = 'table' AND substr(name, 1, length($1) + 1 + length($2)) = $1 || '.' || $2";
    const EXCLUDE: Option<&'static str> = None;
    const NOTIFY: Option<&'static str> = None;

    fn create_place(_context: &str) -> Option<String> {
        None
    }

    fn own_names(context: &str, projection: &str) -> String {
        format!("{context}.{projection}")
    }

    type News = ();

    fn news(_pool: Pool<Self>, _context: &str) {}

    async fn next((): &mut ()) -> Result<(), sqlx::Error> {
        tokio::time::sleep(LOOK).await;
        Ok(())
    }

    statements!();
}
