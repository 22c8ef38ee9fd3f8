//! Notices that the file under a running service is another one.
//!
//! On Unix a file that is removed or replaced stays open: its connections would go on with a file that has no name any
//! more, and everything that they store would be lost. So before a connection is used, the file at the path is compared
//! with the one that was opened. Where files that are open cannot be removed, there is nothing to compare.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use sqlx::{Connection as _, Sqlite, pool::PoolOptions};

/// A file that connections have open.
#[derive(Debug)]
pub(crate) struct OpenFile {
    path: PathBuf,
    known: Mutex<Known>,
    /// How often the path named another file than before.
    changes: AtomicU64,
}

#[derive(Debug)]
struct Known {
    file: Option<FileId>,
    /// The last file that was there.
    last: Option<FileId>,
    /// Connections that were made before belong to another file.
    since: Instant,
}

/// The identity of a file: a file that replaces it under the same path has another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    number: u64,
}

impl OpenFile {
    /// The file that is at the path now.
    pub(crate) fn of(path: &Path) -> Self {
        let path = path.to_owned();
        let file = file_at(&path);
        let known = Known { file, last: file, since: Instant::now() };
        Self { path, known: Mutex::new(known), changes: AtomicU64::new(0) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the file without symbolic links, which is the same for all processes.
    pub(crate) fn real_path(&self) -> PathBuf {
        self.path.canonicalize().unwrap_or_else(|_| self.path.clone())
    }

    /// How often the path named another file than before. It looks at the path, which takes some microseconds.
    pub(crate) fn changes_until_now(&self) -> u64 {
        self.look();
        self.changes.load(Ordering::Acquire)
    }

    /// A pool that closes the connections to another file instead of using them. So it does with a connection whose
    /// transaction did not end in order: SQLite itself ends a transaction when the disk is full, and then the client
    /// counts one too many.
    pub(crate) fn watched(self: &Arc<Self>, pool: PoolOptions<Sqlite>) -> PoolOptions<Sqlite> {
        let file = Arc::clone(self);
        pool.before_acquire(move |connection, about| {
            let is_usable = about.age < file.look().elapsed() && !connection.is_in_transaction();
            Box::pin(std::future::ready(Ok(is_usable)))
        })
    }

    /// Compares the file at the path with the known one. Returns since when it is the present one.
    fn look(&self) -> Instant {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = file_at(&self.path);
        if found != known.file {
            let path = self.path.display();
            match found {
                // Every call fails now, and the service logs that as an outage.
                None => tracing::debug!(%path, "the file was removed"),
                Some(_) if known.last == found => tracing::debug!(%path, "the file is there again"),
                Some(_) => tracing::warn!(%path, "the file was replaced by another one"),
            }
            *known = Known { file: found, last: found.or(known.last), since: Instant::now() };
            self.changes.fetch_add(1, Ordering::Release);
        }
        known.since
    }
}

/// The file at a path; `None` if there is none. An error that says nothing about the file counts as none.
#[cfg(unix)]
fn file_at(path: &Path) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::metadata(path).ok()?;
    Some(FileId { device: found.dev(), number: found.ino() })
}

#[cfg(not(unix))]
fn file_at(_: &Path) -> Option<FileId> {
    None
}
