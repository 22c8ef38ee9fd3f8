//! The warnings about snapshots. A snapshot that cannot be saved or loaded costs only time, and is due for each aggregate
//! of a type: so a lasting failure is one line for the type.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tracing::{debug, warn};

use crate::{
    base::{id::AggregateKey, source::describe, store_error::StoreError},
    model::{aggregate::Aggregate, snapshot::fault::WriteFault},
};

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Failed {
    Save,
    Load,
    /// The state has no snapshot.
    Write,
}

/// Remembers which warnings the log has.
#[derive(Debug, Default)]
pub(crate) struct SnapshotWarnings(Mutex<HashSet<(&'static str, Failed)>>);

impl SnapshotWarnings {
    /// Logs a failure of the store: as a warning if it is the first one since the last success for this type. A failure
    /// that passes is an outage, which the service logs as a whole; but a limit may concern snapshots alone.
    pub(crate) fn failed<A: Aggregate>(&self, what: Failed, key: &AggregateKey, error: &StoreError) {
        let error_text = describe(error);
        let message = match what {
            Failed::Save | Failed::Write => "snapshots of this aggregate type are not saved",
            Failed::Load => "snapshots of this aggregate type cannot be loaded, the log is replayed",
        };
        let aggregate = key.to_string();
        let is_lasting = !error.is_transient() || matches!(error, StoreError::Full { .. });
        if is_lasting && self.lock().insert((A::NAME, what)) {
            warn!(aggregate, error = error_text, "{message}");
        } else {
            debug!(aggregate, error = error_text, "{message}");
        }
    }

    /// Logs once that the states of this type have no snapshots.
    pub(crate) fn unwritable<A: Aggregate>(&self, fault: &WriteFault) {
        if self.lock().insert((A::NAME, Failed::Write)) {
            warn!(aggregate = A::NAME, error = %fault, "snapshots of this aggregate type are not saved");
        }
    }

    /// Notes a success: a later failure is a new one.
    pub(crate) fn works<A: Aggregate>(&self, what: Failed) {
        let mut warned = self.lock();
        if !warned.is_empty() {
            warned.remove(&(A::NAME, what));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<(&'static str, Failed)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
