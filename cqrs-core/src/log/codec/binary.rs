//! Events in bincode, which stores values by position alone and does not store their types.
//!
//! So an event is read back before it is recorded, and recorded only if it is the same; and reading expects any bytes:
//! it limits the size, the depth and the number of values, and allows no bytes after the value.

use bincode::{
    config,
    error::{DecodeError, EncodeError},
    serde::{self, encode_to_vec, seed_decode_from_slice},
};
use bytes::Bytes;

use crate::{
    encoding::{
        fingerprint::shape,
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
    let not_kept = |reason: String, cause| NotKept::NotInBincode(explained(event, reason, cause));
    let bytes = encode_to_vec(Data(event), config::standard()).map_err(|error| {
        let cause = matches!(error, EncodeError::Serde(serde::EncodeError::SequenceMustHaveLength));
        not_kept(format!("bincode cannot write it: {error}"), cause.then_some(OF_UNKNOWN_LENGTH))
    })?;
    let read: E = decode(event.event_type(), &bytes).map_err(|fault| {
        let cause = matches!(fault, Fault::Bincode(DecodeError::Serde(serde::DecodeError::AnyNotSupported)));
        not_kept(format!("bincode cannot read it back: {fault}"), cause.then_some(BY_CONTENT))
    })?;
    difference(event, &read, false).map_err(|error| not_kept(error.to_string(), None))?;
    Ok((bytes.into(), read))
}

/// What writes a map without its number of entries.
const OF_UNKNOWN_LENGTH: &str = "serde's `flatten` writes a map of unknown length";

/// What serde reads by looking at the content.
const BY_CONTENT: &str = "serde reads `untagged`, `tag`, `flatten` and types such as `serde_json::Value` by the kinds of \
                          their values, which bincode does not store";

/// The reason with the attribute of serde that is its cause, if one is, and what helps.
fn explained<E: Event>(event: &E, reason: String, cause: Option<&str>) -> String {
    let left_out = || {
        let field = shape::left_out(&Data(event), false)?;
        Some(format!(
            "serde's `skip_serializing_if` has left out `{field}`, and bincode reads fields by their places"
        ))
    };
    match cause.map(str::to_owned).or_else(left_out) {
        Some(cause) => {
            format!("{reason}; {cause}: remove the attribute or the type, or record these events in JSON")
        }
        None => reason,
    }
}

/// Why a payload cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("it takes {0} bytes, at most {MAX_BYTES} are accepted")]
    TooLarge(usize),
    #[error(transparent)]
    Bincode(DecodeError),
    #[error("{0} bytes are left over")]
    LeftOver(usize),
}

/// Reads a payload.
pub(crate) fn decode<E: Event>(event_type: EventType, bytes: &[u8]) -> Result<E, Fault> {
    if bytes.len() > MAX_BYTES {
        return Err(Fault::TooLarge(bytes.len()));
    }
    let parts = SPARE_PARTS + PARTS_PER_BYTE * bytes.len();
    let seed = Limited { seed: Payload::of(event_type), parts, depth: DEPTH };
    let config = config::standard().with_limit::<MAX_BYTES>();
    let (event, read) = seed_decode_from_slice(seed, bytes, config).map_err(Fault::Bincode)?;
    match bytes.len() - read {
        0 => Ok(event),
        left => Err(Fault::LeftOver(left)),
    }
}
