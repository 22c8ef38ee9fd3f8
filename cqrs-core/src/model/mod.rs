//! What users write: aggregates, commands, events and their snapshots.
//!
//! Imports `base` and `encoding`.

pub(crate) mod aggregate;
pub(crate) mod command;
pub(crate) mod event;
pub(crate) mod upcast;
pub(crate) mod source;
pub(crate) mod snapshot;
pub(crate) mod follow;
pub(crate) mod by_name;
