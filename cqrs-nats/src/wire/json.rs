//! Events in the JSON format of CloudEvents: one, or a batch of several.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use cqrs_core::{AggregateKey, Commit, JSON, RecordedEvent};
use serde_json::value::{RawValue, to_raw_value};

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
    let event = |index| encode_event(commit, index);
    let events: Vec<_> = (0..commit.events.len()).map(event).collect::<Result<_, _>>()?;
    Ok(serde_json::to_vec(&events)?.into())
}

/// The event at `index`. JSON data goes in as it is, so no number in it loses a digit.
fn encode_event(commit: &Commit, index: usize) -> Result<BTreeMap<&str, Box<RawValue>>, serde_json::Error> {
    let RecordedEvent { content_type, data, .. } = &commit.events[index];
    let mut members = BTreeMap::new();
    for (name, value) in attributes(commit, index) {
        members.insert(&name[PREFIX.len()..], to_raw_value(&value)?);
    }
    for (name, value) in commit.events[index].origin.metadata.iter() {
        members.insert(name, to_raw_value(value)?);
    }
    members.insert("datacontenttype", to_raw_value(content_type)?);
    if !is_json(content_type) {
        members.insert("data_base64", to_raw_value(&BASE64_STANDARD.encode(data))?);
    } else if !data.is_empty() {
        members.insert("data", serde_json::from_slice(data)?);
    }
    Ok(members)
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
    let mut attributes: HashMap<_, _> =
        members.into_iter().map(|(name, value)| (name, text(&value))).collect();
    let content_type = attributes.remove("datacontenttype").map_or(JSON.into(), known);
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
    Attributes(attributes).commit(aggregate.clone(), content_type, data)
}

/// Lets the events of one command share what led to them, as they did when they were written.
fn share_origins(events: &mut [RecordedEvent]) {
    for index in 1..events.len() {
        if events[index].origin == events[index - 1].origin {
            events[index].origin = Arc::clone(&events[index - 1].origin);
        }
    }
}
