//! Metadata: text that a message carries beside its own fields.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Names that an event's own fields use; metadata may not take them.
const RESERVED: [&str; 17] = [
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
    "command",
    "commandid",
    "commandhash",
    "correlationid",
    "causationid",
];

/// The most bytes that the names and values of a command's metadata may have together. Each event keeps them; as
/// headers they count against the server's limit of 64 KB, in which each byte that is not plain text takes three.
pub const MAX_METADATA_BYTES: usize = 16 * 1024;

/// The name of the distributed trace (W3C Trace Context, and the CloudEvents extension of the same name).
const TRACEPARENT: &str = "traceparent";

/// Text by name that a command carries and its events keep: the user, the tenant, `traceparent`.
///
/// A name is 1–20 characters of `a-z` and `0-9` and not one of the envelope's own, because each entry is stored as a
/// CloudEvents extension attribute (CloudEvents 1.0.2, "Naming Conventions"). `traceparent` must have the format of W3C
/// Trace Context, so that a later reader can continue the trace.
///
/// ```
/// use cqrs_core::Metadata;
///
/// let mut metadata = Metadata::try_from([("user", "anna"), ("tenant", "7")])?;
/// metadata.insert("user", "ben")?;
/// assert_eq!(metadata.get("user"), Some("ben"));
/// // A name or a value that an event cannot carry is an error, also where it comes from a request.
/// assert!(Metadata::try_from([("User-Id", "7")]).is_err());
/// # Ok::<(), cqrs_core::model::InvalidMetadata>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct Metadata(BTreeMap<String, String>);

impl Metadata {
    /// Sets `name` to `value`, and replaces an earlier value.
    ///
    /// # Errors
    ///
    /// [`InvalidMetadata`] when an event cannot have the name, or `traceparent` the value.
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
        let value = value.into();
        if name == TRACEPARENT && !is_traceparent(&value) {
            return Err(InvalidMetadata::Traceparent(value));
        }
        self.0.insert(name, value);
        Ok(())
    }

    /// Sets each name to its value, as [`insert`](Self::insert) does. Of several values of a name the last one counts.
    ///
    /// ```
    /// use cqrs_core::Metadata;
    ///
    /// let headers = vec![("x-user", "anna"), ("accept", "*/*"), ("x-tenant", "7")];
    /// let ours = headers.into_iter().filter_map(|(name, value)| Some((name.strip_prefix("x-")?, value)));
    /// let mut metadata = Metadata::default();
    /// metadata.try_extend(ours)?;
    /// assert_eq!(metadata.iter().collect::<Vec<_>>(), [("tenant", "7"), ("user", "anna")]);
    /// # Ok::<(), cqrs_core::model::InvalidMetadata>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidMetadata`] about the first entry that an event cannot carry. Then none of the entries is set.
    pub fn try_extend<Name: Into<String>, Value: Into<String>>(
        &mut self,
        entries: impl IntoIterator<Item = (Name, Value)>,
    ) -> Result<(), InvalidMetadata> {
        let mut extended = self.clone();
        for (name, value) in entries {
            extended.insert(name, value)?;
        }
        *self = extended;
        Ok(())
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The span of a distributed trace in which the command was sent.
    pub fn traceparent(&self) -> Option<&str> {
        self.get(TRACEPARENT)
    }

    /// All entries, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Fails if it is too large for a command. The limit holds for new commands only: stored metadata of any size is read.
    pub(crate) fn check_size(&self) -> Result<(), InvalidMetadata> {
        let bytes = self.0.iter().map(|(name, value)| name.len() + value.len()).sum();
        let limit = MAX_METADATA_BYTES;
        if bytes > limit { Err(InvalidMetadata::TooLarge { bytes, limit }) } else { Ok(()) }
    }
}

impl TryFrom<BTreeMap<String, String>> for Metadata {
    type Error = InvalidMetadata;

    fn try_from(entries: BTreeMap<String, String>) -> Result<Self, InvalidMetadata> {
        let mut metadata = Self::default();
        metadata.try_extend(entries)?;
        Ok(metadata)
    }
}

/// Metadata with these entries; see [`try_extend`](Metadata::try_extend).
impl<Name: Into<String>, Value: Into<String>, const N: usize> TryFrom<[(Name, Value); N]> for Metadata {
    type Error = InvalidMetadata;

    fn try_from(entries: [(Name, Value); N]) -> Result<Self, InvalidMetadata> {
        let mut metadata = Self::default();
        metadata.try_extend(entries)?;
        Ok(metadata)
    }
}

/// Metadata that an event cannot carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMetadata {
    /// The name is not made of 1–20 lower-case letters and digits.
    #[error("metadata name {0:?} is not 1 to 20 characters of a-z and 0-9")]
    Name(String),
    /// The name belongs to the envelope itself.
    #[error("metadata name {0:?} belongs to the event itself")]
    Reserved(String),
    /// The value is not a `traceparent` of W3C Trace Context.
    #[error("traceparent {0:?} is not like 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    Traceparent(String),
    /// A command's metadata is larger than its events could carry.
    #[error("the metadata takes {bytes} bytes, at most {limit} are accepted")]
    TooLarge {
        /// The size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// Whether the text is a `traceparent`: version, trace, span and flags in lower-case hexadecimal digits. A later
/// version may have more after them.
fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let set = |part: &str| part.bytes().any(|byte| byte != b'0');
    let parts: Vec<_> = text.split('-').collect();
    let [version, trace, span, flags, more @ ..] = parts.as_slice() else { return false };
    hex(version, 2)
        && *version != "ff"
        && (more.is_empty() || *version != "00")
        && (hex(trace, 32) && set(trace))
        && (hex(span, 16) && set(span))
        && hex(flags, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names become names of headers.
    #[test]
    fn what_comes_through_serde_is_checked_as_well() {
        let mut metadata = Metadata::default();
        metadata.insert("user", "anna\r\n").expect("a legal name");
        let json = serde_json::to_string(&metadata).expect("JSON");
        assert_eq!(json, r#"{"user":"anna\r\n"}"#);
        assert_eq!(serde_json::from_str::<Metadata>(&json).expect("metadata"), metadata);
        for bad in [r#"{"a\r\nNats-Rollup":"all"}"#, r#"{"id":"1"}"#, r#"{"":"x"}"#, r#"{"traceparent":"1"}"#]
        {
            assert!(serde_json::from_str::<Metadata>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn entries_are_set_together_or_not_at_all() {
        let mut metadata = Metadata::try_from([("user", "anna"), ("tenant", "7"), ("user", "ben")]).unwrap();
        let before = metadata.clone();
        assert_eq!(before.iter().collect::<Vec<_>>(), [("tenant", "7"), ("user", "ben")]);
        for (name, value) in
            [("", "x"), ("User", "x"), ("a\r\nNats-Rollup", "all"), ("commandid", "x"), ("traceparent", "1")]
        {
            let one_by_one = Metadata::default().insert(name, value).expect_err(name);
            assert_eq!(metadata.try_extend([("user", "otto"), (name, value)]), Err(one_by_one.clone()));
            assert_eq!(Metadata::try_from([(name, value)]), Err(one_by_one));
            assert_eq!(metadata, before, "{name:?}");
        }
        metadata.try_extend([("user".to_owned(), "otto".to_owned())]).unwrap();
        assert_eq!(metadata.get("user"), Some("otto"));
    }

    #[test]
    fn a_traceparent_has_the_shape_that_others_can_go_on_with() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
        let zeros = "00000000000000000000000000000000";
        let mut metadata = Metadata::default();
        for good in
            [format!("00-{trace}-01"), format!("00-{trace}-00"), format!("cc-{trace}-01-what-will-be")]
        {
            metadata.insert("traceparent", good.clone()).expect("a traceparent");
            assert_eq!(metadata.traceparent(), Some(&*good));
        }
        for bad in [
            String::new(),
            "00-1-2-01".into(),
            format!("00-{trace}"),
            format!("ff-{trace}-01"),
            format!("00-{trace}-01-more"),
            format!("00-{}-01", trace.to_uppercase()),
            format!("00-{zeros}-00f067aa0ba902b7-01"),
            format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", &zeros[..16]),
        ] {
            let refused = metadata.insert("traceparent", bad.clone());
            assert_eq!(refused, Err(InvalidMetadata::Traceparent(bad)));
        }
    }
}
