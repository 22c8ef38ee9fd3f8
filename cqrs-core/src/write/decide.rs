//! The decision of a command: first of its lifecycle, then of its handler. No input or output.

use crate::{
    base::{
        error::{CommandError, Error},
        id::AggregateKey,
    },
    log::commit::Receipt,
    model::{
        aggregate::{Aggregate, Handle},
        command::{Command, Context, Lifecycle},
        event::{Event, Events},
    },
};

pub(crate) type CommandFailure<A> = CommandError<<A as Aggregate>::Rejection>;

pub(crate) type CommandResult<A> = Result<Receipt, CommandFailure<A>>;

type Decision<A> = Result<Events<<A as Aggregate>::Event>, CommandFailure<A>>;

/// The decision of the lifecycle and the handler on a state and its version, without the command's type.
pub(crate) trait Decide<A: Aggregate>:
    Fn(&Context, &A, u64) -> Decision<A> + Send + Sync + 'static
{
}

impl<A: Aggregate, F: Fn(&Context, &A, u64) -> Decision<A> + Send + Sync + 'static> Decide<A> for F {}

/// The command's identity, as its events record it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) name: &'static str,
    /// See [`Origin::fingerprint`].
    pub(crate) fingerprint: u64,
    /// Whether the command expects that the aggregate does not exist.
    pub(crate) creates: bool,
    /// Whether the caller has given the command its id, under which it may have been carried out before.
    pub(crate) given: bool,
}

/// The decision of the expected version, then of the lifecycle, and then of the handler.
pub(crate) fn decide<C: Command>(
    command: &C,
    context: &Context,
    state: &C::Aggregate,
    version: u64,
    expected: Option<u64>,
    key: &AggregateKey,
) -> Decision<C::Aggregate>
where
    C::Aggregate: Handle<C>,
{
    if let Some(expected) = expected.filter(|expected| *expected != version) {
        return Err(CommandError::Changed { aggregate: key.clone(), expected, found: version });
    }
    match (command.lifecycle(), version) {
        (Lifecycle::Create, 1..) => Err(CommandError::AlreadyExists(key.clone())),
        (Lifecycle::Update, 0) => Err(CommandError::NotFound(key.clone())),
        _ => {
            let events = state.handle(command, context).map_err(CommandError::Rejected)?;
            match events.iter().find(|event| event.is_retired()) {
                Some(retired) => Err(retired_event(key, retired).into()),
                None => Ok(events),
            }
        }
    }
}

fn retired_event<E: Event>(aggregate: &AggregateKey, event: &E) -> Error {
    Error::Retired { aggregate: aggregate.clone(), event_type: event.event_type().name }
}
