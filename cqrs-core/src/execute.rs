//! Carrying out one command: load, handle, append, and again when another writer was faster.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::{Span, debug, field};

use crate::{
    Aggregate, AggregateKey, Clock, Command, CommandError, Commit, Context, Error, EventStore, Events,
    Expected, Handle, Lifecycle, Origin, Receipt, StoreError, StoredCommit,
    append::{self, Outcome},
    backoff, codec,
    load::{CarriedOut, Loaded, commands_of},
};

/// Bounds of one command's execution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How often a command is handled when others change the aggregate in between.
    pub(crate) attempts: u32,
    /// How long an append is tried again while the store gives no definite answer.
    pub(crate) patience: Duration,
}

pub(crate) type Failure<C> = CommandError<<<C as Command>::Aggregate as Aggregate>::Rejection>;

/// What one attempt led to.
enum Attempt {
    Done(Receipt),
    /// Another writer was faster, or the state was an old one: catch up and handle again.
    Stale,
}

/// Carries out `command`; `context.time` is renewed with each attempt.
pub(crate) async fn execute<S, C>(
    store: &S,
    clock: &dyn Clock,
    limits: Limits,
    command: &C,
    mut context: Context,
) -> Result<Receipt, Failure<C>>
where
    S: EventStore,
    C: Command,
    C::Aggregate: Handle<C>,
{
    let id = command.aggregate_id().to_string();
    let key = AggregateKey::new(C::Aggregate::NAME, id).map_err(Error::from)?;
    let mut loaded = Loaded::<C::Aggregate>::nothing(key);
    catch_up(store, limits, &mut loaded).await?;
    for attempt in 1..=limits.attempts {
        context.time = clock.now();
        if let Attempt::Done(receipt) = once(store, clock, limits, command, &context, &mut loaded).await? {
            Span::current().record("version", receipt.version).record("attempts", attempt);
            return Ok(receipt);
        }
        debug!(attempt, aggregate = %loaded.key, "another writer was faster, handling again");
        tokio::time::sleep(backoff::pause(Duration::from_millis(1), Duration::from_millis(32), attempt))
            .await;
        catch_up(store, limits, &mut loaded).await?;
    }
    Span::current().record("attempts", limits.attempts);
    Err(Error::Conflict { aggregate: loaded.key, attempts: limits.attempts }.into())
}

/// Reads what was stored since, and tries again while the store does not answer.
async fn catch_up<S: EventStore, A: Aggregate>(
    store: &S,
    limits: Limits,
    loaded: &mut Loaded<A>,
) -> Result<(), Error> {
    let deadline = Instant::now() + limits.patience;
    let mut attempt = 0;
    while let Err(error) = loaded.catch_up(store).await {
        let pause = backoff::pause(Duration::from_millis(20), Duration::from_secs(1), attempt);
        if !error.is_transient() || Instant::now() + pause > deadline {
            return Err(error.into());
        }
        tokio::time::sleep(pause).await;
        attempt += 1;
    }
    Ok(())
}

async fn once<S, C>(
    store: &S,
    clock: &dyn Clock,
    limits: Limits,
    command: &C,
    context: &Context,
    loaded: &mut Loaded<C::Aggregate>,
) -> Result<Attempt, Failure<C>>
where
    S: EventStore,
    C: Command,
    C::Aggregate: Handle<C>,
{
    if let Some(carried_out) = loaded.carried_out(context.command_id) {
        return Ok(Attempt::Done(receipt(loaded, context, carried_out, true)));
    }
    let events = match decide(command, context, &loaded.state, loaded.version, &loaded.key) {
        Ok(events) if !events.is_empty() => events,
        // A refusal, or that there is nothing to do, holds only for the current state.
        refused_or_nothing => {
            if !loaded.confirm(store).await.map_err(Error::from)? {
                return Ok(Attempt::Stale);
            }
            refused_or_nothing?;
            return Ok(Attempt::Done(receipt(loaded, context, nothing(loaded, context), false)));
        }
    };
    let commit = commit_of(store, clock, context, loaded, &events)?;
    let expected = Expected::after(loaded.position.sequence);
    match append::append(store, &commit, expected, limits.patience).await {
        Outcome::Stored(sequence) => {
            let stored = StoredCommit { sequence, commit };
            Ok(Attempt::Done(find_receipt(loaded, context, &stored, false)?))
        }
        Outcome::Conflict => Ok(Attempt::Stale),
        Outcome::CarriedOut(sequence) => {
            let found =
                store.next_after(&loaded.key, sequence.saturating_sub(1)).await.map_err(Error::from)?;
            let stored = found.ok_or_else(|| not_there(loaded, context))?;
            Ok(Attempt::Done(find_receipt(loaded, context, &stored, true)?))
        }
        Outcome::Failed(error) => Err(Error::from(error).into()),
        Outcome::Unknown(source) => Err(Error::Unknown {
            aggregate: loaded.key.clone(),
            command: context.command_id,
            source: Box::new(source),
        }
        .into()),
    }
}

/// The lifecycle's answer and then the handler's: no input or output.
pub(crate) fn decide<C: Command>(
    command: &C,
    context: &Context,
    state: &C::Aggregate,
    version: u64,
    key: &AggregateKey,
) -> Result<Events<<C::Aggregate as Aggregate>::Event>, Failure<C>>
where
    C::Aggregate: Handle<C>,
{
    match (C::LIFECYCLE, version) {
        (Lifecycle::Create, 1..) => Err(CommandError::AlreadyExists(key.clone())),
        (Lifecycle::Update, 0) => Err(CommandError::NotFound(key.clone())),
        _ => state.handle(command, context).map_err(CommandError::Rejected),
    }
}

fn commit_of<S: EventStore, A: Aggregate>(
    store: &S,
    clock: &dyn Clock,
    context: &Context,
    loaded: &Loaded<A>,
    events: &Events<A::Event>,
) -> Result<Commit, Error> {
    let origin = Arc::new(Origin {
        time: context.time,
        command_id: context.command_id,
        correlation_id: context.correlation_id,
        causation_id: context.causation_id,
        metadata: context.metadata.clone(),
    });
    let encode = |event| {
        codec::encode(event, clock.new_id(), &origin)
            .map_err(|source| Error::Encode { what: format!("an event of {}", loaded.key), source })
    };
    Ok(Commit {
        aggregate: loaded.key.clone(),
        first_version: loaded.version + 1,
        source: store.source().to_owned(),
        events: events.iter().map(encode).collect::<Result<_, _>>()?,
    })
}

fn receipt<A>(loaded: &Loaded<A>, context: &Context, carried_out: CarriedOut, repeat: bool) -> Receipt {
    Receipt {
        aggregate: loaded.key.name().to_owned(),
        id: loaded.key.id().to_owned(),
        command_id: context.command_id,
        correlation_id: context.correlation_id,
        version: carried_out.version,
        events: carried_out.events,
        position: carried_out.position,
        repeat,
    }
}

/// A command that led to no events, in the state that it found.
fn nothing<A>(loaded: &Loaded<A>, context: &Context) -> CarriedOut {
    CarriedOut { command: context.command_id, version: loaded.version, events: 0, position: loaded.position }
}

/// The receipt of the command from the commit that holds its events.
fn find_receipt<A>(
    loaded: &Loaded<A>,
    context: &Context,
    stored: &StoredCommit,
    repeat: bool,
) -> Result<Receipt, Error> {
    let mut commands = commands_of(stored);
    let found = commands.find(|found| found.command == context.command_id);
    found.map(|found| receipt(loaded, context, found, repeat)).ok_or_else(|| not_there(loaded, context))
}

/// The store says that it has carried out a command, and what it holds is something else.
fn not_there<A>(loaded: &Loaded<A>, context: &Context) -> Error {
    let what =
        format!("it holds another message under the id of command {} on {}", context.command_id, loaded.key);
    StoreError::Refused { what, source: None }.into()
}

/// The span of one command's execution, with the ids that logs are searched by.
pub(crate) fn span<C: Command>(command: &C, context: &Context) -> Span {
    tracing::info_span!(
        "execute",
        command = C::NAME,
        aggregate = C::Aggregate::NAME,
        id = %command.aggregate_id(),
        command_id = %context.command_id,
        correlation_id = %context.correlation_id,
        version = field::Empty,
        attempts = field::Empty,
    )
}
