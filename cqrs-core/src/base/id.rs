//! Ids: of messages, and of the aggregate that a commit belongs to.

use std::{borrow::Cow, fmt, io::Write as _, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use uuid::Uuid;

/// The longest aggregate id or view key, in bytes of its text.
///
/// Ids become a part of a NATS subject, in which one byte may take three. A subject over 4,096 bytes makes the server
/// close the connection. The limit is the same for every adapter so that data can be moved.
pub const MAX_ID_BYTES: usize = 128;

/// The namespace of ids that are derived from business data (a random UUID, fixed for ever).
const DERIVED: Uuid = Uuid::from_u128(0x6f4c_51a0_7b1e_4f53_9c55_0d3a_52be_8e17);

macro_rules! message_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

message_id! {
    /// The id of one event, unique in the world.
    EventId
}

message_id! {
    /// The id of one command. Sending a command again under the same id has no second effect.
    ///
    /// [`new`](CommandId::new) makes one for a new request, [`derived`](CommandId::derived) the one that follows from
    /// business data. A command that is executed without an id gets a new one from the service's clock.
    ///
    /// ```
    /// use cqrs_core::CommandId;
    ///
    /// // Keep it with the request, and send the request again under it.
    /// let id = CommandId::new();
    /// assert_eq!(id.to_string().parse::<CommandId>()?, id);
    /// assert_ne!(id, CommandId::new());
    ///
    /// let first = CommandId::derived(["northwind", "create", "10248"]);
    /// assert_eq!(first, CommandId::derived(["northwind", "create", "10248"]));
    /// assert_ne!(first, CommandId::derived(["northwind", "create1", "0248"]));
    /// # Ok::<(), uuid::Error>(())
    /// ```
    CommandId
}

message_id! {
    /// The id that all messages of one business transaction share. A transaction is named after the command that it
    /// begins with: then [`Cqrs::trace`](crate::Cqrs::trace) finds its beginning without reading the whole log.
    ///
    /// ```
    /// use cqrs_core::{CommandId, CorrelationId};
    ///
    /// let first = CommandId::new();
    /// let transaction = CorrelationId::from(first); // For `Execute::correlation` of the commands after it.
    /// assert_eq!(transaction.0, first.0);
    /// ```
    CorrelationId
}

message_id! {
    /// The id of the message that caused another: a command's or an event's.
    CausationId
}

impl CommandId {
    /// The id that is derived from business data: the same parts always give the same id.
    ///
    /// Use it if the same request can arrive twice without an id of its own, such as a row of a file. It is a version 5
    /// UUID (RFC 9562) over the parts, each preceded by its length, so that two different lists of parts give different
    /// ids.
    pub fn derived<Part: AsRef<str>>(parts: impl IntoIterator<Item = Part>) -> Self {
        let mut name = Vec::new();
        for part in parts {
            let part = part.as_ref().as_bytes();
            name.extend_from_slice(&(part.len() as u64).to_be_bytes());
            name.extend_from_slice(part);
        }
        Self(Uuid::new_v5(&DERIVED, &name))
    }
}

impl From<CommandId> for CausationId {
    fn from(id: CommandId) -> Self {
        Self(id.0)
    }
}

impl From<EventId> for CausationId {
    fn from(id: EventId) -> Self {
        Self(id.0)
    }
}

impl From<CommandId> for CorrelationId {
    fn from(id: CommandId) -> Self {
        Self(id.0)
    }
}

/// Which aggregate: its type's name and its id as text.
///
/// ```
/// use cqrs_core::AggregateKey;
///
/// let key = AggregateKey::new("order", 10248.to_string())?;
/// assert_eq!(key.to_string(), "order/10248");
/// assert!(AggregateKey::new("order", "x".repeat(200)).is_err());
/// # Ok::<(), cqrs_core::model::InvalidId>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AggregateKey {
    name: Cow<'static, str>,
    id: Arc<str>,
}

impl AggregateKey {
    /// A key for the aggregate type `name` and the id `id`.
    ///
    /// # Errors
    ///
    /// [`InvalidId`] when the id is longer than [`MAX_ID_BYTES`].
    pub fn new(name: impl Into<Cow<'static, str>>, id: impl Into<Arc<str>>) -> Result<Self, InvalidId> {
        let (name, id) = (name.into(), id.into());
        check_id(&id)?;
        Ok(Self { name, id })
    }

    /// The id, shared.
    pub(crate) fn shared_id(&self) -> Arc<str> {
        Arc::clone(&self.id)
    }

    /// The aggregate type's stored name, such as `order`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The aggregate's id as text, exactly as the domain wrote it.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// Calls `read` with the text of an id, without an allocation if the id is short enough to be valid.
pub(crate) fn with_text<T>(id: &impl fmt::Display, read: impl FnOnce(&str) -> T) -> T {
    let mut text = SmallVec::<[u8; MAX_ID_BYTES]>::new();
    // Writing to a vector cannot fail, and `Display` writes text.
    let _ = write!(text, "{id}");
    read(&String::from_utf8_lossy(&text))
}

impl fmt::Display for AggregateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.id)
    }
}

/// An id that no store takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id of {bytes} bytes is too long, at most {MAX_ID_BYTES} are accepted: it starts with {start:?}")]
pub struct InvalidId {
    /// Its length in bytes.
    pub bytes: usize,
    /// Its first characters.
    pub start: String,
}

pub(crate) fn check_id(id: &str) -> Result<(), InvalidId> {
    if id.len() <= MAX_ID_BYTES {
        return Ok(());
    }
    Err(InvalidId { bytes: id.len(), start: id.chars().take(24).collect() })
}

/// Whether a stored name can be one token of a subject: `a-z`, `0-9`, `_` and `-`, at most 64 bytes.
pub(crate) const fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.is_empty() || bytes.len() > 64 {
        return false;
    }
    let mut i = 0;
    while i < bytes.len() {
        if !matches!(bytes[i], b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-') {
            return false;
        }
        i += 1;
    }
    true
}

/// The position of an event in the whole log. A later position is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Position {
    /// The sequence of the commit; 0 is before the first commit.
    pub sequence: u64,
    /// The event's index in the commit, from 0.
    pub index: u32,
}

/// A build of a projection: the projection's stored name, the version of its rules, and the number of the build. Each
/// build has a place of its own in a view store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProjectionId {
    /// The stored name, such as `order-summary`.
    pub name: &'static str,
    /// The version of its rules, from 1.
    pub version: u32,
    /// The number of the build, from 1: another build of the same version is built from the first event, beside the
    /// active one.
    pub build: u32,
}

impl ProjectionId {
    /// The first build of a version.
    pub const fn new(name: &'static str, version: u32) -> Self {
        Self { name, version, build: 1 }
    }
}

impl fmt::Display for ProjectionId {
    /// `order-summary-v1` for the first build, then `order-summary-v1-b2`: a legal name of a consumer and of a bucket.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-v{}", self.name, self.version)?;
        if self.build > 1 { write!(f, "-b{}", self.build) } else { Ok(()) }
    }
}
