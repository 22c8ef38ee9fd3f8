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
//! | `content-type` | `application/json` |
//! | `ce-aggregate` | the aggregate type's name |
//! | `ce-aggregateversion` | the event's place among the aggregate's events, from 1 |
//! | `ce-schemaversion` | the version of the data's shape |
//! | `ce-commandid` | the command's UUID |
//! | `ce-correlationid` | the business transaction's UUID |
//! | `ce-causationid` | the UUID of the message that caused the command; absent if none did |
//! | `ce-…` | metadata |
//!
//! **Several events** are the CloudEvents JSON batch: the payload is an array of CloudEvents with the same
//! attributes as members, and `content-type` is `application/cloudevents-batch+json`.
//!
//! `Nats-Msg-Id` is `<aggregate>.<encoded id>.<command id>`, and every commit is published with
//! `Nats-Expected-Last-Subject-Sequence`.

use std::collections::HashMap;

use async_nats::HeaderMap;
use bytes::Bytes;
use cqrs_core::{
    AggregateKey, CausationId, CommandId, Commit, CorrelationId, EventId, JSON, Metadata, RecordedEvent,
};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde_json::value::RawValue;

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
    if let [event] = commit.events.as_slice() {
        for (name, value) in attributes(commit, 0) {
            let value = utf8_percent_encode(&value, ENCODED).to_string();
            headers.insert(format!("{PREFIX}{name}"), value);
        }
        headers.insert(CONTENT_TYPE, event.content_type.as_str());
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
    let mut attributes = vec![
        ("specversion", "1.0".to_owned()),
        ("id", event.id.to_string()),
        ("source", commit.source.clone()),
        ("type", event.event_type.clone()),
        ("subject", commit.aggregate.id().to_owned()),
        ("time", commit.time.to_string()),
        ("aggregate", commit.aggregate.name().to_owned()),
        ("aggregateversion", (commit.first_version + index as u64).to_string()),
        ("schemaversion", event.schema_version.to_string()),
        ("commandid", commit.command_id.to_string()),
        ("correlationid", commit.correlation_id.to_string()),
    ];
    if let Some(causation) = commit.causation_id {
        attributes.push(("causationid", causation.to_string()));
    }
    attributes.extend(commit.metadata.iter().map(|(name, value)| (name, value.to_owned())));
    attributes
}

fn json_event(
    commit: &Commit,
    index: usize,
) -> Result<serde_json::Map<String, serde_json::Value>, serde_json::Error> {
    let event = &commit.events[index];
    let mut members: serde_json::Map<_, _> =
        attributes(commit, index).into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    members.insert("datacontenttype".to_owned(), event.content_type.clone().into());
    members.insert("data".to_owned(), serde_json::from_slice(&event.data)?);
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
    let content_type = if content_type.is_empty() { JSON } else { content_type }.to_owned();
    let mut reader = Attributes(attributes);
    let event = reader.event(content_type, payload)?;
    reader.commit(aggregate, vec![event])
}

fn decode_batch(aggregate: &AggregateKey, payload: &[u8]) -> Result<Commit, String> {
    let events: Vec<HashMap<String, Box<RawValue>>> =
        serde_json::from_slice(payload).map_err(|error| format!("not a batch of CloudEvents: {error}"))?;
    let mut commit: Option<Commit> = None;
    for mut members in events {
        let data = members.remove("data").ok_or("an event has no data")?;
        let data = Bytes::copy_from_slice(data.get().as_bytes());
        let mut reader = Attributes(HashMap::with_capacity(members.len()));
        for (name, value) in members {
            let text = serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned());
            reader.0.insert(name, text);
        }
        let content_type = reader.0.remove("datacontenttype").unwrap_or_else(|| JSON.to_owned());
        let event = reader.event(content_type, data)?;
        let next = reader.commit(aggregate.clone(), vec![event])?;
        match &mut commit {
            None => commit = Some(next),
            Some(commit)
                if commit.last_version() + 1 == next.first_version
                    && commit.command_id == next.command_id =>
            {
                commit.events.extend(next.events);
            }
            Some(_) => return Err("its events are not those of one command, in order".to_owned()),
        }
    }
    commit.ok_or_else(|| "it has no events".to_owned())
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

    fn event(&mut self, content_type: String, data: Bytes) -> Result<RecordedEvent, String> {
        let specversion = self.take("specversion")?;
        if specversion != "1.0" {
            return Err(format!("CloudEvents {specversion:?} is not 1.0"));
        }
        Ok(RecordedEvent {
            id: self.parse::<EventId>("id")?,
            event_type: self.take("type")?,
            schema_version: self.parse("schemaversion")?,
            content_type,
            data,
        })
    }

    fn commit(mut self, aggregate: AggregateKey, events: Vec<RecordedEvent>) -> Result<Commit, String> {
        let (name, id) = (self.take("aggregate")?, self.take("subject")?);
        if name != aggregate.name() || id != aggregate.id() {
            return Err(format!("it is about {name}/{id}, but stands where {aggregate} does"));
        }
        let has_cause = self.0.contains_key("causationid");
        let causation_id = if has_cause { Some(self.parse::<CausationId>("causationid")?) } else { None };
        let mut commit = Commit {
            aggregate,
            first_version: self.parse("aggregateversion")?,
            source: self.take("source")?,
            time: self.parse("time")?,
            command_id: self.parse::<CommandId>("commandid")?,
            correlation_id: self.parse::<CorrelationId>("correlationid")?,
            causation_id,
            metadata: Metadata::default(),
            events,
        };
        for (name, value) in self.0 {
            // Attributes that others added under names that metadata cannot have are left alone.
            let _ = commit.metadata.insert(name, value);
        }
        Ok(commit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, option, prelude::*};
    use uuid::Uuid;

    fn commits() -> impl Strategy<Value = Commit> {
        let event = (any::<u128>(), "[a-z]{1,8}(\\.[a-z_]{1,8})?", 1_u32..9, any::<String>());
        let metadata = vec(("[a-z0-9]{1,20}", any::<String>()), 0..4);
        (
            any::<String>(),
            1_u64..1_000_000,
            any::<[u128; 2]>(),
            option::of(any::<u128>()),
            metadata,
            vec(event, 1..5),
        )
            .prop_filter_map(
                "the id is too long",
                |(id, first_version, ids, causation, metadata, events)| {
                    let mut commit = Commit {
                        aggregate: AggregateKey::new("order", id).ok()?,
                        first_version,
                        source: "/shop".into(),
                        time: "2026-01-02T03:04:05.678901234Z".parse().ok()?,
                        command_id: CommandId(Uuid::from_u128(ids[0])),
                        correlation_id: CorrelationId(Uuid::from_u128(ids[1])),
                        causation_id: causation.map(|id| CausationId(Uuid::from_u128(id))),
                        metadata: Metadata::default(),
                        events: Vec::new(),
                    };
                    for (name, value) in metadata {
                        let _ = commit.metadata.insert(name, value);
                    }
                    commit.events = events
                        .into_iter()
                        .map(|(id, event_type, schema_version, data)| RecordedEvent {
                            id: EventId(Uuid::from_u128(id)),
                            event_type,
                            schema_version,
                            content_type: JSON.into(),
                            data: serde_json::to_vec(&data).expect("a string is JSON").into(),
                        })
                        .collect();
                    Some(commit)
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
