//! The errors, sorted by what the caller does next.

use std::{error::Error as StdError, fmt, time::Duration};

use crate::base::{
    id::{AggregateKey, InvalidId, Position},
    metadata::InvalidMetadata,
    rejection::IsRejection,
    store_error::StoreError,
};

/// Why a command had no effect, or may have had none.
pub enum CommandError<R> {
    /// The aggregate rejected the command. The same command is rejected again while the state is the same.
    Rejected(R),
    /// The command creates an aggregate, and one of that id exists.
    AlreadyExists(AggregateKey),
    /// The command needs an aggregate, and none of that id exists.
    NotFound(AggregateKey),
    /// The aggregate has another version than the one that the caller
    /// [expects](crate::futures::Execute::expecting): others have changed what the caller saw. Nothing was stored. Show
    /// the present state, and let the caller decide again.
    Changed {
        /// The aggregate.
        aggregate: AggregateKey,
        /// The version that the caller expects.
        expected: u64,
        /// Its version; 0 if it does not exist.
        found: u64,
    },
    /// A technical failure: [`Error`] says whether the command may have taken effect.
    Failed(Error),
}

impl<R> CommandError<R> {
    /// The aggregate's rejection, if this is one.
    pub fn rejection(&self) -> Option<&R> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }
}

impl<R> From<Error> for CommandError<R> {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl<R: IsRejection> fmt::Debug for CommandError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => f.debug_tuple("Rejected").field(&rejection.as_error()).finish(),
            Self::AlreadyExists(key) => f.debug_tuple("AlreadyExists").field(key).finish(),
            Self::NotFound(key) => f.debug_tuple("NotFound").field(key).finish(),
            Self::Changed { aggregate, expected, found } => f
                .debug_struct("Changed")
                .field("aggregate", aggregate)
                .field("expected", expected)
                .field("found", found)
                .finish(),
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

impl<R: IsRejection> fmt::Display for CommandError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => fmt::Display::fmt(rejection.as_error(), f),
            Self::AlreadyExists(key) => write!(f, "{key} exists already"),
            Self::NotFound(key) => write!(f, "{key} does not exist"),
            Self::Changed { aggregate, expected, found: 0 } => {
                write!(f, "{aggregate} does not exist, and version {expected} of it was expected")
            }
            Self::Changed { aggregate, expected, found } => {
                write!(
                    f,
                    "{aggregate} has changed: it has version {found}, and version {expected} was expected"
                )
            }
            Self::Failed(error) => fmt::Display::fmt(error, f),
        }
    }
}

/// Rejections and failures are transparent: the text and the source are theirs.
impl<R: IsRejection> StdError for CommandError<R> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Rejected(rejection) => rejection.as_error().source(),
            Self::Failed(error) => error.source(),
            Self::AlreadyExists(_) | Self::NotFound(_) | Self::Changed { .. } => None,
        }
    }
}

/// A technical failure. Unless a variant says otherwise, this attempt has no effect and never will. An earlier attempt
/// under the same id, whose answer was [`Unknown`](Error::Unknown), may still take effect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Other writers were faster in every attempt (optimistic concurrency). Send the command again, under the same id.
    #[error(
        "{aggregate} was changed by others in {}, send the command again",
        counted(attempts, "attempt", "attempts")
    )]
    Conflict {
        /// The aggregate.
        aggregate: AggregateKey,
        /// How often the command was handled.
        attempts: u32,
    },
    /// The store gave no definite answer: the events may be stored now, or later. Send the command again under the same
    /// id until the answer is another one. It takes effect at most once, however late it is sent. A later rejection
    /// concerns the later attempt: if the rules depend on the time, the earlier attempt may still be stored.
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
    /// The log was restored from an older copy, or created again, while the command was in progress. Its events are
    /// stored, and follow a history that the command was not decided on. Check the aggregate's events from that
    /// sequence on: correct them with further commands, or restore the log.
    #[error(
        "the log became another one while command {command} on {aggregate} was under way: its events are at sequence \
         {sequence}, after a history that it was not decided on; check the aggregate, then correct it or restore the log"
    )]
    Misplaced {
        /// The aggregate.
        aggregate: AggregateKey,
        /// The command.
        command: crate::base::id::CommandId,
        /// The sequence of its events.
        sequence: u64,
    },
    /// The log does not have the command of a receipt any more: it was restored from an older copy, or created again.
    /// The receipt is void. Send the command again, or restore the log.
    #[error(
        "the log does not have command {command} on {aggregate} at sequence {sequence} any more: it was restored from \
         an older copy, or made again; send the command again, or restore the log"
    )]
    ReceiptVoid {
        /// The aggregate.
        aggregate: AggregateKey,
        /// The command.
        command: crate::base::id::CommandId,
        /// The sequence in the receipt.
        sequence: u64,
    },
    /// No view that was asked follows the log of this position, or that log does not have it any more: it was restored
    /// from an older copy, or created again. The position is void. Ask without it.
    #[error(
        "the position {sequence} of log {log} is void: the log was restored from an older copy or made again, or it is \
         the log of another context; ask without the position"
    )]
    PositionVoid {
        /// The log in the position.
        log: String,
        /// The sequence in the position.
        sequence: u64,
    },
    /// The views of a query follow different logs, so that their answer has no single position: ask each of them by
    /// itself, or without [`with_position`](crate::futures::Ask::with_position).
    #[error("the views {views} follow different logs, so their answer has no single position")]
    SeveralLogs {
        /// The views.
        views: String,
    },
    /// The id belongs to another command that was carried out on the aggregate: its name or a field differs. Give each
    /// command its own id.
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
    /// The runtime shut down before the command was taken from the aggregate's queue.
    #[error("the service ended before the command on {aggregate} had its turn")]
    Interrupted {
        /// The aggregate.
        aggregate: AggregateKey,
    },
    /// An interceptor refused the call.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// No store takes the id.
    #[error(transparent)]
    InvalidId(#[from] InvalidId),
    /// The metadata is too large for an event, or has a name that no event can have.
    #[error(transparent)]
    InvalidMetadata(#[from] InvalidMetadata),
    /// The view, or another projection, did not reach the sequence in time. A command that was waited for has taken effect.
    #[error("{view} is at sequence {at} and did not reach {sequence} within {waited:?}")]
    ViewBehind {
        /// The view.
        view: &'static str,
        /// The sequence of the view.
        at: u64,
        /// The sequence that was waited for.
        sequence: u64,
        /// How long the call waited.
        waited: Duration,
    },
    /// The view could not apply an event, and has set it aside with the later events of its aggregate: the view does
    /// not contain them. The command has taken effect. [`Cqrs::dead_letters`](crate::Cqrs::dead_letters) lists and
    /// resolves them; without [`after`](crate::futures::Ask::after) the view answers as if they had not happened.
    #[error(
        "{view} has set aside the event of {aggregate} at sequence {}, {} missing in it: {reason}",
        .position.sequence,
        counted(dead_letters, "dead letter is", "dead letters are")
    )]
    SetAside {
        /// The view.
        view: String,
        /// The aggregate of the first dead letter.
        aggregate: AggregateKey,
        /// Its position in the log.
        position: Position,
        /// Why it was not applied.
        reason: String,
        /// How many dead letters are missing.
        dead_letters: usize,
    },
    /// A policy could not execute a command or a deadline, and has set it aside with the later ones of its state.
    /// [`Cqrs::dead_intents`](crate::Cqrs::dead_intents) lists and resolves them.
    #[error(
        "policy {policy} has set aside {what} of {key:?}, {} not carried out: {reason}",
        counted(dead_intents, "command or deadline is", "commands and deadlines are")
    )]
    IntentsSetAside {
        /// The policy.
        policy: &'static str,
        /// The key of the state of the first dead intent.
        key: String,
        /// The first dead intent.
        what: String,
        /// Why it was not executed.
        reason: String,
        /// How many intents are set aside.
        dead_intents: usize,
    },
    /// A policy made no progress with its commands and deadlines for as long as the call waits.
    #[error(
        "policy {policy} has {} to carry out, and ended none within {waited:?}",
        counted(open, "command or deadline", "commands and deadlines")
    )]
    Unsettled {
        /// The policy.
        policy: &'static str,
        /// How many it has to execute.
        open: usize,
        /// How long the call waited.
        waited: Duration,
    },
    /// Deadlines are due, and the commands of none were sent for as long as the call waits.
    #[error(
        "{} due, and the command of none was sent within {waited:?}",
        counted(overdue, "deadline is", "deadlines are")
    )]
    DeadlinesOverdue {
        /// How many are due.
        overdue: u64,
        /// How long the call waited.
        waited: Duration,
    },
    /// The projector of a view, a policy, an event handler or an announcer has halted and needs an operator. The command
    /// has taken effect.
    #[error("the projector of {view} has halted: {reason}")]
    ProjectionHalted {
        /// The projection.
        view: String,
        /// Why it has halted.
        reason: String,
    },
    /// A new version of the view is being built and does not answer queries yet. Programs that have the old version
    /// answer from it.
    #[error("view {view} is being built in version {version} and does not answer yet")]
    ViewBuilding {
        /// The view.
        view: &'static str,
        /// The version.
        version: u32,
    },
    /// The build was abandoned; see [`Cqrs::abandon_rebuild`](crate::Cqrs::abandon_rebuild).
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
        /// The names that it has.
        known: Vec<&'static str>,
    },
    /// A policy or an event handler is never rebuilt: a rebuild would repeat its effects.
    #[error("{projection} is a policy or a handler and is not built anew, which would do everything again")]
    NotRebuilt {
        /// Its name.
        projection: &'static str,
    },
    /// A command led to a retired event, which is read and not recorded any more. Nothing is stored; change the handler
    /// so that it returns another event.
    #[error(
        "a command on {aggregate} led to {event_type}, which is retired: it is read and not recorded any more"
    )]
    Retired {
        /// The aggregate.
        aggregate: AggregateKey,
        /// The event's stored name.
        event_type: &'static str,
    },
    /// An event cannot be stored, because it would not be read back as the same. Nothing is stored.
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
        /// serde's error.
        source: serde_json::Error,
    },
    /// The service is configured wrongly: a name is used twice, or cannot be stored, or a type is added twice.
    #[error("the service cannot start: {0}")]
    Config(String),
    /// A failure of the event store or the view store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An interceptor's refusal of a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused: {reason}")]
pub struct Refused {
    /// The reason, for the caller.
    pub reason: String,
}

impl Refused {
    /// A refusal with a reason for the caller.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// A number with what it counts: `1 dead letter is`, `2 dead letters are`.
fn counted<N: fmt::Display + PartialEq + From<u8>>(number: &N, one: &str, several: &str) -> String {
    format!("{number} {}", if *number == N::from(1) { one } else { several })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_one_or_several() {
        let (aggregate, waited) =
            (|| AggregateKey::new("order", "7").expect("an id"), Duration::from_secs(5));
        let unsettled = |open| Error::Unsettled { policy: "fulfilment", open, waited };
        let conflict = |attempts| Error::Conflict { aggregate: aggregate(), attempts };
        let set_aside = |dead_letters| Error::SetAside {
            view: "mailer-v1".into(),
            aggregate: aggregate(),
            position: Position { sequence: 3, index: 0 },
            reason: "it is away".into(),
            dead_letters,
        };
        let intents = |dead_intents| Error::IntentsSetAside {
            policy: "fulfilment",
            key: "7".into(),
            what: "command pay".into(),
            reason: "it panicked".into(),
            dead_intents,
        };
        let of_order = "mailer-v1 has set aside the event of order/7 at sequence 3";
        let of_policy = r#"policy fulfilment has set aside command pay of "7""#;
        for (error, text) in [
            (conflict(1), "order/7 was changed by others in 1 attempt, send the command again".to_owned()),
            (conflict(2), "order/7 was changed by others in 2 attempts, send the command again".to_owned()),
            (set_aside(1), format!("{of_order}, 1 dead letter is missing in it: it is away")),
            (set_aside(2), format!("{of_order}, 2 dead letters are missing in it: it is away")),
            (intents(1), format!("{of_policy}, 1 command or deadline is not carried out: it panicked")),
            (intents(2), format!("{of_policy}, 2 commands and deadlines are not carried out: it panicked")),
            (
                unsettled(1),
                "policy fulfilment has 1 command or deadline to carry out, and ended none within 5s"
                    .to_owned(),
            ),
            (
                Error::DeadlinesOverdue { overdue: 1, waited },
                "1 deadline is due, and the command of none was sent within 5s".to_owned(),
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
}
