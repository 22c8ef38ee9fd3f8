//! SQLite: one connection that writes, several that read, and no server.

use std::{
    path::Path,
    str::FromStr as _,
    sync::Arc,
    time::{Duration, Instant},
};

use cqrs_core::port::Source;
use sqlx::{
    AssertSqlSafe, Connection as _, Pool, Sqlite, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{
    SqlError, SqlViews,
    dialect::{Dialect, Row, Value, statements},
    errors::{Kind, kind},
    open_file::OpenFile,
};

/// How often saves of other processes are looked for while a call waits for them: SQLite sends no notifications.
const LOOK: Duration = Duration::from_millis(50);

/// How long a save, or the opening of a new file, waits for another process that writes.
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
        match options(file.as_ref())? {
            Some(options) => Self::open_with(options, context).await,
            None => Self::in_memory(context).await,
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
        let Connected { writer, reader, .. } = Connected::to(options, &place).await?;
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
        let options = parsed("sqlite::memory:")?;
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

/// The connections to one file.
pub(crate) struct Connected {
    pub(crate) writer: SqlitePool,
    pub(crate) reader: SqlitePool,
    pub(crate) file: Arc<OpenFile>,
}

impl Connected {
    /// Creates the file, unless it exists or the options forbid it. It is not created again later: a service whose file
    /// was removed must not go on with an empty one.
    pub(crate) async fn to(options: SqliteConnectOptions, place: &str) -> Result<Self, SqlError> {
        // The same file also after the program changes its folder.
        let path = std::path::absolute(options.get_filename());
        let path = path.map_err(|error| SqlError::new(place, error.into()))?;
        let options = options
            .filename(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            // Where it exists, the call that empties the cache of the disk as well.
            .pragma("fullfsync", "1")
            .busy_timeout(LOCK_WAIT);
        let first = first_connection(&options).await;
        let first = first.map_err(|error| SqlError::of_file(&path, place, error))?;
        let file = Arc::new(OpenFile::of(&path));
        let options = options.create_if_missing(false);
        let writer = file.watched(SqlitePoolOptions::new().max_connections(1));
        let writer = writer.connect_lazy_with(options.clone());
        let reader = file.watched(SqlitePoolOptions::new().max_connections(READERS));
        let reader = reader.connect_lazy_with(options.pragma("query_only", "1"));
        // If it fails, the next connection reports it.
        let _ = first.close().await;
        Ok(Self { writer, reader, file })
    }
}

/// The connection that creates the file. SQLite does not wait for a lock while it makes a new file a WAL file, so another
/// process that does the same at the same time is waited for here.
async fn first_connection(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    let begin = Instant::now();
    loop {
        match SqliteConnection::connect_with(options).await {
            Err(error) if kind(&error) == Kind::Busy && begin.elapsed() < LOCK_WAIT => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            first => return first,
        }
    }
}

/// The options for a path or a URL; `None` for a database in memory.
pub(crate) fn options(file: &Path) -> Result<Option<SqliteConnectOptions>, SqlError> {
    match file.to_str().filter(|url| url.starts_with("sqlite:")) {
        Some("sqlite::memory:") => Ok(None),
        Some(url) => parsed(url).map(Some),
        None => Ok(Some(SqliteConnectOptions::new().filename(file).create_if_missing(true))),
    }
}

/// The options in a URL; the file is created unless the URL says otherwise.
fn parsed(url: &str) -> Result<SqliteConnectOptions, SqlError> {
    let options = SqliteConnectOptions::from_str(url)
        .map_err(|source| SqlError::Address { example: "sqlite:views.db", source: Source::new(source) })?;
    Ok(if url.contains("mode=") { options } else { options.create_if_missing(true) })
}

impl Dialect for Sqlite {
    // A transaction that reads before it writes fails when another one writes in between.
    // In a file with events, the same connection appends to the log, and then waits for the disk.
    const BEGIN: &'static str = "PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE";
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
