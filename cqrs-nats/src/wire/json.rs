//! Events in the JSON format of CloudEvents: one, or a batch of several.

use std::{collections::HashMap, sync::Arc};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use cqrs_core::{AggregateKey, Commit, JSON, RecordedEvent};
use serde::{
    Serialize, Serializer,
    ser::{Error as _, SerializeMap as _},
};
use serde_json::value::RawValue;

use super::{
    attributes::{Attributes, PREFIX, attributes},
    is_json, known,
};

/// The content type of several events.
pub(super) const BATCH: &str = "application/cloudevents-batch+json";

/// The content type of one event.
pub(super) const EVENT: &str = "application/cloudevents+json";

/// The members of one event.
type Members = HashMap<String, Box<RawValue>>;

pub(super) fn encode_batch(commit: &Commit) -> Result<Bytes, serde_json::Error> {
    let events: Vec<_> = (0..commit.events.len()).map(|index| Written { commit, index }).collect();
    Ok(serde_json::to_vec(&events)?.into())
}

/// The event at `index` as it is written.
struct Written<'a> {
    commit: &'a Commit,
    index: usize,
}

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let RecordedEvent { content_type, data, origin, .. } = &self.commit.events[self.index];
        let mut members = serializer.serialize_map(None)?;
        for (name, value) in attributes(self.commit, self.index) {
            members.serialize_entry(&name[PREFIX.len()..], &value)?;
        }
        for (name, value) in origin.metadata.iter() {
            members.serialize_entry(name, value)?;
        }
        members.serialize_entry("datacontenttype", content_type)?;
        if !is_json(content_type) {
            members.serialize_entry("data_base64", &BASE64_STANDARD.encode(data))?;
        } else if !data.is_empty() {
            // It goes in as it is, so no number in it loses a digit.
            let data: &RawValue = serde_json::from_slice(data).map_err(S::Error::custom)?;
            members.serialize_entry("data", data)?;
        }
        members.end()
    }
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
            Some(all) if all.last_version() + 1 == next.first_version => all.events.extend(next.events),
            Some(_) => return Err("its events do not follow one another".to_owned()),
        }
    }
    let mut all = all.ok_or_else(|| "it has no events".to_owned())?;
    share_origins(&mut all.events);
    Ok(all)
}

/// The commit that holds one event.
fn commit(aggregate: &AggregateKey, mut members: Members) -> Result<Commit, String> {
    // A member that is null is one that is not there; only data can be null.
    let data = (members.remove("data"), members.remove("data_base64"));
    members.retain(|_, value| value.get() != "null");
    let text =
        |value: &RawValue| serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned());
    let mut attributes = Attributes::default();
    for (name, value) in members {
        attributes.add(&name, text(&value).into());
    }
    let content_type = attributes.content_type.take().map_or(JSON.into(), known);
    let data = match data {
        (None, None) => Bytes::new(),
        // Text that is not JSON stands in a string.
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

/// Lets the events of one command share what led to them, as they did when they were written.
fn share_origins(events: &mut [RecordedEvent]) {
    for index in 1..events.len() {
        if events[index].origin == events[index - 1].origin {
            events[index].origin = Arc::clone(&events[index - 1].origin);
        }
    }
}
