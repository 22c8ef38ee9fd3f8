//! Following the stream: a durable pull consumer that starts at the projection's checkpoint.
//!
//! The consumer is there for its name, its lag, its order, and so that one worker reads at a time: the
//! server pins it to one client, and gives the pin to another when that one has not asked for more in a
//! while. The truth about progress is the checkpoint, so a worker whose turn comes makes the consumer
//! anew, right after the checkpoint, unless it stands there already.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::{
    HeaderValue,
    header::NATS_PIN_ID,
    jetstream::{
        self,
        consumer::{
            AckPolicy, DeliverPolicy, Info, PriorityPolicy, PullConsumer, StreamError,
            pull::{self, MessagesError, MessagesErrorKind},
        },
    },
};
use bytes::Bytes;
use cqrs_core::{Delivery, StoreError, Subscribe, Subscription};
use futures_util::{FutureExt, StreamExt};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};
use uuid::Uuid;

use crate::{
    Topology,
    connection::{Before, Connection},
    errors::{no_answer, store_error, unavailable},
    events::delivered,
    subject::filter_of,
    views::NEWS,
};

/// How many messages the consumer sends before any of them is acknowledged; more than are asked for at
/// once, so that it never waits for the projector's account.
const MAX_UNACKNOWLEDGED: i64 = 8_192;

/// How long the server keeps a consumer that nobody asks for messages. Whoever comes later makes it anew; it is the
/// ones of processes with views in memory that nobody comes back to.
const KEPT: Duration = Duration::from_secs(3_600);

/// How many messages are under way at once.
const PULL: usize = 1_024;

/// How many messages are read ahead of the projector: as many as it takes at once.
const AHEAD: usize = 512;

/// How long the server waits for an acknowledgment before it sends again, which the projector then skips.
const ACK_WAIT: Duration = Duration::from_secs(60);

/// How long a worker keeps its turn without asking for more: how late the server notices that it died. One that is busy
/// with a save asks no more after a [`REQUEST`], so that a save which takes much longer loses it its turn, and another
/// that stands by saves the same: one of the two saves is a conflict.
const TURN: Duration = Duration::from_secs(2);

/// How long one request for messages lasts; well below [`TURN`], so that an idle worker keeps its turn.
const REQUEST: Duration = Duration::from_secs(1);

/// How often a worker that stands by looks whether the turn of its predecessor is over: nothing tells it so but the
/// next event, which may be long in coming. [`TURN`] and this are what a death costs.
const LOOK: Duration = Duration::from_millis(500);

/// How often a worker whose turn it is, and to whom nothing comes, looks whether something was delivered that did not
/// arrive: by itself it comes again only after [`ACK_WAIT`].
const CHECK: Duration = Duration::from_millis(1_500);

/// How long it may take to find or make the consumer. A server that is starting drops requests without an answer; what
/// it does late is found at the next attempt.
pub(crate) const OPENING: Duration = Duration::from_secs(2);

/// How often a new consumer may be unknown before that is an error: about a second.
const UNHEARD: u32 = 100;

/// What the subscribers of this process, by name, know about their turn when they subscribe again.
pub(crate) type Turns = Arc<Mutex<HashMap<String, Turn>>>;

/// Whose turn it is to read.
#[derive(Debug)]
pub(crate) enum Turn {
    /// This process's: the consumer is made anew.
    Ours,
    /// This process's as long as the consumer is pinned to nobody, or still to the client that had this pin.
    Held(String),
    /// Nobody's when this process saw it last: this process's as long as the consumer of this group has delivered
    /// nothing since. A pin alone does not say that somebody else reads: the server also gives it to the request that
    /// a dropped subscription has left behind.
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

/// Commits of a stream as they come.
///
/// A task of its own reads ahead, so that the next ones are received and decoded while the projector is busy with the
/// ones before them. What it has read is dropped with the subscription.
pub struct NatsSubscription {
    connection: Connection,
    stream: String,
    subscriber: String,
    group: String,
    ahead: mpsc::Receiver<Result<Read, StoreError>>,
    reader: JoinHandle<()>,
    busy: watch::Sender<Busy>,
    /// How many more messages the consumer had at the last delivery.
    pending: u64,
    /// Another worker was reading when this one came: nothing is delivered before this one's turn.
    standby: bool,
    noted: Noted,
    turns: Turns,
    /// The last delivery's sequence and where to acknowledge it.
    last: Option<(u64, async_nats::Subject)>,
}

/// Since when the projector has had enough to do; none while it waits for more.
type Busy = Option<Instant>;

/// While there is one, the projector waits.
struct Waiting<'a>(&'a watch::Sender<Busy>);

impl<'a> Waiting<'a> {
    fn on(busy: &'a watch::Sender<Busy>) -> Self {
        busy.send_replace(None);
        Self(busy)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_replace(Some(Instant::now()));
    }
}

/// What the reader notes about its turn, for the next subscription of this process.
#[derive(Debug, Default)]
struct Note {
    /// The pin under which messages came.
    pin: Option<String>,
    /// The number of the last delivery: the consumer counts them without gaps.
    delivery: u64,
}

type Noted = Arc<Mutex<Note>>;

/// A delivery that was read ahead.
struct Read {
    sequence: u64,
    delivery: Delivery,
    /// How many more messages the consumer had.
    pending: u64,
    /// Where to acknowledge it.
    reply: Option<async_nats::Subject>,
}

impl NatsSubscription {
    pub(crate) async fn open(
        connection: &Connection,
        topology: &Topology,
        turns: &Turns,
        request: Subscribe<'_>,
    ) -> Result<Self, StoreError> {
        let reader = Reader::open(connection, topology, turns, request).await?;
        let (standby, pending, noted) = (reader.standby, reader.pending(), Arc::clone(&reader.noted));
        let group = group_of(reader.consumer.cached_info()).to_owned();
        let ((to, ahead), (busy, projector)) = (mpsc::channel(AHEAD), watch::channel(Some(Instant::now())));
        Ok(Self {
            connection: connection.clone(),
            stream: topology.stream().to_owned(),
            subscriber: request.subscriber.to_owned(),
            group,
            ahead,
            reader: tokio::spawn(reader.run(to, projector)),
            busy,
            pending,
            standby,
            noted,
            turns: Arc::clone(turns),
            last: None,
        })
    }
}

impl Subscription for NatsSubscription {
    fn pending(&self) -> u64 {
        // What was read ahead may have come when there was nothing behind it yet.
        self.pending.max(self.ahead.len() as u64)
    }

    fn is_standby(&self) -> bool {
        self.standby
    }

    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, StoreError> {
        let mut read = Vec::new();
        let waiting = Waiting::on(&self.busy);
        // Waits for the first, and takes the others only as far as they are there.
        if self.ahead.recv_many(&mut read, max).await == 0 && max > 0 {
            return Err(unavailable(format!("following the stream as {}", self.subscriber), "it is over"));
        }
        drop(waiting);
        let mut deliveries = Vec::with_capacity(read.len());
        for read in read {
            let Read { sequence, delivery, pending, reply } = read?;
            self.pending = pending;
            self.last = reply.map(|reply| (sequence, reply)).or(self.last.take());
            deliveries.push(delivery);
        }
        Ok(deliveries)
    }

    async fn leave(mut self) {
        self.reader.abort();
        if self.standby {
            return;
        }
        // Once it has ended, it asks for no more messages and notes no pin.
        let _ = (&mut self.reader).await;
        // Nothing is to be kept for the next subscription of this process.
        lock(&self.noted).pin = None;
        self.standby = true;
        // Lets the next worker have its turn at once. It would come by itself a little later.
        if let Ok(stream) = self.connection.jetstream.get_stream_no_info(&self.stream).await {
            let asked = format!("$JS.API.CONSUMER.UNPIN.{}.{}", self.stream, self.subscriber);
            let unpin = stream.unpin_consumer(&self.subscriber, &self.group);
            let _ = self.connection.answer(&[&asked], unpin).await;
        }
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

impl Drop for NatsSubscription {
    /// Nobody else reads until the server notices that this one does not, and what was delivered and not
    /// acknowledged comes even later. So the next subscription of this process does not stand by for this one.
    fn drop(&mut self) {
        self.reader.abort();
        let noted = std::mem::take(&mut *lock(&self.noted));
        let turn = match noted.pin {
            Some(pin) => Turn::Held(pin),
            None if self.standby => return,
            None => Turn::Free { group: self.group.clone(), delivered: noted.delivery },
        };
        lock(&self.turns).entry(self.subscriber.clone()).or_insert(turn);
    }
}

/// Reads what a consumer delivers, one message after the other and none twice.
struct Reader {
    connection: Connection,
    stream: String,
    log: String,
    aggregates: Vec<&'static str>,
    subscriber: String,
    consumer: PullConsumer,
    messages: pull::Stream,
    /// How often the consumer may still be unknown to the server that is asked.
    unheard: u32,
    /// The number of the last delivery: the consumer counts them without gaps.
    delivery: u64,
    /// The last sequence that was read.
    seen: u64,
    standby: bool,
    noted: Noted,
    turns: Turns,
    /// What it publishes to, and what had gone wrong on the connection before it began.
    subjects: Vec<String>,
    before: Before,
}

impl Reader {
    async fn open(
        connection: &Connection,
        topology: &Topology,
        turns: &Turns,
        request: Subscribe<'_>,
    ) -> Result<Self, StoreError> {
        let what = || format!("following stream {} as {}", topology.stream(), request.subscriber);
        let (subjects, before) = (subjects(topology.stream(), request.subscriber), connection.before());
        let asked: Vec<&str> = subjects.iter().map(String::as_str).collect();
        let open = async {
            let stream = connection.jetstream.get_stream_no_info(topology.stream()).await;
            let stream = stream.map_err(|error| store_error(what(), error))?;
            let turn = lock(turns).remove(request.subscriber);
            let (consumer, standby) = consumer_at(&stream, topology, request, turn).await?;
            let messages = pull(&consumer).await.map_err(|error| store_error(what(), error))?;
            let delivery = consumer.cached_info().delivered.consumer_sequence;
            Ok::<_, StoreError>(Self {
                connection: connection.clone(),
                stream: topology.stream().to_owned(),
                log: topology.log().to_owned(),
                aggregates: request.aggregates.to_vec(),
                subscriber: request.subscriber.to_owned(),
                messages,
                unheard: UNHEARD,
                delivery,
                seen: request.after,
                consumer,
                standby,
                noted: Arc::new(Mutex::new(Note { pin: None, delivery })),
                turns: Arc::clone(turns),
                subjects: subjects.clone(),
                before: before.through_losses(),
            })
        };
        let open = tokio::time::timeout(OPENING, Box::pin(open));
        let opened = connection.answer_since(before, &asked, open).await;
        opened.map_err(|why| no_answer(what(), why))?.map_err(|elapsed| unavailable(what(), elapsed))?
    }

    /// How many messages the consumer had when it was opened.
    fn pending(&self) -> u64 {
        self.consumer.cached_info().num_pending
    }

    /// Reads from the moment that the projector asks for the first time until something goes wrong, and waits while
    /// enough was read.
    async fn run(mut self, to: mpsc::Sender<Result<Read, StoreError>>, mut projector: watch::Receiver<Busy>) {
        waits(&mut projector).await;
        loop {
            let read = self.read(&mut projector).await;
            let over = read.is_err();
            if to.send(read).await.is_err() || over {
                return;
            }
        }
    }

    async fn read(&mut self, projector: &mut watch::Receiver<Busy>) -> Result<Read, StoreError> {
        loop {
            let next = match self.messages.next().now_or_never() {
                Some(next) => next,
                None => self.wait(projector).await?,
            };
            let what = || format!("following the stream as {}", self.subscriber);
            match next.ok_or_else(|| unavailable(what(), "the subscription ended"))? {
                // A consumer that was just made is not known on every server of a cluster at once.
                Err(error) if error.kind() == MessagesErrorKind::NoResponders && self.unheard > 0 => {
                    self.unheard -= 1;
                    tokio::time::sleep(NEWS).await;
                    self.messages = pull(&self.consumer).await.map_err(|error| store_error(what(), error))?;
                }
                message => {
                    let message = message.map_err(|error| unavailable(what(), error))?;
                    self.unheard = 0;
                    return self.take(message);
                }
            }
        }
    }

    /// Waits for the next message. A worker keeps its turn by asking for more, and one that is busy for longer than a
    /// request lasts may never end, so that then nothing is asked for on its behalf.
    async fn wait(
        &mut self,
        projector: &mut watch::Receiver<Busy>,
    ) -> Result<Option<Result<jetstream::Message, MessagesError>>, StoreError> {
        let subjects: Vec<&str> = self.subjects.iter().map(String::as_str).collect();
        let mut seen = None;
        loop {
            let patience = if self.standby { LOOK } else { CHECK };
            let next = tokio::time::timeout(patience, self.messages.next());
            let next = tokio::select! {
                next = self.connection.answer_since(self.before, &subjects, next) => next,
                () = is_busy_for(projector, REQUEST) => {
                    waits(projector).await;
                    continue;
                }
            };
            let next =
                next.map_err(|why| no_answer(format!("following the stream as {}", self.subscriber), why));
            if let Ok(next) = next? {
                return Ok(next);
            }
            seen = Some(self.look(seen).await?);
        }
    }

    /// Whether the one that was reading has gone, or deliveries went elsewhere: nobody knows what became of them.
    /// Tells the number of the last delivery, which is asked for at the next look.
    async fn look(&self, before: Option<u64>) -> Result<u64, StoreError> {
        let what = format!("looking at consumer {}", self.subscriber);
        let asked = format!("$JS.API.CONSUMER.INFO.{}.{}", self.stream, self.subscriber);
        let info = tokio::time::timeout(OPENING, self.consumer.get_info());
        let info = match self.connection.answer(&[&asked], info).await {
            Ok(Ok(info)) => info.map_err(|error| store_error(what, error))?,
            Ok(Err(elapsed)) => return Err(unavailable(what, elapsed)),
            Err(why) => return Err(no_answer(what, why)),
        };
        let (group, delivered) = (group_of(&info).to_owned(), info.delivered.consumer_sequence);
        let is_free = pin_of(&info).is_none();
        let is_gone = self.standby && is_free;
        // One that is on its way here has come before the next look.
        let is_late = is_free || before == Some(delivered);
        let is_missing = !self.standby && delivered != self.delivery && is_late;
        if is_free && (is_gone || is_missing) {
            lock(&self.turns).insert(self.subscriber.clone(), Turn::Free { group, delivered });
        }
        if is_gone {
            return Err(self.interrupted("the worker that was reading has gone".to_owned()));
        }
        if is_missing {
            let what = format!("delivery {delivered} did not come after delivery {}", self.delivery);
            return Err(self.interrupted(what));
        }
        Ok(delivered)
    }

    fn interrupted(&self, what: String) -> StoreError {
        StoreError::Interrupted { subscriber: self.subscriber.clone(), what }
    }

    /// The commit in a delivery.
    fn take(&mut self, message: jetstream::Message) -> Result<Read, StoreError> {
        let info = message
            .info()
            .map_err(|error| self.interrupted(format!("a delivery without its place: {error}")))?;
        let (sequence, delivery, pending) = (info.stream_sequence, info.consumer_sequence, info.pending);
        // Whatever is wrong with the delivery, the turn is the one of whoever gets it.
        self.note(message.headers.as_ref().and_then(|headers| headers.get(NATS_PIN_ID)), delivery);
        if self.standby || delivery != self.delivery + 1 {
            // Deliveries went elsewhere, and whose they were may be gone: the consumer is ours now.
            lock(&self.turns).insert(self.subscriber.clone(), Turn::Ours);
        }
        if self.standby {
            return Err(self.interrupted("another worker was reading, now it is this one's turn".to_owned()));
        }
        if delivery != self.delivery + 1 {
            return Err(
                self.interrupted(format!("delivery {delivery} came after delivery {}", self.delivery))
            );
        }
        self.delivery = delivery;
        if sequence <= self.seen {
            return Err(self.interrupted(format!("sequence {sequence} came again after {}", self.seen)));
        }
        self.seen = sequence;
        let message = message.message;
        let headers = message.headers.unwrap_or_default();
        let (log, names) = (&self.log, &self.aggregates);
        let delivery = delivered(log, names, &message.subject, sequence, &headers, message.payload);
        Ok(Read { sequence, delivery, pending, reply: message.reply })
    }

    fn note(&self, pin: Option<&HeaderValue>, delivery: u64) {
        let mut noted = lock(&self.noted);
        noted.delivery = delivery;
        let pin = pin.map(HeaderValue::as_str);
        if pin.is_some() && pin != noted.pin.as_deref() {
            noted.pin = pin.map(str::to_owned);
        }
    }
}

/// Returns when the projector waits for more.
async fn waits(projector: &mut watch::Receiver<Busy>) {
    while projector.borrow_and_update().is_some() {
        changes(projector).await;
    }
}

/// Returns when the projector has had enough to do for so long.
async fn is_busy_for(projector: &mut watch::Receiver<Busy>, long: Duration) {
    loop {
        let since = *projector.borrow_and_update();
        let changed = changes(projector);
        match since {
            None => changed.await,
            Some(since) => {
                if tokio::time::timeout_at(since + long, changed).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Returns when the projector begins or ends to wait; never without a projector, since then the reader is ended.
async fn changes(projector: &mut watch::Receiver<Busy>) {
    if projector.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What a subscriber publishes to: requests about its consumer, requests for messages, acknowledgments.
fn subjects(stream: &str, subscriber: &str) -> Vec<String> {
    let requests = ["CONSUMER.INFO", "CONSUMER.CREATE", "CONSUMER.DELETE", "CONSUMER.MSG.NEXT"];
    let requests = requests.map(|verb| format!("$JS.API.{verb}.{stream}.{subscriber}"));
    requests.into_iter().chain([format!("$JS.ACK.{stream}.{subscriber}")]).collect()
}

/// Begins to ask for messages, for as long as the returned stream lives.
async fn pull(consumer: &PullConsumer) -> Result<pull::Stream, StreamError> {
    let requests = consumer.stream().max_messages_per_batch(PULL).group(group_of(consumer.cached_info()));
    requests.expires(REQUEST).heartbeat(REQUEST / 2).messages().await
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The consumer of this name, standing right after `request.after`; or as another worker has it, with
/// which this one stands by.
async fn consumer_at(
    stream: &jetstream::stream::Stream<()>,
    topology: &Topology,
    request: Subscribe<'_>,
    turn: Option<Turn>,
) -> Result<(PullConsumer, bool), StoreError> {
    let what = || format!("preparing consumer {} of stream {}", request.subscriber, topology.stream());
    let config = config_of(topology, request);
    if let Ok(found) = stream.get_consumer::<pull::Config>(request.subscriber).await {
        let info = found.cached_info();
        if is_alike(info, &config) && !turn.is_some_and(|turn| turn.is_ours(info)) {
            if pin_of(info).is_some() {
                return Ok((found, true));
            }
            if stands_at(info, request.after) {
                return Ok((found, false));
            }
        }
        let deleted = stream.delete_consumer(request.subscriber).await;
        deleted.map_err(|error| store_error(what(), error))?;
    }
    // Strictly, since another worker may have made one in between, and nobody knows what it has received.
    let created = stream.create_consumer_strict(config).await.map_err(|error| store_error(what(), error))?;
    Ok((created, false))
}

fn config_of(topology: &Topology, request: Subscribe<'_>) -> pull::Config {
    let filters = request.aggregates.iter().map(|name| filter_of(topology.log(), name)).collect();
    pull::Config {
        durable_name: Some(request.subscriber.to_owned()),
        description: Some("a projector; its place is the checkpoint beside the view".to_owned()),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: request.after + 1 },
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
fn group_of(info: &Info) -> &str {
    info.config.priority_groups.first().map_or("", String::as_str)
}

/// The pin of the client to which the consumer belongs at the moment.
fn pin_of(info: &Info) -> Option<&str> {
    let mut pins = info.priority_groups.iter().filter_map(|group| group.pinned_client_id.as_deref());
    pins.find(|pin| !pin.is_empty())
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
