//! The traits that adapters implement, and the clock.
//!
//! Imports `base`, `model` and `log`.

pub(crate) mod backend;
pub(crate) mod clock;
pub(crate) mod event_store;
pub(crate) mod subscription;
pub(crate) mod event_feed;
pub(crate) mod view_store;
pub(crate) mod projection;
pub(crate) mod deadlines;
pub(crate) mod notices;
