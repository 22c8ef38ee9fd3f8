//! What an event store offers besides its log.

use std::sync::Arc;

use crate::{
    base::outage::Outages,
    port::{
        any_views::AnyViews,
        deadlines::{AnyDeadlines, Deadlines},
        notices::{AnyNotices, Notices},
        view_store::ViewStore,
    },
};

/// What an event store offers besides its log; see [`EventStore::capabilities`](crate::port::EventStore::capabilities).
///
/// ```
/// use cqrs_core::{memory::{MemoryEvents, MemoryViews}, port::Capabilities};
///
/// let events = MemoryEvents::default();
/// let all = Capabilities::none().deadlines(events.clone()).notices(events).progress(MemoryViews::default());
/// # let _ = all;
/// ```
#[derive(Clone, Default)]
pub struct Capabilities {
    pub(crate) deadlines: Option<Arc<dyn AnyDeadlines>>,
    pub(crate) notices: Option<Arc<dyn AnyNotices>>,
    pub(crate) progress: Option<AnyViews>,
    pub(crate) outages: Outages,
}

impl Capabilities {
    /// Only the log: no policies, no notices, and the progress of everything is kept in the service's view store.
    pub fn none() -> Self {
        Self::default()
    }

    /// Deadlines, which policies need.
    pub fn deadlines(mut self, store: impl Deadlines) -> Self {
        self.deadlines = Some(Arc::new(store));
        self
    }

    /// Notices of what is stored; see [`Cqrs::notices`](crate::Cqrs::notices).
    pub fn notices(mut self, store: impl Notices) -> Self {
        self.notices = Some(Arc::new(store));
        self
    }

    /// The place beside the log for the progress of projections that have effects: policies, event handlers and
    /// announcers. It belongs to the log, and not to the views: views that move to another store are built again
    /// there, but a mail must not be sent again.
    pub fn progress(mut self, store: impl ViewStore) -> Self {
        self.progress = Some(AnyViews::new(store));
        self
    }

    /// The outages of the store's connection: an adapter that notices a lost connection by itself reports it there, and
    /// then it is the same outage as the one that the service notices.
    pub fn outages(mut self, outages: Outages) -> Self {
        self.outages = outages;
        self
    }

    /// The store that [`progress`](Self::progress) was given.
    pub fn progress_store(&self) -> Option<&AnyViews> {
        self.progress.as_ref()
    }
}

impl std::fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capabilities")
            .field("deadlines", &self.deadlines.is_some())
            .field("notices", &self.notices.is_some())
            .field("progress", &self.progress)
            .field("outages", &self.outages)
            .finish()
    }
}
