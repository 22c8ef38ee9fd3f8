//! The write side, one aggregate at a time: queue, load, decide, append.
//!
//! Imports `base`, `encoding`, `model`, `log` and `port`.

pub(crate) mod queue;
pub(crate) mod settle;
pub(crate) mod load;
pub(crate) mod read;
pub(crate) mod history;
pub(crate) mod pages;
pub(crate) mod state;
pub(crate) mod tip;
pub(crate) mod decide;
pub(crate) mod append;
pub(crate) mod repeats;
pub(crate) mod save_snapshots;
pub(crate) mod snapshot_warnings;
pub(crate) mod resources;
