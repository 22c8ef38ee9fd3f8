//! The same work with the client alone: the other side of every comparison.
//!
//! The messages are those of the framework: they are taken from what it wrote, and only the values that differ from
//! message to message are set. [`Raw::bare`] has the cheapest honest messages: the events' data and the check.

mod documents;

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use async_nats::{
    Client, HeaderMap, HeaderValue,
    header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
    jetstream::{self, context::PublishAckFuture, message::PublishMessage, stream::LastRawMessageErrorKind},
};
use cqrs_benches::domain::{CreateOrder, KeptOrder, Order, PayOrder, SendParcel};
use cqrs_core::Aggregate as _;
use futures_util::StreamExt as _;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    rounds::{Until, preparing},
    server::Orders,
};

/// How many publishes are in flight when the task does not wait for each answer.
const WINDOW: usize = 256;

/// A header as long as the check that an append has.
const NOT_CHECKED: &str = "Once-Expected-Last-Subject-Sequence";

/// The order whose messages are the templates.
const TEMPLATE: u64 = 0;

/// The client with the templates of the framework's commits.
#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) client: Client,
    pub(crate) jetstream: jetstream::Context,
    pub(crate) stream: String,
    context: String,
    created: Template,
    pub(crate) one_event: Template,
    pub(crate) three_events: Template,
    used: Arc<AtomicU64>,
}

/// The members of an event that differ from message to message.
const DIFFERENT: [&str; 4] = ["id", "subject", "aggregateversion", "commandid"];

/// A message of the framework. In that of one event, each member that differs from message to message has its own name
/// in angle brackets as the value. Messages of several events stay as they are.
#[derive(Clone)]
pub(crate) struct Template {
    content_type: Option<HeaderValue>,
    payload: String,
}

/// The aggregate type of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Order,
    KeptOrder,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Order => Order::NAME,
            Self::KeptOrder => KeptOrder::NAME,
        }
    }
}

impl Raw {
    pub(crate) async fn new(client: Client, context: &str, service: &Orders) -> Result<Self> {
        let jetstream = jetstream::new(client.clone());
        let stream = context.to_uppercase();
        let log = jetstream.get_stream(&stream).await?;
        let template = async |sequence| {
            let message = log.get_raw_message(sequence).await?;
            Template::of(&message.headers, &message.payload)
        };
        let created = service.execute(CreateOrder::usual(TEMPLATE)).await?.position.sequence;
        let one_event = service.execute(PayOrder::usual(TEMPLATE)).await?.position.sequence;
        let three_events = service.execute(SendParcel::usual(TEMPLATE)).await?.position.sequence;
        Ok(Self {
            created: template(created).await?,
            one_event: template(one_event).await?,
            three_events: template(three_events).await?,
            used: Arc::default(),
            context: context.to_owned(),
            client,
            jetstream,
            stream,
        })
    }

    /// The same with messages of nothing but the events' data.
    pub(crate) fn bare(&self) -> Result<Self> {
        Ok(Self {
            created: self.created.bare()?,
            one_event: self.one_event.bare()?,
            three_events: self.three_events.bare()?,
            ..self.clone()
        })
    }

    /// Takes so many numbers that were not returned before, and returns the first.
    pub(crate) fn next(&self, numbers: u64) -> u64 {
        self.used.fetch_add(numbers, Ordering::Relaxed)
    }

    pub(crate) fn subject(&self, kind: Kind, order: u64) -> String {
        format!("{}.event.{}.{order}", self.context, kind.name())
    }

    /// Publishes to one order until time is up, each message after the answer to the one before, with the check that no
    /// other message came in between.
    pub(crate) async fn append(self, template: Template, order: u64, until: Until) -> Result<u64> {
        let subject = self.subject(Kind::Order, order);
        let (mut last, mut written) = (0, 0);
        while until.goes_on() {
            let message = template.message(Kind::Order, order, written + 1, Some(last));
            last = self.jetstream.send_publish(subject.clone(), message).await?.await?.sequence;
            written += 1;
        }
        Ok(written)
    }

    /// Publishes one event of this version, with the check that no message came after `last`.
    pub(crate) async fn append_once(&self, kind: Kind, order: u64, version: u64, last: u64) -> Result<()> {
        let message = self.one_event.message(kind, order, version, Some(last));
        self.jetstream.send_publish(self.subject(kind, order), message).await?.await?;
        Ok(())
    }

    /// Publishes to one order until time is up, without any check, and without waiting for each answer.
    pub(crate) async fn pour(self, order: u64, until: Until) -> Result<u64> {
        let subject = self.subject(Kind::Order, order);
        let (mut window, mut written) = (Window::default(), 0);
        while until.goes_on() {
            let message = self.one_event.message(Kind::Order, order, written + 1, None);
            window.push(self.jetstream.send_publish(subject.clone(), message).await?).await?;
            written += 1;
        }
        window.settle().await?;
        Ok(written)
    }

    /// Stores the commits of these versions for each of these orders, one version of all before the next, so that the
    /// distance between two commits of one order is the number of orders.
    pub(crate) async fn fill(&self, kind: Kind, orders: Range<u64>, versions: Range<u64>) -> Result<()> {
        let all = (orders.end - orders.start) * (versions.end - versions.start);
        let bar = preparing(&format!("filling {}", self.stream), all);
        let mut window = Window::default();
        for version in versions {
            for order in orders.clone() {
                let template = if version == 1 { &self.created } else { &self.one_event };
                let message = template.message(kind, order, version, None);
                window.push(self.jetstream.send_publish(self.subject(kind, order), message).await?).await?;
                bar.inc(1);
            }
        }
        window.settle().await?;
        bar.finish_and_clear();
        Ok(())
    }

    /// Reads the messages of one subject from a sequence on with one batched direct get, and returns how many came.
    pub(crate) async fn get_batch(
        &self,
        subject: &str,
        from: u64,
        batch: usize,
    ) -> Result<Vec<async_nats::Message>> {
        #[derive(Serialize)]
        struct Get<'a> {
            next_by_subj: &'a str,
            seq: u64,
            batch: usize,
        }
        self.direct_get(&self.stream, &Get { next_by_subj: subject, seq: from, batch }).await
    }

    /// A stream's answer to a batched direct get.
    async fn direct_get(&self, stream: &str, get: &impl Serialize) -> Result<Vec<async_nats::Message>> {
        let request = serde_json::to_vec(get)?;
        let inbox = self.client.new_inbox();
        let mut answers = self.client.subscribe(inbox.clone()).await?;
        let get = format!("$JS.API.DIRECT.GET.{stream}");
        self.client.publish_with_reply(get, inbox, request.into()).await?;
        let mut found = Vec::new();
        loop {
            let answer = tokio::time::timeout(Duration::from_secs(5), answers.next()).await?;
            let answer = answer.context("the subscription ended")?;
            match answer.status.map(|status| status.as_u16()) {
                None => found.push(answer),
                // The end, or that there is nothing.
                Some(204 | 404) => return Ok(found),
                Some(status) => bail!("status {status}"),
            }
        }
    }
}

impl Raw {
    /// Asks the stream's leader whether a subject has a message after `last`. That is necessary to know that a state is
    /// the current one: any replica may have answered a direct get.
    pub(crate) async fn has_more(&self, subject: String, last: u64) -> Result<bool> {
        let stream = self.jetstream.get_stream_no_info(&self.stream).await?;
        match stream.raw_message_builder().sequence(last + 1).next_by_subject(subject).send().await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Template {
    fn of(headers: &HeaderMap, payload: &[u8]) -> Result<Self> {
        let content_type = headers.get("content-type").context("no content type")?.clone();
        let mut text = String::from_utf8(payload.to_vec())?;
        if let Value::Object(event) = serde_json::from_slice(payload)? {
            for name in DIFFERENT {
                let value = event.get(name).and_then(Value::as_str).context("a member is missing")?;
                let member = |value: &str| format!("\"{name}\":\"{value}\"");
                text = text.replacen(&member(value), &member(&format!("<{name}>")), 1);
            }
        }
        Ok(Self { content_type: Some(content_type), payload: text })
    }

    /// The same without the attributes of the event: only the data and the check.
    pub(crate) fn bare(&self) -> Result<Self> {
        let payload = match serde_json::from_str(&self.payload)? {
            Value::Array(events) => events.iter().map(|event| event["data"].clone()).collect(),
            event => event["data"].clone(),
        };
        Ok(Self { content_type: None, payload: payload.to_string() })
    }

    /// The same with these values for all messages, so that to publish it costs no more than its bytes.
    pub(crate) fn unchanged(&self) -> Self {
        let [id, command] = [(); 2].map(|()| Uuid::new_v4().to_string());
        Self { payload: self.different([&id, "order/1000000", "1000", &command]), ..self.clone() }
    }

    /// The payload with these values of the members that differ.
    fn different(&self, values: [&str; DIFFERENT.len()]) -> String {
        let mut payload = self.payload.clone();
        for (name, value) in DIFFERENT.iter().zip(values) {
            payload = payload.replacen(&format!("<{name}>"), value, 1);
        }
        payload
    }

    /// A message of this kind, with the check that no other message came after `expected`. Without an expectation it has
    /// a header of the same length that the server does not check: the stream then has what a checked write leaves.
    pub(crate) fn message(
        &self,
        kind: Kind,
        order: u64,
        version: u64,
        expected: Option<u64>,
    ) -> PublishMessage {
        let mut headers = HeaderMap::new();
        match expected {
            Some(expected) => headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string()),
            None => headers.insert(NOT_CHECKED, "1234567"),
        }
        if let Some(content_type) = &self.content_type {
            headers.insert("content-type", content_type.clone());
        }
        let payload = if self.payload.contains('<') {
            let [id, command] = [(); 2].map(|()| Uuid::new_v4().to_string());
            let subject = format!("{}/{order}", kind.name());
            self.different([&id, &subject, &version.to_string(), &command])
        } else {
            self.payload.clone()
        };
        PublishMessage::build().headers(headers).payload(payload.into())
    }
}

/// Publishes whose answers have not arrived yet, in order.
#[derive(Default)]
struct Window(VecDeque<PublishAckFuture>);

impl Window {
    /// Waits for the oldest if there are too many.
    async fn push(&mut self, publish: PublishAckFuture) -> Result<()> {
        if self.0.len() == WINDOW
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.await?;
        }
        self.0.push_back(publish);
        Ok(())
    }

    async fn settle(self) -> Result<()> {
        for publish in self.0 {
            publish.await?;
        }
        Ok(())
    }
}
