//! Reads snapshots from any bytes, for the fuzz targets.

use crate::model::{aggregate::Aggregate, snapshot::bytes::frame};

/// Whether the bytes are a snapshot of `A`.
pub fn read_snapshot<A: Aggregate>(bytes: &[u8]) -> bool {
    A::snapshots().is_some_and(|snapshots| snapshots.read(bytes).is_ok())
}

/// Reads a snapshot with these bytes as head and state, and a valid checksum. The first eight bytes are the
/// fingerprint.
pub fn read_framed_snapshot<A: Aggregate>(bytes: &[u8]) -> bool {
    let Some((fingerprint, body)) = bytes.split_first_chunk() else { return false };
    read_snapshot::<A>(&frame(1, u64::from_le_bytes(*fingerprint), body))
}
