//! The consumer of a subscription, and which client may read from it: the pinned client of its priority group.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, DeliverPolicy, Info, PriorityPolicy, PullConsumer, StreamError, pull},
};
use cqrs_core::{StoreError, port::Subscribe};
use uuid::Uuid;

use crate::{client::errors::store_error, topology::Topology};

/// How many messages the consumer sends before any of them is acknowledged: more than are requested at once, so that it
/// never waits for the projector's acknowledgment.
const MAX_UNACKNOWLEDGED: i64 = 8_192;

/// How long the server keeps a consumer that gets no requests. A later subscriber creates it again. It removes the
/// consumers of processes with views in memory, which no later process uses.
const KEPT: Duration = Duration::from_secs(3_600);

/// How many messages one pull request asks for.
const PULL: usize = 1_024;

/// The ack wait: how long the server waits for an acknowledgment before it redelivers, which the subscription then
/// reports as an error.
const ACK_WAIT: Duration = Duration::from_secs(60);

/// How many bytes one pull request asks for, unless one message may be larger.
const PULL_BYTES: usize = 4 * 1024 * 1024;

/// The most bytes that the server counts beside a message's own: its subject, and its reply subject.
const OVERHEAD: usize = 64 * 1024;

/// The `priority_timeout` of the consumer's priority group: the server moves the pin to another client this long after
/// the last request of the pinned client. It is most of the time that a failover takes. A client that is paused for
/// longer loses the pin while it saves; the checkpoint's compare-and-set then makes one of the two saves a conflict.
const TURN: Duration = Duration::from_secs(2);

/// How long one pull request lasts; well below [`TURN`], so that an idle subscriber keeps the pin.
pub(super) const REQUEST: Duration = Duration::from_secs(1);

/// What this process remembers of the pins of its former subscriptions, by subscriber.
pub(crate) type Turns = Arc<Mutex<HashMap<String, Turn>>>;

/// Locks a mutex, also after another holder has panicked: each change of these values is a single step.
pub(super) fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a process remembers of the pin after its subscription has ended. It decides whether the next subscription of
/// the process may read at once, or stands by for another process.
#[derive(Debug)]
pub(crate) enum Turn {
    /// It may read: deliveries went to another client, which may be gone.
    Ours,
    /// This process had this pin. It may read if the consumer has no pin, or still this one.
    Held(String),
    /// This process had no pin, or the pin was free. It may read if the consumer still has this priority group and has
    /// delivered nothing since. The pin alone does not show that: the server also pins the client of a request that a
    /// dropped subscription has left behind.
    Free { group: String, delivered: u64 },
}

impl Turn {
    fn is_ours(&self, consumer: &Info) -> bool {
        match self {
            Self::Ours => true,
            Self::Held(pin) => pin_of(consumer).is_none_or(|now| now == pin),
            Self::Free { group, delivered } => {
                group_of(consumer) == group && consumer.delivered.consumer_sequence == *delivered
            }
        }
    }
}

/// Starts pull requests, for as long as the returned stream lives. No message is larger than `largest`.
pub(super) async fn requests(consumer: &PullConsumer, largest: usize) -> Result<pull::Stream, StreamError> {
    let requests = consumer.stream().max_messages_per_batch(PULL).group(group_of(consumer.cached_info()));
    let requests = requests.max_bytes_per_batch(PULL_BYTES.max(largest + OVERHEAD));
    requests.expires(REQUEST).heartbeat(REQUEST / 2).messages().await
}

/// A consumer, and how the subscriber begins with it.
pub(super) struct Opened {
    pub(super) consumer: PullConsumer,
    /// Another client is pinned or waits for messages: this subscriber is a standby.
    pub(super) standby: bool,
    /// The sequence up to which the stream is read message by message, before the deliveries of the consumer.
    pub(super) one_by_one: Option<u64>,
}

/// Returns the consumer of this name. An existing one is used if another client uses it (then this subscriber is a
/// standby), or if its next delivery is the right one; otherwise it is created again for this subscriber.
///
/// The new consumer begins right after `request.after`, or after the messages that were sent to its last user: one of
/// those may have ended the connection, and would end it again.
pub(super) async fn consumer_at(
    stream: &jetstream::stream::Stream<()>,
    topology: &Topology,
    request: Subscribe<'_>,
    turn: Option<Turn>,
) -> Result<Opened, StoreError> {
    let what = || format!("preparing consumer {} of stream {}", request.subscriber, topology.stream());
    let mut config = config_of(topology, request);
    let mut one_by_one = None;
    if let Ok(found) = stream.get_consumer::<pull::Config>(request.subscriber).await {
        let info = found.cached_info();
        if is_alike(info, &config) && !turn.is_some_and(|turn| turn.is_ours(info)) {
            let standby = is_taken(info);
            if standby || stands_at(info, request.after) {
                return Ok(Opened { consumer: found, standby, one_by_one });
            }
        }
        // If more was acknowledged than the checkpoint says, the view is being rebuilt, and there may be millions of
        // messages: they are delivered by the consumer.
        if info.ack_floor.stream_sequence <= request.after && request.after < info.delivered.stream_sequence {
            // A restored log may end before that, and messages that are stored there later must not be skipped.
            let log = stream.get_info().await.map_err(|error| store_error(what(), error))?;
            let sent = info.delivered.stream_sequence.min(log.state.last_sequence);
            one_by_one = Some(sent).filter(|sent| *sent > request.after);
        }
        let deleted = stream.delete_consumer(request.subscriber).await;
        deleted.map_err(|error| store_error(what(), error))?;
    }
    if let Some(sent) = one_by_one {
        config.deliver_policy = DeliverPolicy::ByStartSequence { start_sequence: sent.saturating_add(1) };
    }
    // Strictly: another subscriber may have created one in between, and it is unknown what that has received.
    let consumer = stream.create_consumer_strict(config).await.map_err(|error| store_error(what(), error))?;
    Ok(Opened { consumer, standby: false, one_by_one })
}

fn config_of(topology: &Topology, request: Subscribe<'_>) -> pull::Config {
    let filters = request.aggregates.iter().map(|name| topology.subjects().filter_of(name)).collect();
    pull::Config {
        durable_name: Some(request.subscriber.to_owned()),
        description: Some("a projector; its place is the checkpoint beside the view".to_owned()),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: request.after.saturating_add(1) },
        ack_policy: AckPolicy::All,
        ack_wait: ACK_WAIT,
        inactive_threshold: KEPT,
        max_ack_pending: MAX_UNACKNOWLEDGED,
        filter_subjects: filters,
        priority_policy: PriorityPolicy::PinnedClient,
        // A name that no other consumer has: a request to a consumer that was deleted and created again is then
        // refused. Delivery numbers of two consumers cannot be compared. The server allows 16 characters.
        priority_groups: vec![Uuid::new_v4().simple().to_string()[..16].to_owned()],
        priority_timeout: TURN,
        ..pull::Config::default()
    }
}

/// Whether a consumer has the same filter and settings. Its position is not compared.
fn is_alike(info: &Info, config: &pull::Config) -> bool {
    let mut filters = info.config.filter_subjects.clone();
    if !info.config.filter_subject.is_empty() {
        filters.push(info.config.filter_subject.clone());
    }
    filters == config.filter_subjects && info.config.priority_groups.len() == 1
}

/// The priority group of the consumer.
pub(super) fn group_of(info: &Info) -> &str {
    info.config.priority_groups.first().map_or("", String::as_str)
}

/// The id of the pinned client, if there is one.
pub(super) fn pin_of(info: &Info) -> Option<&str> {
    let mut pins = info.priority_groups.iter().filter_map(|group| group.pinned_client_id.as_deref());
    pins.find(|pin| !pin.is_empty())
}

/// Whether a client reads: it is pinned, or it waits for its first message. The server drops a waiting request as soon
/// as its client is gone; a server with leaf nodes drops it when it has lasted for [`REQUEST`], because it may not have
/// heard yet of a client at a leaf node.
pub(super) fn is_taken(info: &Info) -> bool {
    pin_of(info).is_some() || info.num_waiting > 0
}

/// Whether the next delivery of a consumer is the first commit after `after`, and no earlier delivery can be
/// redelivered behind it. A server that was killed may have forgotten how far it had delivered.
fn stands_at(info: &Info, after: u64) -> bool {
    let started = match info.config.deliver_policy {
        DeliverPolicy::ByStartSequence { start_sequence } => start_sequence.saturating_sub(1),
        _ => 0,
    };
    info.num_ack_pending == 0 && info.delivered.stream_sequence.max(started) == after
}
