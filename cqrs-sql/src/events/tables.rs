//! The tables of a log: their names, and how they are created.

use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection, SqlitePool};

use crate::{SqlError, dialect::Dialect as _, layout, names::Names};

/// The version of the layout of these tables.
const LAYOUT: i64 = 2;

/// The quoted names of the tables of one log. A view's tables have its version in their names, so these are no view's.
#[derive(Debug)]
pub(crate) struct Tables {
    /// One row: the log's id, the layout, the last sequence, and how often a deadline was armed.
    pub(crate) log: String,
    pub(crate) commits: String,
    pub(crate) events: String,
    pub(crate) snapshots: String,
    pub(crate) deadlines: String,
    /// The prefix of the names of indexes, which all tables of a file share.
    prefix: String,
}

impl Tables {
    /// The tables of the context's own log, or of its public one.
    pub(crate) fn new(names: &Names<Sqlite>, public: bool) -> Self {
        let part = if public { "public." } else { "" };
        let table = |name: &str| names.table(&format!("{part}{name}"));
        Self {
            log: table("log"),
            commits: table("commits"),
            events: table("events"),
            snapshots: table("snapshots"),
            deadlines: table("deadlines"),
            prefix: format!("{}.{part}", names.context()),
        }
    }

    /// Creates the tables, or checks the layout of the existing ones.
    pub(crate) async fn provide(
        &self,
        writer: &SqlitePool,
        names: &Names<Sqlite>,
        place: &str,
    ) -> Result<(), SqlError> {
        let failed = |error| SqlError::new(place, error);
        let mut connection = writer.acquire().await.map_err(failed)?;
        let found = "PRAGMA encoding";
        let found: String = sqlx::query_scalar(found).fetch_one(&mut *connection).await.map_err(failed)?;
        if found != "UTF-8" {
            let found = format!("the encoding {found}");
            return Err(SqlError::Unfit { place: place.to_owned(), found, wanted: "UTF-8".to_owned() });
        }
        let is_there = self.is_there(&mut connection).await.map_err(failed)?;
        drop(connection);
        if !is_there {
            self.create(writer).await.map_err(failed)?;
        }
        let sql = format!("SELECT layout FROM {}", self.log);
        let found = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_optional(writer).await.map_err(failed)?;
        match found.unwrap_or(0) {
            LAYOUT => Ok(()),
            found => {
                let context = names.context().to_owned();
                Err(SqlError::LogLayout { place: place.to_owned(), context, found, known: LAYOUT })
            }
        }
    }

    async fn is_there(&self, connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
        let sql = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = $1";
        let name = format!("{}log", self.prefix);
        let found: i64 = sqlx::query_scalar(sql).bind(name).fetch_one(connection).await?;
        Ok(found > 0)
    }

    async fn create(&self, writer: &SqlitePool) -> Result<(), sqlx::Error> {
        let Self { log, commits, events, snapshots, deadlines, prefix } = self;
        let mut transaction = layout::exclusive(writer).await?;
        // Another process may have been faster.
        if self.is_there(&mut transaction).await? {
            return transaction.rollback().await;
        }
        let index = |name: &str, on: &str| format!("CREATE INDEX \"{prefix}{name}\" ON {on}");
        let statements = [
            format!(
                "CREATE TABLE {log} (id TEXT NOT NULL, layout INTEGER NOT NULL, last INTEGER NOT NULL, \
                 armed INTEGER NOT NULL) STRICT"
            ),
            format!(
                "CREATE TABLE {commits} (sequence INTEGER PRIMARY KEY, aggregate TEXT NOT NULL, id TEXT NOT NULL, \
                 first_version INTEGER NOT NULL, events INTEGER NOT NULL, bytes INTEGER NOT NULL, source TEXT NOT NULL) STRICT"
            ),
            index("commits.by_aggregate", &format!("{commits} (aggregate, id, sequence)")),
            index("commits.by_type", &format!("{commits} (aggregate, sequence)")),
            format!(
                "CREATE TABLE {events} (sequence INTEGER NOT NULL, position INTEGER NOT NULL, event_id TEXT NOT NULL, \
                 type TEXT NOT NULL, schema_version INTEGER NOT NULL, content_type TEXT NOT NULL, data ANY NOT NULL, \
                 time TEXT NOT NULL, command TEXT NOT NULL, command_id TEXT NOT NULL, command_hash INTEGER NOT NULL, \
                 correlation_id TEXT NOT NULL, causation_id TEXT, metadata TEXT NOT NULL, \
                 PRIMARY KEY (sequence, position)) STRICT"
            ),
            index("events.by_correlation", &format!("{events} (correlation_id)")),
            format!(
                "CREATE TABLE {snapshots} (aggregate TEXT NOT NULL, id TEXT NOT NULL, part INTEGER NOT NULL, \
                 snapshot BLOB NOT NULL, PRIMARY KEY (aggregate, id, part)) STRICT"
            ),
            format!(
                "CREATE TABLE {deadlines} (id TEXT PRIMARY KEY, due INTEGER NOT NULL, decided INTEGER NOT NULL, \
                 arming TEXT NOT NULL, payload BLOB NOT NULL, put_off INTEGER NOT NULL) STRICT"
            ),
            index("deadlines.by_time", &format!("{deadlines} (due)")),
            format!(
                "INSERT INTO {log} (id, layout, last, armed) VALUES ({}, {LAYOUT}, 0, 0)",
                Sqlite::NEW_ID
            ),
        ];
        for sql in statements {
            Sqlite::execute(&mut transaction, sql, &[]).await?;
        }
        transaction.commit().await
    }
}
