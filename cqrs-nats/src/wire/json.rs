//! Events in the JSON format of CloudEvents: one, or a batch of several.

use std::{borrow::Cow, fmt, ops::Range, sync::Arc};

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

use crate::wire::attributes::{Attributes, Value, known, own, shared};

/// The content type of several events.
pub(super) const BATCH: &str = "application/cloudevents-batch+json";

/// The content type of one event.
pub(super) const EVENT: &str = "application/cloudevents+json";

/// About how many bytes an event has besides its payload.
const ABOUT: usize = 400;

/// One event as an object, or several as an array.
pub(super) fn encode(commit: &Commit) -> Result<Bytes, serde_json::Error> {
    let data: usize = commit.events.iter().map(|event| event.data.len() + ABOUT).sum();
    let mut out = Vec::with_capacity(data);
    if commit.events.len() == 1 {
        write_event(&mut out, commit, 0, 0..0)?;
        return Ok(out.into());
    }
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
    own(commit, index, |name, value| write_member(out, name, value));
    let begin = out.len();
    if index > 0 && Arc::ptr_eq(origin, &commit.events[index - 1].origin) {
        // Without the last byte: the comma, or the end of an event without data.
        out.extend_from_within(before.start..before.end - 1);
        out.push(b',');
    } else {
        shared(commit, origin, |name, value| write_member(out, name, value));
        for (name, value) in origin.metadata.iter() {
            write_member(out, name, Value::Text(value));
        }
    }
    let shared = begin..out.len();
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
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
    value.write(out);
    out.extend_from_slice(b"\",");
}

/// An event while it is read: its parts are borrowed from the payload.
#[derive(Default)]
struct Event<'a> {
    attributes: Attributes<'a>,
    data: Option<&'a RawValue>,
    data_base64: Option<&'a RawValue>,
}

/// The name of a member. Few have characters that must be escaped.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Event<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Event<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event as an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event<'de>, A::Error> {
                let mut event = Event::default();
                let mut nulls = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    let value = map.next_value::<&RawValue>()?;
                    event.add(name, value, &mut nulls).map_err(|name| {
                        A::Error::custom(format_args!("member {name:?} is there more than once"))
                    })?;
                }
                Ok(event)
            }
        }

        deserializer.deserialize_map(Members)
    }
}

impl<'a> Event<'a> {
    /// Adds a member. A null member counts as missing (`nulls`); only data can be null.
    ///
    /// # Errors
    ///
    /// The name, if the member is there already.
    fn add(
        &mut self,
        name: Cow<'a, str>,
        value: &'a RawValue,
        nulls: &mut Vec<Cow<'a, str>>,
    ) -> Result<(), Cow<'a, str>> {
        let is_twice = nulls.contains(&name)
            || match &*name {
                "data" => self.data.replace(value).is_some(),
                "data_base64" if value.get() != "null" => self.data_base64.replace(value).is_some(),
                "data_base64" => self.data_base64.is_some(),
                _ if value.get() == "null" => self.attributes.has(&name),
                _ => self.attributes.add(&name, text(value)).is_err(),
            };
        if is_twice {
            return Err(name);
        }
        if name != "data" && value.get() == "null" {
            nulls.push(name);
        }
        Ok(())
    }

    /// The commit with this one event, of a message with this payload.
    fn commit(self, aggregate: &AggregateKey, payload: &Bytes) -> Result<Commit, String> {
        let Self { mut attributes, data, data_base64 } = self;
        let content_type = attributes.content_type.take().map_or(JSON.into(), known);
        let data = match (data, data_base64) {
            (None, None) => Bytes::new(),
            // Text that is not JSON is in a string.
            (Some(data), None) if !is_json(&content_type) => text(data).into_owned().into(),
            (Some(data), None) => payload.slice_ref(data.get().as_bytes()),
            (None, Some(encoded)) => {
                let decoded = BASE64_STANDARD.decode(&*text(encoded));
                decoded.map_err(|error| format!("its data_base64 cannot be read: {error}"))?.into()
            }
            (Some(_), Some(_)) => return Err("an event has data twice".to_owned()),
        };
        attributes.commit(aggregate.clone(), content_type, data)
    }
}

/// The text of a member: of a string, what it says, and of any other value, its JSON.
fn text(value: &RawValue) -> Cow<'_, str> {
    let json = value.get();
    match json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => plain.into(),
        Some(_) => serde_json::from_str(json).map_or_else(|_| json.into(), |text: String| text.into()),
        None => json.into(),
    }
}

pub(super) fn decode_event(aggregate: &AggregateKey, payload: &Bytes) -> Result<Commit, String> {
    let event: Event<'_> =
        serde_json::from_str(utf8(payload)?).map_err(|error| format!("not a CloudEvent: {error}"))?;
    event.commit(aggregate, payload)
}

pub(super) fn decode_batch(aggregate: &AggregateKey, payload: &Bytes) -> Result<Commit, String> {
    let events: Vec<Event<'_>> = serde_json::from_str(utf8(payload)?)
        .map_err(|error| format!("not a batch of CloudEvents: {error}"))?;
    let mut all: Option<Commit> = None;
    for event in events {
        let next = event.commit(aggregate, payload)?;
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

/// The payload as text: checked once, and not for each of its strings.
fn utf8(payload: &[u8]) -> Result<&str, String> {
    str::from_utf8(payload).map_err(|error| format!("it is not UTF-8: {error}"))
}

/// Lets the events of one command share their origin, as they did when they were written.
fn share_origins(events: &mut [RecordedEvent]) {
    for index in 1..events.len() {
        if events[index].origin == events[index - 1].origin {
            events[index].origin = Arc::clone(&events[index - 1].origin);
        }
    }
}
