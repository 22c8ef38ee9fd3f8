//! The base of all modules: ids, metadata, errors, and tools that do not know events.
//!
//! Imports nothing of this crate.

pub(crate) mod id;
pub(crate) mod metadata;
pub(crate) mod error;
pub(crate) mod rejection;
pub(crate) mod source;
pub(crate) mod outage;
pub(crate) mod store_error;
pub(crate) mod content_type;
pub(crate) mod future;
pub(crate) mod panics;
pub(crate) mod backoff;
pub(crate) mod patience;
pub(crate) mod lanes;
pub(crate) mod one_line;
