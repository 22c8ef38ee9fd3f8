//! Deadlines as scheduled messages, in a stream of their own.
//!
//! An armed deadline is a message on `<context>.deadline.<encoded id>.armed` with the headers `Nats-Schedule: @at …`
//! and `Nats-Schedule-Target: <context>.deadline.<encoded id>.due`. At its time, the server removes it and stores its
//! payload and headers on the target, in one step. A consumer of the work queue delivers those messages; an
//! acknowledgment removes them. So each deadline has at most one message, which is its state. A deadline that is
//! delayed is scheduled again, on `<context>.deadline.<encoded id>.later`: a waiting deadline must not stay an
//! unacknowledged delivery, because a consumer has a limited number of them.
//!
//! The stream is not that of the events: a stream with schedules must also allow rollups and purges.

use std::{sync::Arc, time::Duration};

use async_nats::{
    HeaderMap, HeaderValue,
    header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_SCHEDULE, NATS_SCHEDULE_TARGET},
    jetstream::{
        self, AckKind,
        consumer::{AckPolicy, pull},
        context::ConsumerInfoErrorKind,
        message::PublishMessage,
        stream::{Config, DiscardPolicy, RetentionPolicy, Stream},
    },
};
use cqrs_core::{
    Clock, StoreError,
    port::{Deadline, Deadlines, Due, DueQueue},
};
use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error};

use crate::{
    client::{
        api::{Api, acknowledgments},
        connection::{Before, Connection, OPENING},
        errors::{is_overtaken, no_answer, store_error, unavailable},
        layout,
        leader_get::{OneByOne, Which, leader_get},
        settings::Kind,
        stream::{handle, patiently, provide},
    },
    events::NatsEvents,
    wire::subject::{deadline_id_of, deadline_of},
};

/// The consumer that all instances of a service share.
const CONSUMER: &str = "due";

/// The header with the order of the decision that armed the deadline; see [`Deadline::order`].
const ORDER: &str = "Deadline-Order";

/// The header with the id of the arming; see [`Deadline::arming`].
const ARMING: &str = "Deadline-Arming";

/// The header with the number of delays; see [`Due::put_off`].
const PUT_OFF: &str = "Deadline-Put-Off";

/// The header with the subject that an expected sequence refers to, if it is not the message's own. (The client has no
/// name for it.)
const EXPECTED_ON: &str = "Nats-Expected-Last-Subject-Sequence-Subject";

/// The ack wait: how long the server waits for a sign that the receiver of a deadline is alive before it redelivers the
/// deadline. If the receiver dies, the deadline is that late.
const ACK_WAIT: Duration = Duration::from_secs(2);

/// How often the receiver sends that sign.
const ALIVE: Duration = Duration::from_millis(500);

/// The most deadlines that are delivered and not acknowledged.
const HANDED_OUT: i64 = 1_024;

/// How many deadlines one pull request asks for: more would wait in the process without a sign of life.
const PULL: usize = 1;

/// How long one pull request lasts. Meanwhile the server sends a heartbeat each second: a request that it has lost is
/// noticed after two.
const REQUEST: Duration = Duration::from_secs(6);

/// The latest time of a schedule, in 2255. The server counts nanoseconds since 1970 in 64 bits, and a later time would
/// overflow and be due at once.
const FAR: Timestamp = Timestamp::constant(9_000_000_000, 0);

/// How often a change is tried while other callers change the same deadline.
const ATTEMPTS: u32 = 16;

/// How long the server may take to answer.
const ACK: Duration = Duration::from_secs(5);

/// The state of a deadline: its one message.
struct Standing {
    sequence: u64,
    order: u64,
    arming: Option<String>,
}

impl NatsEvents {
    fn deadlines_stream(&self) -> String {
        self.topology.names().deadlines_stream()
    }

    fn about_deadlines(&self, what: &str) -> String {
        format!("{what} in stream {}", self.deadlines_stream())
    }

    async fn deadlines(&self) -> Result<Stream<()>, StoreError> {
        let what = || self.about_deadlines("finding deadlines");
        handle(&self.connection, &self.deadlines_stream(), what).await
    }

    fn deadlines_config(&self) -> Config {
        let context = self.topology.context();
        Config {
            name: self.deadlines_stream(),
            description: Some(format!("deadlines of the context {context}")),
            subjects: vec![format!("{}.>", self.topology.names().deadlines())],
            retention: RetentionPolicy::WorkQueue,
            // The server allows no other policy with schedules. Without limits it never discards a message.
            discard: DiscardPolicy::Old,
            storage: self.topology.storage(),
            num_replicas: self.topology.replica_count(),
            max_messages: -1,
            max_bytes: -1,
            max_messages_per_subject: -1,
            allow_message_schedules: true,
            allow_rollup: true,
            allow_direct: true,
            metadata: layout::metadata(context, "deadlines"),
            ..Config::default()
        }
    }

    /// The state of the deadline, from the stream's leader.
    async fn standing(&self, subject: &str) -> Result<Option<Standing>, StoreError> {
        let what = || self.about_deadlines("looking for a deadline");
        let all = format!("{subject}.*");
        let which = Which::Last { last_by_subj: &all };
        let found = leader_get(&self.connection, &self.deadlines_stream(), which, what).await?;
        Ok(found.map(|found| {
            // A message that cannot be read has no arming, and the lowest order.
            let headers = found.headers.as_ref().ok();
            let header = |name| headers?.get_last(name).map(|value: &HeaderValue| value.as_str().to_owned());
            Standing {
                sequence: found.sequence,
                order: header(ORDER).and_then(|order| order.parse().ok()).unwrap_or(0),
                arming: header(ARMING),
            }
        }))
    }

    /// Removes messages of due deadlines whose headers the client cannot parse: the connection would end with each
    /// delivery.
    async fn remove_unreadable(&self, stream: &Stream<()>) -> Result<(), StoreError> {
        let due = format!("{}.*.due", self.topology.names().deadlines());
        let mut messages = OneByOne::new([due], 0, u64::MAX);
        while let Some(found) = messages.next(&self.connection, &self.deadlines_stream()).await? {
            if let Err(reason) = &found.headers {
                let (sequence, subject) = (found.sequence, found.subject());
                error!(sequence, subject, reason, "a message among the deadlines is removed");
                self.purge(stream, subject.to_owned(), sequence).await?;
            }
        }
        Ok(())
    }

    /// Removes a deadline's messages up to a sequence, so that a late removal never removes a newer arming.
    async fn purge(&self, stream: &Stream<()>, filter: String, last: u64) -> Result<(), StoreError> {
        let what = || self.about_deadlines("removing a deadline");
        let purge = async { stream.purge().filter(filter).sequence(last.saturating_add(1)).await };
        let asked = Api::StreamPurge.of(&self.connection.domain, self.deadlines_stream());
        let answer = self.connection.answer(&[&asked], purge).await.map_err(|why| no_answer(what(), why))?;
        answer.map(drop).map_err(|error| store_error(what(), error))
    }

    /// Publishes a schedule, and returns its sequence; `None` if there is another one.
    async fn schedule(&self, deadline: &Deadline, subject: &str) -> Result<Option<u64>, StoreError> {
        let what = || self.about_deadlines("arming a deadline");
        let mut headers = scheduled(deadline.at, subject);
        headers.insert(ORDER, deadline.order.to_string());
        headers.insert(ARMING, deadline.arming.to_string());
        let message = PublishMessage::build()
            .headers(headers)
            .payload(deadline.payload.clone())
            // The server drops a late copy of this message.
            .message_id(deadline.arming.to_string())
            .expected_last_subject_sequence(0);
        let publish = async {
            let ack = self.connection.jetstream.send_publish(format!("{subject}.armed"), message).await?;
            ack.await
        };
        let answer = self.connection.answer(&[subject], tokio::time::timeout(ACK, publish)).await;
        let answer = answer.map_err(|why| no_answer(what(), why))?;
        match answer.map_err(|elapsed| unavailable(what(), elapsed))? {
            Ok(ack) => Ok(Some(ack.sequence)),
            Err(error) if is_overtaken(&error) => Ok(None),
            Err(error) => Err(store_error(what(), error)),
        }
    }

    fn contended(&self) -> StoreError {
        StoreError::Unavailable {
            what: self.about_deadlines("changing a deadline that others change"),
            source: None,
        }
    }
}

impl Deadlines for NatsEvents {
    type Queue = NatsDueQueue;

    async fn prepare(&self) -> Result<(), StoreError> {
        let wanted = self.deadlines_config();
        let what = self.about_deadlines("preparing the place for deadlines");
        let opened = patiently(|| provide(&self.connection, Kind::Deadlines, &wanted)).await;
        opened.map(drop).map_err(|why| why.into_store_error(&wanted.name, what, "change it"))
    }

    async fn arm(&self, deadline: &Deadline) -> Result<(), StoreError> {
        let subject = deadline_of(&self.topology.names().deadlines(), &deadline.id);
        let stream = self.deadlines().await?;
        let (arming, all) = (deadline.arming.to_string(), format!("{subject}.*"));
        let mut has_removed = false;
        for _ in 0..ATTEMPTS {
            match self.standing(&subject).await? {
                Some(standing) if standing.order > deadline.order => return Ok(()),
                // This same arming, which may be due already.
                Some(standing) if standing.arming.as_ref() == Some(&arming) => return Ok(()),
                // It is not replaced in one step: the server may just be making it due, and then removes any schedule on
                // its subject. If it is due, its receiver may be delaying it now, which the purge makes fail. So the
                // state is read again.
                Some(standing) => {
                    self.purge(&stream, all.clone(), standing.sequence).await?;
                    has_removed = true;
                }
                None => {
                    let Some(sequence) = self.schedule(deadline, &subject).await? else { continue };
                    if has_removed {
                        // The server may have made it due all the same, before it stored the new one.
                        self.purge(&stream, all, sequence.saturating_sub(1)).await?;
                    }
                    return Ok(());
                }
            }
        }
        Err(self.contended())
    }

    async fn disarm(&self, id: &str, order: u64) -> Result<(), StoreError> {
        let subject = deadline_of(&self.topology.names().deadlines(), id);
        let stream = self.deadlines().await?;
        // It may become due in between, and is then another message.
        for _ in 0..ATTEMPTS {
            match self.standing(&subject).await? {
                Some(standing) if standing.order <= order => {
                    self.purge(&stream, format!("{subject}.*"), standing.sequence).await?;
                }
                _ => return Ok(()),
            }
        }
        Err(self.contended())
    }

    /// The server's clock decides, except for the pause of a delayed deadline.
    async fn due(&self, clock: Arc<dyn Clock>) -> Result<NatsDueQueue, StoreError> {
        let what = || self.about_deadlines("waiting for deadlines");
        let deadlines = self.topology.names().deadlines();
        let config = pull::Config {
            durable_name: Some(CONSUMER.to_owned()),
            description: Some("hands out deadlines that are due".to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_ack_pending: HANDED_OUT,
            filter_subject: format!("{deadlines}.*.due"),
            ..pull::Config::default()
        };
        let before = self.connection.before();
        let stream = self.deadlines().await?;
        self.remove_unreadable(&stream).await?;
        let place = format!("{}.{CONSUMER}", self.deadlines_stream());
        let domain = &self.connection.domain;
        let asked = [Api::ConsumerInfo, Api::ConsumerCreate].map(|api| api.of(domain, &place));
        let consumer = Box::pin(stream.get_or_create_consumer(CONSUMER, config));
        let consumer = self.connection.answer(&asked, tokio::time::timeout(OPENING, consumer)).await;
        let consumer = consumer.map_err(|why| no_answer(what(), why))?;
        let consumer = consumer.map_err(|elapsed| unavailable(what(), elapsed))?;
        let consumer = consumer.map_err(|error| store_error(what(), error))?;
        let requests = consumer.stream().max_messages_per_batch(PULL).expires(REQUEST).heartbeat(REQUEST / 6);
        let messages = requests.messages().await.map_err(|error| store_error(what(), error))?;
        let asked = [Api::ConsumerNext.of(domain, &place), acknowledgments(&place)];
        let connection = self.connection.clone();
        Ok(NatsDueQueue { deadlines, clock, messages, connection, asked, before })
    }

    /// The server's clock decides: those that it has made due.
    async fn overdue(&self, _: Timestamp) -> Result<u64, StoreError> {
        let (what, stream) = (|| self.about_deadlines("counting due deadlines"), self.deadlines_stream());
        let found = self.deadlines().await?;
        let place = format!("{stream}.{CONSUMER}");
        let asked = [Api::ConsumerInfo.of(&self.connection.domain, &place)];
        let info = self.connection.answer(&asked, Box::pin(found.consumer_info(CONSUMER))).await;
        match info.map_err(|why| no_answer(what(), why))? {
            Ok(info) => Ok(info.num_pending + info.num_ack_pending as u64),
            // No instance has asked for due ones yet.
            Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => {
                let due = format!("{}.*.due", self.topology.names().deadlines());
                let first = Which::Next { next_by_subj: &due, seq: 0 };
                Ok(leader_get(&self.connection, &stream, first, what).await?.is_some().into())
            }
            Err(error) => Err(store_error(what(), error)),
        }
    }
}

/// The queue of due deadlines.
pub struct NatsDueQueue {
    /// The prefix of their subjects.
    deadlines: String,
    clock: Arc<dyn Clock>,
    messages: pull::Stream,
    connection: Connection,
    /// The subjects that it publishes to, and the state of the connection before it began.
    asked: [String; 2],
    before: Before,
}

impl DueQueue for NatsDueQueue {
    async fn next(&mut self) -> Result<Due, StoreError> {
        let what = || format!("waiting for deadlines on {}", self.deadlines);
        // The queue ends with the connection, because a delivered message may have ended it.
        let next = self.connection.answer_since(self.before, &self.asked, self.messages.next()).await;
        let next = next.map_err(|why| no_answer(what(), why))?;
        let next = next.ok_or_else(|| unavailable(what(), "the queue ended"))?;
        let message = next.map_err(|error| unavailable(what(), error))?;
        let id =
            deadline_id_of(&self.deadlines, &message.subject).unwrap_or_else(|| message.subject.to_string());
        let payload = message.payload.clone();
        let put_off = put_off(&message);
        let alive = stay_alive(message.clone());
        let (connection, clock) = (self.connection.clone(), Arc::clone(&self.clock));
        let due = Due::new(id, payload, move |again| async move {
            let kind = match again {
                None => AckKind::Ack,
                Some(pause) => schedule_again(&connection, &message, clock.now(), pause).await,
            };
            drop(alive);
            let acknowledged = message.ack_with(kind).await;
            acknowledged.map_err(|error| unavailable("acknowledging a deadline", error))
        });
        Ok(due.put_off_before(put_off))
    }
}

/// Tells the server that the receiver is alive, until the handle is dropped.
fn stay_alive(message: jetstream::Message) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            sleep(ALIVE).await;
            if let Err(error) = message.ack_with(AckKind::Progress).await {
                debug!(%error, "a deadline may be handed out to another");
            }
        }
    }))
}

fn put_off(message: &jetstream::Message) -> u32 {
    let times = message.headers.as_ref().and_then(|headers| headers.get_last(PUT_OFF));
    times.and_then(|times| times.as_str().parse().ok()).unwrap_or(0)
}

/// Schedules a due deadline for another time, unless it was disarmed or armed again since its delivery. Returns how to
/// acknowledge the delivered message.
async fn schedule_again(
    connection: &Connection,
    message: &jetstream::Message,
    now: Timestamp,
    pause: Duration,
) -> AckKind {
    let later = AckKind::Nak(Some(pause));
    let Some(subject) = message.subject.strip_suffix(".due") else { return later };
    let Ok(sequence) = message.info().map(|info| info.stream_sequence) else { return later };
    let at = now.saturating_add(pause).unwrap_or(FAR);
    let mut headers = scheduled(at, subject);
    for name in [ORDER, ARMING] {
        if let Some(value) = message.headers.as_ref().and_then(|headers| headers.get_last(name)) {
            headers.insert(name, value.clone());
        }
    }
    headers.insert(PUT_OFF, put_off(message).saturating_add(1).to_string());
    // If the message does not exist any more, the deadline was disarmed or armed again: then this one is not stored.
    headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, sequence.to_string());
    headers.insert(EXPECTED_ON, message.subject.as_str());
    let again = PublishMessage::build().headers(headers).payload(message.payload.clone());
    let publish = async {
        let ack = connection.jetstream.send_publish(format!("{subject}.later"), again).await?;
        ack.await
    };
    match connection.answer(&[subject], tokio::time::timeout(ACK, publish)).await {
        Ok(Ok(Ok(_))) => AckKind::Ack,
        Ok(Ok(Err(error))) if is_overtaken(&error) => AckKind::Ack,
        // The server redelivers it after the pause.
        _ => later,
    }
}

/// The headers of a message that is due on a deadline's subject at a time.
fn scheduled(at: Timestamp, subject: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let at = at.clamp(Timestamp::UNIX_EPOCH, FAR);
    headers.insert(NATS_SCHEDULE, format!("@at {at}"));
    headers.insert(NATS_SCHEDULE_TARGET, format!("{subject}.due"));
    headers
}
