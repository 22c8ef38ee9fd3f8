//! The resources of the write side: the store, the clock, limits, and permits for cold loads.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;

use crate::{
    port::{any_events::AnyEvents, clock::Clock, event_store::EventStore},
    write::{pages::FirstPage, repeats::Segments, save_snapshots::Saver},
};

/// The number of concurrent cold loads, unless the service sets another. A batched direct get holds the stream's lock
/// in the server, so appends wait behind it.
const COLD_LOADS: usize = 4;

/// The resources that every command needs beside its aggregate.
pub(crate) struct Shell {
    pub(crate) events: AnyEvents,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limits: Limits,
    /// Permits to read an aggregate that is not in memory.
    pub(crate) cold_loads: Semaphore,
    pub(crate) first_page: FirstPage,
    pub(crate) saver: Arc<Saver>,
    pub(crate) segments: Segments,
    /// The `source` of every commit.
    pub(crate) source: Arc<str>,
}

impl Shell {
    pub(crate) fn new(events: AnyEvents, clock: Arc<dyn Clock>, limits: Limits) -> Self {
        let (cold_loads, source) = (Semaphore::new(limits.cold_loads), events.source().into());
        let (first_page, saver) = (FirstPage::new(), Arc::new(Saver::new()));
        Self { events, clock, limits, cold_loads, first_page, saver, segments: Segments::new(), source }
    }
}

/// Bounds of one command's execution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How often a command is handled when other writers change the aggregate in between.
    pub(crate) attempts: u32,
    /// How long an append is sent again while the store gives no definite answer.
    pub(crate) patience: Duration,
    /// How many aggregates that are not in memory are read at a time.
    pub(crate) cold_loads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { attempts: 16, patience: Duration::from_secs(30), cold_loads: COLD_LOADS }
    }
}
