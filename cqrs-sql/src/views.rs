//! The view store: a table of documents for each projection.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use cqrs_core::{
    StoreError,
    port::{ProjectionId, Reached, Save, SaveError, SavedCheckpoint, SavedDocument, ViewStore},
};
use sqlx::{Pool, pool::PoolConnection};
use tokio::task::AbortHandle;

use crate::{
    SqlError,
    dialect::{Dialect, Row, Value},
    errors::{Failure, store_error},
    layout,
    names::{Names, original_key, stored_key},
    reached::{self, Progress, Watched},
    transaction::{Saving, checkpoint_row, number, saved_checkpoint, text},
};

/// The most documents and notes of one save. The database would take more; larger saves take longer and gain nothing.
const MAX_WRITES: usize = 4_096;

/// A database for views: [`Sqlite`](sqlx::Sqlite) or [`Postgres`](sqlx::Postgres).
pub trait Sql: Dialect {}

impl<DB: Dialect> Sql for DB {}

/// The views of a bounded context in a database: [`SqliteViews`](crate::SqliteViews) or
/// [`PostgresViews`](crate::PostgresViews). Clones share the connections.
pub struct SqlViews<DB: Sql> {
    pub(crate) shared: Arc<Shared<DB>>,
}

pub(crate) struct Shared<DB: Sql> {
    pub(crate) writer: Pool<DB>,
    reader: Pool<DB>,
    pub(crate) names: Arc<Names<DB>>,
    place: String,
    /// An id that no other place has.
    id: String,
    reached: Arc<Watched>,
    /// Follows the saves of other processes, once a call waits.
    follower: OnceLock<AbortHandle>,
    /// Keeps a database in memory, which is lost with its last connection; see `in_memory`.
    #[cfg(feature = "sqlite")]
    pub(crate) keeper: OnceLock<Pool<DB>>,
}

impl<DB: Sql> SqlViews<DB> {
    pub(crate) async fn new(
        writer: Pool<DB>,
        reader: Pool<DB>,
        context: &str,
        place: String,
    ) -> Result<Self, SqlError> {
        let names = Arc::new(Names::new(context)?);
        layout::open_context(&writer, &names, &place).await?;
        let id = layout::place_id(&writer, &names, &place).await?;
        let (reached, follower) = (Arc::default(), OnceLock::new());
        let shared = Shared {
            writer,
            reader,
            names,
            place,
            id,
            reached,
            follower,
            #[cfg(feature = "sqlite")]
            keeper: OnceLock::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The connections that read, for your own statements.
    pub fn pool(&self) -> &Pool<DB> {
        &self.shared.reader
    }

    /// The address of the database, without a user or a password.
    pub fn address(&self) -> &str {
        &self.shared.place
    }

    /// The table with the documents of a projection, quoted, for your own statements. Its columns are `key`, `document`,
    /// which is JSON as text, and `revision`.
    ///
    /// SQLite and Postgres both understand `SELECT document ->> 'country' FROM …`, Postgres on `document::json`.
    pub fn table(&self, projection: &ProjectionId) -> String {
        self.shared.names.table(&projection.to_string())
    }

    /// A connection that reads.
    async fn connection(&self, what: impl FnOnce() -> String) -> Result<PoolConnection<DB>, StoreError> {
        self.shared.reader.acquire().await.map_err(|error| store_error(what(), error))
    }

    /// The rows of a statement's answer.
    async fn fetched(
        &self,
        what: impl Fn() -> String,
        sql: String,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        let mut connection = self.connection(&what).await?;
        DB::fetch(&mut connection, sql, values).await.map_err(|error| store_error(what(), error))
    }

    async fn row(&self, projection: &str) -> Result<(Option<String>, i64), StoreError> {
        let what = || format!("reading the checkpoint of {projection}");
        let mut connection = self.connection(what).await?;
        let row = checkpoint_row::<DB>(&mut connection, &self.shared.names, projection).await;
        row.map_err(|error| store_error(what(), error))
    }

    /// Creates the table and the row of a projection, unless they exist.
    async fn create(&self, projection: &str) -> Result<(), sqlx::Error> {
        let names = &self.shared.names;
        let mut connection = self.shared.writer.acquire().await?;
        layout::add_projection::<DB>(&mut connection, names, projection).await?;
        let is_there =
            layout::tables::<DB>(&mut connection, names, projection).await?.iter().any(|t| t == projection);
        drop(connection);
        if is_there {
            return Ok(());
        }
        let mut transaction = layout::exclusive(&self.shared.writer).await?;
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS {} \
             (key {} PRIMARY KEY, document text NOT NULL, revision bigint NOT NULL)",
            names.table(projection),
            DB::KEY
        );
        DB::execute(&mut transaction, sql, &[]).await?;
        transaction.commit().await
    }

    async fn store(&self, projection: &str, save: &Save<'_>) -> Result<u64, Failure> {
        let Shared { writer, names, .. } = &*self.shared;
        let mut saving = Saving::begin(writer, names, projection, save.checkpoint, save.revision).await?;
        let mut written = saving.documents(save.writes).await;
        if written.is_ok() {
            written = saving.notes(save.notes).await;
        }
        if let Err(failure) = written {
            saving.give_up().await;
            return Err(failure);
        }
        let revision = saving.commit().await?;
        self.note(projection, revision.cast_signed(), save.checkpoint.reached());
        Ok(revision)
    }

    pub(crate) fn note(&self, projection: &str, revision: i64, reached: Reached) {
        self.shared.reached.note(projection, Progress { revision, reached });
    }

    fn follow(&self) {
        let Shared { reader, names, reached, .. } = &*self.shared;
        self.shared.follower.get_or_init(|| {
            let follow = reached::follow(reader.clone(), Arc::clone(names), Arc::clone(reached));
            tokio::spawn(follow).abort_handle()
        });
    }
}

impl<DB: Sql> ViewStore for SqlViews<DB> {
    async fn open(&self, projection: &ProjectionId) -> Result<(), StoreError> {
        let name = check_name::<DB>(&projection.to_string())?;
        self.create(&name).await.map_err(|error| store_error(format!("creating the table of {name}"), error))
    }

    async fn checkpoint(&self, projection: &ProjectionId) -> Result<SavedCheckpoint, StoreError> {
        saved_checkpoint(projection, self.row(&projection.to_string()).await?)
    }

    async fn load(
        &self,
        projection: &ProjectionId,
        keys: &[String],
    ) -> Result<Vec<SavedDocument>, StoreError> {
        let what = || format!("loading documents of {projection}");
        // Arrays, so that the elements have the same form as in the other statements.
        let wanted: Vec<_> = keys.iter().map(|key| [stored_key(key)]).collect();
        let json = serde_json::to_string(&wanted).map_err(|error| StoreError::refused(what(), error))?;
        let (table, each) = (self.table(projection), DB::EACH);
        let sql = format!(
            "SELECT key, document, revision FROM {table} WHERE key IN (SELECT value->>0 FROM {each})"
        );
        let rows = self.fetched(what, sql, &[Value::Text(&json)]).await?;
        let mut found: HashMap<_, _> =
            rows.into_iter().map(|(key, document, revision)| (key, (document, revision))).collect();
        let saved = |[key]: &[Cow<'_, str>; 1]| {
            found.remove(&**key).map_or(saved(None, 0), |(document, revision)| saved(document, revision))
        };
        Ok(wanted.iter().map(saved).collect())
    }

    async fn notes(
        &self,
        projection: &ProjectionId,
        prefix: &str,
    ) -> Result<Vec<(String, Bytes)>, StoreError> {
        let sql = format!(
            "SELECT key, content, CAST(0 AS bigint) FROM {} \
             WHERE projection = $1 AND key >= $2 AND substr(key, 1, length($2)) = $2",
            self.shared.names.notes()
        );
        let (projection, prefix) = (projection.to_string(), stored_key(prefix));
        let values = [Value::Text(&projection), Value::Text(&prefix)];
        let mut notes = keyed(self.fetched(|| format!("reading notes of {projection}"), sql, &values).await?);
        notes.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(notes)
    }

    async fn save(&self, projection: &ProjectionId, save: Save<'_>) -> Result<u64, SaveError> {
        let name = projection.to_string();
        let saved = self.store(&name, &save).await;
        saved.map_err(|failure| failure.into_save_error(|| format!("saving {name}")))
    }

    fn max_writes(&self) -> usize {
        MAX_WRITES
    }

    fn name(&self) -> Option<String> {
        Some(self.shared.id.clone())
    }

    async fn get(&self, projection: &ProjectionId, key: &str) -> Result<Option<Bytes>, StoreError> {
        let sql = format!("SELECT '', document, revision FROM {} WHERE key = $1", self.table(projection));
        let key = stored_key(key);
        let what = || format!("reading document {key:?} of {projection}");
        let rows = self.fetched(what, sql, &[Value::Text(&key)]).await?;
        Ok(rows.into_iter().next().and_then(|(_, document, _)| document).map(Bytes::from))
    }

    async fn list(&self, projection: &ProjectionId) -> Result<Vec<(String, Bytes)>, StoreError> {
        let sql = format!("SELECT key, document, revision FROM {}", self.table(projection));
        Ok(keyed(self.fetched(|| format!("listing {projection}"), sql, &[]).await?))
    }

    async fn page(
        &self,
        projection: &ProjectionId,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<(String, Bytes)>, StoreError> {
        // Keys are stored and compared so that their order is that of their bytes.
        let after = after.map(stored_key);
        let from = if after.is_some() { "WHERE key > $2" } else { "" };
        let table = self.table(projection);
        let sql = format!("SELECT key, document, revision FROM {table} {from} ORDER BY key LIMIT $1");
        let max = number(u64::try_from(max).unwrap_or(u64::MAX));
        let values: Vec<_> = [max].into_iter().chain(after.as_deref().map(Value::Text)).collect();
        Ok(keyed(self.fetched(|| format!("reading a page of {projection}"), sql, &values).await?))
    }

    async fn reached(&self, projection: &ProjectionId, sequence: u64) -> Result<Reached, StoreError> {
        let name = projection.to_string();
        let mut reached = self.shared.reached.watch(&name);
        self.follow();
        let (checkpoint, revision) = self.row(&name).await?;
        let found = reached::read(checkpoint.as_deref());
        if found.sequence >= sequence {
            return Ok(found);
        }
        self.note(&name, revision, found);
        let waited = reached.wait_for(|place| place.reached.sequence >= sequence).await;
        waited
            .map(|place| place.reached)
            .map_err(|error| StoreError::unavailable(format!("waiting for {name}"), error))
    }

    async fn remove(&self, projection: &ProjectionId) -> Result<(), StoreError> {
        let name = projection.to_string();
        let removed = layout::remove(&self.shared.writer, &self.shared.names, &name).await;
        let revision = removed.map_err(|error| store_error(format!("removing {name}"), error))?;
        self.note(&name, revision, Reached::default());
        Ok(())
    }

    async fn about(&self, view: &str) -> Result<SavedDocument, StoreError> {
        let sql =
            format!("SELECT view, content, revision FROM {} WHERE view = $1", self.shared.names.about());
        let view = stored_key(view);
        let rows = self.fetched(|| format!("reading about {view}"), sql, &[Value::Text(&view)]).await?;
        Ok(rows.into_iter().next().map_or(saved(None, 0), |(_, content, revision)| saved(content, revision)))
    }

    async fn set_about(&self, view: &str, content: Bytes, revision: u64) -> Result<u64, SaveError> {
        let table = self.shared.names.about();
        let what = || format!("writing about {view}");
        let content = text(&content, what)?;
        let sql = if revision == 0 {
            format!(
                "INSERT INTO {table} (view, content, revision) VALUES ($1, $2, $3 + 1) ON CONFLICT DO NOTHING"
            )
        } else {
            format!("UPDATE {table} SET content = $2, revision = $3 + 1 WHERE view = $1 AND revision = $3")
        };
        let view = stored_key(view);
        let values = [Value::Text(&view), Value::Text(content), number(revision)];
        let writer = self.shared.writer.acquire().await;
        let mut writer = writer.map_err(|error| store_error(what(), error))?;
        match DB::execute(&mut writer, sql, &values).await.map_err(|error| store_error(what(), error))? {
            0 => Err(SaveError::Conflict),
            _ => Ok(revision + 1),
        }
    }
}

/// The name, if a table can have it. Postgres would truncate a longer name, and two names could become equal.
pub(crate) fn check_name<DB: Sql>(name: &str) -> Result<String, StoreError> {
    if name.len() <= DB::MAX_NAME {
        return Ok(name.to_owned());
    }
    let what = format!("{name} is longer than the name of a table can be, {}: rename the view", DB::MAX_NAME);
    Err(StoreError::Refused { what, source: None })
}

fn saved(document: Option<String>, revision: i64) -> SavedDocument {
    SavedDocument { document: document.map(Bytes::from), revision: revision.cast_unsigned() }
}

fn keyed(rows: Vec<Row>) -> Vec<(String, Bytes)> {
    rows.into_iter()
        .map(|(key, content, _)| (original_key(key), content.unwrap_or_default().into()))
        .collect()
}

impl<DB: Sql> Clone for SqlViews<DB> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<DB: Sql> fmt::Debug for SqlViews<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { place, names, .. } = &*self.shared;
        f.debug_struct("SqlViews")
            .field("place", place)
            .field("context", &names.context())
            .finish_non_exhaustive()
    }
}

impl<DB: Sql> Drop for Shared<DB> {
    fn drop(&mut self) {
        if let Some(follower) = self.follower.get() {
            follower.abort();
        }
    }
}
