//! Events as bytes and back.

use std::{marker::PhantomData, sync::Arc};

use bytes::Bytes;
use serde::{Deserializer, Serialize, Serializer, de::DeserializeSeed};
use uuid::Uuid;

use crate::{
    base::{
        content_type::{BINCODE, is_json, media_type},
        error::Error,
        id::{AggregateKey, EventId, Position},
        store_error::StoreError,
    },
    encoding::{
        fingerprint::{self, shape::Difference},
        json,
    },
    log::{
        commit::{Origin, RecordedEvent, StoredCommit},
        envelope::Envelope,
    },
    model::event::{Codec, Event, EventType},
};

#[cfg(feature = "bincode")]
pub(crate) mod binary;
#[cfg(test)]
pub(crate) mod tests;

/// The payload of an event as a value.
pub(crate) struct Data<'a, E>(pub(crate) &'a E);

impl<E: Event> Serialize for Data<'_, E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize_data(serializer)
    }
}

/// The seed to read a payload with.
struct Payload<E> {
    event_type: EventType,
    event: PhantomData<E>,
}

impl<E: Event> Payload<E> {
    fn of(event_type: EventType) -> Self {
        Self { event_type, event: PhantomData }
    }
}

impl<'de, E: Event> DeserializeSeed<'de> for Payload<E> {
    type Value = E;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<E, D::Error> {
        E::deserialize_data(self.event_type, deserializer)
    }
}

/// Encodes one event of `aggregate` under a new id. Replaces the event with the one that is read back, which is equal
/// in all that serde shows.
pub(crate) fn encode<E: Event>(
    event: &mut E,
    id: Uuid,
    aggregate: &AggregateKey,
    origin: &Arc<Origin>,
) -> Result<RecordedEvent, Error> {
    let event_type = event.event_type();
    Ok(RecordedEvent {
        id: EventId(id),
        origin: Arc::clone(origin),
        event_type: event_type.name.into(),
        schema_version: event_type.version,
        content_type: E::CODEC.content_type().into(),
        data: encode_data(event, aggregate)?,
    })
}

fn encode_data<E: Event>(event: &mut E, aggregate: &AggregateKey) -> Result<Bytes, Error> {
    if E::CODEC == Codec::Json
        && event.is_plain()
        && let Ok(data) = json::encode(&Data(event))
    {
        return Ok(data);
    }
    let event_type = event.event_type();
    let (data, read) = written_and_read(event).map_err(|error| Error::Unrecordable {
        aggregate: aggregate.clone(),
        event_type: event_type.name,
        reason: error.to_string(),
    })?;
    // Data that serde does not show are lost; so the state is folded without them now, as it will be after a load.
    *event = read;
    Ok(data)
}

/// The payload of an event, and the event that is read back from it, which is equal in all that serde shows.
pub(crate) fn written_and_read<E: Event>(event: &E) -> Result<(Bytes, E), json::NotKept> {
    match E::CODEC {
        Codec::Json => {
            let seed = Payload::of(event.event_type());
            json::written_and_read(&Data(event), seed, |read| difference(event, read, true))
        }
        #[cfg(feature = "bincode")]
        Codec::Bincode => binary::encode(event),
    }
}

/// The difference between an event and the one that was read back from its payload.
fn difference<E: Event>(written: &E, read: &E, readable: bool) -> Result<(), Difference> {
    if read.event_type() == written.event_type() {
        fingerprint::difference(&Data(written), &Data(read), readable)
    } else {
        Err(Difference::Other(None))
    }
}

/// Decodes one event of a stored commit.
pub(crate) fn decode<E: Event>(stored: &StoredCommit, index: usize) -> Result<E, StoreError> {
    decode_event::<E>(stored, index).map(|(_, event)| event)
}

/// Decodes one event of a stored commit, with its envelope.
pub(crate) fn decode_envelope<E: Event>(
    stored: &StoredCommit,
    index: usize,
) -> Result<Envelope<E>, StoreError> {
    let (event_type, data) = decode_event::<E>(stored, index)?;
    let commit = &stored.commit;
    let origin = &commit.events[index].origin;
    Ok(Envelope {
        id: commit.events[index].id,
        stored_type: event_type,
        source: Arc::clone(&commit.source),
        aggregate: commit.aggregate.clone(),
        version: commit.version_of(index),
        position: Position { sequence: stored.sequence, index: u32::try_from(index).unwrap_or(u32::MAX) },
        time: origin.time,
        command_id: origin.command_id,
        correlation_id: origin.correlation_id,
        causation_id: origin.causation_id,
        metadata: origin.metadata.clone(),
        data,
    })
}

fn decode_event<E: Event>(stored: &StoredCommit, index: usize) -> Result<(EventType, E), StoreError> {
    let event_type = event_type::<E>(stored, index)?;
    let recorded = &stored.commit.events[index];
    let decoded = decode_data(event_type, &recorded.content_type, &recorded.data);
    let event = decoded.map_err(|reason| StoreError::Undecodable {
        aggregate: stored.commit.aggregate.clone(),
        sequence: stored.sequence,
        event_type: recorded.event_type.to_string(),
        reason,
    })?;
    Ok((event_type, event))
}

/// The stored type of an event, if `E` reads it.
fn event_type<E: Event>(stored: &StoredCommit, index: usize) -> Result<EventType, StoreError> {
    let recorded = &stored.commit.events[index];
    let mut versions = Vec::new();
    for known in E::TYPES.iter().filter(|known| known.name == recorded.event_type) {
        if known.version == recorded.schema_version {
            return Ok(*known);
        }
        versions.push(known.version);
    }
    let (aggregate, sequence) = (stored.commit.aggregate.clone(), stored.sequence);
    let event_type = recorded.event_type.to_string();
    if versions.is_empty() {
        let mut known: Vec<_> = E::TYPES.iter().map(|known| known.name).collect();
        known.dedup();
        return Err(StoreError::UnknownEvent { aggregate, sequence, event_type, known });
    }
    versions.sort_unstable();
    let version = recorded.schema_version;
    Err(StoreError::UnknownVersion { aggregate, sequence, event_type, version, known: versions })
}

/// Decodes a payload by its content type; the whole input must be one value.
pub(crate) fn decode_data<E: Event>(
    event_type: EventType,
    content_type: &str,
    data: &[u8],
) -> Result<E, String> {
    if is_json(content_type) {
        return decode_json(event_type, data).map_err(|error| error.to_string());
    }
    match &*media_type(content_type) {
        #[cfg(feature = "bincode")]
        BINCODE => binary::decode(event_type, data).map_err(|fault| fault.to_string()),
        #[cfg(not(feature = "bincode"))]
        BINCODE => Err("it is in bincode, which needs the feature `bincode`".to_owned()),
        _ => Err(format!("its content type {content_type:?} is none that this program reads")),
    }
}

fn decode_json<E: Event>(event_type: EventType, data: &[u8]) -> serde_json::Result<E> {
    json::decode_seed(Payload::of(event_type), data)
}
