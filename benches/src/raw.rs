//! The same work with the client alone: the other side of every comparison.
//!
//! The messages are those of the framework: headers and payload are taken from what it wrote, and only the values that
//! differ from message to message are set.

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
    Client, HeaderMap,
    jetstream::{self, context::PublishAckFuture, message::PublishMessage, stream::LastRawMessageErrorKind},
};
use bytes::Bytes;
use cqrs_benches::domain::{CreateOrder, KeptOrder, Order, PayOrder, SendParcel};
use cqrs_core::Aggregate as _;
use futures_util::StreamExt as _;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    rounds::{Until, preparing},
    server::Orders,
};

/// How many publishes are in flight when the task does not wait for each answer.
const WINDOW: usize = 256;

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

/// A message of the framework, without the values that differ from message to message.
#[derive(Clone)]
pub(crate) struct Template {
    headers: HeaderMap,
    payload: Bytes,
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
            anyhow::Ok(Template { headers: message.headers, payload: message.payload })
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
    /// The same without the attributes of the event: only the payload and the check.
    pub(crate) fn bare(&self) -> Self {
        Self { headers: HeaderMap::new(), payload: self.payload.clone() }
    }

    /// A message of this kind. With an expectation it is as the framework sends it. Without one it is as the stream has
    /// it, except for what the server would have to remember.
    pub(crate) fn message(
        &self,
        kind: Kind,
        order: u64,
        version: u64,
        expected: Option<u64>,
    ) -> PublishMessage {
        let mut headers = self.headers.clone();
        let command = Uuid::new_v4().to_string();
        if let Some(expected) = expected
            && headers.is_empty()
        {
            headers.insert(async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
        } else if let Some(expected) = expected {
            headers.insert(async_nats::header::NATS_MESSAGE_ID, format!("{}.{order}.{command}", kind.name()));
            headers.insert(async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
        } else {
            headers = headers
                .iter()
                .filter(|(name, _)| !AsRef::<str>::as_ref(*name).starts_with("Nats-"))
                .map(|(name, values)| (name.clone(), values[0].clone()))
                .collect();
        }
        // Several events have their attributes in the payload.
        if headers.get("ce-id").is_some() {
            headers.insert("ce-id", Uuid::new_v4().to_string());
            headers.insert("ce-commandid", command);
            headers.insert("ce-aggregate", kind.name());
            headers.insert("ce-subject", order.to_string());
            headers.insert("ce-aggregateversion", version.to_string());
        }
        PublishMessage::build().headers(headers).payload(self.payload.clone())
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
