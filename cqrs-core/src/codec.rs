//! Events as bytes and back.

use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;
use uuid::Uuid;

use crate::{
    Command, Envelope, Event, EventId, EventType, Position, StoreError, StoredCommit,
    commit::{JSON, Origin, RecordedEvent},
};

/// Encodes one event under a new id.
pub(crate) fn encode<E: Event>(
    event: &E,
    id: Uuid,
    origin: &Arc<Origin>,
) -> Result<RecordedEvent, serde_json::Error> {
    let event_type = event.event_type();
    // Of a size that most payloads stay below, so that the payload itself is the one allocation.
    let mut data = SmallVec::<[u8; 512]>::new();
    event.serialize_data(&mut serde_json::Serializer::new(&mut data))?;
    Ok(RecordedEvent {
        id: EventId(id),
        origin: Arc::clone(origin),
        event_type: event_type.name.into(),
        schema_version: event_type.version,
        content_type: JSON.into(),
        data: Bytes::copy_from_slice(&data),
    })
}

/// Decodes one event of a stored commit.
pub(crate) fn decode<E: Event>(stored: &StoredCommit, index: usize) -> Result<E, StoreError> {
    decode_event::<E>(stored, index).map(|(_, event)| event)
}

/// Decodes one event of a stored commit, with all that is known about it.
pub(crate) fn decode_envelope<E: Event>(
    stored: &StoredCommit,
    index: usize,
) -> Result<Envelope<E>, StoreError> {
    let (event_type, data) = decode_event::<E>(stored, index)?;
    let commit = &stored.commit;
    let origin = &commit.events[index].origin;
    Ok(Envelope {
        id: commit.events[index].id,
        event_type,
        source: Arc::clone(&commit.source),
        aggregate: commit.aggregate.clone(),
        version: commit.first_version + index as u64,
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
    let recorded = &stored.commit.events[index];
    let undecodable = |reason: String| StoreError::Undecodable {
        aggregate: stored.commit.aggregate.clone(),
        sequence: stored.sequence,
        event_type: recorded.event_type.to_string(),
        reason,
    };
    let known = E::TYPES.iter().find(|known| known.name == recorded.event_type);
    let known = *known.ok_or_else(|| undecodable("this program knows no event of that name".into()))?;
    if known.version != recorded.schema_version {
        return Err(undecodable(format!(
            "it was stored in version {}, and this program reads version {}",
            recorded.schema_version, known.version
        )));
    }
    if recorded.content_type != JSON {
        return Err(undecodable(format!("content type {:?} is not {JSON:?}", recorded.content_type)));
    }
    let mut json = serde_json::Deserializer::from_slice(&recorded.data);
    let event = E::deserialize_data(known, &mut json)
        .and_then(|event| json.end().map(|()| event))
        .map_err(|error| undecodable(error.to_string()))?;
    Ok((known, event))
}

/// Encodes a view's document.
pub(crate) fn to_json<T: serde::Serialize>(value: &T) -> Result<Bytes, serde_json::Error> {
    let mut out = Vec::with_capacity(128);
    value.serialize(&mut serde_json::Serializer::new(&mut out))?;
    Ok(out.into())
}

/// Decodes a view's document or a query off a wire; the whole input must be one value.
pub(crate) fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = T::deserialize(&mut json)?;
    json.end()?;
    Ok(value)
}

/// Decodes the fields of the command called `name`; the whole input must be one value.
pub(crate) fn command_from_json<C: Command>(name: &str, fields: &[u8]) -> Result<C, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(fields);
    let command = C::deserialize_fields(name, &mut json)?;
    json.end()?;
    Ok(command)
}
