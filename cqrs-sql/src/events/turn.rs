//! Turns between processes: a lock on a file of its own for each name.
//!
//! The system frees the lock when its holder ends, also when that is killed. So an active subscriber is active as long
//! as it lives, however long it takes, and the next one need not wait for a time that has to pass. The files are empty,
//! and are not removed with the lock: two processes would have locks on two files of the same name.

use std::{
    fmt::Write as _,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use cqrs_core::StoreError;

use crate::view::fnv;

/// The longest name of a file, in bytes.
const LONGEST: usize = 200;

/// The locks of one log.
#[derive(Debug)]
pub(crate) struct Turns {
    /// The folder beside the database.
    folder: PathBuf,
    /// The beginning of the names of this log's files.
    prefix: String,
}

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _file: File,
}

impl Turns {
    /// The locks beside the database `file`, for the log of this name.
    pub(crate) fn beside(file: &Path, log: &str) -> Self {
        let mut folder = file.as_os_str().to_owned();
        folder.push("-turns");
        Self { folder: folder.into(), prefix: format!("{log}.") }
    }

    /// Takes the turn of this name; `None` if another subscriber has it.
    pub(super) fn take(&self, name: &str) -> Result<Option<Turn>, StoreError> {
        let failed = |error| self.error(name, error);
        let file = self.lock_file(name).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Turn { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Whether a subscriber has the turn of this name. A subscriber that tries to take it in this very moment waits for
    /// its next attempt.
    pub(super) fn is_taken(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.path(name).exists() && self.take(name)?.is_none())
    }

    /// Removes the file of a name that will not be used again, unless it is in use.
    pub(super) fn forget(&self, name: &str) -> Result<(), StoreError> {
        if self.path(name).exists() && self.take(name)?.is_some() {
            return match fs::remove_file(self.path(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.error(name, error)),
                _ => Ok(()),
            };
        }
        Ok(())
    }

    fn lock_file(&self, name: &str) -> io::Result<File> {
        fs::create_dir_all(&self.folder)?;
        File::options().create(true).truncate(false).write(true).open(self.path(name))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(file_name(&format!("{}{name}", self.prefix)))
    }

    fn error(&self, name: &str, error: io::Error) -> StoreError {
        let folder = self.folder.display();
        match error.kind() {
            // `AlreadyExists`: something else has the name of the folder.
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::AlreadyExists => {
                let advice = "give the user of this program the right to write there";
                StoreError::refused(
                    format!("locking {name}: the folder {folder} cannot be written: {advice}"),
                    error,
                )
            }
            io::ErrorKind::Unsupported => StoreError::refused(format!("locking {folder} for {name}"), error),
            _ => StoreError::unavailable(format!("locking {folder} for {name}"), error),
        }
    }
}

/// A legal name of a file, another one for each name.
fn file_name(name: &str) -> String {
    let mut file = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".=_-".contains(&byte) {
            file.push(char::from(byte));
        } else {
            // Writing to a string cannot fail. Capitals as well: not every file system tells them from small letters.
            let _ = write!(file, "%{byte:02x}");
        }
    }
    if file.len() > LONGEST {
        let hash = format!("%{:016x}", fnv(name.as_bytes()));
        file.truncate(LONGEST - hash.len());
        file.push_str(&hash);
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_a_file_of_its_own() {
        let long = ["a", "b"].map(|end| format!("{}{end}", "x".repeat(500)));
        let names = ["", "a", "A", "a/b", "..", "a b", "é", "order-v1=at=7", &long[0], &long[1]];
        let files: std::collections::BTreeSet<_> = names.iter().map(|name| file_name(name)).collect();
        assert_eq!(files.len(), names.len());
        assert!(files.iter().all(|file| file.len() <= LONGEST && file.is_ascii() && !file.contains('/')));
        assert_eq!(file_name("orders.order-v1=at=7"), "orders.order-v1=at=7");
    }

    #[test]
    fn a_turn_is_had_by_one_until_it_is_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let [one, other] = [1, 2].map(|_| Turns::beside(&folder.path().join("a.db"), "orders"));
        let turn = one.take("view").expect("a lock").expect("a turn");
        assert!(other.take("view").expect("a lock").is_none() && one.take("view").expect("a lock").is_none());
        assert!(other.is_taken("view").expect("an answer") && !other.is_taken("view-2").expect("an answer"));
        other.forget("view").expect("nothing to do");
        assert!(other.take("view").expect("a lock").is_none(), "a file in use is not removed");
        assert!(other.take("view-2").expect("a lock").is_some());
        drop(turn);
        assert!(!one.is_taken("view").expect("an answer"));
        assert!(other.take("view").expect("a lock").is_some());
        other.forget("view").expect("its file is removed");
        assert!(!other.path("view").exists() && other.path("view-2").exists());
    }
}
