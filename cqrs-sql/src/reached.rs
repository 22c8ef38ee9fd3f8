//! Waits until a projection has reached a sequence.
//!
//! All calls that wait for a projection watch one value. A save of this process raises it at once. Saves of other
//! processes are read from the database when it signals a change, if a call is waiting.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cqrs_core::port::{Checkpoint, Reached};
use sqlx::Pool;
use tokio::sync::watch;

use crate::{dialect::Dialect, names::Names};

/// How long the follower pauses after a failure.
const REST: Duration = Duration::from_millis(200);

/// The position of a projection. The revision never repeats, so it shows which of two positions is newer: a projection
/// that is removed and rebuilt goes back in sequence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) revision: i64,
    pub(crate) reached: Reached,
}

/// The positions of all projections that a call has waited for.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    places: Mutex<HashMap<String, watch::Sender<Progress>>>,
}

impl Watched {
    pub(crate) fn watch(&self, projection: &str) -> watch::Receiver<Progress> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.entry(projection.to_owned()).or_default().subscribe()
    }

    /// Notes the position of a projection, unless a newer one is known.
    pub(crate) fn note(&self, projection: &str, place: Progress) {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = places.get(projection) {
            sender.send_if_modified(|known| {
                let newer = place.revision > known.revision;
                if newer {
                    *known = place;
                }
                newer
            });
        }
    }

    fn is_anybody_waiting(&self) -> bool {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.values().any(|sender| sender.receiver_count() > 0)
    }
}

/// The position in a stored checkpoint; the beginning if there is none.
pub(crate) fn read(checkpoint: Option<&str>) -> Reached {
    let checkpoint = checkpoint.and_then(|json| serde_json::from_str::<Checkpoint>(json).ok());
    checkpoint.unwrap_or_default().reached()
}

/// Follows the saves of other processes, until it is aborted.
pub(crate) async fn follow<DB: Dialect>(pool: Pool<DB>, names: Arc<Names<DB>>, reached: Arc<Watched>) {
    loop {
        if let Err(error) = follow_once(&pool, &names, &reached).await {
            tracing::debug!(context = names.context(), %error, "watching the checkpoints again");
        }
        tokio::time::sleep(REST).await;
    }
}

async fn follow_once<DB: Dialect>(
    pool: &Pool<DB>,
    names: &Names<DB>,
    reached: &Watched,
) -> Result<(), sqlx::Error> {
    let mut news = DB::news(pool.clone(), names.context());
    loop {
        DB::next(&mut news).await?;
        if reached.is_anybody_waiting() {
            let mut connection = pool.acquire().await?;
            let sql = format!("SELECT projection, checkpoint, revision FROM {}", names.projections());
            for (projection, checkpoint, revision) in DB::fetch(&mut connection, sql, &[]).await? {
                let place = Progress { revision, reached: read(checkpoint.as_deref()) };
                reached.note(&projection, place);
            }
        }
    }
}
