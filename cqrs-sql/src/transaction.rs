//! The transaction of a save: checkpoint, notes, and documents or rows.

use bytes::Bytes;
use cqrs_core::{
    StoreError,
    port::{Checkpoint, Note, ProjectionId, SavedCheckpoint, Source, Write},
};
use sqlx::{Pool, Transaction};

use crate::{
    dialect::{Dialect, Value},
    errors::Failure,
    names::{Names, stored_key},
};

/// About how many bytes of documents one statement has.
const STATEMENT_BYTES: usize = 4 << 20;

/// A save in progress. Nothing of it is stored unless [`commit`](Saving::commit) returns.
pub(crate) struct Saving<'a, DB: Dialect> {
    names: &'a Names<DB>,
    projection: &'a str,
    pub(crate) transaction: Transaction<'static, DB>,
    /// The checkpoint's revision after the save.
    pub(crate) revision: i64,
}

impl<'a, DB: Dialect> Saving<'a, DB> {
    /// Begins with the checkpoint (compare-and-set): the first transaction to change its row makes the others wait, and
    /// then fail.
    pub(crate) async fn begin(
        pool: &Pool<DB>,
        names: &'a Names<DB>,
        projection: &'a str,
        checkpoint: &Checkpoint,
        revision: u64,
    ) -> Result<Self, Failure> {
        let checkpoint = serde_json::to_string(checkpoint)
            .map_err(|error| StoreError::refused("writing a checkpoint as JSON", error))?;
        let mut transaction = pool.begin_with(DB::BEGIN).await?;
        let sql = format!(
            "UPDATE {} SET checkpoint = $2, revision = revision + 1 \
             WHERE projection = $1 AND CASE WHEN checkpoint IS NULL THEN 0 ELSE revision END = $3 \
             RETURNING projection, '', revision",
            names.projections()
        );
        let values = [Value::Text(projection), Value::Text(&checkpoint), number(revision)];
        let saved = DB::fetch(&mut transaction, sql, &values).await?;
        let Some((_, _, revision)) = saved.into_iter().next() else {
            let _ = transaction.rollback().await;
            return Err(Failure::Conflict);
        };
        Ok(Self { names, projection, transaction, revision })
    }

    /// Rolls back at once. A transaction that is only dropped keeps its locks until its connection is back in the pool,
    /// and other writers wait for them.
    pub(crate) async fn give_up(self) {
        // If the rollback fails as well, the connection is not used again.
        let _ = self.transaction.rollback().await;
    }

    /// Writes and removes documents that still have the expected revisions.
    pub(crate) async fn documents(&mut self, writes: &[Write]) -> Result<(), Failure> {
        let table = self.names.table(self.projection);
        let mut batches = Batches::default();
        let mut removals = Batches::default();
        for Write { key, document, revision } in writes {
            match document {
                Some(document) => {
                    let text = text(document, || format!("document {key:?} of view {}", self.projection))?;
                    batches.push(&(stored_key(key), text, revision), text.len())?;
                }
                None => removals.push(&(stored_key(key), revision), 0)?,
            }
        }
        let upsert = format!(
            "INSERT INTO {table} (key, document, revision) SELECT value->>0, value->>1, $2 FROM {each} \
             WHERE coalesce((SELECT revision FROM {table} WHERE key = value->>0), 0) = CAST(value->>2 AS bigint) \
             ON CONFLICT (key) DO UPDATE SET document = excluded.document, revision = excluded.revision",
            each = DB::EACH
        );
        for (rows, json) in batches.finish() {
            let values = [Value::Text(&json), Value::Number(self.revision)];
            let written = DB::execute(&mut self.transaction, upsert.clone(), &values).await?;
            if written != rows {
                return Err(Failure::Conflict);
            }
        }
        for (_, json) in removals.finish() {
            self.remove_documents(&table, &json).await?;
        }
        Ok(())
    }

    async fn remove_documents(&mut self, table: &str, json: &str) -> Result<(), Failure> {
        let each = DB::EACH;
        let sql = format!(
            "SELECT '', '', count(*) FROM {each} \
             WHERE coalesce((SELECT revision FROM {table} WHERE key = value->>0), 0) <> CAST(value->>1 AS bigint)"
        );
        let newer = DB::fetch(&mut self.transaction, sql, &[Value::Text(json)]).await?;
        if newer.iter().any(|(_, _, count)| *count > 0) {
            return Err(Failure::Conflict);
        }
        let sql = format!("DELETE FROM {table} WHERE key IN (SELECT value->>0 FROM {each})");
        DB::execute(&mut self.transaction, sql, &[Value::Text(json)]).await?;
        Ok(())
    }

    /// Writes and removes notes.
    pub(crate) async fn notes(&mut self, notes: &[Note]) -> Result<(), Failure> {
        let table = self.names.notes();
        for Note { key, content } in notes {
            let stored = stored_key(key);
            let (projection, key) = (Value::Text(self.projection), Value::Text(&stored));
            if let Some(content) = content {
                let content = text(content, || format!("note {stored:?} of view {}", self.projection))?;
                let sql = format!(
                    "INSERT INTO {table} (projection, key, content) VALUES ($1, $2, $3) \
                     ON CONFLICT (projection, key) DO UPDATE SET content = excluded.content"
                );
                DB::execute(&mut self.transaction, sql, &[projection, key, Value::Text(content)]).await?;
            } else {
                let sql = format!("DELETE FROM {table} WHERE projection = $1 AND key = $2");
                DB::execute(&mut self.transaction, sql, &[projection, key]).await?;
            }
        }
        Ok(())
    }

    /// Commits the save.
    ///
    /// Postgres answers the commit of a transaction with a failed statement as if it were a success. The notification
    /// before it is a statement, which fails in such a transaction.
    pub(crate) async fn commit(mut self) -> Result<u64, Failure> {
        #[cfg(feature = "failpoints")]
        if let Some(stop) = cqrs_core::__private::IN_SAVE.get().and_then(|in_save| in_save(self.projection)) {
            stop.await;
        }
        if let Some(sql) = DB::NOTIFY {
            DB::fetch(&mut self.transaction, sql.to_owned(), &[Value::Text(self.names.context())]).await?;
        }
        self.transaction.commit().await?;
        Ok(self.revision.cast_unsigned())
    }
}

/// Rows as JSON arrays of about [`STATEMENT_BYTES`].
#[derive(Default)]
struct Batches {
    done: Vec<(u64, String)>,
    rows: Vec<String>,
    bytes: usize,
}

impl Batches {
    fn push(&mut self, row: &impl serde::Serialize, bytes: usize) -> Result<(), StoreError> {
        if self.bytes > STATEMENT_BYTES {
            self.cut();
        }
        let json = serde_json::to_string(row);
        self.rows.push(json.map_err(|error| StoreError::refused("writing a document as JSON", error))?);
        self.bytes += bytes;
        Ok(())
    }

    fn cut(&mut self) {
        if !self.rows.is_empty() {
            self.done.push((self.rows.len() as u64, format!("[{}]", self.rows.join(","))));
            self.rows.clear();
            self.bytes = 0;
        }
    }

    fn finish(mut self) -> Vec<(u64, String)> {
        self.cut();
        self.done
    }
}

/// The position of a projection in its row: the revision counts also while there is no checkpoint.
pub(crate) async fn checkpoint_row<DB: Dialect>(
    connection: &mut DB::Connection,
    names: &Names<DB>,
    projection: &str,
) -> Result<(Option<String>, i64), sqlx::Error> {
    let sql =
        format!("SELECT projection, checkpoint, revision FROM {} WHERE projection = $1", names.projections());
    let rows = DB::fetch(connection, sql, &[Value::Text(projection)]).await?;
    Ok(rows.into_iter().next().map_or((None, 0), |(_, checkpoint, revision)| (checkpoint, revision)))
}

/// A row for the ports: without a checkpoint there is no revision.
pub(crate) fn saved_checkpoint(
    projection: &ProjectionId,
    (checkpoint, revision): (Option<String>, i64),
) -> Result<SavedCheckpoint, StoreError> {
    let Some(json) = checkpoint else {
        return Ok(SavedCheckpoint { checkpoint: None, revision: 0 });
    };
    let checkpoint = serde_json::from_str(&json).map_err(|error| StoreError::BadDocument {
        view: projection.to_string(),
        key: "checkpoint".to_owned(),
        reason: error.to_string(),
    })?;
    Ok(SavedCheckpoint { checkpoint: Some(checkpoint), revision: revision.cast_unsigned() })
}

/// The content is stored as text, so that an operator can query it; JSON always is text.
pub(crate) fn text(content: &Bytes, what: impl FnOnce() -> String) -> Result<&str, StoreError> {
    match std::str::from_utf8(content) {
        Ok(text) if !text.contains('\0') => Ok(text),
        Ok(_) => Err(refused_text(&what(), None)),
        Err(error) => Err(refused_text(&what(), Some(Source::new(error)))),
    }
}

fn refused_text(what: &str, source: Option<Source>) -> StoreError {
    StoreError::Refused { what: format!("{what} is not JSON: only text is kept here"), source }
}

/// Revisions count saves, so they never come near the maximum of either type.
pub(crate) fn number(revision: u64) -> Value<'static> {
    Value::Number(i64::try_from(revision).unwrap_or(i64::MAX))
}
