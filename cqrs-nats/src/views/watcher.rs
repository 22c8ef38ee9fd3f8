//! Watches a checkpoint with a push consumer, without polling.

use std::time::Duration;

use async_nats::jetstream::consumer::{DeliverPolicy, push};
use cqrs_core::port::{Checkpoint, Reached, describe};
use futures_util::StreamExt;
use tokio::{sync::watch, task::AbortHandle, time::sleep};
use uuid::Uuid;

use crate::{
    client::{
        api::Api,
        connection::{Connection, NoAnswer},
        leader_get::last_of,
    },
    wire::names::Bucket,
};

/// The pause before a checkpoint is watched again, and after a denied permission, which an operator may grant.
const AGAIN: Duration = Duration::from_millis(200);
const DENIED: Duration = Duration::from_secs(5);

/// The position of a checkpoint, and its revision: a late message with a lower revision is ignored.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) reached: Reached,
    pub(super) revision: u64,
}

/// Watches one projection's checkpoint, for all calls in this process that wait for it.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) reached: watch::Sender<Seen>,
    task: AbortHandle,
}

impl Watcher {
    pub(super) fn start(connection: Connection, bucket: Bucket) -> Self {
        let reached = watch::Sender::new(Seen::default());
        let raised = reached.clone();
        let task = tokio::spawn(async move {
            let mut was_denied = false;
            loop {
                // With a name, so that one permission covers all consumers of the bucket.
                let name = format!("watching-{}", Uuid::new_v4().simple());
                let asked =
                    Api::ConsumerCreate.of(&connection.domain, format_args!("{}.{name}", bucket.stream));
                let follow = follow(&connection, &bucket, name, &raised);
                let followed = connection.answer(&[&asked], follow).await;
                let is_denied = matches!(followed, Err(NoAnswer::NotPermitted(_)));
                match followed {
                    Err(denied) if is_denied && !was_denied => {
                        let (bucket, error) = (&bucket.name, describe(&denied));
                        tracing::warn!(bucket, error, "calls that wait for the view are not woken");
                    }
                    Ok(Err(error)) => {
                        let error = describe(&*error);
                        tracing::debug!(bucket = bucket.name, error, "watching the checkpoint again");
                    }
                    Ok(Ok(())) | Err(_) => {}
                }
                was_denied = is_denied;
                sleep(if is_denied { DENIED } else { AGAIN }).await;
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
    bucket: &Bucket,
    name: String,
    reached: &watch::Sender<Seen>,
) -> Result<(), async_nats::Error> {
    // A message whose headers end the connection is not consumed: it is first read from the leader, and the watch
    // fails. After each loss of the connection this check runs again.
    let found = last_of(connection, &bucket.stream, &bucket.checkpoint(), || bucket.what("watching")).await?;
    found.map_or(Ok(()), |found| found.headers.map(drop))?;
    let stream = connection.jetstream.get_stream_no_info(&bucket.stream).await?;
    let config = push::OrderedConfig {
        name: Some(name),
        description: Some("wakes those who wait for a checkpoint".to_owned()),
        deliver_subject: connection.client.new_inbox(),
        filter_subject: bucket.checkpoint(),
        deliver_policy: DeliverPolicy::LastPerSubject,
        ..push::OrderedConfig::default()
    };
    let mut changes = stream.create_consumer(config).await?.messages().await?;
    while let Some(message) = changes.next().await {
        let message = message?;
        let checkpoint: Checkpoint = serde_json::from_slice(&message.payload)?;
        raise(reached, Seen { reached: checkpoint.reached(), revision: message.info()?.stream_sequence });
    }
    Ok(())
}
