//! The official CloudEvents SDK as a reference: it reads what is stored, and writes messages to be read.

use std::collections::BTreeMap;

use async_nats::{
    HeaderMap,
    jetstream::{self, consumer::pull},
};
use cloudevents::{
    AttributesReader as _, Event,
    event::{Data, SpecVersion},
    message::{
        BinaryDeserializer, BinarySerializer, MessageAttributeValue, Result, StructuredDeserializer,
        StructuredSerializer,
    },
};
use cqrs_core::{
    log::{Commit, JSON, StoredCommit},
    port::{EventStore as _, Subscribe, Subscription as _},
};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::TestContext;

/// What the CloudEvents HTTP binding encodes in header values.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

const BATCH: &str = "application/cloudevents-batch+json";
const STRUCTURED: &str = "application/cloudevents+json";

/// A message of a stream, in the form for the SDK's readers.
#[derive(Debug, Clone)]
pub struct Message {
    headers: HeaderMap,
    payload: Vec<u8>,
}

impl Message {
    /// The events in it.
    ///
    /// # Panics
    ///
    /// When the SDK refuses the message.
    pub fn events(self) -> Vec<Event> {
        let content_type = self.headers.get("content-type").map(ToString::to_string).unwrap_or_default();
        match content_type.as_str() {
            BATCH => serde_json::from_slice(&self.payload).expect("a batch that the SDK reads"),
            STRUCTURED => {
                vec![StructuredDeserializer::into_event(self).expect("an event that the SDK reads")]
            }
            _ => vec![BinaryDeserializer::into_event(self).expect("an event that the SDK reads")],
        }
    }

    /// The attributes by their names.
    fn attributes(&self) -> BTreeMap<String, String> {
        let mut attributes = BTreeMap::new();
        for (name, values) in self.headers.iter() {
            let name: &str = name.as_ref();
            let Some(name) = name.strip_prefix("ce-") else { continue };
            let value = values.last().expect("a value").as_str();
            assert!(
                value.bytes().all(|byte| (0x21..0x7f).contains(&byte)),
                "{name} is not encoded: {value:?}"
            );
            let value = percent_decode_str(value).decode_utf8().expect("UTF-8");
            attributes.insert(name.to_owned(), value.into_owned());
        }
        attributes
    }
}

impl BinaryDeserializer for Message {
    fn deserialize_binary<R: Sized, V: BinarySerializer<R>>(self, visitor: V) -> Result<R> {
        let mut attributes = self.attributes();
        assert_eq!(attributes.remove("specversion").as_deref(), Some("1.0"));
        let mut visitor = visitor.set_spec_version(SpecVersion::V10)?;
        if let Some(content_type) = self.headers.get("content-type") {
            let content_type = MessageAttributeValue::String(content_type.to_string());
            visitor = visitor.set_attribute("datacontenttype", content_type)?;
        }
        for (name, value) in attributes {
            let value = MessageAttributeValue::String(value);
            visitor = if SpecVersion::V10.attribute_names().contains(&name.as_str()) {
                visitor.set_attribute(&name, value)?
            } else {
                visitor.set_extension(&name, value)?
            };
        }
        if self.payload.is_empty() { visitor.end() } else { visitor.end_with_data(self.payload) }
    }
}

impl StructuredDeserializer for Message {
    fn deserialize_structured<R: Sized, V: StructuredSerializer<R>>(self, visitor: V) -> Result<R> {
        visitor.set_structured_event(self.payload)
    }
}

/// A message that the SDK writes, in either mode.
#[derive(Debug, Default)]
pub struct Written {
    /// The headers.
    pub headers: HeaderMap,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Written {
    /// An event in binary mode.
    ///
    /// # Panics
    ///
    /// When the SDK does not write it.
    pub fn binary(event: Event) -> Self {
        event.deserialize_binary(Self::default()).expect("an event that the SDK writes")
    }

    /// An event in structured mode.
    ///
    /// # Panics
    ///
    /// When the SDK does not write it.
    pub fn structured(event: Event) -> Self {
        event.deserialize_structured(Self::default()).expect("an event that the SDK writes")
    }

    /// Several events.
    ///
    /// # Panics
    ///
    /// When the SDK does not write them.
    pub fn batch(events: &[Event]) -> Self {
        let mut written = Self { payload: serde_json::to_vec(events).expect("a batch"), ..Self::default() };
        written.headers.insert("content-type", BATCH);
        written
    }

    fn header(mut self, name: &str, value: &MessageAttributeValue) -> Self {
        let value = value.to_string();
        self.headers.insert(name, utf8_percent_encode(&value, ENCODED).to_string());
        self
    }
}

impl BinarySerializer<Self> for Written {
    fn set_spec_version(self, version: SpecVersion) -> Result<Self> {
        Ok(self.header("ce-specversion", &MessageAttributeValue::String(version.to_string())))
    }

    fn set_attribute(mut self, name: &str, value: MessageAttributeValue) -> Result<Self> {
        if name == "datacontenttype" {
            self.headers.insert("content-type", value.to_string());
            return Ok(self);
        }
        Ok(self.header(&format!("ce-{name}"), &value))
    }

    fn set_extension(self, name: &str, value: MessageAttributeValue) -> Result<Self> {
        Ok(self.header(&format!("ce-{name}"), &value))
    }

    fn end_with_data(self, payload: Vec<u8>) -> Result<Self> {
        Ok(Self { payload, ..self })
    }

    fn end(self) -> Result<Self> {
        Ok(self)
    }
}

impl StructuredSerializer<Self> for Written {
    fn set_structured_event(mut self, payload: Vec<u8>) -> Result<Self> {
        self.headers.insert("content-type", STRUCTURED);
        Ok(Self { payload, ..self })
    }
}

/// All messages of a stream, with their sequences.
///
/// # Panics
///
/// When the server does not show them.
///
/// # Cancel safety
///
/// Dropping it loses nothing.
async fn messages(client: &async_nats::Client, stream: &str) -> Vec<(u64, Message)> {
    let stream = jetstream::new(client.clone()).get_stream(stream).await.expect("the stream");
    let last = stream.cached_info().state.messages;
    let config = pull::OrderedConfig::default();
    let consumer = stream.create_consumer(config).await.expect("a consumer");
    let mut deliveries = consumer.messages().await.expect("deliveries");
    let mut messages = Vec::new();
    while (messages.len() as u64) < last {
        let message = deliveries.next().await.expect("a message").expect("a delivery");
        let sequence = message.info().expect("its place").stream_sequence;
        let (headers, payload) = (message.headers.clone().unwrap_or_default(), message.payload.to_vec());
        messages.push((sequence, Message { headers, payload }));
    }
    messages
}

/// Checks every message of a context's stream, and returns the commits that the context's store reads in them.
///
/// # Panics
///
/// When the SDK reads a message differently from the store.
///
/// # Cancel safety
///
/// Dropping it loses nothing.
pub async fn judge_all(context: &TestContext, aggregates: &[&'static str]) -> Vec<StoredCommit> {
    let messages = messages(context.nats.client(), &context.stream()).await;
    let request = Subscribe { subscriber: "judge", aggregates, after: 0 };
    let mut subscription = context.backend().await.events.subscribe(request).await.expect("a subscription");
    let mut commits: Vec<StoredCommit> = Vec::new();
    while commits.len() < messages.len() {
        let deliveries = subscription.next(1_000).await.expect("deliveries");
        commits.extend(deliveries.into_iter().map(|delivery| delivery.expect("a commit")));
    }
    for (stored, (sequence, message)) in commits.iter().zip(messages) {
        assert_eq!(stored.sequence, sequence);
        judge(stored, message);
    }
    commits
}

/// Compares a stored commit with what the SDK reads in its message.
///
/// # Panics
///
/// When the two differ, or the message breaks a rule of CloudEvents that the SDK does not check.
fn judge(stored: &StoredCommit, message: Message) {
    let commit = &stored.commit;
    let events = message.events();
    assert_eq!(events.len(), commit.events.len(), "at {}", stored.sequence);
    for (index, event) in events.iter().enumerate() {
        assert_eq!(told(event), expected(commit, index), "event {index} at {}", stored.sequence);
        judge_data(commit, index, event);
        for (name, _) in event.iter_extensions() {
            let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            assert!((1..=20).contains(&name.len()) && name.bytes().all(legal), "{name:?} is no name");
        }
    }
}

/// All attributes of an event, as the SDK returns them. Only metadata may be empty.
fn told(event: &Event) -> BTreeMap<String, String> {
    let time = event.time().expect("a time").to_rfc3339();
    let time: Timestamp = time.parse().expect("a time");
    let mut told = BTreeMap::from([
        ("id".to_owned(), event.id().to_owned()),
        ("source".to_owned(), event.source().clone()),
        ("type".to_owned(), event.ty().to_owned()),
        ("time".to_owned(), time.to_string()),
    ]);
    let others = [("subject", event.subject()), ("datacontenttype", event.datacontenttype())];
    for (name, value) in others.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        told.insert(name.to_owned(), value.to_owned());
    }
    assert!(told.values().all(|value| !value.is_empty()), "{told:?}");
    told.extend(event.iter_extensions().map(|(name, value)| (name.to_owned(), value.to_string())));
    told
}

/// The attributes that the SDK must return for an event.
fn expected(commit: &Commit, index: usize) -> BTreeMap<String, String> {
    let event = &commit.events[index];
    let origin = &event.origin;
    let mut expected = BTreeMap::from([
        ("id", event.id.to_string()),
        ("source", commit.source.to_string()),
        ("type", event.event_type.to_string()),
        ("subject", commit.aggregate.to_string()),
        ("time", origin.time.to_string()),
        ("aggregateversion", (commit.first_version + index as u64).to_string()),
        ("command", origin.command.to_string()),
        ("commandid", origin.command_id.to_string()),
        ("commandhash", format!("{:016x}", origin.fingerprint)),
    ]);
    // What is not there has its usual value.
    if event.content_type != JSON {
        expected.insert("datacontenttype", event.content_type.to_string());
    }
    if event.schema_version != 1 {
        expected.insert("schemaversion", event.schema_version.to_string());
    }
    if origin.correlation_id != origin.command_id.into() {
        expected.insert("correlationid", origin.correlation_id.to_string());
    }
    if let Some(cause) = origin.causation_id {
        expected.insert("causationid", cause.to_string());
    }
    expected.extend(origin.metadata.iter().map(|(name, value)| (name, value.to_owned())));
    expected.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn judge_data(commit: &Commit, index: usize, event: &Event) {
    let stored = &commit.events[index].data;
    match event.data() {
        None => assert!(stored.is_empty(), "the SDK sees no data"),
        Some(Data::Json(value)) => {
            let stored: serde_json::Value = serde_json::from_slice(stored).expect("JSON");
            assert_eq!(*value, stored);
        }
        Some(Data::Binary(bytes)) => {
            // In binary mode the SDK does not change the data.
            assert_eq!(bytes[..], stored[..]);
        }
        Some(Data::String(text)) => assert_eq!(text.as_bytes(), &stored[..]),
    }
}
