//! Following the stream: a durable pull consumer that starts at the projection's checkpoint.
//!
//! The consumer is there for its name, its lag and its order. The truth about progress is the checkpoint,
//! so a consumer that does not stand exactly where the checkpoint says is made anew.

use std::time::Duration;

use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, DeliverPolicy, Info, PullConsumer, pull},
};
use bytes::Bytes;
use cqrs_core::{StoreError, StoredCommit, Subscribe, Subscription};
use futures_util::{FutureExt, StreamExt};

use crate::{
    Topology,
    connection::Connection,
    errors::{store_error, unavailable},
    events::stored_on,
    subject::filter_of,
};

/// How many messages the consumer sends before any of them is acknowledged; more than are asked for at
/// once, so that it never waits for the projector's account.
const MAX_UNACKNOWLEDGED: i64 = 8_192;

/// How many messages are under way at once.
const PULL: usize = 1_024;

/// How long the server waits for an acknowledgment before it sends again, which the projector then skips.
const ACK_WAIT: Duration = Duration::from_secs(60);

/// Commits of a stream as they come.
pub struct NatsSubscription {
    connection: Connection,
    context: String,
    subscriber: String,
    messages: pull::Stream,
    /// The number of the last delivery: the consumer counts them without gaps.
    delivery: u64,
    /// The last sequence that was returned.
    seen: u64,
    /// The last delivery's sequence and where to acknowledge it.
    last: Option<(u64, async_nats::Subject)>,
}

impl NatsSubscription {
    pub(crate) async fn open(
        connection: &Connection,
        topology: &Topology,
        request: Subscribe<'_>,
    ) -> Result<Self, StoreError> {
        let what = || format!("following stream {} as {}", topology.stream(), request.subscriber);
        let open = async {
            let stream = connection.jetstream.get_stream_no_info(topology.stream()).await;
            let stream = stream.map_err(|error| store_error(what(), error))?;
            let consumer = consumer_at(&stream, topology, request).await?;
            let messages = consumer
                .stream()
                .max_messages_per_batch(PULL)
                .expires(Duration::from_secs(30))
                .heartbeat(Duration::from_secs(5))
                .messages()
                .await
                .map_err(|error| store_error(what(), error))?;
            Ok(Self {
                connection: connection.clone(),
                context: topology.context().to_owned(),
                subscriber: request.subscriber.to_owned(),
                messages,
                delivery: consumer.cached_info().delivered.consumer_sequence,
                seen: request.after,
                last: None,
            })
        };
        connection.unless_lost(open).await.map_err(|lost| unavailable(what(), lost))?
    }

    /// The commit in a delivery; none when it was returned before.
    fn take(&mut self, message: jetstream::Message) -> Result<Option<StoredCommit>, StoreError> {
        let interrupted =
            |what: String| StoreError::Interrupted { subscriber: self.subscriber.clone(), what };
        let info =
            message.info().map_err(|error| interrupted(format!("a delivery without its place: {error}")))?;
        let (sequence, delivery) = (info.stream_sequence, info.consumer_sequence);
        if delivery != self.delivery + 1 {
            return Err(interrupted(format!("delivery {delivery} came after delivery {}", self.delivery)));
        }
        self.delivery = delivery;
        let message = message.message;
        if let Some(reply) = message.reply {
            self.last = Some((sequence, reply));
        }
        // Deliveries are counted without gaps, so what is sent again has been seen before.
        if sequence <= self.seen {
            return Ok(None);
        }
        self.seen = sequence;
        let headers = message.headers.unwrap_or_default();
        stored_on(&self.context, &message.subject, sequence, &headers, message.payload).map(Some)
    }
}

impl Subscription for NatsSubscription {
    async fn next(&mut self, max: usize) -> Result<Vec<StoredCommit>, StoreError> {
        let mut commits = Vec::new();
        while commits.len() < max {
            // Waits for the first, and takes the others only as far as they are there.
            let next = if commits.is_empty() {
                self.messages.next().await
            } else {
                match self.messages.next().now_or_never() {
                    Some(next) => next,
                    None => break,
                }
            };
            let what = || format!("following the stream as {}", self.subscriber);
            let message = next
                .ok_or_else(|| unavailable(what(), "the subscription ended"))?
                .map_err(|error| unavailable(what(), error))?;
            commits.extend(self.take(message)?);
        }
        Ok(commits)
    }

    async fn done(&mut self, sequence: u64) -> Result<(), StoreError> {
        let Some((_, reply)) = self.last.take_if(|(last, _)| *last <= sequence) else {
            return Ok(());
        };
        // One acknowledgment covers all deliveries before it.
        let ack = self.connection.client.publish(reply, Bytes::from_static(b"+ACK"));
        ack.await.map_err(|error| unavailable("acknowledging", error))
    }
}

/// The consumer of this name, standing right after `request.after`.
async fn consumer_at(
    stream: &jetstream::stream::Stream<()>,
    topology: &Topology,
    request: Subscribe<'_>,
) -> Result<PullConsumer, StoreError> {
    let what = || format!("preparing consumer {} of stream {}", request.subscriber, topology.stream());
    let config = config_of(topology, request);
    if let Ok(found) = stream.get_consumer::<pull::Config>(request.subscriber).await {
        if stands_at(found.cached_info(), &config, request.after) {
            return Ok(found);
        }
        let deleted = stream.delete_consumer(request.subscriber).await;
        deleted.map_err(|error| store_error(what(), error))?;
    }
    stream.create_consumer(config).await.map_err(|error| store_error(what(), error))
}

fn config_of(topology: &Topology, request: Subscribe<'_>) -> pull::Config {
    let filters = request.aggregates.iter().map(|name| filter_of(topology.context(), name)).collect();
    pull::Config {
        durable_name: Some(request.subscriber.to_owned()),
        description: Some("a projector; its place is the checkpoint beside the view".to_owned()),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: request.after + 1 },
        ack_policy: AckPolicy::All,
        ack_wait: ACK_WAIT,
        max_ack_pending: MAX_UNACKNOWLEDGED,
        filter_subjects: filters,
        ..pull::Config::default()
    }
}

/// Whether the next delivery of a consumer is the first commit after `after`, and none was sent before
/// that may come again behind it.
fn stands_at(info: &Info, config: &pull::Config, after: u64) -> bool {
    let nothing_under_way = info.num_ack_pending == 0 && info.num_waiting == 0;
    let mut filters = info.config.filter_subjects.clone();
    if !info.config.filter_subject.is_empty() {
        filters.push(info.config.filter_subject.clone());
    }
    let started = match info.config.deliver_policy {
        DeliverPolicy::ByStartSequence { start_sequence } => start_sequence.saturating_sub(1),
        _ => 0,
    };
    let stands = info.delivered.stream_sequence.max(started);
    nothing_under_way && stands <= after && filters == config.filter_subjects
}
