//! Commits as rows: one in `commits`, and one in `events` for each event.
//!
//! Payloads that are JSON are stored as text, so that an operator can query them, and all others as bytes. Either comes
//! back byte for byte.

use std::{collections::BTreeMap, fmt::Display, str::FromStr, sync::Arc};

use bytes::Bytes;
use cqrs_core::{
    AggregateKey, Metadata,
    log::{Commit, Origin, RecordedEvent, StoredCommit, is_json},
    port::{Delivery, Unreadable},
};
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{identity::Found, tables::Tables};
use crate::names::{original_key, stored_key};

/// How many events one statement inserts: a statement has at most 32,766 values.
const AT_ONCE: usize = 1_000;

/// The size of commits at which an answer takes no further one.
pub(super) const ANSWER_BYTES: i64 = 8 << 20;

/// The columns of [`select`] that say which log it is.
const LOG: usize = 20;
const SEEN: usize = 21;

/// Selects the commits whose sequences `which` selects, in order, with one row for each event; if there are none, one
/// row that says only which log it is. Only so many that all but the last are less than [`ANSWER_BYTES`]: the database
/// sorts an answer before it returns its first row. `$1` is the sequence that is asked about; see
/// [`identity`](super::identity).
pub(super) fn select(tables: &Tables, which: &str) -> String {
    let Tables { log, commits, events, .. } = tables;
    format!(
        "SELECT c.sequence, c.aggregate, c.id, c.first_version, c.events, c.source, e.position, e.event_id, e.type, \
         e.schema_version, e.content_type, e.data, e.time, e.command, e.command_id, e.command_hash, \
         e.correlation_id, e.causation_id, e.metadata, c.bytes, l.id, \
         (SELECT event_id FROM {events} WHERE sequence = $1 AND position = 0) \
         FROM {log} l LEFT JOIN {commits} c ON c.sequence IN (SELECT sequence FROM \
         (SELECT sequence, sum(bytes) OVER (ORDER BY sequence) - bytes AS before FROM {commits} \
         WHERE sequence IN ({which})) WHERE before < {ANSWER_BYTES}) \
         LEFT JOIN {events} e ON e.sequence = c.sequence ORDER BY c.sequence, e.position"
    )
}

/// The part of a row that says which log it is.
pub(super) fn found(row: &SqliteRow) -> Result<Found, sqlx::Error> {
    Ok(Found { log: row.try_get(LOG)?, event: row.try_get(SEEN)? })
}

/// Gathers the rows of each commit.
#[derive(Default)]
pub(super) struct Commits {
    done: Vec<Delivery>,
    open: Option<Open>,
    /// The size of all commits.
    bytes: i64,
}

/// A commit, some of whose rows were read.
struct Open {
    sequence: u64,
    aggregate: String,
    id: String,
    first_version: u64,
    expected: i64,
    source: String,
    /// The events, or why they cannot be read.
    events: Result<Vec<RecordedEvent>, String>,
}

impl Commits {
    pub(super) fn push(&mut self, row: &SqliteRow) -> Result<(), sqlx::Error> {
        let Some(sequence) = row.try_get::<Option<i64>, _>(0)?.map(i64::cast_unsigned) else { return Ok(()) };
        if self.open.as_ref().is_none_or(|open| open.sequence != sequence) {
            self.close();
            self.bytes = self.bytes.saturating_add(row.try_get(19)?);
            self.open = Some(Open {
                sequence,
                aggregate: row.try_get(1)?,
                id: original_key(row.try_get(2)?),
                first_version: row.try_get::<i64, _>(3)?.cast_unsigned(),
                expected: row.try_get(4)?,
                source: row.try_get(5)?,
                events: Ok(Vec::new()),
            });
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        if let Ok(events) = &mut open.events {
            match event(row, events) {
                Ok(event) => events.push(event),
                Err(reason) => open.events = Err(reason),
            }
        }
        Ok(())
    }

    fn close(&mut self) {
        self.done.extend(self.open.take().map(Open::delivery));
    }

    /// The commits, and whether the answer was cut because of their size.
    pub(super) fn finish(mut self) -> (Vec<Delivery>, bool) {
        self.close();
        (self.done, self.bytes >= ANSWER_BYTES)
    }
}

impl Open {
    fn delivery(self) -> Delivery {
        let sequence = self.sequence;
        let aggregate = match AggregateKey::new(self.aggregate, self.id) {
            Ok(aggregate) => aggregate,
            Err(error) => {
                let of_no_other = AggregateKey::new("", sequence.to_string());
                let aggregate = of_no_other.expect("a number is a short id");
                return Err(Unreadable { sequence, aggregate, reason: error.to_string() });
            }
        };
        let events = match self.events {
            Ok(events) if events.len() as u64 == self.expected.cast_unsigned() => events,
            Ok(events) => {
                let reason = format!("it has {} of its {} events", events.len(), self.expected);
                return Err(Unreadable { sequence, aggregate, reason });
            }
            Err(reason) => return Err(Unreadable { sequence, aggregate, reason }),
        };
        let commit = Commit {
            aggregate,
            first_version: self.first_version,
            source: self.source.into(),
            events: events.into_iter().collect(),
        };
        Ok(StoredCommit { sequence, commit })
    }
}

/// The event of a row, which must be the next one. Events of one command share their origin.
fn event(row: &SqliteRow, before: &[RecordedEvent]) -> Result<RecordedEvent, String> {
    let text = |column: usize| row.try_get::<String, _>(column).map_err(|error| error.to_string());
    let number = |column: usize| row.try_get::<i64, _>(column).map_err(|error| error.to_string());
    let position = row.try_get::<Option<i64>, _>(6).map_err(|error| error.to_string())?;
    if position != i64::try_from(before.len()).ok() {
        return Err(format!("its event {} is missing", before.len()));
    }
    let causation: Option<String> = row.try_get(17).map_err(|error| error.to_string())?;
    let metadata: Metadata = serde_json::from_str(&text(18)?).map_err(|error| error.to_string())?;
    let origin = Origin {
        time: parsed(&text(12)?)?,
        command: text(13)?.into(),
        command_id: parsed(&text(14)?)?,
        fingerprint: number(15)?.cast_unsigned(),
        correlation_id: parsed(&text(16)?)?,
        causation_id: causation.as_deref().map(parsed).transpose()?,
        metadata,
    };
    let origin = match before.last() {
        Some(last) if *last.origin == origin => Arc::clone(&last.origin),
        _ => Arc::new(origin),
    };
    let data: Vec<u8> = row.try_get_unchecked(11).map_err(|error| error.to_string())?;
    Ok(RecordedEvent {
        id: parsed(&text(7)?)?,
        origin,
        event_type: text(8)?.into(),
        schema_version: u32::try_from(number(9)?).map_err(|error| error.to_string())?,
        content_type: text(10)?.into(),
        data: Bytes::from(data),
    })
}

fn parsed<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

/// Inserts a commit at a sequence that is free.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    tables: &Tables,
    sequence: i64,
    commit: &Commit,
) -> Result<(), sqlx::Error> {
    let Tables { commits, events, .. } = tables;
    let sql = format!(
        "INSERT INTO {commits} (sequence, aggregate, id, first_version, events, bytes, source) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)"
    );
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(sequence)
        .bind(commit.aggregate.name())
        .bind(&*stored_key(commit.aggregate.id()))
        .bind(commit.first_version.cast_signed())
        .bind(i64::try_from(commit.events.len()).unwrap_or(i64::MAX))
        .bind(i64::try_from(size(commit)).unwrap_or(i64::MAX))
        .bind(&*commit.source)
        .execute(&mut *connection)
        .await?;
    let mut positions = 0_i64..;
    for part in commit.events.chunks(AT_ONCE) {
        let mut insert = QueryBuilder::<Sqlite>::new(format!(
            "INSERT INTO {events} (sequence, position, event_id, type, schema_version, content_type, data, time, \
             command, command_id, command_hash, correlation_id, causation_id, metadata) "
        ));
        insert.push_values(part.iter().zip(positions.by_ref()), |mut row, (event, position)| {
            let origin = &event.origin;
            row.push_bind(sequence)
                .push_bind(position)
                .push_bind(event.id.to_string())
                .push_bind(&*event.event_type)
                .push_bind(i64::from(event.schema_version))
                .push_bind(&*event.content_type);
            match json_text(event) {
                Some(text) => row.push_bind(text),
                None => row.push_bind(&*event.data),
            };
            row.push_bind(origin.time.to_string())
                .push_bind(&*origin.command)
                .push_bind(origin.command_id.to_string())
                .push_bind(origin.fingerprint.cast_signed())
                .push_bind(origin.correlation_id.to_string())
                .push_bind(origin.causation_id.map(|id| id.to_string()))
                .push_bind(metadata(&origin.metadata));
        });
        insert.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// A payload that is stored as text.
fn json_text(event: &RecordedEvent) -> Option<&str> {
    if !is_json(&event.content_type) {
        return None;
    }
    std::str::from_utf8(&event.data).ok().filter(|text| !text.contains('\0'))
}

fn metadata(metadata: &Metadata) -> String {
    let entries: BTreeMap<_, _> = metadata.iter().collect();
    // A map of texts is always JSON.
    serde_json::to_string(&entries).unwrap_or_default()
}

/// About how many bytes the commit takes.
pub(super) fn size(commit: &Commit) -> usize {
    let of = |event: &RecordedEvent| {
        // Each event keeps the metadata of its command.
        let metadata = event.origin.metadata.iter().map(|(name, value)| name.len() + value.len());
        event.data.len() + event.event_type.len() + event.content_type.len() + metadata.sum::<usize>()
    };
    commit.events.iter().map(of).sum()
}
