//! Events in bincode, which stores values by position alone and does not store their types.
//!
//! So an event is read back before it is recorded, and recorded only if it is the same; and reading expects any bytes:
//! it limits the size, the depth and the number of values, and allows no bytes after the value.

use bincode::{
    config,
    serde::{encode_to_vec, seed_decode_from_slice},
};
use bytes::Bytes;

use crate::{
    encoding::{
        json::NotKept,
        limits::{DEPTH, Limited},
    },
    log::codec::{Data, Payload, difference},
    model::event::{Event, EventType},
};

/// The largest payload; most servers accept no larger messages.
const MAX_BYTES: usize = 1024 * 1024;

/// How many values a payload may have beyond those that its bytes account for: the elements of lists whose values take
/// no bytes, such as `Vec<()>`.
const SPARE_PARTS: usize = 4096;

/// How many values one byte may account for, counting each struct, option and newtype around it.
const PARTS_PER_BYTE: usize = 16;

/// The payload of an event, and the equal event that is read back from it.
pub(crate) fn encode<E: Event>(event: &E) -> Result<(Bytes, E), NotKept> {
    let reason = |error: bincode::error::EncodeError| error.to_string();
    let bytes = encode_to_vec(Data(event), config::standard())
        .map_err(|error| NotKept::Unwritable { reason: reason(error), field: None })?;
    let read: E =
        decode(event.event_type(), &bytes).map_err(|reason| NotKept::Unreadable { reason, field: None })?;
    difference(event, &read, false)?;
    Ok((bytes.into(), read))
}

/// Reads a payload.
pub(crate) fn decode<E: Event>(event_type: EventType, bytes: &[u8]) -> Result<E, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("it takes {} bytes, at most {MAX_BYTES} are accepted", bytes.len()));
    }
    let parts = SPARE_PARTS + PARTS_PER_BYTE * bytes.len();
    let seed = Limited { seed: Payload::of(event_type), parts, depth: DEPTH };
    let config = config::standard().with_limit::<MAX_BYTES>();
    let (event, read) = seed_decode_from_slice(seed, bytes, config).map_err(|error| error.to_string())?;
    match bytes.len() - read {
        0 => Ok(event),
        left => Err(format!("{left} bytes are left over")),
    }
}
