//! The errors, sorted by what the caller does next.

#[cfg(feature = "sqlite")]
use std::path::Path;

use cqrs_core::{
    StoreError,
    port::{SaveError, Source},
};
#[cfg(feature = "postgres")]
use sqlx::postgres::PgDatabaseError;
#[cfg(feature = "sqlite")]
use sqlx::sqlite::SqliteError;

#[cfg(feature = "sqlite")]
use crate::folder::why_unwritable;

/// Why a database cannot be used.
///
/// No address in it shows a user or a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SqlError {
    /// No server answers at the address, or the disk of the file fails.
    #[error("{place} cannot be reached: is it there, and is the address right?")]
    Unreachable {
        /// The database.
        place: String,
        /// The client's error.
        source: Source,
    },
    /// No file can be created in the folder of the database file: the folder is not there, is no folder, or the user may
    /// not write there. SQLite needs files beside the database file, too.
    #[error(
        "the folder {folder} cannot be written, so there is no place for {file}: create the folder, give the user of this \
         program the right to write there, or name a file in another folder"
    )]
    Folder {
        /// The folder.
        folder: String,
        /// The name of the database file.
        file: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The database file cannot be opened, although files can be created in its folder.
    #[error(
        "{place} cannot be opened as a file: is it there, is it a file, and may the user of this program read and write it?"
    )]
    File {
        /// The file.
        place: String,
        /// The client's error.
        source: Source,
    },
    /// The address cannot be parsed.
    #[error("that is not the address of a database, which looks like {example}")]
    Address {
        /// A valid example.
        example: &'static str,
        /// The client's error.
        source: Source,
    },
    /// The client and the server do not agree on TLS.
    #[error("no TLS connection to {place}: check the certificates, and `sslmode` in the address")]
    Tls {
        /// The database.
        place: String,
        /// The client's error.
        source: Source,
    },
    /// The server refuses the user or the password.
    #[error("{place} does not accept the user or the password")]
    Unauthorized {
        /// The database.
        place: String,
        /// The client's error.
        source: Source,
    },
    /// The server has no database of that name.
    #[error("{place} does not exist: create the database")]
    NoDatabase {
        /// The database.
        place: String,
        /// The client's error.
        source: Source,
    },
    /// The user lacks a right.
    #[error(
        "not permitted at {place}: the user needs the right to create schemas, or to own the one of the context"
    )]
    NotPermitted {
        /// The database.
        place: String,
        /// The client's error.
        source: Source,
    },
    /// The database is read only.
    #[error("{place} is read only: events and views need a database that they can write to")]
    ReadOnly {
        /// The database.
        place: String,
        /// The client's error.
        source: Source,
    },
    /// The disk is full.
    #[error("{place} is full: make room on its disk")]
    Full {
        /// The database.
        place: String,
        /// The client's error.
        source: Source,
    },
    /// Other connections keep it locked, or it is starting or overloaded.
    #[error("{place} is busy: try again, or find out who keeps it locked")]
    Busy {
        /// The database.
        place: String,
        /// The client's error.
        source: Source,
    },
    /// The file is not a database of SQLite, or it is damaged.
    #[error(
        "{place} is no SQLite database, or a damaged one: restore it from a copy, or move it away; views are then \
         built anew, events are lost"
    )]
    NotADatabase {
        /// The database.
        place: String,
        /// The client's error.
        source: Source,
    },
    /// The server is too old, or keeps text in another encoding.
    #[error("{place} has {found}, {wanted} is needed")]
    Unfit {
        /// The database.
        place: String,
        /// The version or encoding that was found.
        found: String,
        /// The version or encoding that is required.
        wanted: String,
    },
    /// The tables were created by another version of this crate.
    #[error(
        "the tables of context {context} at {place} have layout {found}, this program knows layout {known}: \
         run a program that fits, or drop them, and the views are built anew"
    )]
    Layout {
        /// The database.
        place: String,
        /// The bounded context.
        context: String,
        /// The layout that was found.
        found: i64,
        /// The layout that this program knows.
        known: i64,
    },
    /// The log was created by another version of this crate.
    #[error(
        "the log of context {context} in {place} has layout {found}, this program knows layout {known}: run a program \
         that fits"
    )]
    LogLayout {
        /// The file.
        place: String,
        /// The bounded context.
        context: String,
        /// The layout that was found.
        found: i64,
        /// The layout that this program knows.
        known: i64,
    },
    /// The name cannot be a part of table names.
    #[error(
        "{name:?} cannot be the name of a context: it takes 1 to 48 of a-z, 0-9, _ and -, and may not begin \
         with pg_, sqlite_ or information_schema"
    )]
    Context {
        /// The name.
        name: String,
    },
    /// Any other error.
    #[error("{place} refuses")]
    Refused {
        /// The database.
        place: String,
        /// The client's error.
        source: Source,
    },
}

impl SqlError {
    /// The error for a database file, at a path from the root, that cannot be opened.
    #[cfg(feature = "sqlite")]
    pub(crate) fn of_file(path: &Path, place: &str, source: sqlx::Error) -> Self {
        let of_folder = matches!(kind(&source), Kind::Missing | Kind::ReadOnly | Kind::Lost);
        let folder = path.parent().filter(|_| of_folder);
        match folder.and_then(|folder| Some((folder, why_unwritable(folder)?))) {
            None => Self::new(place, source),
            Some((folder, source)) => Self::Folder {
                folder: folder.display().to_string(),
                file: path.file_name().unwrap_or_default().display().to_string(),
                source,
            },
        }
    }

    pub(crate) fn new(place: &str, source: sqlx::Error) -> Self {
        let (place, kind) = (place.to_owned(), kind(&source));
        let source = Source::new(source);
        match kind {
            Kind::Lost => Self::Unreachable { place, source },
            Kind::Missing => Self::File { place, source },
            Kind::Tls => Self::Tls { place, source },
            Kind::Unauthorized => Self::Unauthorized { place, source },
            Kind::NoDatabase => Self::NoDatabase { place, source },
            Kind::NotPermitted => Self::NotPermitted { place, source },
            Kind::ReadOnly => Self::ReadOnly { place, source },
            Kind::Full => Self::Full { place, source },
            Kind::Busy | Kind::Contended => Self::Busy { place, source },
            Kind::NotADatabase => Self::NotADatabase { place, source },
            Kind::Other => Self::Refused { place, source },
        }
    }
}

/// An error of the client, sorted by what can be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(all(feature = "sqlite", feature = "postgres")),
    expect(dead_code, reason = "some kinds are those of one database")
)]
pub(crate) enum Kind {
    Lost,
    /// The file is not there, or cannot be opened.
    Missing,
    Tls,
    Unauthorized,
    NoDatabase,
    NotPermitted,
    ReadOnly,
    Full,
    Busy,
    /// Two transactions were in conflict.
    Contended,
    NotADatabase,
    Other,
}

impl Kind {
    /// Whether a retry may succeed: by itself, or once there is room again.
    pub(crate) fn is_transient(self) -> bool {
        matches!(self, Self::Lost | Self::Missing | Self::Busy | Self::Contended | Self::Full)
    }
}

pub(crate) fn kind(error: &sqlx::Error) -> Kind {
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            #[cfg(feature = "sqlite")]
            if error.try_downcast_ref::<SqliteError>().is_some() {
                return sqlite_kind(code.parse().unwrap_or_default());
            }
            #[cfg(feature = "postgres")]
            if error.try_downcast_ref::<PgDatabaseError>().is_some() {
                return postgres_kind(&code);
            }
            // Of a database that this program was built without.
            let _ = code;
            Kind::Other
        }
        sqlx::Error::Tls(_) => Kind::Tls,
        sqlx::Error::Io(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => Kind::Lost,
        _ => Kind::Other,
    }
}

#[cfg(feature = "sqlite")]
/// Sorts by SQLite's result code, whose lowest byte is the kind of the failure (<https://sqlite.org/rescode.html>).
fn sqlite_kind(code: u32) -> Kind {
    match code & 0xff {
        // BUSY, LOCKED, NOMEM
        5..=7 => Kind::Busy,
        // IOERR
        10 => Kind::Lost,
        // CANTOPEN
        14 => Kind::Missing,
        // PERM, AUTH
        3 | 23 => Kind::NotPermitted,
        // READONLY
        8 => Kind::ReadOnly,
        // FULL
        13 => Kind::Full,
        // CORRUPT, NOTADB
        11 | 26 => Kind::NotADatabase,
        _ => Kind::Other,
    }
}

#[cfg(feature = "postgres")]
/// Sorts by Postgres' SQLSTATE, whose first two characters are its class
/// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
fn postgres_kind(code: &str) -> Kind {
    match code {
        "53100" => Kind::Full,
        "3D000" => Kind::NoDatabase,
        "42501" => Kind::NotPermitted,
        "25006" => Kind::ReadOnly,
        // The session ended because it was idle inside a transaction.
        "25P03" | "25P04" => Kind::Lost,
        // A lock was not available, or a statement took longer than the server's timeout.
        "55P03" | "57014" => Kind::Contended,
        _ => match code.get(..2) {
            Some("08") => Kind::Lost,
            Some("28") => Kind::Unauthorized,
            // Serialization failures and deadlocks.
            Some("40") => Kind::Contended,
            // Resources, an operator's intervention, the system.
            Some("53" | "57" | "58") => Kind::Busy,
            _ => Kind::Other,
        },
    }
}

/// A failure below the ports, without the operation.
#[derive(Debug)]
pub(crate) enum Failure {
    Conflict,
    Sql(sqlx::Error),
    Store(StoreError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Failure {
    pub(crate) fn into_save_error(self, what: impl FnOnce() -> String) -> SaveError {
        match self {
            Self::Conflict => SaveError::Conflict,
            Self::Sql(error) => store_error(what(), error).into(),
            Self::Store(error) => error.into(),
        }
    }
}

pub(crate) fn store_error(what: impl Into<String>, error: sqlx::Error) -> StoreError {
    let kind = kind(&error);
    let caused = || Some(Source::new(error));
    match kind {
        Kind::Full => {
            StoreError::Stalled { what: format!("{}: make room on its disk", what.into()), source: caused() }
        }
        Kind::Missing => StoreError::Missing {
            what: format!("{}: the file cannot be opened", what.into()),
            source: caused(),
        },
        kind if kind.is_transient() => StoreError::Unavailable { what: what.into(), source: caused() },
        _ => StoreError::Refused { what: what.into(), source: caused() },
    }
}

#[cfg(all(test, feature = "sqlite", feature = "postgres"))]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_told_from_what_a_person_must_look_at() {
        for code in ["40001", "40P01", "57P01", "57014", "53300", "53100", "08006", "55P03"] {
            assert!(postgres_kind(code).is_transient(), "{code}");
        }
        for code in ["42501", "42P01", "28P01", "3D000", "23505", "25006", "XX001", ""] {
            assert!(!postgres_kind(code).is_transient(), "{code}");
        }
        // BUSY, BUSY_SNAPSHOT, LOCKED, IOERR_FSYNC, FULL
        for code in [5, 517, 6, 1034, 13] {
            assert!(sqlite_kind(code).is_transient(), "{code}");
        }
        // ERROR, READONLY, CORRUPT, CONSTRAINT_UNIQUE, NOTADB
        for code in [1, 8, 11, 2067, 26] {
            assert!(!sqlite_kind(code).is_transient(), "{code}");
        }
    }
}
