//! What is stored, version 1: for readers in other languages, too.
//!
//! A commit (the events of one command) is one message in the context's stream, on the subject
//! `<context>.event.<aggregate>.<id>`, where the id is encoded as [`encode_token`](crate::encode_token)
//! says.
//!
//! **One event** is an event of CloudEvents 1.0 in binary mode: the payload is the event's data, and its attributes
//! are headers. String values are percent-encoded as in the CloudEvents HTTP binding (3.1.3.2).
//!
//! | header | value |
//! |---|---|
//! | `ce-specversion` | `1.0` |
//! | `ce-id` | the event's UUID |
//! | `ce-source` | the context, such as `/orders` |
//! | `ce-type` | the stored type, such as `order.created` |
//! | `ce-subject` | the aggregate's id as the domain wrote it |
//! | `ce-time` | when the command was handled (RFC 3339) |
//! | `content-type` | `application/json`; `application/x-bincode` for data that only the program itself reads |
//! | `ce-aggregate` | the aggregate type's name |
//! | `ce-aggregateversion` | the event's place among the aggregate's events, from 1 |
//! | `ce-schemaversion` | the version of the data's shape |
//! | `ce-commandid` | the command's UUID |
//! | `ce-commandhash` | 16 hexadecimal digits: XXH3-64 over the command's name and its fields as JSON |
//! | `ce-correlationid` | the business transaction's UUID |
//! | `ce-causationid` | the UUID of the message that caused the command; absent if none did |
//! | `ce-…` | metadata |
//!
//! **Several events** are the CloudEvents JSON batch: the payload is an array of CloudEvents with the same
//! attributes as members, and `content-type` is `application/cloudevents-batch+json`. Data that is not JSON is in the
//! member `data_base64`. Their versions follow one another; they need not all belong to one command.
//!
//! `Nats-Msg-Id` is `<aggregate>.<encoded id>.<id of the first event's command>`, and every commit is published with
//! `Nats-Expected-Last-Subject-Sequence`.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use async_nats::HeaderMap;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use cqrs_core::{
    AggregateKey, CausationId, CommandId, Commit, CorrelationId, EventId, JSON, Metadata, Origin,
    RecordedEvent,
};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde_json::value::{RawValue, to_raw_value};

const BATCH: &str = "application/cloudevents-batch+json";
const CONTENT_TYPE: &str = "content-type";
const PREFIX: &str = "ce-";

/// What the HTTP binding encodes in header values: controls, space, quote, percent, and all non-ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// A commit as a message: the headers and the payload.
///
/// # Errors
///
/// serde's, when a payload of one of several events is not JSON.
pub(crate) fn encode(commit: &Commit) -> Result<(HeaderMap, Bytes), serde_json::Error> {
    let mut headers = HeaderMap::new();
    if let [event] = &*commit.events {
        for (name, value) in attributes(commit, 0) {
            let value = utf8_percent_encode(&value, ENCODED).to_string();
            headers.insert(format!("{PREFIX}{name}"), value);
        }
        headers.insert(CONTENT_TYPE, &*event.content_type);
        return Ok((headers, event.data.clone()));
    }
    headers.insert(CONTENT_TYPE, BATCH);
    let events: Vec<_> =
        (0..commit.events.len()).map(|index| json_event(commit, index)).collect::<Result<_, _>>()?;
    Ok((headers, serde_json::to_vec(&events)?.into()))
}

/// The attributes of the event at `index`, `datacontenttype` aside.
fn attributes(commit: &Commit, index: usize) -> Vec<(&str, String)> {
    let event = &commit.events[index];
    let origin = &event.origin;
    let mut attributes = vec![
        ("specversion", "1.0".to_owned()),
        ("id", event.id.to_string()),
        ("source", commit.source.to_string()),
        ("type", event.event_type.to_string()),
        ("subject", commit.aggregate.id().to_owned()),
        ("time", origin.time.to_string()),
        ("aggregate", commit.aggregate.name().to_owned()),
        ("aggregateversion", (commit.first_version + index as u64).to_string()),
        ("schemaversion", event.schema_version.to_string()),
        ("commandid", origin.command_id.to_string()),
        ("commandhash", format!("{:016x}", origin.fingerprint)),
        ("correlationid", origin.correlation_id.to_string()),
    ];
    if let Some(causation) = origin.causation_id {
        attributes.push(("causationid", causation.to_string()));
    }
    attributes.extend(origin.metadata.iter().map(|(name, value)| (name, value.to_owned())));
    attributes
}

/// The event at `index` in the JSON format. The data goes in as it is, so no number in it loses a digit.
fn json_event(commit: &Commit, index: usize) -> Result<BTreeMap<&str, Box<RawValue>>, serde_json::Error> {
    let event = &commit.events[index];
    let mut members = BTreeMap::new();
    for (name, value) in attributes(commit, index) {
        members.insert(name, to_raw_value(&value)?);
    }
    members.insert("datacontenttype", to_raw_value(&event.content_type)?);
    if event.content_type == JSON {
        members.insert("data", serde_json::from_slice(&event.data)?);
    } else {
        members.insert("data_base64", to_raw_value(&BASE64.encode(&event.data))?);
    }
    Ok(members)
}

/// Reads the commit of `aggregate` from a message's headers and payload.
///
/// # Errors
///
/// What is wrong with the message, in words.
pub(crate) fn decode(aggregate: AggregateKey, headers: &HeaderMap, payload: Bytes) -> Result<Commit, String> {
    let content_type = headers.get_last(CONTENT_TYPE).map_or("", |value| value.as_str());
    if content_type.starts_with(BATCH) {
        return decode_batch(&aggregate, &payload);
    }
    let mut attributes = HashMap::new();
    for (name, values) in headers.iter() {
        let name: &str = name.as_ref();
        if let (Some(name), Some(value)) = (name.strip_prefix(PREFIX), values.last()) {
            let value = percent_decode_str(value.as_str()).decode_utf8();
            attributes.insert(
                name.to_owned(),
                value.map_err(|_| format!("header ce-{name} is not UTF-8"))?.into_owned(),
            );
        }
    }
    let content_type = known(content_type);
    Attributes(attributes).commit(aggregate, content_type, payload)
}

fn decode_batch(aggregate: &AggregateKey, payload: &[u8]) -> Result<Commit, String> {
    let events: Vec<HashMap<String, Box<RawValue>>> =
        serde_json::from_slice(payload).map_err(|error| format!("not a batch of CloudEvents: {error}"))?;
    let mut commit: Option<Commit> = None;
    for mut members in events {
        let data = take_data(&mut members)?;
        let mut reader = Attributes(HashMap::with_capacity(members.len()));
        for (name, value) in members {
            let text = serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned());
            reader.0.insert(name, text);
        }
        let content_type = known(&reader.0.remove("datacontenttype").unwrap_or_default());
        let next = reader.commit(aggregate.clone(), content_type, data)?;
        match &mut commit {
            None => commit = Some(next),
            Some(commit) if commit.last_version() + 1 == next.first_version => {
                commit.events.extend(next.events);
            }
            Some(_) => return Err("its events do not follow one another".to_owned()),
        }
    }
    let mut commit = commit.ok_or_else(|| "it has no events".to_owned())?;
    share_origins(&mut commit.events);
    Ok(commit)
}

/// The content type of data, which is JSON unless something else is said.
fn known(content_type: &str) -> Cow<'static, str> {
    if content_type.is_empty() || content_type == JSON { JSON.into() } else { content_type.to_owned().into() }
}

/// The data of an event in the JSON format, as it was when it was recorded.
fn take_data(members: &mut HashMap<String, Box<RawValue>>) -> Result<Bytes, String> {
    if let Some(data) = members.remove("data") {
        return Ok(Bytes::copy_from_slice(data.get().as_bytes()));
    }
    let text = members.remove("data_base64").ok_or("an event has no data")?;
    let text: String =
        serde_json::from_str(text.get()).map_err(|error| format!("data_base64 is no text: {error}"))?;
    let data = BASE64.decode(text).map_err(|error| format!("data_base64 is not base64: {error}"))?;
    Ok(data.into())
}

/// Lets the events of one command share what led to them, as they did when they were written.
fn share_origins(events: &mut [RecordedEvent]) {
    for index in 1..events.len() {
        if events[index].origin == events[index - 1].origin {
            events[index].origin = Arc::clone(&events[index - 1].origin);
        }
    }
}

/// The attributes of one event, taken one by one; what is left over is metadata.
struct Attributes(HashMap<String, String>);

impl Attributes {
    fn take(&mut self, name: &str) -> Result<String, String> {
        self.0.remove(name).ok_or_else(|| format!("attribute {name} is missing"))
    }

    fn parse<T: std::str::FromStr>(&mut self, name: &str) -> Result<T, String> {
        let text = self.take(name)?;
        text.parse().map_err(|_| format!("attribute {name} has the value {text:?}"))
    }

    fn hash(&mut self, name: &str) -> Result<u64, String> {
        let text = self.take(name)?;
        u64::from_str_radix(&text, 16).map_err(|_| format!("attribute {name} has the value {text:?}"))
    }

    /// The commit that holds this one event.
    fn commit(
        mut self,
        aggregate: AggregateKey,
        content_type: Cow<'static, str>,
        data: Bytes,
    ) -> Result<Commit, String> {
        let specversion = self.take("specversion")?;
        if specversion != "1.0" {
            return Err(format!("CloudEvents {specversion:?} is not 1.0"));
        }
        let (name, id) = (self.take("aggregate")?, self.take("subject")?);
        if name != aggregate.name() || id != aggregate.id() {
            return Err(format!("it is about {name}/{id}, but stands where {aggregate} does"));
        }
        let first_version = self.parse("aggregateversion")?;
        let source = self.take("source")?.into();
        let (id, event_type, schema_version) =
            (self.parse::<EventId>("id")?, self.take("type")?, self.parse("schemaversion")?);
        let origin = Arc::new(self.origin()?);
        let event_type = event_type.into();
        let event = RecordedEvent { id, origin, event_type, schema_version, content_type, data };
        Ok(Commit { aggregate, first_version, source, events: event.into() })
    }

    fn origin(mut self) -> Result<Origin, String> {
        let has_cause = self.0.contains_key("causationid");
        let mut origin = Origin {
            time: self.parse("time")?,
            command_id: self.parse::<CommandId>("commandid")?,
            fingerprint: self.hash("commandhash")?,
            correlation_id: self.parse::<CorrelationId>("correlationid")?,
            causation_id: if has_cause { Some(self.parse::<CausationId>("causationid")?) } else { None },
            metadata: Metadata::default(),
        };
        for (name, value) in self.0 {
            // Attributes that others added under names that metadata cannot have are left alone.
            let _ = origin.metadata.insert(name, value);
        }
        Ok(origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cqrs_core::BINCODE;
    use proptest::{collection::vec, option, prelude::*};
    use uuid::Uuid;

    fn origins() -> impl Strategy<Value = Arc<Origin>> {
        let metadata = vec(("[a-z0-9]{1,20}", any::<String>()), 0..4);
        (any::<[u128; 2]>(), option::of(any::<u128>()), metadata).prop_map(|(ids, causation, metadata)| {
            let mut origin = Origin {
                time: "2026-01-02T03:04:05.678901234Z".parse().expect("a time"),
                command_id: CommandId(Uuid::from_u128(ids[0])),
                fingerprint: u64::try_from(ids[1] >> 64).expect("64 bits"),
                correlation_id: CorrelationId(Uuid::from_u128(ids[1])),
                causation_id: causation.map(|id| CausationId(Uuid::from_u128(id))),
                metadata: Metadata::default(),
            };
            for (name, value) in metadata {
                let _ = origin.metadata.insert(name, value);
            }
            Arc::new(origin)
        })
    }

    fn events() -> impl Strategy<Value = RecordedEvent> {
        let event_type = "[a-z]{1,8}(\\.[a-z_]{1,8})?";
        (any::<u128>(), origins(), event_type, 1_u32..9, any::<(Vec<u8>, bool)>()).prop_map(
            |(id, origin, event_type, schema_version, (data, binary))| RecordedEvent {
                id: EventId(Uuid::from_u128(id)),
                origin,
                event_type: event_type.into(),
                schema_version,
                content_type: if binary { BINCODE } else { JSON }.into(),
                data: if binary { data.into() } else { serde_json::to_vec(&data).expect("JSON").into() },
            },
        )
    }

    fn commits() -> impl Strategy<Value = Commit> {
        (any::<String>(), 1_u64..1_000_000, vec(events(), 1..5)).prop_filter_map(
            "the id is too long",
            |(id, first_version, events)| {
                let aggregate = AggregateKey::new("order", id).ok()?;
                Some(Commit { aggregate, first_version, source: "/shop".into(), events: events.into() })
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(commit in commits()) {
            let (headers, payload) = encode(&commit).unwrap();
            let read = decode(commit.aggregate.clone(), &headers, payload);
            prop_assert_eq!(read, Ok(commit));
        }

        #[test]
        fn no_payload_makes_the_reader_panic(payload in vec(any::<u8>(), 0..200), batch in any::<bool>()) {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, if batch { BATCH } else { JSON });
            let key = AggregateKey::new("order", "1").unwrap();
            prop_assert!(decode(key, &headers, payload.into()).is_err());
        }
    }

    #[test]
    fn data_that_is_not_json_is_in_base64() {
        let event = |content_type: &str, data: &'static [u8]| RecordedEvent {
            id: EventId(Uuid::nil()),
            origin: Arc::new(Origin {
                time: jiff::Timestamp::UNIX_EPOCH,
                command_id: CommandId(Uuid::nil()),
                fingerprint: 0,
                correlation_id: CorrelationId(Uuid::nil()),
                causation_id: None,
                metadata: Metadata::default(),
            }),
            event_type: "order.counted".into(),
            schema_version: 1,
            content_type: content_type.to_owned().into(),
            data: Bytes::from_static(data),
        };
        let aggregate = AggregateKey::new("order", "1").unwrap();
        let events = vec![event(BINCODE, b"\0\xff"), event(JSON, b"7")];
        let commit = Commit {
            aggregate: aggregate.clone(),
            first_version: 1,
            source: "/shop".into(),
            events: events.into(),
        };
        let (headers, payload) = encode(&commit).unwrap();
        let shown: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!((&shown[0]["data_base64"], &shown[0]["data"]), (&"AP8=".into(), &serde_json::Value::Null));
        assert_eq!(shown[0]["datacontenttype"], "application/x-bincode");
        assert_eq!((&shown[1]["data"], &shown[1]["data_base64"]), (&7.into(), &serde_json::Value::Null));
        assert_eq!(decode(aggregate.clone(), &headers, payload), Ok(commit.clone()));

        let text = String::from_utf8(encode(&commit).unwrap().1.to_vec()).unwrap();
        for bad in ["AP8", "AP8=\\n", "A*8="] {
            let payload = text.replace("AP8=", bad);
            let error = decode(aggregate.clone(), &headers, payload.into()).unwrap_err();
            assert!(error.contains("data_base64 is not base64"), "{error}");
        }
    }

    #[test]
    fn a_commit_on_another_aggregates_subject_is_refused() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("specversion", "1.0"),
            ("type", "t"),
            ("schemaversion", "1"),
            ("aggregate", "order"),
            ("subject", "2"),
        ] {
            headers.insert(format!("ce-{name}"), value);
        }
        headers.insert("ce-id", Uuid::nil().to_string());
        let error =
            decode(AggregateKey::new("order", "1").unwrap(), &headers, Bytes::from("{}")).unwrap_err();
        assert_eq!(error, "it is about order/2, but stands where order/1 does");
    }
}
