//! One log in a file: its connections, and the statements that read it.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use cqrs_core::{
    AggregateKey, StoreError,
    log::StoredCommit,
    port::{Backlog, Delivery, SnapshotPart},
};
use sqlx::{AssertSqlSafe, Row as _, Sqlite, SqlitePool, Transaction, sqlite::SqliteRow};
use tokio::{sync::watch, task::AbortHandle, time::sleep};

use super::{
    identity::{Found, Identity, Known, Mark},
    rows::{self, Commits},
    tables::Tables,
    turn::Turns,
};
use crate::{
    SqlError,
    dialect::{Dialect as _, Value},
    errors::store_error,
    names::stored_key,
    open_file::OpenFile,
    transaction::number,
};

/// Begins a transaction that waits for the disk when it commits: what it stores outlasts a power failure.
pub(super) const DURABLE: &str = "PRAGMA synchronous = FULL; BEGIN IMMEDIATE";

/// Begins a transaction whose loss in a power failure does no harm.
pub(super) const LOSABLE: &str = Sqlite::BEGIN;

/// How often commits of other processes are looked for while a call waits for them: SQLite sends no notifications.
const LOOK: Duration = Duration::from_millis(50);

/// One log, for all parts of the store.
#[derive(Debug)]
pub(crate) struct Log {
    pub(super) writer: SqlitePool,
    reader: SqlitePool,
    pub(super) tables: Tables,
    /// The file, for errors.
    pub(super) place: String,
    pub(super) identity: Identity,
    pub(super) turns: Turns,
    /// The end of the log, as this process knows it.
    end: watch::Sender<End>,
    /// Looks for commits of other processes, once a call waits.
    watcher: OnceLock<AbortHandle>,
}

/// What calls wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct End {
    /// The last sequence of the log.
    pub(super) last: i64,
    /// How often a deadline was armed.
    pub(super) armed: i64,
    /// The number of the era.
    pub(super) era: u64,
}

impl Log {
    pub(super) async fn open(
        writer: SqlitePool,
        reader: SqlitePool,
        tables: Tables,
        file: Arc<OpenFile>,
        turns: Turns,
        place: String,
    ) -> Result<Self, SqlError> {
        let (end, watcher) = (watch::Sender::default(), OnceLock::new());
        let identity = Identity::new(file);
        let log = Self { writer, reader, tables, place, identity, turns, end, watcher };
        let asked = log.ask(&Known::default()).await;
        let (found, end, last) = asked.map_err(|error| SqlError::new(&log.place, error))?;
        log.identity.begin_with(Known { log: found.log, seen: last });
        log.end.send_replace(end);
        Ok(log)
    }

    /// The text of an error about this log.
    pub(super) fn about(&self, what: &str) -> String {
        format!("{what} in {}", self.place)
    }

    /// The id, the end and the last commit of the log, and the commit that was asked about.
    async fn ask(&self, asked: &Known) -> Result<(Found, End, Mark), sqlx::Error> {
        let Tables { log, events, .. } = &self.tables;
        let event =
            |at: &str| format!("(SELECT event_id FROM {events} WHERE sequence = {at} AND position = 0)");
        let sql = format!("SELECT id, {}, last, armed, {} FROM {log}", event("$1"), event("last"));
        let row = sqlx::query(AssertSqlSafe(sql)).bind(asked.seen.sequence).fetch_one(&self.reader).await?;
        let found = Found { log: row.try_get(0)?, event: row.try_get(1)? };
        let last = Mark { sequence: row.try_get(2)?, event: row.try_get(4)? };
        let end = End { last: last.sequence, armed: row.try_get(3)?, era: self.identity.number() };
        Ok((found, end, last))
    }

    /// The last sequence of the log.
    pub(super) async fn present_end(&self) -> Result<i64, sqlx::Error> {
        let (_, end, _) = self.ask(&self.identity.known()).await?;
        Ok(end.last)
    }

    /// Looks for what other processes have done.
    async fn look(&self) -> Result<(), sqlx::Error> {
        let asked = self.identity.known();
        let (found, end, last) = self.ask(&asked).await?;
        if self.identity.is_same(&asked, &found) {
            self.identity.saw(&asked, last.sequence, || last.event);
        }
        let end = End { era: self.identity.number(), ..end };
        self.end.send_if_modified(|known| {
            // This process may have appended since.
            let newer = end.era != known.era || end.last > known.last || end.armed > known.armed;
            if newer {
                *known = end;
            }
            newer
        });
        Ok(())
    }

    /// The end of the log as it changes. From now on, commits of other processes are looked for.
    pub(super) fn watch(self: &Arc<Self>) -> watch::Receiver<End> {
        let end = self.end.subscribe();
        self.watcher.get_or_init(|| {
            let log = Arc::downgrade(self);
            let watching = async move {
                loop {
                    sleep(LOOK).await;
                    let Some(log) = log.upgrade() else { return };
                    if log.end.receiver_count() > 0
                        && let Err(error) = log.look().await
                    {
                        tracing::debug!(%error, place = log.place, "looking for news again");
                    }
                }
            };
            tokio::spawn(watching).abort_handle()
        });
        end
    }

    /// Notes what this process has appended or armed.
    pub(super) fn moved(&self, last: Option<i64>, armed: Option<i64>) {
        self.end.send_if_modified(|known| {
            let before = *known;
            known.last = known.last.max(last.unwrap_or(0));
            known.armed = known.armed.max(armed.unwrap_or(0));
            *known != before
        });
    }

    /// Begins a transaction.
    pub(super) async fn begin(&self, how: &'static str) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        self.writer.begin_with(how).await
    }

    /// The first `max` of the commits that `which` selects, in order, and whether there may be more. Fewer if they are
    /// large. The values begin with `$2`.
    pub(super) async fn commits(
        &self,
        what: impl Fn() -> String,
        which: &str,
        values: &[Value<'_>],
        max: usize,
    ) -> Result<(Vec<Delivery>, bool), StoreError> {
        let read = self.read_commits(which, values, max).await;
        read.map_err(|error| store_error(self.about(&what()), error))
    }

    async fn read_commits(
        &self,
        which: &str,
        values: &[Value<'_>],
        max: usize,
    ) -> Result<(Vec<Delivery>, bool), sqlx::Error> {
        let asked = self.identity.known();
        let mut query =
            sqlx::query(AssertSqlSafe(rows::select(&self.tables, which))).bind(asked.seen.sequence);
        for value in values {
            query = match *value {
                Value::Text(text) => query.bind(text),
                Value::Number(number) => query.bind(number),
            };
        }
        let answer = query.fetch_all(&self.reader).await?;
        let mut commits = Commits::default();
        answer.iter().try_for_each(|row| commits.push(row))?;
        let (mut commits, is_cut) = commits.finish();
        let has_more = is_cut || commits.len() > max;
        commits.truncate(max);
        let is_same = match answer.first() {
            Some(row) => self.identity.is_same(&asked, &rows::found(row)?),
            None => false,
        };
        if is_same && let Some(Ok(last)) = commits.last() {
            let event = || last.commit.events.first().map(|event| event.id.to_string());
            self.identity.saw(&asked, last.sequence.cast_signed(), event);
        }
        Ok((commits, has_more))
    }

    /// The commits of an aggregate after a sequence, at most `max`, and whether there are more.
    pub(super) async fn of_aggregate(
        &self,
        aggregate: &AggregateKey,
        after: u64,
        max: usize,
    ) -> Result<(Vec<StoredCommit>, bool), StoreError> {
        let which = format!(
            "SELECT sequence FROM {} WHERE aggregate = $2 AND id = $3 AND sequence > $4 ORDER BY sequence LIMIT $5",
            self.tables.commits
        );
        let id = stored_key(aggregate.id());
        let (aggregate_type, after) = (Value::Text(aggregate.name()), number(after));
        let values = [aggregate_type, Value::Text(&id), after, limit(max.saturating_add(1))];
        let (found, more) = self.commits(|| format!("reading {aggregate}"), &which, &values, max).await?;
        Ok((readable(found)?, more))
    }

    /// The last commit of an aggregate before a sequence.
    pub(super) async fn last_of(
        &self,
        aggregate: &AggregateKey,
        before: u64,
    ) -> Result<Option<Delivery>, StoreError> {
        let which = format!(
            "SELECT max(sequence) FROM {} WHERE aggregate = $2 AND id = $3 AND sequence < $4",
            self.tables.commits
        );
        let id = stored_key(aggregate.id());
        let values = [Value::Text(aggregate.name()), Value::Text(&id), number(before)];
        let (found, _) =
            self.commits(|| format!("reading the last commit of {aggregate}"), &which, &values, 2).await?;
        Ok(found.into_iter().next())
    }

    /// The commits of some aggregate types after a sequence, at most `max`, and whether there may be more.
    pub(super) async fn of_types(
        &self,
        what: impl Fn() -> String,
        aggregates: &[&'static str],
        after: i64,
        max: usize,
    ) -> Result<(Vec<Delivery>, bool), StoreError> {
        if aggregates.is_empty() || max == 0 {
            return Ok((Vec::new(), false));
        }
        // One part for each type, so that each reads its index only as far as it must.
        let part = |number: usize| {
            format!(
                "SELECT sequence FROM (SELECT sequence FROM {} WHERE aggregate = ${} AND sequence > $2 \
                 ORDER BY sequence LIMIT $3)",
                self.tables.commits,
                number + 4
            )
        };
        let parts: Vec<_> = (0..aggregates.len()).map(part).collect();
        let which = format!("{} ORDER BY sequence LIMIT $3", parts.join(" UNION ALL "));
        let mut values = vec![Value::Number(after), limit(max.saturating_add(1))];
        values.extend(aggregates.iter().map(|aggregate| Value::Text(aggregate)));
        self.commits(what, &which, &values, max).await
    }

    /// How many commits of some aggregate types come after a sequence, and the time of the first of them.
    pub(super) async fn backlog(
        &self,
        aggregates: &[&'static str],
        after: u64,
    ) -> Result<Backlog, sqlx::Error> {
        let Tables { commits, events, .. } = &self.tables;
        let mut connection = self.reader.acquire().await?;
        let (mut count, mut first) = (0, None::<i64>);
        for aggregate in aggregates {
            let sql = format!(
                "SELECT count(*), min(sequence) FROM {commits} WHERE aggregate = $1 AND sequence > $2"
            );
            let after = i64::try_from(after).unwrap_or(i64::MAX);
            let query = sqlx::query_as(AssertSqlSafe(sql)).bind(*aggregate).bind(after);
            let (more, at): (i64, Option<i64>) = query.fetch_one(&mut *connection).await?;
            count += more.cast_unsigned();
            first = first.into_iter().chain(at).min();
        }
        let sql = format!("SELECT time FROM {events} WHERE sequence = $1 AND position = 0");
        let time = sqlx::query_scalar(AssertSqlSafe(sql)).bind(first);
        let time: Option<String> = time.fetch_optional(&mut *connection).await?;
        Ok(Backlog { commits: count, since: time.and_then(|time| time.parse().ok()) })
    }

    /// The id of the log, and the last sequence of some aggregate types.
    pub(super) async fn end_of(&self, aggregates: &[&'static str]) -> Result<(String, i64), sqlx::Error> {
        let (found, ..) = self.ask(&self.identity.known()).await?;
        let mut last = 0;
        for aggregate in aggregates {
            let sql = format!("SELECT max(sequence) FROM {} WHERE aggregate = $1", self.tables.commits);
            let of_type = sqlx::query_scalar(AssertSqlSafe(sql)).bind(*aggregate);
            let of_type: Option<i64> = of_type.fetch_one(&self.reader).await?;
            last = last.max(of_type.unwrap_or(0));
        }
        Ok((found.log, last))
    }

    /// The stored ids of an aggregate type after one, in their order, and whether there are more. The index has them, so
    /// no commit is read.
    pub(super) async fn ids(
        &self,
        aggregate: &str,
        after: Option<&str>,
        max: usize,
    ) -> Result<(Vec<String>, bool), sqlx::Error> {
        let (after, is_behind) = after.map_or(("", ">="), |after| (after, ">"));
        let sql = format!(
            "SELECT DISTINCT id FROM {} WHERE aggregate = $1 AND id {is_behind} $2 ORDER BY id LIMIT $3",
            self.tables.commits
        );
        let max_and_one = i64::try_from(max.saturating_add(1)).unwrap_or(i64::MAX);
        let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(aggregate).bind(after).bind(max_and_one);
        let mut ids: Vec<String> = query.fetch_all(&self.reader).await?;
        let more = ids.len() > max;
        ids.truncate(max);
        Ok((ids, more))
    }

    pub(super) async fn snapshot(
        &self,
        aggregate: &AggregateKey,
        part: SnapshotPart,
    ) -> Result<Option<Bytes>, sqlx::Error> {
        let table = &self.tables.snapshots;
        let sql = format!("SELECT snapshot FROM {table} WHERE aggregate = $1 AND id = $2 AND part = $3");
        let id = stored_key(aggregate.id());
        let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(aggregate.name()).bind(&*id);
        let found: Option<Vec<u8>> = query.bind(number_of(part)).fetch_optional(&self.reader).await?;
        Ok(found.map(Bytes::from))
    }

    pub(super) async fn save_snapshot(
        &self,
        aggregate: &AggregateKey,
        part: SnapshotPart,
        snapshot: &[u8],
    ) -> Result<(), sqlx::Error> {
        let sql = format!(
            "INSERT INTO {} (aggregate, id, part, snapshot) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (aggregate, id, part) DO UPDATE SET snapshot = excluded.snapshot",
            self.tables.snapshots
        );
        let mut transaction = self.begin(LOSABLE).await?;
        let id = stored_key(aggregate.id());
        let query = sqlx::query(AssertSqlSafe(sql)).bind(aggregate.name()).bind(&*id);
        query.bind(number_of(part)).bind(snapshot).execute(&mut *transaction).await?;
        transaction.commit().await
    }

    /// The rows of a statement without values.
    pub(super) async fn rows(&self, sql: String) -> Result<Vec<SqliteRow>, sqlx::Error> {
        sqlx::query(AssertSqlSafe(sql)).fetch_all(&self.reader).await
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher.get() {
            watcher.abort();
        }
    }
}

/// The number of a snapshot's part in its row.
fn number_of(part: SnapshotPart) -> i64 {
    match part {
        SnapshotPart::State => -1,
        SnapshotPart::Commands(number) => number.into(),
    }
}

/// Commits that can all be read.
fn readable(found: Vec<Delivery>) -> Result<Vec<StoredCommit>, StoreError> {
    found.into_iter().map(one_readable).collect()
}

pub(super) fn one_readable(found: Delivery) -> Result<StoredCommit, StoreError> {
    found.map_err(|unreadable| StoreError::NotACommit {
        sequence: unreadable.sequence,
        reason: unreadable.reason,
    })
}

pub(super) fn limit(max: usize) -> Value<'static> {
    Value::Number(i64::try_from(max).unwrap_or(i64::MAX))
}
