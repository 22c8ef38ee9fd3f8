//! Notices that the log is another one than before: each sign of that begins a new era.
//!
//! The history of a log only grows. So a process remembers the last commit that it has seen, and each statement that
//! reads or writes the log also looks whether that commit is still in its place. A log that was restored from an older
//! copy, or created again, has another commit there or none, also after further appends.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use crate::open_file::OpenFile;

/// The era of one log, as far as this process has observed it.
#[derive(Debug)]
pub(crate) struct Identity {
    file: Arc<OpenFile>,
    /// How often the log was found to be another one.
    changes: AtomicU64,
    known: Mutex<Known>,
}

/// What is known about the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// The log's id.
    pub(crate) log: String,
    /// The last commit that was seen; sequence 0 if there is none.
    pub(crate) seen: Mark,
}

/// A commit, by its sequence and the id of its first event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) sequence: i64,
    pub(crate) event: Option<String>,
}

/// What one statement found in the log.
#[derive(Debug)]
pub(crate) struct Found {
    /// The log's id.
    pub(crate) log: String,
    /// The first event of the commit at the sequence that was asked about.
    pub(crate) event: Option<String>,
}

impl Identity {
    pub(crate) fn new(file: Arc<OpenFile>) -> Self {
        Self { file, changes: AtomicU64::new(0), known: Mutex::default() }
    }

    /// Notes what the log was when it was opened.
    pub(crate) fn begin_with(&self, known: Known) {
        *self.lock() = known;
    }

    /// The number of the era.
    pub(crate) fn number(&self) -> u64 {
        self.file.changes_until_now() + self.changes.load(Ordering::Acquire)
    }

    pub(crate) fn known(&self) -> Known {
        self.lock().clone()
    }

    /// Compares what a statement found with what it was `asked` about. If the log is another one, a new era begins.
    pub(crate) fn is_same(&self, asked: &Known, found: &Found) -> bool {
        if found.log == asked.log && found.event == asked.seen.event {
            return true;
        }
        let mut known = self.lock();
        // Otherwise another call has noticed it, or has seen more, and the next statement asks about that.
        if *known == *asked {
            tracing::warn!(
                file = %self.file.path().display(),
                log = asked.log,
                last = asked.seen.sequence,
                "the log is another one, or an older copy"
            );
            *known = Known { log: found.log.clone(), seen: Mark::default() };
            self.changes.fetch_add(1, Ordering::Release);
        }
        false
    }

    /// Notes a commit that the same statement found, or that the same transaction appended.
    pub(crate) fn saw(&self, asked: &Known, sequence: i64, event: impl FnOnce() -> Option<String>) {
        let mut known = self.lock();
        if known.log == asked.log && known.seen.sequence < sequence {
            known.seen = Mark { sequence, event: event() };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
