//! Snapshots: an aggregate's state kept beside its log, so that a load need not replay all events.
//!
//! A snapshot is a cache. If it is missing, damaged, of another shape or of another log, the aggregate is replayed from
//! its first event. If it cannot be saved, a warning is logged. Neither is ever an error of a command.

mod body;
pub(crate) mod bytes;
pub(crate) mod fault;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
pub(crate) mod remembered;
pub(crate) mod segment;
#[cfg(test)]
mod tests;

use std::{any::type_name, fmt};

use crate::model::{
    aggregate::Aggregate,
    required::HasSerde,
    snapshot::{bytes::Head, fault::WriteFault},
};

use bytes::Found;

/// The settings of an aggregate's snapshots; see [`Aggregate::snapshots`].
///
/// ```
/// # use cqrs_core::{Apply, Event};
/// # #[derive(Clone, Serialize, Deserialize, Event)]
/// # #[event(name = "counter.raised")]
/// # struct Raised;
/// # #[derive(Debug, thiserror::Error)]
/// # enum Never {}
/// # impl Apply<Raised> for Counter {
/// #     fn apply(&mut self, _: &Raised) { self.0 += 1; }
/// # }
/// use cqrs_core::{Aggregate, model::Snapshots};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Default, Clone, Serialize, Deserialize)]
/// struct Counter(u64);
///
/// impl Aggregate for Counter {
///     const NAME: &'static str = "counter";
///     type Id = u32;
///     type Event = Raised;
///     type Rejection = Never;
///
///     fn snapshots() -> Option<Snapshots<Self>> {
///         Some(Snapshots::every(50).version(2))
///     }
/// }
/// ```
///
/// # When to use them
///
/// For aggregates that live long: with hundreds of events, or with fewer that are far apart in a large log. A short
/// aggregate is read as fast without. Every cold load (of an aggregate that is not in memory) then reads the last
/// snapshot and the events since: one round trip if there are no later events, two if there are few.
///
/// # Content
///
/// The state as serde writes it, in bincode (JSON without the feature `bincode`), with the aggregate's version, its
/// position in the log, and the ids of the last commands that it has carried out, so that repeats are recognised as
/// before. At most 512 KiB; a larger one is not saved, and a warning is logged once. The ids of older commands are kept
/// beside it: eight bytes for each, in parts of 8,192 commands that are written once.
///
/// # When the state's type changes
///
/// Usually nothing has to be done: a snapshot has a fingerprint of the names, kinds and values in the state, and is
/// discarded if it does not come back with the same fingerprint, also if only a nested type has changed. A change that
/// serde does not show cannot be detected, so **raise the [`version`](Self::version) when `apply` changes its
/// meaning**: when it makes another state of the same events, or when the same number gets another meaning.
///
/// # States that cannot be saved
///
/// The state must be complete in what serde writes: a field with `#[serde(skip)]` comes back as its default, so an
/// aggregate with snapshots must not have such a field that `apply` changes. bincode cannot read back self-describing
/// data (`#[serde(untagged)]`, `#[serde(tag = …)]`, `#[serde(flatten)]`, `serde_json::Value`), nor fields that
/// `skip_serializing_if` left out. JSON cannot write maps whose keys are not texts or numbers. Each snapshot is read
/// back before it is saved; if it is not the same, it is not saved, and a warning is logged once.
pub struct Snapshots<A> {
    every: u32,
    version: u32,
    write: fn(u32, &Head, &A) -> Result<Vec<u8>, WriteFault>,
    read: fn(u32, &[u8]) -> Found<A>,
}

impl<A: Aggregate + HasSerde> Snapshots<A> {
    /// A snapshot about every so many events, at least one; 50 to 500 is usual.
    ///
    /// A smaller number makes the tail of a cold load shorter, and the writes beside the log more: each snapshot is the
    /// whole state.
    pub fn every(events: u32) -> Self {
        Self { every: events.max(1), version: 1, write: bytes::write, read: bytes::read }
    }

    /// The version of the state's meaning; 1 by default. Snapshots of any other version are discarded.
    pub fn version(self, version: u32) -> Self {
        Self { version, ..self }
    }
}

impl<A> Snapshots<A> {
    /// Whether a snapshot is due at `version`, if the last one was at `saved`.
    pub(crate) fn is_due(&self, version: u64, saved: u64) -> bool {
        version / u64::from(self.every) > saved / u64::from(self.every)
    }

    pub(crate) fn write(&self, head: &Head, state: &A) -> Result<Vec<u8>, WriteFault> {
        (self.write)(self.version, head, state)
    }

    pub(crate) fn read(&self, bytes: &[u8]) -> Found<A> {
        (self.read)(self.version, bytes)
    }
}

impl<A> Clone for Snapshots<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for Snapshots<A> {}

impl<A> fmt::Debug for Snapshots<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshots")
            .field("of", &type_name::<A>())
            .field("every", &self.every)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}
