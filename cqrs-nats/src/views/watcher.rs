//! Waiting for a checkpoint to get somewhere, without asking for it.

use std::time::Duration;

use cqrs_core::{Checkpoint, Reached};
use futures_util::StreamExt;
use tokio::{sync::watch, task::AbortHandle, time::sleep};

use super::place::Place;
use crate::{connection::Connection, direct_get::last_of};

/// Where a checkpoint was seen, and under which revision: what comes late is not newer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) reached: Reached,
    pub(super) revision: u64,
}

/// Follows one projection's checkpoint, for all who wait for it in this process.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) reached: watch::Sender<Seen>,
    task: AbortHandle,
}

impl Watcher {
    pub(super) fn start(connection: Connection, place: Place) -> Self {
        let reached = watch::Sender::new(Seen::default());
        let raised = reached.clone();
        let task = tokio::spawn(async move {
            loop {
                if let Err(error) = follow(&connection, &place, &raised).await {
                    tracing::debug!(bucket = place.stream, %error, "watching the checkpoint again");
                }
                sleep(Duration::from_millis(200)).await;
            }
        });
        Self { reached, task: task.abort_handle() }
    }

    pub(super) fn raise(&self, seen: Seen) {
        raise(&self.reached, seen);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn raise(reached: &watch::Sender<Seen>, seen: Seen) {
    reached.send_if_modified(|before| {
        let newer = seen.revision > before.revision;
        if newer {
            *before = seen;
        }
        newer
    });
}

async fn follow(
    connection: &Connection,
    place: &Place,
    reached: &watch::Sender<Seen>,
) -> Result<(), async_nats::Error> {
    // Whatever ends the connection when it is received is not waited for. Beginning again after each loss, this is
    // asked again.
    let before = connection.before();
    let found = last_of(connection, &place.stream, &place.checkpoint(), || place.what("watching")).await?;
    found.map_or(Ok(()), |found| found.headers.map(drop))?;
    let bucket = connection.jetstream.get_key_value(&place.bucket).await?;
    let mut changes = bucket.watch_with_history("checkpoint").await?;
    while let Some(entry) = connection.answer_since(before, &[], changes.next()).await? {
        let entry = entry?;
        let checkpoint: Checkpoint = serde_json::from_slice(&entry.value)?;
        raise(reached, Seen { reached: checkpoint.reached(), revision: entry.revision });
    }
    Ok(())
}
