//! The types that users write: aggregates, commands, events and their snapshots.
//!
//! Imports `base` and `encoding`.

pub(crate) mod aggregate;
pub(crate) mod command;
pub(crate) mod event;
pub(crate) mod upcast;
pub(crate) mod required;
pub(crate) mod source;
pub(crate) mod snapshot;
pub(crate) mod follow;
pub(crate) mod by_name;
pub(crate) mod typed_id;

pub use crate::base::{
    id::{InvalidId, MAX_ID_BYTES},
    metadata::{InvalidMetadata, MAX_METADATA_BYTES},
    rejection::IsRejection,
};
pub use aggregate::{CommandVisitor, Lists, replay};
pub use event::{Codec, EventType};
pub use snapshot::Snapshots;
pub use source::EventSource;
pub use typed_id::ForeignId;
