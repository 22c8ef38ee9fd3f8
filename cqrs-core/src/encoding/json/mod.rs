//! JSON that is checked to be read back as the same value, and that is read within limits.
//!
//! `serde_json` writes NaN and the infinities as `null`, and nests without a limit when it writes; when it reads, it
//! refuses more than 127 levels. serde's attributes may differ between the two directions. So a value is read back
//! before it is stored.

mod place;

use std::{cell::Cell, marker::PhantomData};

use bytes::Bytes;
use serde::{
    Serialize,
    de::{DeserializeOwned, DeserializeSeed},
};

use crate::encoding::{
    fingerprint::{self, shape::Difference},
    json::place::{end_of, field_at},
    limits::Limited,
};

/// The largest buffer that a thread keeps, in bytes: most values are far smaller.
const LARGEST_BUFFER: usize = 64 * 1024;

/// The limit of nested types in a value, counting each option, newtype, list, map, struct and enum: three for each of
/// the 127 brackets that `serde_json` reads within each other.
const DEPTH: usize = 3 * 128;

/// Why a value cannot be stored as JSON, or in another encoding.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotKept {
    /// serde cannot write it, such as a map whose keys are not text.
    #[error("it has no JSON: {reason}{}", in_field(.field.as_deref()))]
    Unwritable {
        /// serde's error.
        reason: String,
        /// The field.
        field: Option<String>,
    },
    /// serde cannot read what it wrote.
    #[error("it could not be read back: {reason}{}{}", in_field(.field.as_deref()), no_number(reason))]
    Unreadable {
        /// serde's error.
        reason: String,
        /// The field.
        field: Option<String>,
    },
    /// serde reads another value than it wrote.
    #[error(transparent)]
    Different(#[from] Difference),
    /// bincode does not keep it.
    #[cfg(feature = "bincode")]
    #[error("{0}")]
    NotInBincode(String),
}

fn in_field(field: Option<&str>) -> String {
    field.map(|field| format!(" in field `{field}`")).unwrap_or_default()
}

/// The advice for a number that has become `null`.
fn no_number(reason: &str) -> &'static str {
    if reason.starts_with("invalid type: null, expected f") {
        ", and JSON has neither NaN nor infinite numbers"
    } else {
        ""
    }
}

impl NotKept {
    fn unwritable(error: &serde_json::Error, written: &[u8]) -> Self {
        Self::Unwritable { reason: error.to_string(), field: field_at(written, written.len()) }
    }

    fn unreadable(error: &serde_json::Error, json: &[u8]) -> Self {
        let mut reason = error.to_string();
        // The operator does not see the bytes, so the path of the field says more than a column.
        let at = reason.rfind(" at line ").unwrap_or(reason.len());
        reason.truncate(at);
        Self::Unreadable { reason, field: field_at(json, end_of(error, json)) }
    }
}

/// Encodes a value, and checks that it is read back as the same.
///
/// # Errors
///
/// [`NotKept`], when the value has no JSON, or its JSON is read as another value or not at all.
pub(crate) fn encode_checked<T: Serialize + DeserializeOwned>(value: &T) -> Result<Bytes, NotKept> {
    written_and_read(value, PhantomData::<T>, |read| fingerprint::difference(value, read, true))
        .map(|(json, _)| json)
}

/// Writes a value and reads it with `seed`; `compare` returns the difference of the two.
pub(crate) fn written_and_read<'a, T: Serialize, S: for<'de> DeserializeSeed<'de, Value = R>, R>(
    value: &'a T,
    seed: S,
    compare: impl FnOnce(&R) -> Result<(), Difference> + 'a,
) -> Result<(Bytes, R), NotKept> {
    let json = write(value).map_err(|(error, written)| NotKept::unwritable(&error, &written))?;
    let read = decode_seed(seed, &json).map_err(|error| NotKept::unreadable(&error, &json))?;
    compare(&read)?;
    Ok((json, read))
}

/// Encodes a value that this program need not read back.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Bytes, serde_json::Error> {
    write(value).map_err(|(error, _)| error)
}

/// The JSON of a value; or the error, and what was written before it.
fn write<T: Serialize>(value: &T) -> Result<Bytes, (serde_json::Error, Vec<u8>)> {
    thread_local! {
        static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    // A value whose serialization writes another value finds an empty buffer.
    let mut buffer = BUFFER.take();
    buffer.clear();
    if let Err(error) = value.serialize(&mut serde_json::Serializer::new(&mut buffer)) {
        return Err((error, buffer));
    }
    // The only allocation is that of the bytes.
    let result = Bytes::copy_from_slice(&buffer);
    if buffer.capacity() <= LARGEST_BUFFER {
        BUFFER.set(buffer);
    }
    Ok(result)
}

/// Decodes a value; the whole input must be one value.
pub(crate) fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T, serde_json::Error> {
    decode_seed(PhantomData, json)
}

/// Reads one value and nothing else, within the limits. All JSON for types of users is read here.
pub(crate) fn decode_seed<'de, S: DeserializeSeed<'de>>(
    seed: S,
    json: &'de [u8],
) -> serde_json::Result<S::Value> {
    let mut json = serde_json::Deserializer::from_slice(json);
    // No limit of parts is necessary: each part takes at least a byte, or a level.
    let value = Limited { seed, parts: usize::MAX, depth: DEPTH }.deserialize(&mut json)?;
    json.end()?;
    Ok(value)
}
