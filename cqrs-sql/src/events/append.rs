//! Appends commits: those that wait at the same time share one transaction, and one wait for the disk.

use std::sync::Arc;

use cqrs_core::{
    StoreError,
    log::Commit,
    port::{AppendError, Expected},
};
use sqlx::{AssertSqlSafe, Row as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::{
    identity::{Found, Known},
    log::{DURABLE, Log},
    rows,
    tables::Tables,
};
use crate::{
    errors::{Kind, kind, store_error},
    names::stored_key,
};

/// The largest commit, in bytes: as large as a NATS server takes without a warning, so that a log can move there.
pub(super) const MAX_COMMIT_BYTES: usize = 8 << 20;

/// How many appends share a transaction.
const TOGETHER: usize = 64;

/// How many appends wait before callers have to.
pub(super) const WAITING: usize = 1_024;

type Answer = Result<u64, AppendError>;

/// An append that waits.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) commit: Commit,
    pub(super) expected: Expected,
    /// The era in which it was called.
    pub(super) era: u64,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// Carries out the appends, until no more can come.
pub(super) async fn run(log: Arc<Log>, mut waiting: mpsc::Receiver<Append>) {
    let mut taken = Vec::new();
    while waiting.recv_many(&mut taken, TOGETHER).await > 0 {
        // No caller waits for these any more.
        taken.retain(|append| !append.answer.is_closed());
        let answers = together(&log, &taken).await;
        for (append, answer) in taken.drain(..).zip(answers) {
            // The caller may have gone meanwhile.
            let _ = append.answer.send(answer);
        }
    }
}

async fn together(log: &Log, appends: &[Append]) -> Vec<Answer> {
    match transaction(log, appends).await {
        Ok(answers) => answers,
        // One by one, to find the append that the database refuses.
        Err(Failure::Statement(_)) if appends.len() > 1 => {
            let mut answers = Vec::with_capacity(appends.len());
            for append in appends {
                let alone = std::slice::from_ref(append);
                match transaction(log, alone).await {
                    Ok(answer) => answers.extend(answer),
                    Err(failure) => answers.extend(failure.answers(log, alone)),
                }
            }
            answers
        }
        Err(failure) => failure.answers(log, appends).collect(),
    }
}

/// How far a transaction that failed had come.
enum Failure {
    /// It was not begun: nothing is stored.
    Begin(sqlx::Error),
    /// Nothing is stored; another transaction may succeed.
    Statement(sqlx::Error),
    /// The commit failed.
    Commit(sqlx::Error),
    /// Nothing is stored: the log is another one.
    OtherLog,
}

impl Failure {
    /// The answer to each append.
    fn answers(self, log: &Log, appends: &[Append]) -> impl Iterator<Item = Answer> {
        let (is_commit, kind, error) = match self {
            Self::Begin(error) | Self::Statement(error) => (false, kind(&error), Some(error)),
            Self::Commit(error) => (true, kind(&error), Some(error)),
            Self::OtherLog => (false, Kind::Busy, None),
        };
        let what = log.about("appending");
        let error = match error {
            Some(error) => store_error(what, error),
            None => StoreError::unavailable(what, "the log is another one, or an older copy"),
        };
        let answer = move || match kind {
            // If the disk fails while it writes the end of a transaction, that may be there after a restart. A full
            // disk has not got it.
            kind if is_commit && !matches!(kind, Kind::Full | Kind::Busy) => {
                AppendError::Unknown(error.clone())
            }
            kind if kind.is_transient() => AppendError::Busy(error.clone()),
            _ => AppendError::Failed(error.clone()),
        };
        (0..appends.len()).map(move |_| Err(answer()))
    }
}

async fn transaction(log: &Log, appends: &[Append]) -> Result<Vec<Answer>, Failure> {
    let mut transaction = log.begin(DURABLE).await.map_err(Failure::Begin)?;
    let asked = log.identity.known();
    let mut answers = Vec::with_capacity(appends.len());
    let mut last = None;
    for append in appends {
        let commit = &append.commit;
        let decided = decide(&mut transaction, log, &asked, append).await;
        let step = match decided {
            Ok(Decided::Store(sequence)) => {
                let stored = store(&mut transaction, &log.tables, sequence, commit).await;
                last = Some((sequence, commit));
                stored.map(|()| Ok(sequence.cast_unsigned()))
            }
            Ok(Decided::Answer(answer)) => Ok(answer),
            Ok(Decided::OtherLog) => {
                let _ = transaction.rollback().await;
                return Err(Failure::OtherLog);
            }
            Err(error) => Err(error),
        };
        match step {
            Ok(answer) => answers.push(answer),
            Err(error) => {
                // If the rollback fails as well, the connection is not used again.
                let _ = transaction.rollback().await;
                return Err(Failure::Statement(error));
            }
        }
    }
    let Some((sequence, commit)) = last else {
        let _ = transaction.rollback().await;
        return Ok(answers);
    };
    #[cfg(feature = "failpoints")]
    for Append { commit, .. } in appends {
        let in_save = cqrs_core::__private::IN_SAVE.get();
        if let Some(stop) = in_save.and_then(|in_save| in_save(&commit.aggregate.to_string())) {
            stop.await;
        }
    }
    transaction.commit().await.map_err(Failure::Commit)?;
    log.identity.saw(&asked, sequence, || commit.events.first().map(|event| event.id.to_string()));
    log.moved(Some(sequence), None);
    Ok(answers)
}

enum Decided {
    /// At this sequence.
    Store(i64),
    /// Not stored.
    Answer(Answer),
    OtherLog,
}

/// Compares the log with what the append expects.
async fn decide(
    connection: &mut SqliteConnection,
    log: &Log,
    asked: &Known,
    Append { commit, expected, era, .. }: &Append,
) -> Result<Decided, sqlx::Error> {
    let Tables { log: row, commits, events, .. } = &log.tables;
    let sql = format!(
        "SELECT l.id, (SELECT event_id FROM {events} WHERE sequence = $1 AND position = 0), l.last, \
         c.sequence, c.first_version, c.events FROM {row} l LEFT JOIN {commits} c \
         ON c.sequence = (SELECT max(sequence) FROM {commits} WHERE aggregate = $2 AND id = $3)"
    );
    let id = stored_key(commit.aggregate.id());
    let query = sqlx::query(AssertSqlSafe(sql)).bind(asked.seen.sequence).bind(commit.aggregate.name());
    let row = query.bind(&*id).fetch_one(&mut *connection).await?;
    let found = Found { log: row.try_get(0)?, event: row.try_get(1)? };
    // Another call may have noticed it since this one began, and then nothing is wrong with this log.
    if !log.identity.is_same(asked, &found) || log.identity.number() != *era {
        return Ok(Decided::OtherLog);
    }
    let own = row.try_get::<Option<i64>, _>(3)?.unwrap_or(0).cast_unsigned();
    if own != expected.sequence() {
        return Ok(Decided::Answer(Err(AppendError::Conflict)));
    }
    if own > 0 {
        // The caller may have decided on an earlier log that had another commit at this sequence. A commit with a version
        // that does not follow the aggregate's last one would be a version gap.
        let [first, events] = [row.try_get::<i64, _>(4)?, row.try_get::<i64, _>(5)?];
        if first.wrapping_add(events) != commit.first_version.cast_signed() {
            return Ok(Decided::Answer(Err(AppendError::Conflict)));
        }
    }
    Ok(Decided::Store(row.try_get::<i64, _>(2)? + 1))
}

async fn store(
    connection: &mut SqliteConnection,
    tables: &Tables,
    sequence: i64,
    commit: &Commit,
) -> Result<(), sqlx::Error> {
    rows::insert(connection, tables, sequence, commit).await?;
    let sql = format!("UPDATE {} SET last = $1", tables.log);
    sqlx::query(AssertSqlSafe(sql)).bind(sequence).execute(connection).await?;
    Ok(())
}

/// Fails if the commit is larger than this store takes.
pub(super) fn check_size(commit: &Commit) -> Result<(), StoreError> {
    let (bytes, limit) = (rows::size(commit), MAX_COMMIT_BYTES);
    if bytes <= limit {
        return Ok(());
    }
    Err(StoreError::TooLarge { what: format!("the commit of {}", commit.aggregate), bytes, limit })
}
