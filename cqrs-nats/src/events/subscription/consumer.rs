//! The consumer that a subscription reads from, and whose turn it is to read.

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

use crate::{client::errors::store_error, topology::Topology, wire::subject::filter_of};

/// How many messages the consumer sends before any of them is acknowledged; more than are asked for at
/// once, so that it never waits for the projector's account.
const MAX_UNACKNOWLEDGED: i64 = 8_192;

/// How long the server keeps a consumer that nobody asks for messages. Whoever comes later makes it anew; it is the
/// ones of processes with views in memory that nobody comes back to.
const KEPT: Duration = Duration::from_secs(3_600);

/// How many messages are under way at once.
const PULL: usize = 1_024;

/// How long the server waits for an acknowledgment before it sends again, which the projector then skips.
const ACK_WAIT: Duration = Duration::from_secs(60);

/// How many bytes of messages are under way at once, unless one message may be larger.
const PULL_BYTES: usize = 4 * 1024 * 1024;

/// What the server counts beside a message's own bytes, at most: its subject, and where it is acknowledged.
const OVERHEAD: usize = 64 * 1024;

/// The `priority_timeout` of the consumer's priority group: the server moves the pin to another client this long after
/// the last request of the pinned client. It is most of the time that a failover takes. A client that is paused for longer
/// loses the pin while it saves; the checkpoint's compare-and-set then makes one of the two saves a conflict.
const TURN: Duration = Duration::from_secs(2);

/// How long one pull request lasts; well below [`TURN`], so that an idle worker keeps the pin.
const REQUEST: Duration = Duration::from_secs(1);

/// What the subscribers of this process, by name, know about their turn when they subscribe again.
pub(crate) type Turns = Arc<Mutex<HashMap<String, Turn>>>;

/// Takes the lock, also after another holder has panicked: no change of these is made in two steps.
pub(super) fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a process remembers of the pin after its subscription has ended, to decide whether it may read at once when it
/// subscribes again.
#[derive(Debug)]
pub(crate) enum Turn {
    /// It may: deliveries meant for it went elsewhere, so the consumer is created again.
    Ours,
    /// Its client had this pin. It may read if the consumer has no pin, or still this one.
    Held(String),
    /// It had given the pin up. It may read if the consumer is of this group and has delivered nothing since. The pin
    /// alone does not tell: the server also pins to a request that a dropped subscription has left behind.
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

/// Begins to ask for messages, for as long as the returned stream lives. No message is larger than `largest`.
pub(super) async fn requests(consumer: &PullConsumer, largest: usize) -> Result<pull::Stream, StreamError> {
    let requests = consumer.stream().max_messages_per_batch(PULL).group(group_of(consumer.cached_info()));
    let requests = requests.max_bytes_per_batch(PULL_BYTES.max(largest + OVERHEAD));
    requests.expires(REQUEST).heartbeat(REQUEST / 2).messages().await
}

/// A consumer, and what a worker who has it does first.
pub(super) struct Opened {
    pub(super) consumer: PullConsumer,
    /// Another worker reads, and this one stands by.
    pub(super) standby: bool,
    /// Up to where the stream is read one by one, before what the consumer delivers.
    pub(super) one_by_one: Option<u64>,
}

/// The consumer of this name, as another worker has it, with which this one stands by; or made anew for this one.
///
/// It begins right after `request.after`, or after what was sent to whoever had it before: one of those messages may be
/// what ended the connection, and would do it again.
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
        // Where more was done than the checkpoint says, the view is built again, and there may be millions.
        if info.ack_floor.stream_sequence <= request.after && request.after < info.delivered.stream_sequence {
            // A log that was restored may end before, and what is stored there later must not be passed over.
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
    // Strictly, since another worker may have made one in between, and nobody knows what it has received.
    let consumer = stream.create_consumer_strict(config).await.map_err(|error| store_error(what(), error))?;
    Ok(Opened { consumer, standby: false, one_by_one })
}

fn config_of(topology: &Topology, request: Subscribe<'_>) -> pull::Config {
    let filters = request.aggregates.iter().map(|name| filter_of(topology.log(), name)).collect();
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
        // A name that no other consumer has, so that who asks for messages of one that is no more is refused:
        // the numbers of the deliveries tell nothing across two consumers. Sixteen letters are the limit.
        priority_groups: vec![Uuid::new_v4().simple().to_string()[..16].to_owned()],
        priority_timeout: TURN,
        ..pull::Config::default()
    }
}

/// Whether a consumer delivers the same messages in the same way, wherever it stands.
fn is_alike(info: &Info, config: &pull::Config) -> bool {
    let mut filters = info.config.filter_subjects.clone();
    if !info.config.filter_subject.is_empty() {
        filters.push(info.config.filter_subject.clone());
    }
    filters == config.filter_subjects && info.config.priority_groups.len() == 1
}

/// The group in which the consumer's clients are pinned.
pub(super) fn group_of(info: &Info) -> &str {
    info.config.priority_groups.first().map_or("", String::as_str)
}

/// The pin of the client to which the consumer belongs at the moment.
pub(super) fn pin_of(info: &Info) -> Option<&str> {
    let mut pins = info.priority_groups.iter().filter_map(|group| group.pinned_client_id.as_deref());
    pins.find(|pin| !pin.is_empty())
}

/// Whether a worker reads: it has the pin, or has not been sent anything yet and waits for it. A request is forgotten
/// by the server as soon as nobody is there for its answer.
pub(super) fn is_taken(info: &Info) -> bool {
    pin_of(info).is_some() || info.num_waiting > 0
}

/// Whether the next delivery of a consumer is the first commit after `after`, and none was sent before
/// that may come again behind it. A server that was killed may have forgotten how far it had delivered.
fn stands_at(info: &Info, after: u64) -> bool {
    let started = match info.config.deliver_policy {
        DeliverPolicy::ByStartSequence { start_sequence } => start_sequence.saturating_sub(1),
        _ => 0,
    };
    info.num_ack_pending == 0 && info.delivered.stream_sequence.max(started) == after
}
