//! What can go wrong, by what the caller does next.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use crate::base::{
    id::{AggregateKey, InvalidId, Position},
    metadata::InvalidMetadata,
};

/// The cause beneath an error of an adapter.
pub type Source = Arc<dyn StdError + Send + Sync>;

/// Why a command had no effect, or may have had none.
#[derive(Debug, thiserror::Error)]
pub enum CommandError<R: StdError + 'static> {
    /// The aggregate said no. Sending the command again changes nothing as long as the state stays.
    #[error(transparent)]
    Rejected(R),
    /// The command creates an aggregate, and there is one of that id.
    #[error("{0} exists already")]
    AlreadyExists(AggregateKey),
    /// The command needs an aggregate, and there is none of that id.
    #[error("{0} does not exist")]
    NotFound(AggregateKey),
    /// A technical failure: [`Error`] says whether the command can have taken effect.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl<R: StdError> CommandError<R> {
    /// The aggregate's own refusal, if this is one.
    pub fn rejection(&self) -> Option<&R> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }
}

/// A technical failure. Unless a variant says otherwise, this sending of the command has taken no effect
/// and never will; an earlier one under the same id, whose answer was [`Unknown`](Error::Unknown), still may.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Other writers were faster in every attempt. Send the command again, under the same id.
    #[error("{aggregate} was changed by others in each of {attempts} attempts, send the command again")]
    Conflict {
        /// The aggregate.
        aggregate: AggregateKey,
        /// How often the command was handled.
        attempts: u32,
    },
    /// The store gave no definite answer: the events may be stored now, or later. Send the command
    /// again under the same id until the answer is another one. It takes effect at most once, as long as the aggregate
    /// remembers it: each aggregate remembers its last 1,000 command ids
    /// ([`REMEMBERED_COMMANDS`](crate::model::REMEMBERED_COMMANDS)), and a repeat that comes after 1,000 other commands on
    /// the aggregate takes effect a second time. So send it again soon. A later refusal is about the later sending:
    /// where the rules depend on the time, the earlier one may still have been accepted.
    #[error(
        "it is not known whether command {command} on {aggregate} took effect, send it again under the same id"
    )]
    Unknown {
        /// The aggregate.
        aggregate: AggregateKey,
        /// The command.
        command: crate::base::id::CommandId,
        /// The last answer.
        source: Box<StoreError>,
    },
    /// The log was restored from an older copy, or made again, while the command was under way. Its events are
    /// recorded, and follow a history that it was not decided on. Compare the aggregate's events from that sequence
    /// on: correct them by further commands, or restore the log.
    #[error(
        "the log became another one while command {command} on {aggregate} was under way: its events are at sequence \
         {sequence}, after a history that it was not decided on; check the aggregate, then correct it or restore the log"
    )]
    Misplaced {
        /// The aggregate.
        aggregate: AggregateKey,
        /// The command.
        command: crate::base::id::CommandId,
        /// Where its events are.
        sequence: u64,
    },
    /// The log does not have the command of a receipt any more: it was restored from an older copy, or made again.
    /// What the receipt promised is lost. Send the command again, or restore the log.
    #[error(
        "the log does not have command {command} on {aggregate} at sequence {sequence} any more: it was restored from \
         an older copy, or made again; send the command again, or restore the log"
    )]
    ReceiptVoid {
        /// The aggregate.
        aggregate: AggregateKey,
        /// The command.
        command: crate::base::id::CommandId,
        /// Where it was.
        sequence: u64,
    },
    /// The id belongs to another command that was carried out on the aggregate: the name or a field
    /// differs. Give each command an id of its own.
    #[error("command {command} was carried out on {aggregate} before, with other content")]
    AnotherCommand {
        /// The aggregate.
        aggregate: AggregateKey,
        /// The id.
        command: crate::base::id::CommandId,
    },
    /// Too many commands wait for the aggregate. Send the command again later.
    #[error("{waiting} commands wait for {aggregate} already, send the command again later")]
    Overloaded {
        /// The aggregate.
        aggregate: AggregateKey,
        /// How many wait.
        waiting: usize,
    },
    /// The runtime shut down before the command's turn came.
    #[error("the service ended before the command on {aggregate} had its turn")]
    Interrupted {
        /// The aggregate.
        aggregate: AggregateKey,
    },
    /// An interceptor did not let the call through.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The id is none that a store would take.
    #[error(transparent)]
    InvalidId(#[from] InvalidId),
    /// The metadata is more than an event can carry, or has a name that none can.
    #[error(transparent)]
    InvalidMetadata(#[from] InvalidMetadata),
    /// The view had not got to the sequence in time. Whatever command was waited for has taken effect.
    #[error("view {view} is at sequence {at} and did not reach {sequence} within {waited:?}")]
    ViewBehind {
        /// The view.
        view: &'static str,
        /// Where it is.
        at: u64,
        /// The sequence that was waited for.
        sequence: u64,
        /// How long.
        waited: Duration,
    },
    /// The view could not apply an event and has set it and the later ones of its aggregate aside: they are missing in
    /// it. The command has taken effect. [`Cqrs::dead_letters`](crate::Cqrs::dead_letters) lists them and says what can
    /// be done; without [`after`](crate::futures::Ask::after) the view answers as if they had not been.
    #[error(
        "view {view} has set aside the event of {aggregate} at sequence {}, {dead_letters} dead letters are missing in it: \
         {reason}",
        .position.sequence
    )]
    SetAside {
        /// The view.
        view: String,
        /// The aggregate of the first dead letter that is missing.
        aggregate: AggregateKey,
        /// Its place in the log.
        position: Position,
        /// Why it was not applied.
        reason: String,
        /// How many dead letters are missing.
        dead_letters: usize,
    },
    /// The view's projector has stopped and waits for a person. The command has taken effect.
    #[error("the projector of view {view} has halted: {reason}")]
    ProjectionHalted {
        /// The view.
        view: String,
        /// Why.
        reason: String,
    },
    /// A new version of the view is being built and does not answer yet. The old version answers in programs
    /// that have it.
    #[error("view {view} is being built in version {version} and does not answer yet")]
    ViewBuilding {
        /// The view.
        view: &'static str,
        /// The version.
        version: u32,
    },
    /// Somebody has given up the build; see [`Cqrs::abandon_rebuild`](crate::Cqrs::abandon_rebuild).
    #[error("build {view} was given up, the one before it answers")]
    RebuildAbandoned {
        /// The build.
        view: String,
    },
    /// The service has no projection of that name.
    #[error("there is no projection {name:?} in this service, it has {}", .known.join(", "))]
    UnknownProjection {
        /// The name.
        name: String,
        /// Those that there are.
        known: Vec<&'static str>,
    },
    /// A policy or handler is never built anew: whatever it has done would be done again.
    #[error("{projection} is a policy or a handler and is not built anew, which would do everything again")]
    NotRebuilt {
        /// Its name.
        projection: &'static str,
    },
    /// A command led to an event that is only read any more. Nothing is stored; the handler has to lead to
    /// another event.
    #[error(
        "a command on {aggregate} led to {event_type}, which is retired: it is read and not recorded any more"
    )]
    Retired {
        /// The aggregate.
        aggregate: AggregateKey,
        /// The event's stored name.
        event_type: &'static str,
    },
    /// An event cannot be stored, because it could not be read back as it is. Nothing is stored.
    #[error("{event_type} of {aggregate} cannot be recorded: {reason}")]
    Unrecordable {
        /// The aggregate.
        aggregate: AggregateKey,
        /// The event's stored name.
        event_type: &'static str,
        /// Why not.
        reason: String,
    },
    /// A value could not be encoded as JSON.
    #[error("{what} cannot be written as JSON")]
    Encode {
        /// The value.
        what: String,
        /// serde's reason.
        source: serde_json::Error,
    },
    /// The service is put together wrongly: a name is used twice, or is none that can be stored.
    #[error("the service cannot start: {0}")]
    Config(String),
    /// The event store or the view store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What an interceptor says when it does not let a call through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused: {reason}")]
pub struct Refused {
    /// Why, in words for the caller.
    pub reason: String,
}

impl Refused {
    /// A refusal with a reason for the caller.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// A failure of a store, by what the caller can do about it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No answer, or one that says "not now". Try again.
    #[error("the store did not answer: {what}")]
    Unavailable {
        /// What was asked.
        what: String,
        /// The client's error, where there is one.
        source: Option<Source>,
    },
    /// The store answers and takes nothing in: what happens when its disk is full or fails. A person must
    /// look at the server; trying again helps once the cause is gone.
    #[error("the store takes nothing in: {what}")]
    Stalled {
        /// What was asked, and what to do.
        what: String,
        /// The client's error, where there is one.
        source: Option<Source>,
    },
    /// What is stored has reached a limit that somebody set. It is not stored; raise the limit, or make room.
    #[error("the store has no room: {what}")]
    Full {
        /// What was asked, and which limit to raise.
        what: String,
        /// The client's error, where there is one.
        source: Option<Source>,
    },
    /// What keeps the events or the views is not there: it was deleted, or never created.
    #[error("the store is not there: {what}")]
    Missing {
        /// What is missing, and what to do.
        what: String,
        /// The client's error, where there is one.
        source: Option<Source>,
    },
    /// The store is switched off. Switch it on; until then nothing is read or stored.
    #[error("the store is switched off: {what}")]
    Disabled {
        /// What was asked, and what to do.
        what: String,
        /// The client's error, where there is one.
        source: Option<Source>,
    },
    /// Too few of the store's replicas run for a decision. It goes on by itself when enough of them are back.
    #[error("the store has no leader: {what}")]
    NoLeader {
        /// What was asked, and what to do.
        what: String,
        /// The client's error, where there is one.
        source: Option<Source>,
    },
    /// The service lacks a permission. It is not done; grant the permission.
    #[error("{what} needs the permission to {permission}: grant it to the service's user")]
    NotPermitted {
        /// What was asked.
        what: String,
        /// What the user must be allowed to do.
        permission: String,
    },
    /// The store refuses: something is not as it was expected. A person must look.
    #[error("the store refuses: {what}")]
    Refused {
        /// What was asked, and what to do.
        what: String,
        /// The client's error, where there is one.
        source: Option<Source>,
    },
    /// The message is larger than the store takes. Make it smaller.
    #[error("{what} takes {bytes} bytes, at most {limit} are accepted")]
    TooLarge {
        /// What is too large.
        what: String,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// One write changes more than the store takes.
    #[error("{what} is {number} documents and notes, at most {limit} are accepted in one write")]
    TooMany {
        /// What changes them.
        what: String,
        /// How many they are.
        number: usize,
        /// The limit.
        limit: usize,
    },
    /// An aggregate's versions do not follow each other: events are missing or doubled in the log.
    #[error(
        "{aggregate} should have version {expected} at sequence {sequence}, found {found}: the log is damaged"
    )]
    Gap {
        /// The aggregate.
        aggregate: AggregateKey,
        /// The version that should come next.
        expected: u64,
        /// The version that is there.
        found: u64,
        /// Where.
        sequence: u64,
    },
    /// A message in the log is not a commit.
    #[error("the message at sequence {sequence} is not a commit: {reason}")]
    NotACommit {
        /// Where.
        sequence: u64,
        /// Why not.
        reason: String,
    },
    /// A stored event has a name that this program does not know. Run a program that knows it; if the event was
    /// renamed, give its old name as an alias.
    #[error(
        "event {event_type} of {aggregate} at sequence {sequence} is none that this program reads: it reads {}",
        .known.join(", ")
    )]
    UnknownEvent {
        /// The aggregate.
        aggregate: AggregateKey,
        /// Where.
        sequence: u64,
        /// The event's stored name.
        event_type: String,
        /// The names that this program reads.
        known: Vec<&'static str>,
    },
    /// A stored event has a version that this program does not know, usually because a newer program has stored it.
    /// Run that program, or one that is newer still.
    #[error(
        "event {event_type} of {aggregate} at sequence {sequence} was stored in version {version}, and this program \
         reads {}",
        versions(.known)
    )]
    UnknownVersion {
        /// The aggregate.
        aggregate: AggregateKey,
        /// Where.
        sequence: u64,
        /// The event's stored name.
        event_type: String,
        /// The version that it was stored in.
        version: u32,
        /// The versions that this program reads.
        known: Vec<u32>,
    },
    /// A stored event of a known name and version cannot be read by this program.
    #[error("event {event_type} of {aggregate} at sequence {sequence} cannot be read: {reason}")]
    Undecodable {
        /// The aggregate.
        aggregate: AggregateKey,
        /// Where.
        sequence: u64,
        /// The event's stored name.
        event_type: String,
        /// Why not.
        reason: String,
    },
    /// More events cannot be applied than a projection sets aside. It stands before the next one.
    #[error(
        "projection {projection} has {limit} dead letters and no room for more: deal with them; the next one \
         would be: {reason}"
    )]
    TooManyDeadLetters {
        /// The projection.
        projection: String,
        /// How many it sets aside.
        limit: usize,
        /// Why the next event cannot be applied.
        reason: String,
    },
    /// More intents of a policy cannot be carried out than it sets aside. It stands before the next one.
    #[error(
        "policy {policy} has {limit} dead intents and no room for more: deal with them; the next one would be: {reason}"
    )]
    TooManyDeadIntents {
        /// The policy.
        policy: String,
        /// How many it sets aside.
        limit: usize,
        /// Why the next intent cannot be carried out.
        reason: String,
    },
    /// A stored document of a view cannot be read by this program.
    #[error("document {key:?} of view {view} cannot be read: {reason}")]
    BadDocument {
        /// The view.
        view: String,
        /// The document's key.
        key: String,
        /// Why not.
        reason: String,
    },
    /// Deliveries were lost or repeated on the way. Subscribe again from the checkpoint.
    #[error("deliveries to {subscriber} are not contiguous: {what}")]
    Interrupted {
        /// Who reads.
        subscriber: String,
        /// What was seen.
        what: String,
    },
    /// The view was built from another log than the one that is there now.
    #[error(
        "view {view} was built from log {built_from}, this is {found}: rebuild the view, or restore the log"
    )]
    ForeignLog {
        /// The view.
        view: String,
        /// The log that its checkpoint names.
        built_from: String,
        /// The log that is there.
        found: String,
    },
}

impl StoreError {
    /// Whether the store gave no answer at all, where another error says what somebody has to do.
    pub(crate) fn is_no_answer(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::NoLeader { .. })
    }

    /// Whether the same call may succeed later while the service runs on: by itself, or after somebody
    /// has helped the store.
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
            | Self::BadDocument { .. }
            | Self::ForeignLog { .. } => false,
        }
    }

    /// An [`Unavailable`](Self::Unavailable) with its cause.
    pub fn unavailable(what: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Unavailable { what: what.into(), source: Some(source.into().into()) }
    }

    /// A [`Refused`](Self::Refused) with its cause.
    pub fn refused(what: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Refused { what: what.into(), source: Some(source.into().into()) }
    }
}

/// The versions that a program reads, in words.
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

/// An error with its causes, in one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
