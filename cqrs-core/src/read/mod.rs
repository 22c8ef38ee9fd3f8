//! The read side: views and queries.
//!
//! Imports all up to `projector`, and not the write side.

pub(crate) mod view;
pub(crate) mod view_projection;
pub(crate) mod query;
