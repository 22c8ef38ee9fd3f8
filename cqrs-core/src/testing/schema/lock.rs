//! The lock file: for each stored name and version the schema of the payload, and a payload.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// All locked types, by name and version.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Lock(pub(super) BTreeMap<String, BTreeMap<u32, Entry>>);

/// One stored type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// The shape of the payload, without remarks.
    pub(super) schema: Value,
    /// A payload that was written when the type was locked.
    pub(super) payload: Value,
    /// The same payload in bincode, in hexadecimal digits, if events are recorded so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) bincode: Option<String>,
}

impl Lock {
    /// The content of the file; `None` if it does not exist.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, String> {
        match fs::read(path) {
            Ok(text) => {
                serde_json::from_slice(&text).map(Some).map_err(|error| format!("cannot be read: {error}"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("cannot be read: {error}")),
        }
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string());
        let written = text.and_then(|text| {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).map_err(|error| error.to_string())?;
            }
            fs::write(path, text + "\n").map_err(|error| error.to_string())
        });
        written.map_err(|error| format!("cannot be written: {error}"))
    }

    pub(super) fn entry(&mut self, name: &str, version: u32) -> Option<&mut Entry> {
        self.0.get_mut(name)?.get_mut(&version)
    }

    pub(super) fn insert(&mut self, name: &str, version: u32, entry: Entry) {
        self.0.entry(name.to_owned()).or_default().insert(version, entry);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u32, &Entry)> {
        let versions = |(name, versions): (_, _)| {
            let (name, versions): (&String, &BTreeMap<u32, Entry>) = (name, versions);
            versions.iter().map(move |(version, entry)| (name.as_str(), *version, entry))
        };
        self.0.iter().flat_map(versions)
    }
}
