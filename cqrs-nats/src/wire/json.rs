//! Events in the JSON format of CloudEvents: one, or a batch of several.

use std::{collections::BTreeMap, fmt, io::Write as _, ops::Range, sync::Arc};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use cqrs_core::{
    AggregateKey,
    log::{Commit, JSON, RecordedEvent, is_json},
};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::wire::attributes::{Attributes, PREFIX, Value, known, own, shared};

/// The content type of several events.
pub(super) const BATCH: &str = "application/cloudevents-batch+json";

/// The content type of one event.
pub(super) const EVENT: &str = "application/cloudevents+json";

/// About how many bytes an event has besides its payload.
const ABOUT: usize = 700;

/// The members of one event, each once.
struct Members(BTreeMap<String, Box<RawValue>>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;

        impl<'de> Visitor<'de> for Each {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event as an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if members.insert(name.clone(), map.next_value()?).is_some() {
                        return Err(A::Error::custom(format_args!(
                            "member {name:?} is there more than once"
                        )));
                    }
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Each)
    }
}

pub(super) fn encode_batch(commit: &Commit) -> Result<Bytes, serde_json::Error> {
    let data: usize = commit.events.iter().map(|event| event.data.len() + ABOUT).sum();
    let mut out = Vec::with_capacity(data);
    let mut shared = 0..0;
    for index in 0..commit.events.len() {
        out.push(if index == 0 { b'[' } else { b',' });
        shared = write_event(&mut out, commit, index, shared)?;
    }
    out.push(b']');
    Ok(out.into())
}

/// Writes the event at `index` as an object, name by name, because a serializer is slower for so many short texts.
/// Attributes that it shares with the event before it, at `before` in the output, are copied. Returns the range of
/// these attributes in this event.
fn write_event(
    out: &mut Vec<u8>,
    commit: &Commit,
    index: usize,
    before: Range<usize>,
) -> Result<Range<usize>, serde_json::Error> {
    let RecordedEvent { content_type, data, origin, .. } = &commit.events[index];
    out.push(b'{');
    own(commit, index, |name, value| write_member(out, &name[PREFIX.len()..], value));
    let begin = out.len();
    if index > 0 && Arc::ptr_eq(origin, &commit.events[index - 1].origin) {
        out.extend_from_within(before);
    } else {
        shared(commit, origin, |name, value| write_member(out, &name[PREFIX.len()..], value));
        for (name, value) in origin.metadata.iter() {
            write_member(out, name, Value::Text(value));
        }
    }
    let shared = begin..out.len();
    write_member(out, "datacontenttype", Value::Text(content_type));
    if !is_json(content_type) {
        write_member(out, "data_base64", Value::Text(&BASE64_STANDARD.encode(data)));
    } else if !data.is_empty() {
        // The payload is written unchanged, so no number in it loses a digit.
        let data: &RawValue = serde_json::from_slice(data)?;
        out.extend_from_slice(b"\"data\":");
        out.extend_from_slice(data.get().as_bytes());
        out.push(b',');
    }
    // The last comma ends the object.
    if let Some(end) = out.last_mut() {
        *end = b'}';
    }
    Ok(shared)
}

/// Writes a member and a comma. Names are letters and digits.
fn write_member(out: &mut Vec<u8>, name: &str, value: Value<'_>) {
    let written = match value {
        Value::Text(text) => {
            write!(out, "\"{name}\":").and_then(|()| Ok(serde_json::to_writer(&mut *out, text)?))
        }
        // None of these values has characters to escape.
        value => write!(out, "\"{name}\":\"{value}\""),
    };
    written.expect("a vector takes all that is written");
    out.push(b',');
}

pub(super) fn decode_event(aggregate: &AggregateKey, payload: &[u8]) -> Result<Commit, String> {
    let members: Members =
        serde_json::from_slice(payload).map_err(|error| format!("not a CloudEvent: {error}"))?;
    commit(aggregate, members)
}

pub(super) fn decode_batch(aggregate: &AggregateKey, payload: &[u8]) -> Result<Commit, String> {
    let events: Vec<Members> =
        serde_json::from_slice(payload).map_err(|error| format!("not a batch of CloudEvents: {error}"))?;
    let mut all: Option<Commit> = None;
    for members in events {
        let next = commit(aggregate, members)?;
        match &mut all {
            None => all = Some(next),
            Some(all) if all.version_of(all.events.len()) == next.first_version => {
                all.events.extend(next.events);
            }
            Some(_) => return Err("its events do not follow one another".to_owned()),
        }
    }
    let mut all = all.ok_or_else(|| "it has no events".to_owned())?;
    share_origins(&mut all.events);
    Ok(all)
}

/// The commit with one event.
fn commit(aggregate: &AggregateKey, Members(mut members): Members) -> Result<Commit, String> {
    // A null member counts as missing; only data can be null.
    let data = (members.remove("data"), members.remove("data_base64"));
    members.retain(|_, value| value.get() != "null");
    let text =
        |value: &RawValue| serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned());
    let mut attributes = Attributes::default();
    for (name, value) in members {
        attributes
            .add(&name, text(&value).into())
            .map_err(|()| format!("attribute {name} is there more than once"))?;
    }
    let content_type = attributes.content_type.take().map_or(JSON.into(), known);
    let data = match data {
        (None, None) => Bytes::new(),
        // Text that is not JSON is in a string.
        (Some(data), None) if !is_json(&content_type) => text(&data).into(),
        (Some(data), None) => Bytes::copy_from_slice(data.get().as_bytes()),
        (None, Some(encoded)) => {
            let decoded = BASE64_STANDARD.decode(text(&encoded));
            decoded.map_err(|error| format!("its data_base64 cannot be read: {error}"))?.into()
        }
        (Some(_), Some(_)) => return Err("an event has data twice".to_owned()),
    };
    attributes.commit(aggregate.clone(), content_type, data)
}

/// Lets the events of one command share their origin, as they did when they were written.
fn share_origins(events: &mut [RecordedEvent]) {
    for index in 1..events.len() {
        if events[index].origin == events[index - 1].origin {
            events[index].origin = Arc::clone(&events[index - 1].origin);
        }
    }
}
