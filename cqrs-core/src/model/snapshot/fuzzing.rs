//! Reading snapshots from any bytes, for the fuzz targets.

use crate::model::{aggregate::Aggregate, snapshot::bytes::frame};

/// Reads a snapshot of `A`; whether it is one.
pub fn read_snapshot<A: Aggregate>(bytes: &[u8]) -> bool {
    A::snapshots().is_some_and(|snapshots| snapshots.read(bytes).is_ok())
}

/// Reads a snapshot whose head and state are these bytes, under a checksum that fits; the first of them are the
/// fingerprint.
pub fn read_framed_snapshot<A: Aggregate>(bytes: &[u8]) -> bool {
    let Some((fingerprint, body)) = bytes.split_first_chunk() else { return false };
    read_snapshot::<A>(&frame(1, u64::from_le_bytes(*fingerprint), body))
}
