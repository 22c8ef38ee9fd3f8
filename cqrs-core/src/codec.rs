//! Events as bytes and back.

#[cfg(feature = "bincode")]
pub(crate) mod binary;
#[cfg(test)]
mod tests;

use std::{
    cell::Cell,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use memchr::memmem::Finder;
use serde::{Serialize, Serializer, de::DeserializeOwned};
use uuid::Uuid;

#[cfg(feature = "bincode")]
use crate::BINCODE;
use crate::{
    AggregateKey, Command, Envelope, Error, Event, EventId, EventType, Position, StoreError, StoredCommit,
    commit::{JSON, Origin, RecordedEvent},
};

/// How events are encoded when they are recorded: see [`Event::CODEC`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Codec {
    /// As JSON, which every reader of the log understands, and which may get more fields.
    #[default]
    Json,
    /// As bincode: smaller and faster, readable by this program alone, and of a shape that never changes within a
    /// version. See [what it is not for](crate::events_that_live_for_years#bincode).
    #[cfg(feature = "bincode")]
    Bincode,
}

impl Codec {
    /// The content type by which what it wrote is recognised.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => JSON,
            #[cfg(feature = "bincode")]
            Self::Bincode => BINCODE,
        }
    }
}

/// The largest buffer that a thread keeps, in bytes: most values are far smaller.
const LARGEST_BUFFER: usize = 64 * 1024;

/// The payload of an event as a value.
pub(crate) struct Data<'a, E>(pub(crate) &'a E);

impl<E: Event> Serialize for Data<'_, E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize_data(serializer)
    }
}

/// Encodes one event of `aggregate` under a new id.
pub(crate) fn encode<E: Event>(
    event: &E,
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

fn encode_data<E: Event>(event: &E, aggregate: &AggregateKey) -> Result<Bytes, Error> {
    let unrecordable = |reason| Error::Unrecordable {
        aggregate: aggregate.clone(),
        event_type: event.event_type().name,
        reason,
    };
    match E::CODEC {
        Codec::Json => {
            let data = to_json(&Data(event))
                .map_err(|source| Error::Encode { what: format!("an event of {aggregate}"), source })?;
            if is_doubtful(&data)
                && let Err(error) = decode_json::<E>(event.event_type(), &data)
            {
                return Err(unrecordable(format!("it could not be read back: {error}")));
            }
            Ok(data)
        }
        #[cfg(feature = "bincode")]
        Codec::Bincode => binary::encode(event).map(Into::into).map_err(unrecordable),
    }
}

/// Whether JSON may be what serde writes and does not read: a number that is none becomes `null`, and values may be
/// nested without end, of which 127 levels are read.
fn is_doubtful(json: &[u8]) -> bool {
    static NULL: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(b"null"));
    NULL.find(json).is_some() || json.len() > 2 * LEVELS && opening(json) > LEVELS
}

/// How deep JSON may be nested for serde to read it.
const LEVELS: usize = 127;

fn opening(json: &[u8]) -> usize {
    json.iter().filter(|byte| matches!(byte, b'[' | b'{')).count()
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

/// Decodes a payload as its content type says; all of it must be one value.
pub(crate) fn decode_data<E: Event>(
    event_type: EventType,
    content_type: &str,
    data: &[u8],
) -> Result<E, String> {
    match content_type {
        JSON => decode_json(event_type, data).map_err(|error| error.to_string()),
        #[cfg(feature = "bincode")]
        BINCODE => binary::decode(event_type, data),
        #[cfg(not(feature = "bincode"))]
        crate::BINCODE => Err("it is in bincode, which needs the feature `bincode`".to_owned()),
        other => Err(format!("its content type {other:?} is none that this program reads")),
    }
}

fn decode_json<E: Event>(event_type: EventType, data: &[u8]) -> serde_json::Result<E> {
    let mut json = serde_json::Deserializer::from_slice(data);
    let event = E::deserialize_data(event_type, &mut json)?;
    json.end()?;
    Ok(event)
}

/// Encodes a view's document.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<Bytes, serde_json::Error> {
    thread_local! {
        static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    // A value that writes another one while it is written finds an empty buffer.
    let mut buffer = BUFFER.take();
    buffer.clear();
    value.serialize(&mut serde_json::Serializer::new(&mut buffer))?;
    // The bytes themselves are the one allocation.
    let result = Bytes::copy_from_slice(&buffer);
    if buffer.capacity() <= LARGEST_BUFFER {
        BUFFER.set(buffer);
    }
    Ok(result)
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
