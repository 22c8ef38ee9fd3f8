//! Deadlines in a table, delivered by one process at a time.
//!
//! The deadlines that a process has handed out are known in that process alone. It holds a turn as long as it has any,
//! so no other process delivers meanwhile; if it dies, the system frees the turn, and another delivers them again.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use cqrs_core::{
    Clock, StoreError,
    port::{Deadline, Deadlines, Due, DueQueue, MAX_DEADLINE_ID_BYTES},
};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Row as _, sqlite::SqliteRow};
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep},
};

use super::{
    SqliteEvents,
    log::{DURABLE, End, LOSABLE, Log},
    turn::Turn,
};
use crate::{
    errors::store_error,
    names::{original_key, stored_key},
};

/// After how long a deadline is delivered again that a receiver has taken and dropped.
const AGAIN: Duration = Duration::from_secs(2);

/// How often the table is read although no change was noticed, and how often a turn is asked for.
const LOOK: Duration = Duration::from_millis(250);

/// The name of the turn to deliver. No subscriber has it, since a projection's name has a version.
const TURN: &str = "deadlines";

/// What this process has handed out.
#[derive(Debug, Default)]
pub(super) struct HandedOut {
    /// By id and arming.
    held: HashMap<(String, String), Held>,
    turn: Weak<Turn>,
}

#[derive(Debug)]
struct Held {
    /// Alive as long as a receiver has the deadline.
    receiver: Weak<()>,
    /// When it is delivered again after the receiver has dropped it.
    again: Instant,
}

/// A row of the table.
#[derive(Debug)]
struct Armed {
    id: String,
    due: i64,
    arming: String,
    payload: Vec<u8>,
    put_off: i64,
}

impl Deadlines for SqliteEvents {
    type Queue = SqliteDueQueue;

    async fn prepare(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn arm(&self, deadline: &Deadline) -> Result<(), StoreError> {
        let (bytes, limit) = (deadline.id.len(), MAX_DEADLINE_ID_BYTES);
        if bytes > limit {
            return Err(StoreError::TooLarge { what: "the id of a deadline".to_owned(), bytes, limit });
        }
        let armed = arm(&self.log, deadline).await;
        armed.map_err(|error| store_error(self.log.about("arming a deadline"), error))
    }

    async fn disarm(&self, id: &str, order: u64) -> Result<(), StoreError> {
        let disarmed = disarm(&self.log, id, order).await;
        disarmed.map_err(|error| store_error(self.log.about("disarming a deadline"), error))
    }

    async fn due(&self, clock: Arc<dyn Clock>) -> Result<SqliteDueQueue, StoreError> {
        let (log, handed_out) = (Arc::clone(&self.log), Arc::clone(&self.handed_out));
        let changes = log.watch();
        Ok(SqliteDueQueue { log, handed_out, clock, changes })
    }

    async fn overdue(&self, now: Timestamp) -> Result<u64, StoreError> {
        let (log, until) = (&self.log, microseconds(now));
        // A deadline that was handed out keeps its time until it is done or delayed.
        let sql = format!("SELECT count(*) FROM {} WHERE due <= {until}", log.tables.deadlines);
        let counted = async { log.rows(sql).await?.first().map_or(Ok(0), |row| row.try_get::<i64, _>(0)) };
        let counted =
            counted.await.map_err(|error| store_error(log.about("counting due deadlines"), error))?;
        Ok(counted.unsigned_abs())
    }
}

async fn arm(log: &Log, deadline: &Deadline) -> Result<(), sqlx::Error> {
    let deadlines = &log.tables.deadlines;
    let sql = format!(
        "INSERT INTO {deadlines} AS known (id, due, decided, arming, payload, put_off) VALUES ($1, $2, $3, $4, $5, 0) \
         ON CONFLICT (id) DO UPDATE SET due = excluded.due, decided = excluded.decided, arming = excluded.arming, \
         payload = excluded.payload, put_off = 0 \
         WHERE known.arming <> excluded.arming AND known.decided <= excluded.decided"
    );
    let mut transaction = log.begin(DURABLE).await?;
    let query =
        sqlx::query(AssertSqlSafe(sql)).bind(&*stored_key(&deadline.id)).bind(microseconds(deadline.at));
    let query =
        query.bind(clamped(deadline.order)).bind(deadline.arming.to_string()).bind(&*deadline.payload);
    query.execute(&mut *transaction).await?;
    let sql = format!("UPDATE {} SET armed = armed + 1 RETURNING armed", log.tables.log);
    let armed: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *transaction).await?;
    transaction.commit().await?;
    log.moved(None, Some(armed));
    Ok(())
}

async fn disarm(log: &Log, id: &str, order: u64) -> Result<(), sqlx::Error> {
    let sql = format!("DELETE FROM {} WHERE id = $1 AND decided <= $2", log.tables.deadlines);
    let mut transaction = log.begin(DURABLE).await?;
    let query = sqlx::query(AssertSqlSafe(sql)).bind(&*stored_key(id)).bind(clamped(order));
    query.execute(&mut *transaction).await?;
    transaction.commit().await
}

/// Ends the delivered deadline, or delays it until a time; nothing happens if it was armed again or disarmed. If this
/// is lost in a power failure, the deadline is delivered again.
async fn settle(log: &Log, id: &str, arming: &str, again: Option<Timestamp>) -> Result<(), sqlx::Error> {
    let deadlines = &log.tables.deadlines;
    let sql = match again {
        None => format!("DELETE FROM {deadlines} WHERE id = $1 AND arming = $2"),
        Some(_) => {
            format!("UPDATE {deadlines} SET due = $3, put_off = put_off + 1 WHERE id = $1 AND arming = $2")
        }
    };
    let mut transaction = log.begin(LOSABLE).await?;
    let query = sqlx::query(AssertSqlSafe(sql)).bind(id).bind(arming);
    let query = match again {
        None => query,
        Some(at) => query.bind(microseconds(at)),
    };
    query.execute(&mut *transaction).await?;
    transaction.commit().await
}

/// The queue of due deadlines.
pub struct SqliteDueQueue {
    log: Arc<Log>,
    handed_out: Arc<Mutex<HandedOut>>,
    clock: Arc<dyn Clock>,
    changes: watch::Receiver<End>,
}

/// What there is to deliver.
enum Next {
    Due(Armed, Arc<()>, Arc<Turn>),
    /// Nothing before this time; `None` if nothing is armed.
    Later(Option<Timestamp>),
    /// Another process delivers.
    Elsewhere,
}

impl SqliteDueQueue {
    /// Takes the first deadline if it is due; no other receiver gets it while it is held.
    async fn take(&self) -> Result<Next, StoreError> {
        // Locked until the deadline is noted, so that no other receiver takes it, or ends it, in between.
        let mut handed_out = self.handed_out.lock().await;
        let turn = match handed_out.turn.upgrade() {
            Some(turn) => turn,
            None => match self.log.turns.take(TURN)? {
                Some(turn) => Arc::new(turn),
                None => return Ok(Next::Elsewhere),
            },
        };
        handed_out.turn = Arc::downgrade(&turn);
        let now = Instant::now();
        handed_out.held.retain(|_, held| held.receiver.strong_count() > 0 || held.again > now);
        let first = self.first(handed_out.held.len() + 1).await;
        let first = first.map_err(|error| store_error(self.log.about("reading deadlines"), error))?;
        let is_free =
            |armed: &Armed| !handed_out.held.contains_key(&(armed.id.clone(), armed.arming.clone()));
        let Some(armed) = first.into_iter().find(is_free) else { return Ok(Next::Later(None)) };
        if armed.due > microseconds(self.clock.now()) {
            return Ok(Next::Later(Timestamp::from_microsecond(armed.due).ok()));
        }
        let receiver = Arc::new(());
        let held = Held { receiver: Arc::downgrade(&receiver), again: now + AGAIN };
        handed_out.held.insert((armed.id.clone(), armed.arming.clone()), held);
        Ok(Next::Due(armed, receiver, turn))
    }

    async fn first(&self, max: usize) -> Result<Vec<Armed>, sqlx::Error> {
        let deadlines = &self.log.tables.deadlines;
        let sql =
            format!("SELECT id, due, arming, payload, put_off FROM {deadlines} ORDER BY due LIMIT {max}");
        let rows = self.log.rows(sql).await?;
        let armed = |row: &SqliteRow| {
            let [id, arming] = [row.try_get(0)?, row.try_get(2)?];
            Ok(Armed { id, due: row.try_get(1)?, arming, payload: row.try_get(3)?, put_off: row.try_get(4)? })
        };
        rows.iter().map(armed).collect()
    }

    fn hand_out(&self, armed: Armed, receiver: Arc<()>, turn: Arc<Turn>) -> Due {
        let (log, handed_out) = (Arc::clone(&self.log), Arc::clone(&self.handed_out));
        let clock = Arc::clone(&self.clock);
        let Armed { id, arming, payload, put_off, .. } = armed;
        let due = Due::new(original_key(id.clone()), Bytes::from(payload), move |again| async move {
            let again = again.map(|pause| clock.now().saturating_add(pause).unwrap_or(Timestamp::MAX));
            let settled = settle(&log, &id, &arming, again).await;
            settled.map_err(|error| store_error(log.about("ending a deadline"), error))?;
            handed_out.lock().await.held.remove(&(id, arming));
            drop((receiver, turn));
            Ok(())
        });
        due.put_off_before(u32::try_from(put_off).unwrap_or(u32::MAX))
    }
}

impl DueQueue for SqliteDueQueue {
    async fn next(&mut self) -> Result<Due, StoreError> {
        loop {
            self.changes.mark_unchanged();
            let next = match self.take().await? {
                Next::Due(armed, receiver, turn) => return Ok(self.hand_out(armed, receiver, turn)),
                Next::Later(next) => next,
                Next::Elsewhere => {
                    sleep(LOOK).await;
                    continue;
                }
            };
            tokio::select! {
                // The sender lives in the log, so this is a change.
                _ = self.changes.changed() => {}
                () = self.clock.sleep_until(next.unwrap_or(Timestamp::MAX)) => {}
                () = sleep(LOOK) => {}
            }
        }
    }
}

impl fmt::Debug for SqliteDueQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteDueQueue").field("log", &self.log).finish_non_exhaustive()
    }
}

/// A time as a number, rounded up: a deadline is never early.
fn microseconds(at: Timestamp) -> i64 {
    let rounded = at.as_microsecond();
    let is_exact = Timestamp::from_microsecond(rounded).is_ok_and(|exact| exact >= at);
    if is_exact { rounded } else { rounded.saturating_add(1) }
}

fn clamped(order: u64) -> i64 {
    i64::try_from(order).unwrap_or(i64::MAX)
}
