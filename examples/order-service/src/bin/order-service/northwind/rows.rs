//! CSV files as rows that know their line numbers, so that an error can name the file and line.

use std::{fmt::Display, path::Path, str::FromStr};

use anyhow::{Context as _, Error, Result, anyhow, bail};
use csv::{ErrorKind, StringRecord};

/// The text of a field without a value.
const NOTHING: &str = "NULL";

/// One file.
pub(crate) struct Table {
    file: String,
    header: StringRecord,
    records: Vec<StringRecord>,
}

impl Table {
    /// Reads the file `name` in `folder`, which must have these columns and may have others.
    pub(crate) fn read(folder: &Path, name: &str, columns: &[&str]) -> Result<Self> {
        let path = folder.join(name);
        let file = path.display().to_string();
        let text = std::fs::File::open(&path).with_context(|| format!("cannot read {file}"))?;
        let mut reader = csv::Reader::from_reader(text);
        let header = reader.headers().map_err(|error| broken_csv(&file, &error))?.clone();
        if let Some(missing) = columns.iter().find(|column| !header.iter().any(|found| found == **column)) {
            bail!("{file}, line 1: there is no column {missing}");
        }
        let records =
            reader.records().collect::<Result<_, _>>().map_err(|error| broken_csv(&file, &error))?;
        Ok(Self { file, header, records })
    }

    /// The file's path, for people.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.records.iter().map(|record| Row { table: self, record })
    }
}

fn broken_csv(file: &str, error: &csv::Error) -> Error {
    let line = error.position().map_or(1, csv::Position::line);
    match error.kind() {
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            anyhow!("{file}, line {line}: there are {len} fields, the header has {expected_len}")
        }
        ErrorKind::Utf8 { err, .. } => anyhow!("{file}, line {line}: field {} is not UTF-8", err.field() + 1),
        _ => anyhow!("cannot read {file}: {error}"),
    }
}

/// One row of a file.
pub(crate) struct Row<'a> {
    table: &'a Table,
    record: &'a StringRecord,
}

impl Row<'_> {
    /// Its line in the file.
    pub(crate) fn line(&self) -> u64 {
        self.record.position().map_or(1, csv::Position::line)
    }

    /// The error that this row is broken.
    pub(crate) fn broken(&self, what: impl Display) -> Error {
        anyhow!("{}, line {}: {what}", self.table.file, self.line())
    }

    /// The value of a column; `what` says what it should be.
    pub(crate) fn value<T: FromStr>(&self, column: &str, what: &str) -> Result<T> {
        self.optional(column, what)?.ok_or_else(|| self.broken(format!("{column} is {NOTHING}, not {what}")))
    }

    /// The value of a column that may have none.
    pub(crate) fn optional<T: FromStr>(&self, column: &str, what: &str) -> Result<Option<T>> {
        let place = self.table.header.iter().position(|found| found == column);
        let Some(text) = place.and_then(|place| self.record.get(place)) else {
            return Err(self.broken(format!("there is no column {column}")));
        };
        if text == NOTHING {
            return Ok(None);
        }
        let value = text.parse().map_err(|_| self.broken(format!("{column} is {text:?}, not {what}")))?;
        Ok(Some(value))
    }
}
