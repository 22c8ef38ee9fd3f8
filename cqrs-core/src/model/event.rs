//! Events: facts that an aggregate recorded, and how their payloads become data.

use std::ops::{Deref, DerefMut};

use serde::{Deserializer, Serializer};
use smallvec::SmallVec;

use crate::base::content_type::JSON;

#[cfg(feature = "bincode")]
use crate::base::content_type::BINCODE;

/// The stored type of an event: its name and the version of its payload's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventType {
    /// The stored name, such as `order.created`. It must not change, because it is in the log.
    pub name: &'static str,
    /// The version of the payload's shape, from 1.
    pub version: u32,
}

impl EventType {
    /// An event type.
    pub const fn new(name: &'static str, version: u32) -> Self {
        Self { name, version }
    }
}

/// A fact that has happened; usually an enum with one variant for each kind of fact.
///
/// Derive it beside serde's two derives:
///
/// ```
/// use cqrs_core::{Event, model::EventType};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Serialize, Deserialize, Event)]
/// #[event(prefix = "order")]
/// enum OrderEvent {
///     Created { customer: String },
///     #[event(name = "order.settled", version = 2, upcast(1 = u64))]
///     Paid { amount: u64 },
///     Cancelled,
/// }
///
/// /// In version 1 the amount was all that was stored.
/// impl From<u64> for OrderEvent {
///     fn from(amount: u64) -> Self {
///         Self::Paid { amount }
///     }
/// }
///
/// assert_eq!(OrderEvent::Created { customer: "ANNA".into() }.event_type(), EventType::new("order.created", 1));
/// assert_eq!(OrderEvent::Paid { amount: 7 }.event_type(), EventType::new("order.settled", 2));
/// ```
///
/// [Events that live for years](crate::guide::schema) explains how to change them.
///
/// Without the derive, the payload is what [`serialize_data`](Event::serialize_data) writes:
///
/// ```
/// use cqrs_core::{Event, model::EventType};
/// use serde::{Deserialize, Deserializer, Serialize, Serializer};
///
/// struct Renamed(String);
///
/// impl Event for Renamed {
///     const TYPES: &'static [EventType] = &[EventType::new("customer.renamed", 1)];
///
///     fn event_type(&self) -> EventType {
///         Self::TYPES[0]
///     }
///
///     fn serialize_data<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
///         self.0.serialize(serializer)
///     }
///
///     fn deserialize_data<'de, D: Deserializer<'de>>(_: EventType, data: D) -> Result<Self, D::Error> {
///         String::deserialize(data).map(Renamed)
///     }
/// }
/// ```
/// The type needs [`Send`] and [`Sync`], since any thread may apply it. A bound `E: Event` in generic code does not imply
/// these: write them where the code needs them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    note = "add `#[derive(cqrs_core::Event)]` beside serde's `Serialize` and `Deserialize`"
)]
pub trait Event: Sized + 'static {
    /// Every stored type that this Rust type reads: each name with each of its versions once.
    const TYPES: &'static [EventType];

    /// The encoding of events that are recorded from now on. Stored events are read in the encoding in which they were
    /// stored.
    const CODEC: Codec = Codec::Json;

    /// The stored type of this event when it is recorded; one of [`TYPES`](Event::TYPES).
    fn event_type(&self) -> EventType;

    /// Whether the event is read and not recorded any more: a command that leads to one fails with
    /// [`Error::Retired`](crate::Error::Retired), and nothing is stored.
    fn is_retired(&self) -> bool {
        false
    }

    /// Whether the types of the fields alone guarantee that the payload comes back from JSON. Any other event is read
    /// back before it is recorded. The derive returns true for fields that are text, whole numbers, truth values,
    /// UUIDs, options and lists of these, if no attribute of serde changes that.
    fn is_plain(&self) -> bool {
        false
    }

    /// Writes the payload: the event's own fields, without its name.
    ///
    /// # Errors
    ///
    /// The serializer's.
    fn serialize_data<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;

    /// Reads a payload of the stored type `event_type`, one of [`TYPES`](Event::TYPES).
    ///
    /// # Errors
    ///
    /// The deserializer's, when the payload does not have the type's shape.
    fn deserialize_data<'de, D: Deserializer<'de>>(event_type: EventType, data: D) -> Result<Self, D::Error>;
}

/// The events of one command, in order: none, one or several.
///
/// They are stored together or not at all. A single event needs no allocation.
///
/// ```
/// use cqrs_core::Events;
///
/// assert_eq!(Events::<u8>::none().len(), 0);
/// assert_eq!(Events::<u8>::from(1).len(), 1);
/// assert_eq!(Events::<i32>::from([1, 2]).into_iter().sum::<i32>(), 3);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events<E>(SmallVec<[E; 1]>);

impl<E> Events<E> {
    /// No events: the command changes nothing.
    pub fn none() -> Self {
        Self(SmallVec::new())
    }
}

/// The events in order.
impl<E> Deref for Events<E> {
    type Target = [E];

    fn deref(&self) -> &[E] {
        &self.0
    }
}

impl<E> DerefMut for Events<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        &mut self.0
    }
}

impl<E> Extend<E> for Events<E> {
    fn extend<I: IntoIterator<Item = E>>(&mut self, events: I) {
        self.0.extend(events);
    }
}

impl<E> From<E> for Events<E> {
    fn from(event: E) -> Self {
        Self(SmallVec::from_buf([event]))
    }
}

impl<E> From<Vec<E>> for Events<E> {
    fn from(events: Vec<E>) -> Self {
        Self(SmallVec::from_vec(events))
    }
}

impl<E, const N: usize> From<[E; N]> for Events<E> {
    fn from(events: [E; N]) -> Self {
        events.into_iter().collect()
    }
}

impl<E> FromIterator<E> for Events<E> {
    fn from_iter<I: IntoIterator<Item = E>>(events: I) -> Self {
        Self(events.into_iter().collect())
    }
}

impl<E> IntoIterator for Events<E> {
    type Item = E;
    type IntoIter = smallvec::IntoIter<[E; 1]>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, E> IntoIterator for &'a Events<E> {
    type Item = &'a E;
    type IntoIter = std::slice::Iter<'a, E>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// The encoding of events when they are recorded: see [`Event::CODEC`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Codec {
    /// JSON: every reader of the log understands it, and fields can be added.
    #[default]
    Json,
    /// bincode: smaller and faster, readable only by this program, and its shape must not change within a version. See
    /// [what it is not for](crate::guide::schema#bincode).
    #[cfg(feature = "bincode")]
    Bincode,
}

impl Codec {
    /// The content type of payloads in this encoding.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => JSON,
            #[cfg(feature = "bincode")]
            Self::Bincode => BINCODE,
        }
    }
}
