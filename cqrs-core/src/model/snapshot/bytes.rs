//! The encoding of a snapshot.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | the format of what follows, [`FORMAT`] |
//! | 1 | the codec of the head and the state |
//! | 8 | a checksum of all that follows (XXH3, little-endian as all numbers here) |
//! | 4 | the version of what the state means, as the aggregate says |
//! | 8 | the fingerprint of the state |
//! | the rest | the head, then the state |

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    base::id::{EventId, Position},
    encoding::fingerprint,
    model::snapshot::{
        body,
        fault::{MAX_BYTES, ReadFault, WriteFault},
        remembered::Remembered,
    },
};

const FORMAT: u8 = 2;

/// The offset of the part under the checksum.
const CHECKED: usize = 10;

/// The offset of the head and the state.
const BODY: usize = 22;

/// The fields of a snapshot beside the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// The number of the aggregate's events.
    pub(crate) version: u64,
    /// The position of the last event.
    pub(crate) position: Position,
    /// The id of the last event. It shows whether the log is the one that the snapshot was made of.
    pub(crate) last_event: EventId,
    pub(crate) remembered: Remembered,
}

/// The content of a snapshot, if it is intact and of this program's version of the state.
pub(crate) type Found<A> = Result<(Head, A), ReadFault>;

/// The bytes of a snapshot. It is checked that they are read back as the same state.
pub(crate) fn write<A: Serialize + DeserializeOwned>(
    version: u32,
    head: &Head,
    state: &A,
) -> Result<Vec<u8>, WriteFault> {
    let body = body::write(&(head, state), MAX_BYTES - BODY)?;
    let fingerprint = fingerprint::exact(state, body::READABLE);
    let fingerprint = fingerprint.map_err(|error| WriteFault::Refused(error.to_string()))?;
    let bytes = frame(version, fingerprint, &body);
    read::<A>(version, &bytes).map_err(WriteFault::Unfaithful)?;
    Ok(bytes)
}

pub(crate) fn frame(version: u32, fingerprint: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BODY + body.len());
    bytes.extend([FORMAT, body::CODEC]);
    bytes.extend([0; 8]);
    bytes.extend(version.to_le_bytes());
    bytes.extend(fingerprint.to_le_bytes());
    bytes.extend(body);
    let checksum = xxh3_64(&bytes[CHECKED..]);
    bytes[2..CHECKED].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The head and the state in a snapshot's bytes.
pub(crate) fn read<A: Serialize + DeserializeOwned>(version: u32, bytes: &[u8]) -> Found<A> {
    let (start, body) = bytes.split_at_checked(BODY).ok_or(ReadFault::Damaged)?;
    if start[..2] != [FORMAT, body::CODEC] {
        return Err(ReadFault::Format);
    }
    if bytes.len() > MAX_BYTES || u64::from_le_bytes(part(start, 2)) != xxh3_64(&bytes[CHECKED..]) {
        return Err(ReadFault::Damaged);
    }
    let found = u32::from_le_bytes(part(start, CHECKED));
    if found != version {
        return Err(ReadFault::Version { wanted: version, found });
    }
    let expected = u64::from_le_bytes(part(start, 14));
    // The user's `Deserialize` may meet bytes that its `Serialize` never wrote: a panic of it must not end a command.
    let read = catch_unwind(AssertUnwindSafe(|| {
        let (head, state): (Head, A) = body::read(body)?;
        let is_same = fingerprint::exact(&state, body::READABLE).is_ok_and(|found| found == expected);
        if is_same { Ok((head, state)) } else { Err(ReadFault::Shape) }
    }));
    read.unwrap_or_else(|_| Err(ReadFault::Undecodable("its `Deserialize` panicked".to_owned())))
}

/// The `N` bytes at `from`; the caller has checked that they are there.
fn part<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[from..from + N]);
    part
}
