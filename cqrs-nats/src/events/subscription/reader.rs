//! The task that reads ahead of the projector, and keeps the pin.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_nats::{
    connection::State,
    header::NATS_PIN_ID,
    jetstream::{
        self,
        consumer::{
            Info, PullConsumer,
            pull::{self, MessagesError, MessagesErrorKind},
        },
    },
};
use cqrs_core::{
    StoreError,
    port::{Delivery, Subscribe},
};
use futures_util::{FutureExt, StreamExt};
use serde_json::json;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use crate::{
    client::{
        api::{Api, Domain, acknowledgments},
        connection::{Before, Connection, NEWS, OPENING, UNHEARD},
        errors::{no_answer, store_error, unavailable},
        found::Found,
        leader_get::OneByOne,
        stream::handle,
    },
    events::subscription::{
        ahead,
        consumer::{Opened, Turn, Turns, consumer_at, group_of, is_taken, lock, pin_of, requests},
    },
    topology::Topology,
    wire::{
        stored::{delivered, delivered_found},
        subject::Subjects,
    },
};

/// How often a standby checks whether the pin is free, because the server does not notify it. A failover takes [`TURN`]
/// and two of these.
pub(super) const LOOK: Duration = Duration::from_millis(250);

/// How often a subscriber renews its pin while it has no room for more messages: several times in each [`TURN`].
const ALIVE: Duration = Duration::from_millis(400);

/// How often a pinned subscriber that receives nothing checks whether a delivery got lost: the server redelivers it
/// only after [`ACK_WAIT`].
const CHECK: Duration = Duration::from_millis(1_500);

/// What the reader notes for the next subscription of this process.
#[derive(Debug, Default)]
pub(super) struct Note {
    /// The pin under which messages were delivered.
    pub(super) pin: Option<String>,
    /// The number of the last delivery: the consumer counts deliveries without gaps.
    pub(super) delivery: u64,
}

pub(super) type Noted = Arc<Mutex<Note>>;

/// A delivery that was read ahead.
pub(super) struct Read {
    pub(super) sequence: u64,
    pub(super) delivery: Delivery,
    /// How many more messages the consumer had.
    pub(super) pending: u64,
    /// Its reply subject, for the acknowledgment.
    pub(super) reply: Option<async_nats::Subject>,
    /// Its size.
    bytes: usize,
}

/// The client's answer to a call for the next message.
type Next = Option<Result<jetstream::Message, MessagesError>>;

/// Reads the deliveries of a consumer in order, each once.
pub(super) struct Reader {
    connection: Connection,
    stream: String,
    log: Subjects,
    aggregates: Vec<&'static str>,
    subscriber: String,
    pub(super) consumer: PullConsumer,
    messages: pull::Stream,
    /// A message that arrived while the reader only kept its pin.
    early: Option<Next>,
    /// The times at which the pin is renewed.
    alive: Interval,
    /// Messages that are read before the deliveries of the consumer.
    one_by_one: Option<OneByOne>,
    /// How often a server may still answer that the consumer is unknown.
    unheard: u32,
    /// The last sequence that was read.
    seen: u64,
    pub(super) standby: bool,
    pub(super) noted: Noted,
    turns: Turns,
    /// The subjects that it publishes to, and the state of the connection before it began.
    subjects: Vec<String>,
    before: Before,
}

impl Reader {
    pub(super) async fn open(
        connection: &Connection,
        topology: &Topology,
        turns: &Turns,
        request: Subscribe<'_>,
    ) -> Result<Self, StoreError> {
        let what = || format!("following stream {} as {}", topology.stream(), request.subscriber);
        let (subjects, before) =
            (subjects(&connection.domain, topology.stream(), request.subscriber), connection.before());
        let open = async {
            let stream = handle(connection, topology.stream(), what).await?;
            let turn = lock(turns).remove(request.subscriber);
            let opened = consumer_at(&stream, topology, request, turn).await?;
            let Opened { consumer, standby, one_by_one } = opened;
            let messages = requests(&consumer, connection.client.max_payload()).await;
            let messages = messages.map_err(|error| store_error(what(), error))?;
            let delivery = consumer.cached_info().delivered.consumer_sequence;
            let mut alive = interval(ALIVE);
            alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
            Ok::<_, StoreError>(Self {
                connection: connection.clone(),
                stream: topology.stream().to_owned(),
                log: topology.subjects().clone(),
                aggregates: request.aggregates.to_vec(),
                subscriber: request.subscriber.to_owned(),
                messages,
                early: None,
                alive,
                one_by_one: one_by_one.map(|until| {
                    let filters = request.aggregates.iter().map(|name| topology.subjects().filter_of(name));
                    OneByOne::new(filters, request.after, until)
                }),
                unheard: UNHEARD,
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
        let opened = connection.answer_since(before, &subjects, open).await;
        opened.map_err(|why| no_answer(what(), why))?.map_err(|elapsed| unavailable(what(), elapsed))?
    }

    /// How many messages the consumer had when it was opened.
    pub(super) fn pending(&self) -> u64 {
        self.consumer.cached_info().num_pending
    }

    /// Reads until an error, and then keeps the pin until the subscription aborts this task: a projector that still
    /// applies earlier messages is alive.
    pub(super) async fn run(mut self, ahead: ahead::Sender<Result<Read, StoreError>>) {
        let failed = loop {
            match self.read().await {
                Ok(read) => {
                    let bytes = read.bytes;
                    if !self.keeping_the_turn(ahead.send(Ok(read), bytes)).await {
                        return;
                    }
                }
                Err(error) => break error,
            }
        };
        let told = async {
            ahead.send(Err(failed), 0).await;
            std::future::pending::<()>().await;
        };
        self.keeping_the_turn(told).await;
    }

    /// Waits for a future that may take long, and renews the pin meanwhile. Reads nothing.
    async fn keeping_the_turn<T>(&mut self, long: impl Future<Output = T>) -> T {
        let mut long = pin!(long);
        loop {
            tokio::select! {
                biased;
                done = &mut long => return done,
                _ = self.alive.tick() => self.keep_turn().await,
            }
        }
    }

    /// Renews the pin without taking more messages: any request under the pin renews it, also one that no message is
    /// small enough for. Without a pin, a normal request keeps the consumer taken; the first message brings the pin.
    async fn keep_turn(&mut self) {
        if self.standby || self.connection.client.connection_state() != State::Connected {
            return;
        }
        let Some(pin) = lock(&self.noted).pin.clone() else {
            if self.early.is_none() {
                self.early = self.messages.next().now_or_never();
            }
            if let Some(Some(Ok(message))) = &self.early {
                self.note_pin(message);
            }
            return;
        };
        let group = group_of(self.consumer.cached_info());
        let request = json!({ "batch": 1, "max_bytes": 1, "no_wait": true, "group": group, "id": pin });
        let client = &self.connection.client;
        let subject = Api::ConsumerNext.of(&self.connection.domain, self.place());
        // The answer has no content and no receiver.
        let asked = client.publish_with_reply(subject, client.new_inbox(), request.to_string().into()).await;
        if let Err(error) = asked {
            tracing::debug!(subscriber = self.subscriber, %error, "the turn could not be kept");
        }
    }

    async fn read(&mut self) -> Result<Read, StoreError> {
        if self.standby {
            return Err(self.stand_by().await);
        }
        if let Some(mut messages) = self.one_by_one.take() {
            let (connection, stream) = (self.connection.clone(), self.stream.clone());
            let next = messages.next(&connection, &stream);
            if let Some(found) = self.keeping_the_turn(next).await? {
                self.one_by_one = Some(messages);
                return Ok(self.take_one(found));
            }
        }
        loop {
            let next = match self.early.take().or_else(|| self.messages.next().now_or_never()) {
                Some(next) => next,
                None => self.wait().await?,
            };
            let what = || format!("following the stream as {}", self.subscriber);
            match next.ok_or_else(|| unavailable(what(), "the subscription ended"))? {
                // A new consumer is not known on every server of a cluster at once.
                Err(error) if error.kind() == MessagesErrorKind::NoResponders && self.unheard > 0 => {
                    self.unheard -= 1;
                    sleep(NEWS).await;
                    let messages = requests(&self.consumer, self.connection.client.max_payload()).await;
                    self.messages = messages.map_err(|error| store_error(what(), error))?;
                }
                message => {
                    let message = message.map_err(|error| unavailable(what(), error))?;
                    self.unheard = 0;
                    return self.take(message);
                }
            }
        }
    }

    /// Waits for the next message.
    async fn wait(&mut self) -> Result<Next, StoreError> {
        let mut seen = None;
        loop {
            let next = tokio::time::timeout(CHECK, self.messages.next());
            let next = self.connection.answer_since(self.before, &self.subjects, next).await;
            let next =
                next.map_err(|why| no_answer(format!("following the stream as {}", self.subscriber), why));
            if let Ok(next) = next? {
                return Ok(next);
            }
            seen = Some(self.check(seen).await?);
        }
    }

    /// Waits until the consumer is free. A standby sends no requests for messages: the server would pin it.
    async fn stand_by(&self) -> StoreError {
        // Between two requests of a client without a pin, the consumer looks free for a moment.
        let mut was_free = false;
        loop {
            sleep(LOOK).await;
            let info = match self.look().await {
                Ok(info) => info,
                Err(error) => return error,
            };
            let is_free = !is_taken(&info);
            if is_free && was_free {
                let (group, delivered) = (group_of(&info).to_owned(), info.delivered.consumer_sequence);
                lock(&self.turns).insert(self.subscriber.clone(), Turn::Free { group, delivered });
                return self.interrupted("the worker that was reading has gone".to_owned());
            }
            was_free = is_free;
        }
    }

    /// Fails if a delivery got lost: its receiver is unknown. Returns the number of the last delivery, for the next
    /// check.
    async fn check(&self, before: Option<u64>) -> Result<u64, StoreError> {
        let info = self.look().await?;
        let delivered = info.delivered.consumer_sequence;
        let last = lock(&self.noted).delivery;
        let is_free = pin_of(&info).is_none();
        // A delivery that is still in flight has arrived before the next check.
        if delivered == last || !is_free && before != Some(delivered) {
            return Ok(delivered);
        }
        if is_free {
            let group = group_of(&info).to_owned();
            lock(&self.turns).insert(self.subscriber.clone(), Turn::Free { group, delivered });
        }
        Err(self.interrupted(format!("delivery {delivered} did not come after delivery {last}")))
    }

    async fn look(&self) -> Result<Info, StoreError> {
        let what = format!("looking at consumer {}", self.subscriber);
        let asked = Api::ConsumerInfo.of(&self.connection.domain, self.place());
        let info = tokio::time::timeout(OPENING, self.consumer.get_info());
        match self.connection.answer(&[&asked], info).await {
            Ok(Ok(info)) => info.map_err(|error| store_error(what, error)),
            Ok(Err(elapsed)) => Err(unavailable(what, elapsed)),
            Err(why) => Err(no_answer(what, why)),
        }
    }

    /// The consumer, in the subjects of requests about it.
    fn place(&self) -> String {
        format!("{}.{}", self.stream, self.subscriber)
    }

    fn interrupted(&self, what: String) -> StoreError {
        StoreError::Interrupted { subscriber: self.subscriber.clone(), what }
    }

    /// The commit in a message that was read by itself.
    fn take_one(&mut self, found: Found) -> Read {
        let (sequence, bytes) = (found.sequence, found.payload.len());
        if let Err(reason) = &found.headers {
            let (stream, subscriber) = (&self.stream, &self.subscriber);
            tracing::error!(stream, subscriber, sequence, reason, "a message ended the connection");
        }
        self.seen = sequence;
        let delivery = delivered_found(&self.log, &self.aggregates, found);
        Read { sequence, delivery, pending: self.pending(), reply: None, bytes }
    }

    /// The commit in a delivery.
    fn take(&mut self, message: jetstream::Message) -> Result<Read, StoreError> {
        let info = message
            .info()
            .map_err(|error| self.interrupted(format!("a delivery without its place: {error}")))?;
        let (sequence, delivery, pending) = (info.stream_sequence, info.consumer_sequence, info.pending);
        // Whatever is wrong with the delivery, its receiver has the pin.
        self.note_pin(&message);
        let last = std::mem::replace(&mut lock(&self.noted).delivery, delivery);
        if delivery != last.saturating_add(1) {
            // Deliveries got lost, and their receiver may be gone: the next subscription creates the consumer again.
            lock(&self.turns).insert(self.subscriber.clone(), Turn::Ours);
            return Err(self.interrupted(format!("delivery {delivery} came after delivery {last}")));
        }
        if sequence <= self.seen {
            return Err(self.interrupted(format!("sequence {sequence} came again after {}", self.seen)));
        }
        self.seen = sequence;
        let message = message.message;
        let bytes = message.length;
        let headers = message.headers.unwrap_or_default();
        let (log, names) = (&self.log, &self.aggregates);
        let delivery = delivered(log, names, &message.subject, sequence, &headers, message.payload);
        Ok(Read { sequence, delivery, pending, reply: message.reply, bytes })
    }

    fn note_pin(&self, message: &jetstream::Message) {
        // The author of the message may have set such a header, too; the server's is the last one.
        let pin = message.headers.as_ref().and_then(|headers| headers.get_last(NATS_PIN_ID));
        let Some(pin) = pin.map(async_nats::HeaderValue::as_str) else { return };
        let mut noted = lock(&self.noted);
        if noted.pin.as_deref() != Some(pin) {
            noted.pin = Some(pin.to_owned());
        }
    }
}

/// The subjects that a subscriber publishes to: consumer API requests, pull requests, acknowledgments.
fn subjects(domain: &Domain, stream: &str, subscriber: &str) -> Vec<String> {
    let place = format!("{stream}.{subscriber}");
    let requests = [Api::ConsumerInfo, Api::ConsumerCreate, Api::ConsumerDelete, Api::ConsumerNext];
    requests.map(|api| api.of(domain, &place)).into_iter().chain([acknowledgments(&place)]).collect()
}
