//! The read side: views, read models and queries.
//!
//! Imports all up to `projector`, and not the write side.

pub(crate) mod view;
pub(crate) mod view_projection;
pub(crate) mod active_build;
pub(crate) mod documents;
pub(crate) mod read_model;
pub(crate) mod query;
