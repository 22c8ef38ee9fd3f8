//! Events in a log: commits, envelopes, and the encoding of events.
//!
//! Imports `base`, `encoding` and `model`.

pub(crate) mod commit;
pub(crate) mod envelope;
pub(crate) mod codec;
pub(crate) mod recorded;
pub(crate) mod position;
pub(crate) mod sources;

pub use crate::base::{
    content_type::{BINCODE, JSON, is_json, media_type},
    id::Position,
};
pub use commit::{Commit, Origin, RecordedEvent, StoredCommit};
pub use position::LogPosition;
pub use recorded::Recorded;
