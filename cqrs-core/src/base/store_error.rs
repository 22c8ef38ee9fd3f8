//! Why a store did not do what it was asked.

use std::error::Error as StdError;

use crate::base::{id::AggregateKey, source::Source};

/// A failure of a store, sorted by what the caller can do about it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No answer, or an answer to try again later. Try again.
    #[error("the store did not answer: {what}")]
    Unavailable {
        /// The operation.
        what: String,
        /// The client's error, if there is one.
        source: Option<Source>,
    },
    /// The store answers and stores nothing, as when its disk is full or fails. An operator must check the server; a
    /// retry helps once the cause is gone.
    #[error("the store takes nothing in: {what}")]
    Stalled {
        /// The operation, and what to do.
        what: String,
        /// The client's error, if there is one.
        source: Option<Source>,
    },
    /// A configured limit of the store is reached. Nothing is stored; raise the limit, or make room.
    #[error("the store has no room: {what}")]
    Full {
        /// The operation, and which limit to raise.
        what: String,
        /// The client's error, if there is one.
        source: Option<Source>,
    },
    /// The store of the events or the views does not exist: it was deleted, or never created.
    #[error("the store is not there: {what}")]
    Missing {
        /// What is missing, and what to do.
        what: String,
        /// The client's error, if there is one.
        source: Option<Source>,
    },
    /// The store is switched off. Switch it on; until then nothing is read or stored.
    #[error("the store is switched off: {what}")]
    Disabled {
        /// The operation, and what to do.
        what: String,
        /// The client's error, if there is one.
        source: Option<Source>,
    },
    /// The store's replicas have no quorum. It continues by itself when enough of them run again.
    #[error("the store has no leader: {what}")]
    NoLeader {
        /// The operation, and what to do.
        what: String,
        /// The client's error, if there is one.
        source: Option<Source>,
    },
    /// The service's user lacks a permission. The operation was not carried out; grant the permission.
    #[error("{what} needs the permission to {permission}: grant it to the service's user")]
    NotPermitted {
        /// The operation.
        what: String,
        /// The permission that is missing.
        permission: String,
    },
    /// The store refuses the operation: something is not as expected. An operator must check it.
    #[error("the store refuses: {what}")]
    Refused {
        /// The operation, and what to do.
        what: String,
        /// The client's error, if there is one.
        source: Option<Source>,
    },
    /// The message is larger than the store accepts. Make it smaller.
    #[error("{what} takes {bytes} bytes, at most {limit} are accepted")]
    TooLarge {
        /// What is too large.
        what: String,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// One write changes more than the store accepts.
    #[error("{what} is {number} documents and notes, at most {limit} are accepted in one write")]
    TooMany {
        /// The source of the changes.
        what: String,
        /// The number of changes.
        number: usize,
        /// The limit.
        limit: usize,
    },
    /// An aggregate's versions are not consecutive: events are missing or doubled in the log.
    #[error(
        "{aggregate} should have version {expected} at sequence {sequence}, found {found}: the log is damaged"
    )]
    Gap {
        /// The aggregate.
        aggregate: AggregateKey,
        /// The version that should come next.
        expected: u64,
        /// The version that was found.
        found: u64,
        /// The sequence in the log.
        sequence: u64,
    },
    /// A message in the log is not a commit.
    #[error("the message at sequence {sequence} is not a commit: {reason}")]
    NotACommit {
        /// The sequence in the log.
        sequence: u64,
        /// Why not.
        reason: String,
    },
    /// This program does not know the name of a stored event. Run a program that knows it; if the event was renamed,
    /// declare its old name as an alias.
    #[error(
        "event {event_type} of {aggregate} at sequence {sequence} is none that this program reads: it reads {}",
        .known.join(", ")
    )]
    UnknownEvent {
        /// The aggregate.
        aggregate: AggregateKey,
        /// The sequence in the log.
        sequence: u64,
        /// The event's stored name.
        event_type: String,
        /// The names that this program reads.
        known: Vec<&'static str>,
    },
    /// This program does not know the version of a stored event, usually because a newer program has stored it. Run
    /// that program, or a newer one.
    #[error(
        "event {event_type} of {aggregate} at sequence {sequence} was stored in version {version}, and this program \
         reads {}",
        versions(.known)
    )]
    UnknownVersion {
        /// The aggregate.
        aggregate: AggregateKey,
        /// The sequence in the log.
        sequence: u64,
        /// The event's stored name.
        event_type: String,
        /// The version in which it was stored.
        version: u32,
        /// The versions that this program reads.
        known: Vec<u32>,
    },
    /// This program cannot read a stored event of a known name and version.
    #[error("event {event_type} of {aggregate} at sequence {sequence} cannot be read: {reason}")]
    Undecodable {
        /// The aggregate.
        aggregate: AggregateKey,
        /// The sequence in the log.
        sequence: u64,
        /// The event's stored name.
        event_type: String,
        /// Why not.
        reason: String,
    },
    /// A projection that [halts](crate::OnFailure::Halt) cannot apply an event. Repair the cause, and start the service
    /// again.
    #[error("{projection} failed at {event}: {reason}")]
    NotApplied {
        /// The projection: a view, a policy, an event handler or an announcer.
        projection: String,
        /// The event with its aggregate and its sequence in the log, in words.
        event: String,
        /// Why it was not applied, such as the error of an event handler.
        reason: String,
    },
    /// A policy has a stored state of another version than this program's, and cannot read it: it halts before the event.
    /// Nothing is lost. A program that reads that version goes on; see [`Policy::upgrade`](crate::Policy::upgrade).
    #[error("the state of instance {instance:?} of policy {policy} {reason}")]
    PolicyState {
        /// The policy.
        policy: String,
        /// The key of the state.
        instance: String,
        /// Its version and that of the program, and what to do.
        reason: String,
    },
    /// The projection has as many dead letters as it may have. It stops before the next event that it cannot apply.
    #[error(
        "projection {projection} has {limit} dead letters and no room for more: deal with them; the next one \
         would be: {reason}"
    )]
    TooManyDeadLetters {
        /// The projection.
        projection: String,
        /// The most dead letters that it may have.
        limit: usize,
        /// Why the next event cannot be applied.
        reason: String,
    },
    /// The policy has as many dead intents as it may have. It stops before the next one.
    #[error(
        "policy {policy} has {limit} dead intents and no room for more: deal with them; the next one would be: {reason}"
    )]
    TooManyDeadIntents {
        /// The policy.
        policy: String,
        /// The most dead intents that it may have.
        limit: usize,
        /// Why the next intent cannot be carried out.
        reason: String,
    },
    /// This program cannot read a stored document of a view.
    #[error("document {key:?} of view {view} cannot be read: {reason}")]
    BadDocument {
        /// The view.
        view: String,
        /// The document's key.
        key: String,
        /// Why not.
        reason: String,
    },
    /// Deliveries were lost or repeated. Subscribe again from the checkpoint.
    #[error("deliveries to {subscriber} are not contiguous: {what}")]
    Interrupted {
        /// The subscriber's name.
        subscriber: String,
        /// What was observed.
        what: String,
    },
    /// The view was built from another log than the present one.
    #[error(
        "view {view} was built from log {built_from}, this is {found}: rebuild the view, or restore the log"
    )]
    ForeignLog {
        /// The view.
        view: String,
        /// The log in its checkpoint.
        built_from: String,
        /// The present log.
        found: String,
    },
}

impl StoreError {
    /// Whether the store gave no answer at all; any other error says what an operator has to do.
    pub(crate) fn is_no_answer(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::NoLeader { .. })
    }

    /// Whether the same call may succeed later while the service runs: by itself, or after an operator has repaired the
    /// store.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { .. }
            | Self::Interrupted { .. }
            | Self::Stalled { .. }
            | Self::Full { .. }
            | Self::Missing { .. }
            | Self::Disabled { .. }
            | Self::NoLeader { .. } => true,
            Self::NotPermitted { .. }
            | Self::Refused { .. }
            | Self::TooLarge { .. }
            | Self::TooMany { .. }
            | Self::TooManyDeadLetters { .. }
            | Self::TooManyDeadIntents { .. }
            | Self::Gap { .. }
            | Self::NotACommit { .. }
            | Self::UnknownEvent { .. }
            | Self::UnknownVersion { .. }
            | Self::Undecodable { .. }
            | Self::NotApplied { .. }
            | Self::PolicyState { .. }
            | Self::BadDocument { .. }
            | Self::ForeignLog { .. } => false,
        }
    }

    /// An [`Unavailable`](Self::Unavailable) with its cause.
    pub fn unavailable(what: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Unavailable { what: what.into(), source: Some(Source::new(source)) }
    }

    /// A [`Refused`](Self::Refused) with its cause.
    pub fn refused(what: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Refused { what: what.into(), source: Some(Source::new(source)) }
    }
}

/// A text for the versions that a program reads.
fn versions(known: &[u32]) -> String {
    let all: Vec<String> = known.iter().map(u32::to_string).collect();
    if let [only] = all.as_slice() {
        format!("version {only}")
    } else {
        format!("versions {}", all.join(", "))
    }
}

pub(crate) fn is_too_large(error: &StoreError) -> bool {
    matches!(error, StoreError::TooLarge { .. } | StoreError::TooMany { .. })
}
