//! Waiting for a checkpoint to get somewhere, without asking for it.

use std::time::Duration;

use cqrs_core::Checkpoint;
use futures_util::StreamExt;
use tokio::{sync::watch, task::AbortHandle, time::sleep};

use super::place::Place;
use crate::connection::Connection;

/// Follows one projection's checkpoint, for all who wait for it in this process.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) sequence: watch::Sender<u64>,
    task: AbortHandle,
}

impl Watcher {
    pub(super) fn start(connection: Connection, place: Place) -> Self {
        let sequence = watch::Sender::new(0);
        let raised = sequence.clone();
        let task = tokio::spawn(async move {
            loop {
                if let Err(error) = follow(&connection, &place, &raised).await {
                    tracing::debug!(bucket = place.stream, %error, "watching the checkpoint again");
                }
                sleep(Duration::from_millis(200)).await;
            }
        });
        Self { sequence, task: task.abort_handle() }
    }

    pub(super) fn raise(&self, sequence: u64) {
        raise(&self.sequence, sequence);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn raise(reached: &watch::Sender<u64>, sequence: u64) {
    reached.send_if_modified(|reached| {
        let higher = sequence > *reached;
        *reached = sequence.max(*reached);
        higher
    });
}

async fn follow(
    connection: &Connection,
    place: &Place,
    reached: &watch::Sender<u64>,
) -> Result<(), async_nats::Error> {
    let bucket = connection.jetstream.get_key_value(&place.bucket).await?;
    let mut changes = bucket.watch_with_history("checkpoint").await?;
    while let Some(entry) = changes.next().await {
        let checkpoint: Checkpoint = serde_json::from_slice(&entry?.value)?;
        raise(reached, checkpoint.sequence);
    }
    Ok(())
}
