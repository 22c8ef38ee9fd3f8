//! The attributes of an event, independent of their encoding.

use std::{borrow::Cow, str::FromStr, sync::Arc};

use bytes::Bytes;
use cqrs_core::{
    AggregateKey, CommandId, EventId, Metadata,
    log::{Commit, JSON, Origin, RecordedEvent},
};
use jiff::{Timestamp, fmt::temporal::DateTimePrinter};
use uuid::Uuid;

/// The highest version that is read: 2⁶³ − 1 is the largest integer of most languages.
const LAST_VERSION: u64 = i64::MAX as u64;

/// The version of an event's shape that is not written.
const FIRST_SHAPE: u32 = 1;

/// The value of an attribute, which is a text in every encoding.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Text(&'a str),
    Number(u64),
    Hash(u64),
    Id(Uuid),
    Time(Timestamp),
    Of(&'a AggregateKey),
}

impl Value<'_> {
    /// Writes the value as the content of a JSON string: without formatting, since each event has a dozen.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => write_text(out, text),
            Self::Number(number) => {
                serde_json::to_writer(out, &number).expect("a vector takes all that is written");
            }
            Self::Hash(hash) => {
                let digit = |nibble: u32| b"0123456789abcdef"[(hash >> (4 * nibble) & 0xf) as usize];
                out.extend((0..16).rev().map(digit));
            }
            Self::Id(id) => {
                out.extend_from_slice(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
            }
            Self::Time(time) => {
                TIMES.print_timestamp(&time, out).expect("a vector takes all that is written");
            }
            Self::Of(aggregate) => {
                write_text(out, aggregate.name());
                out.push(b'/');
                write_text(out, aggregate.id());
            }
        }
    }
}

const TIMES: DateTimePrinter = DateTimePrinter::new();

/// Few texts have characters that must be escaped.
fn write_text(out: &mut Vec<u8>, text: &str) {
    let is_plain = !text.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\');
    if is_plain {
        return out.extend_from_slice(text.as_bytes());
    }
    let begin = out.len();
    serde_json::to_writer(&mut *out, text).expect("a vector takes all that is written");
    // The quotes are the caller's.
    out.pop();
    out.remove(begin);
}

/// Passes the attributes that belong to the event at `index` alone to `each`, by their names.
pub(super) fn own<'a>(commit: &'a Commit, index: usize, mut each: impl FnMut(&'static str, Value<'a>)) {
    let event = &commit.events[index];
    each("id", Value::Id(event.id.0));
    each("type", Value::Text(&event.event_type));
    each("aggregateversion", Value::Number(commit.version_of(index)));
    if event.schema_version != FIRST_SHAPE {
        each("schemaversion", Value::Number(event.schema_version.into()));
    }
    if event.content_type != JSON {
        each("datacontenttype", Value::Text(&event.content_type));
    }
}

/// Passes the attributes that all events of one command share to `each`; without metadata.
pub(super) fn shared<'a>(
    commit: &'a Commit,
    origin: &'a Origin,
    mut each: impl FnMut(&'static str, Value<'a>),
) {
    each("specversion", Value::Text("1.0"));
    each("source", Value::Text(&commit.source));
    each("subject", Value::Of(&commit.aggregate));
    each("time", Value::Time(origin.time));
    each("command", Value::Text(&origin.command));
    each("commandid", Value::Id(origin.command_id.0));
    each("commandhash", Value::Hash(origin.fingerprint));
    // A command that no message caused begins a business transaction, which has its id.
    if origin.correlation_id.0 != origin.command_id.0 {
        each("correlationid", Value::Id(origin.correlation_id.0));
    }
    if let Some(causation) = origin.causation_id {
        each("causationid", Value::Id(causation.0));
    }
}

/// The attributes of one event while it is read: each may occur once.
#[derive(Default)]
pub(super) struct Attributes<'a> {
    specversion: Text<'a>,
    id: Text<'a>,
    source: Text<'a>,
    event_type: Text<'a>,
    time: Text<'a>,
    subject: Text<'a>,
    aggregate_version: Text<'a>,
    schema_version: Text<'a>,
    command: Text<'a>,
    command_id: Text<'a>,
    command_hash: Text<'a>,
    correlation_id: Text<'a>,
    causation_id: Text<'a>,
    pub(super) content_type: Text<'a>,
    metadata: Metadata,
}

/// The value of an attribute, if it was read.
type Text<'a> = Option<Cow<'a, str>>;

impl<'a> Attributes<'a> {
    /// Adds an attribute; one without a known name is metadata.
    ///
    /// # Errors
    ///
    /// If it was added before.
    pub(super) fn add(&mut self, name: &str, value: Cow<'a, str>) -> Result<(), ()> {
        let is_new = if let Some(place) = self.place(name) {
            place.replace(value).is_none()
        } else {
            let is_new = self.metadata.get(name).is_none();
            // Attributes of other writers whose names metadata cannot have are ignored.
            let _ = self.metadata.insert(name, value);
            is_new
        };
        if is_new { Ok(()) } else { Err(()) }
    }

    /// Whether an attribute was added.
    pub(super) fn has(&mut self, name: &str) -> bool {
        match self.place(name) {
            Some(place) => place.is_some(),
            None => self.metadata.get(name).is_some(),
        }
    }

    fn place(&mut self, name: &str) -> Option<&mut Text<'a>> {
        Some(match name {
            "specversion" => &mut self.specversion,
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.event_type,
            "time" => &mut self.time,
            "subject" => &mut self.subject,
            "aggregateversion" => &mut self.aggregate_version,
            "schemaversion" => &mut self.schema_version,
            "command" => &mut self.command,
            "commandid" => &mut self.command_id,
            "commandhash" => &mut self.command_hash,
            "correlationid" => &mut self.correlation_id,
            "causationid" => &mut self.causation_id,
            "datacontenttype" => &mut self.content_type,
            _ => return None,
        })
    }

    /// The commit with this one event.
    pub(super) fn commit(
        mut self,
        aggregate: AggregateKey,
        content_type: Cow<'static, str>,
        data: Bytes,
    ) -> Result<Commit, String> {
        let specversion = there("specversion", self.specversion.take())?;
        if specversion != "1.0" {
            return Err(format!("CloudEvents {specversion:?} is not 1.0"));
        }
        let subject = there("subject", self.subject.take())?;
        if !names(&subject, &aggregate) {
            return Err(format!("it is about {subject}, but stands where {aggregate} does"));
        }
        let first_version = version("aggregateversion", self.aggregate_version.take())?;
        let source = there("source", self.source.take())?.into();
        let id: EventId = parsed("id", self.id.take())?;
        let event_type = owned(there("type", self.event_type.take())?);
        let schema_version = self.schema_version.take();
        let schema_version = match schema_version {
            None => FIRST_SHAPE,
            version => parsed("schemaversion", version)?,
        };
        let origin = Arc::new(self.origin()?);
        let event = RecordedEvent { id, origin, event_type, schema_version, content_type, data };
        Ok(Commit { aggregate, first_version, source, events: event.into() })
    }

    fn origin(self) -> Result<Origin, String> {
        let hash = there("commandhash", self.command_hash)?;
        let command_id: CommandId = parsed("commandid", self.command_id)?;
        Ok(Origin {
            time: parsed("time", self.time)?,
            command: owned(there("command", self.command)?),
            command_id,
            fingerprint: u64::from_str_radix(&hash, 16).map_err(|_| unfit("commandhash", &hash))?,
            correlation_id: match self.correlation_id {
                None => command_id.into(),
                id => parsed("correlationid", id)?,
            },
            causation_id: self.causation_id.map(|id| parsed("causationid", Some(id))).transpose()?,
            metadata: self.metadata,
        })
    }
}

/// Whether a `subject` is `<aggregate>/<id>` of this aggregate.
fn names(subject: &str, aggregate: &AggregateKey) -> bool {
    let id = subject.strip_prefix(aggregate.name()).and_then(|rest| rest.strip_prefix('/'));
    id == Some(aggregate.id())
}

fn there<'a>(name: &str, value: Text<'a>) -> Result<Cow<'a, str>, String> {
    value.ok_or_else(|| format!("attribute {name} is missing"))
}

fn parsed<T: FromStr>(name: &str, value: Text<'_>) -> Result<T, String> {
    let text = there(name, value)?;
    text.parse().map_err(|_| unfit(name, &text))
}

/// The version of an event: at least 1, and low enough for all later events.
fn version(name: &str, value: Text<'_>) -> Result<u64, String> {
    let version = parsed(name, value)?;
    if (1..=LAST_VERSION).contains(&version) { Ok(version) } else { Err(unfit(name, &version.to_string())) }
}

fn unfit(name: &str, text: &str) -> String {
    format!("attribute {name} has the value {text:?}")
}

fn owned(text: Cow<'_, str>) -> Cow<'static, str> {
    text.into_owned().into()
}

/// A content type, which is nearly always the same.
pub(super) fn known(content_type: Cow<'_, str>) -> Cow<'static, str> {
    if content_type == JSON { JSON.into() } else { content_type.into_owned().into() }
}
