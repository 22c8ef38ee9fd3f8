//! The loop that follows a log, for every kind of projection: builds, dead letters, status.
//!
//! Imports `base`, `encoding`, `model`, `log` and `port`.

pub(crate) mod worker;
pub(crate) mod builds;
#[expect(clippy::module_inception, reason = "the loop that the folder is about")]
pub(crate) mod projector;
mod cursor;
pub(crate) mod followed;
pub(crate) mod deliveries;
pub(crate) mod plan;
pub(crate) mod gap;
pub(crate) mod waited;
pub(crate) mod rules;
pub(crate) mod kept;
pub(crate) mod dead_letter;
pub(crate) mod set_aside;
pub(crate) mod status;
pub(crate) mod stopping;
