//! What travels with a message beside its own fields.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Names that an event's own fields use; metadata may not take them.
const RESERVED: [&str; 16] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "data",
    "datacontenttype",
    "dataschema",
    "aggregate",
    "aggregateversion",
    "schemaversion",
    "commandid",
    "commandhash",
    "correlationid",
    "causationid",
];

/// Text by name that a command carries and its events keep: the user, the tenant, `traceparent`.
///
/// A name is 1–20 characters of `a-z` and `0-9` and none of the envelope's own, because each entry is
/// stored as a CloudEvents extension attribute (CloudEvents 1.0.2, "Naming Conventions").
///
/// ```
/// use cqrs_core::Metadata;
///
/// let mut metadata = Metadata::default();
/// metadata.insert("user", "anna")?;
/// assert_eq!(metadata.get("user"), Some("anna"));
/// assert!(metadata.insert("User-Id", "7").is_err());
/// # Ok::<(), cqrs_core::InvalidMetadata>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Metadata(BTreeMap<String, String>);

impl Metadata {
    /// Sets `name` to `value`, in place of what was there.
    ///
    /// # Errors
    ///
    /// [`InvalidMetadata`] when the name is none that an event can carry.
    pub fn insert(
        &mut self,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<(), InvalidMetadata> {
        let name = name.into();
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if name.is_empty() || name.len() > 20 || !name.bytes().all(legal) {
            return Err(InvalidMetadata::Name(name));
        }
        if RESERVED.contains(&name.as_str()) {
            return Err(InvalidMetadata::Reserved(name));
        }
        self.0.insert(name, value.into());
        Ok(())
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All entries, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A name that metadata cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMetadata {
    /// The name is not made of 1–20 lower-case letters and digits.
    #[error("metadata name {0:?} is not 1 to 20 characters of a-z and 0-9")]
    Name(String),
    /// The name belongs to the envelope itself.
    #[error("metadata name {0:?} belongs to the event itself")]
    Reserved(String),
}
