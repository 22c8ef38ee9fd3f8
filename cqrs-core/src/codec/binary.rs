//! Events in bincode, which stores values by their place alone and knows nothing of their types.
//!
//! So an event is read back before it is recorded, and recorded only if it is the same then; and what is read may be
//! anything: of limited size, depth and number of values, with nothing left over.

use std::marker::PhantomData;

use bincode::{
    config,
    serde::{encode_to_vec, seed_decode_from_slice},
};
use serde::{Deserializer, de::DeserializeSeed};

use super::Data;
use crate::{Event, EventType, fingerprint, guard::Limited};

/// The largest payload; most servers take no larger messages.
const MAX_BYTES: usize = 1024 * 1024;

/// How many values may be in a payload beside those that its bytes account for: the elements of lists of values that
/// take no bytes, such as `Vec<()>`.
const SPARE_PARTS: usize = 4096;

/// How many values one byte may account for, counting each struct, option and newtype around it.
const PARTS_PER_BYTE: usize = 16;

/// The payload of an event, which is certain to be read back as the same.
pub(crate) fn encode<E: Event>(event: &E) -> Result<Vec<u8>, String> {
    let bytes = encode_to_vec(Data(event), config::standard()).map_err(|error| error.to_string())?;
    let read: E = decode(event.event_type(), &bytes)
        .map_err(|reason| format!("it could not be read back: {reason}"))?;
    let shown = |event: &E| fingerprint::exact(&Data(event), false).map_err(|error| error.to_string());
    if shown(event)? == shown(&read)? {
        Ok(bytes)
    } else {
        Err("it would come back as another event".to_owned())
    }
}

/// Reads a payload.
pub(crate) fn decode<E: Event>(event_type: EventType, bytes: &[u8]) -> Result<E, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("it takes {} bytes, at most {MAX_BYTES} are accepted", bytes.len()));
    }
    let parts = SPARE_PARTS + PARTS_PER_BYTE * bytes.len();
    let seed = Limited { seed: Payload { event_type, event: PhantomData }, parts };
    let config = config::standard().with_limit::<MAX_BYTES>();
    let (event, read) = seed_decode_from_slice(seed, bytes, config).map_err(|error| error.to_string())?;
    match bytes.len() - read {
        0 => Ok(event),
        left => Err(format!("{left} bytes are left over")),
    }
}

struct Payload<E> {
    event_type: EventType,
    event: PhantomData<E>,
}

impl<'de, E: Event> DeserializeSeed<'de> for Payload<E> {
    type Value = E;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<E, D::Error> {
        E::deserialize_data(self.event_type, deserializer)
    }
}
