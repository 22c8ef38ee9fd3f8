//! What the write side shares: the store, the clock, limits, and turns to load.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;

use crate::{
    port::{clock::Clock, event_store::EventStore},
    write::{pages::FirstPage, save_snapshots::Saver},
};

/// The number of concurrent cold loads, unless the service says otherwise. A direct get of several messages holds the
/// stream's lock in the server, so appends wait behind it.
const COLD_LOADS: usize = 4;

/// What carrying out commands needs beside the aggregate.
pub(crate) struct Shell<S> {
    pub(crate) events: Arc<S>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limits: Limits,
    /// Turns to read an aggregate that is not in memory.
    pub(crate) cold_loads: Semaphore,
    pub(crate) first_page: FirstPage,
    pub(crate) saver: Arc<Saver>,
    /// What every commit says that it comes from.
    pub(crate) source: Arc<str>,
}

impl<S: EventStore> Shell<S> {
    pub(crate) fn new(events: Arc<S>, clock: Arc<dyn Clock>, limits: Limits) -> Self {
        let (cold_loads, source) = (Semaphore::new(limits.cold_loads), events.source().into());
        let (first_page, saver) = (FirstPage::new(), Arc::new(Saver::new()));
        Self { events, clock, limits, cold_loads, first_page, saver, source }
    }
}

/// Bounds of one command's execution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How often a command is handled when others change the aggregate in between.
    pub(crate) attempts: u32,
    /// How long an append is tried again while the store gives no definite answer.
    pub(crate) patience: Duration,
    /// How many aggregates that are not in memory are read at a time.
    pub(crate) cold_loads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { attempts: 16, patience: Duration::from_secs(30), cold_loads: COLD_LOADS }
    }
}
