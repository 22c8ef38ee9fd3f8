//! The task that reads ahead of the projector.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_nats::{
    HeaderValue,
    header::NATS_PIN_ID,
    jetstream::{
        self,
        consumer::{
            PullConsumer,
            pull::{self, MessagesError, MessagesErrorKind},
        },
    },
};
use cqrs_core::{Delivery, StoreError, Subscribe};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{mpsc, watch};

use super::{
    Busy,
    consumer::{OPENING, REQUEST, Turn, Turns, consumer_at, group_of, pin_of, requests},
    lock,
};
use crate::{
    Topology,
    connection::{Before, Connection},
    errors::{no_answer, store_error, unavailable},
    events::delivered,
    views::NEWS,
};

/// How often a worker that stands by looks whether the turn of its predecessor is over: nothing tells it so but the
/// next event, which may be long in coming. [`TURN`] and this are what a death costs.
const LOOK: Duration = Duration::from_millis(500);

/// How often a worker whose turn it is, and to whom nothing comes, looks whether something was delivered that did not
/// arrive: by itself it comes again only after [`ACK_WAIT`].
const CHECK: Duration = Duration::from_millis(1_500);

/// How often a new consumer may be unknown before that is an error: about a second.
const UNHEARD: u32 = 100;

/// What the reader notes about its turn, for the next subscription of this process.
#[derive(Debug, Default)]
pub(super) struct Note {
    /// The pin under which messages came.
    pub(super) pin: Option<String>,
    /// The number of the last delivery: the consumer counts them without gaps.
    pub(super) delivery: u64,
}

pub(super) type Noted = Arc<Mutex<Note>>;

/// A delivery that was read ahead.
pub(super) struct Read {
    pub(super) sequence: u64,
    pub(super) delivery: Delivery,
    /// How many more messages the consumer had.
    pub(super) pending: u64,
    /// Where to acknowledge it.
    pub(super) reply: Option<async_nats::Subject>,
}

/// Reads what a consumer delivers, one message after the other and none twice.
pub(super) struct Reader {
    connection: Connection,
    stream: String,
    log: String,
    aggregates: Vec<&'static str>,
    subscriber: String,
    pub(super) consumer: PullConsumer,
    messages: pull::Stream,
    /// How often the consumer may still be unknown to the server that is asked.
    unheard: u32,
    /// The last sequence that was read.
    seen: u64,
    pub(super) standby: bool,
    pub(super) noted: Noted,
    turns: Turns,
    /// What it publishes to, and what had gone wrong on the connection before it began.
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
        let (subjects, before) = (subjects(topology.stream(), request.subscriber), connection.before());
        let asked: Vec<&str> = subjects.iter().map(String::as_str).collect();
        let open = async {
            let stream = connection.jetstream.get_stream_no_info(topology.stream()).await;
            let stream = stream.map_err(|error| store_error(what(), error))?;
            let turn = lock(turns).remove(request.subscriber);
            let (consumer, standby) = consumer_at(&stream, topology, request, turn).await?;
            let messages = requests(&consumer).await.map_err(|error| store_error(what(), error))?;
            let delivery = consumer.cached_info().delivered.consumer_sequence;
            Ok::<_, StoreError>(Self {
                connection: connection.clone(),
                stream: topology.stream().to_owned(),
                log: topology.log().to_owned(),
                aggregates: request.aggregates.to_vec(),
                subscriber: request.subscriber.to_owned(),
                messages,
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
        let opened = connection.answer_since(before, &asked, open).await;
        opened.map_err(|why| no_answer(what(), why))?.map_err(|elapsed| unavailable(what(), elapsed))?
    }

    /// How many messages the consumer had when it was opened.
    pub(super) fn pending(&self) -> u64 {
        self.consumer.cached_info().num_pending
    }

    /// Reads from the moment that the projector asks for the first time until something goes wrong, and waits while
    /// enough was read.
    pub(super) async fn run(
        mut self,
        to: mpsc::Sender<Result<Read, StoreError>>,
        mut projector: watch::Receiver<Busy>,
    ) {
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
                    self.messages =
                        requests(&self.consumer).await.map_err(|error| store_error(what(), error))?;
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
        let last = lock(&self.noted).delivery;
        let is_free = pin_of(&info).is_none();
        let is_gone = self.standby && is_free;
        // One that is on its way here has come before the next look.
        let is_late = is_free || before == Some(delivered);
        let is_missing = !self.standby && delivered != last && is_late;
        if is_free && (is_gone || is_missing) {
            lock(&self.turns).insert(self.subscriber.clone(), Turn::Free { group, delivered });
        }
        if is_gone {
            return Err(self.interrupted("the worker that was reading has gone".to_owned()));
        }
        if is_missing {
            return Err(self.interrupted(format!("delivery {delivered} did not come after delivery {last}")));
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
        let last = self.note(message.headers.as_ref().and_then(|headers| headers.get(NATS_PIN_ID)), delivery);
        if self.standby || delivery != last + 1 {
            // Deliveries went elsewhere, and whose they were may be gone: the consumer is ours now.
            lock(&self.turns).insert(self.subscriber.clone(), Turn::Ours);
        }
        if self.standby {
            return Err(self.interrupted("another worker was reading, now it is this one's turn".to_owned()));
        }
        if delivery != last + 1 {
            return Err(self.interrupted(format!("delivery {delivery} came after delivery {last}")));
        }
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

    /// Notes a delivery; returns the number of the one before it.
    fn note(&self, pin: Option<&HeaderValue>, delivery: u64) -> u64 {
        let mut noted = lock(&self.noted);
        let pin = pin.map(HeaderValue::as_str);
        if pin.is_some() && pin != noted.pin.as_deref() {
            noted.pin = pin.map(str::to_owned);
        }
        std::mem::replace(&mut noted.delivery, delivery)
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
