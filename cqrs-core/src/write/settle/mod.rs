//! Carries out commands on one aggregate: load, handle, append, and again when another writer was faster (optimistic
//! concurrency).

pub(crate) mod decisions;

use std::{
    any::Any,
    borrow::{Borrow, BorrowMut, Cow},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use decisions::{Round, Step, Verdict, after_round, may_join, verdict};
use smallvec::SmallVec;
use tracing::{Span, debug};

use crate::{
    base::{
        backoff,
        error::{CommandError, Error},
        id::AggregateKey,
    },
    log::{
        codec,
        commit::{Commit, KnownIn, Origin, Receipt, RecordedEvent, StoredCommit},
    },
    model::{
        aggregate::{Aggregate, AppliesTo, StateOf},
        command::Context,
        event::Events,
        snapshot::remembered::CarriedOut,
    },
    write::{
        append,
        decide::{CommandFailure, CommandResult, Decide, Identity},
        load::{confirm, load},
        repeats::{Search, keep_completed},
        resources::Shell,
        state::{Loaded, commands_of},
    },
};

/// A command that is being carried out.
pub(crate) struct PendingCommand<'a, A: Aggregate> {
    context: Context,
    identity: Identity,
    decide: &'a dyn Decide<A>,
    /// The span of the caller: the handler runs in it, also in another caller's task.
    span: &'a Span,
    pub(crate) settled: Option<Settled<A>>,
}

/// The result of a command.
pub(crate) enum Settled<A: Aggregate> {
    CommandResult(CommandResult<A>),
    /// The command's handler panicked; the panic goes to its caller.
    Panic(Box<dyn Any + Send>),
}

impl<'a, A: Aggregate> PendingCommand<'a, A> {
    pub(crate) fn new(
        context: Context,
        identity: Identity,
        decide: &'a dyn Decide<A>,
        span: &'a Span,
    ) -> Self {
        Self { context, identity, decide, span, settled: None }
    }

    fn answer(&mut self, answer: CommandResult<A>) {
        self.settled = Some(Settled::CommandResult(answer));
    }
}

/// Settles all of `commands`, in their order, and returns the state that is known after them.
pub(crate) async fn settle<A: Aggregate>(
    shell: &Shell,
    key: &AggregateKey,
    known: Option<Box<Loaded<A>>>,
    commands: &mut [PendingCommand<'_, A>],
) -> Option<Box<Loaded<A>>> {
    let mut known = known.or_else(|| new_if_created(key, commands));
    if let Some(known) = &mut known {
        // It was current when it was last used; other writers may have written since.
        known.confirmed = false;
    }
    let mut attempt = 1;
    let mut together = true;
    // Whether a state has turned out to be stale: then the leader is asked.
    let mut behind = known.as_ref().is_some_and(|known| known.stale);
    while commands.iter().any(|command| command.settled.is_none()) {
        let mut loaded = match load(shell, key, known.take(), behind).await {
            Ok(loaded) => loaded,
            Err(error) => {
                fail(commands, |_| error.clone().into());
                return None;
            }
        };
        keep_completed(shell, &mut loaded);
        settle_repeats(shell, &loaded, commands).await;
        let round = round(shell, &mut loaded, commands, &mut together).await;
        let step = after_round(round, attempt, shell.limits.attempts);
        behind |= step != Step::GoOn;
        known = match step {
            Step::GoOn => Some(loaded),
            Step::CatchUp => stale(loaded),
            Step::TryAgain => {
                debug!(attempt, aggregate = %key, "another writer was faster, handling again");
                let pause = backoff::pause(Duration::from_millis(1), Duration::from_millis(32), attempt);
                tokio::time::sleep(pause).await;
                attempt += 1;
                stale(loaded)
            }
            Step::LookOnceMore => {
                if let Ok(loaded) = load(shell, key, stale(loaded), true).await {
                    settle_repeats(shell, &loaded, commands).await;
                }
                fail(commands, |_| Error::Conflict { aggregate: key.clone(), attempts: attempt });
                None
            }
        };
    }
    Span::current().record("attempts", attempt);
    if let Some(known) = &mut known {
        keep_completed(shell, known);
        shell.saver.save_if_due(&shell.events, known);
    }
    known
}

/// The aggregate as new, if all commands expect that it does not exist: the check of the append proves that a round
/// trip sooner than a load would.
fn new_if_created<A: Aggregate>(
    key: &AggregateKey,
    commands: &[PendingCommand<'_, A>],
) -> Option<Box<Loaded<A>>> {
    let all_create = commands.iter().all(|command| command.identity.creates);
    all_create.then(|| Box::new(Loaded::taken_for_new(key.clone())))
}

/// Marks the state as stale. `None` for an aggregate that was taken for new: a load from the start may find a snapshot.
fn stale<A: Aggregate>(mut loaded: Box<Loaded<A>>) -> Option<Box<Loaded<A>>> {
    loaded.stale = true;
    // The other writer may have found another log.
    loaded.doubt();
    Some(loaded).filter(|loaded| loaded.version > 0)
}

/// Gives a failure to all commands that are not settled yet.
fn fail<A: Aggregate>(commands: &mut [PendingCommand<'_, A>], error: impl Fn(&Context) -> Error) {
    for command in commands.iter_mut().filter(|command| command.settled.is_none()) {
        let error = error(&command.context);
        command.answer(Err(error.into()));
    }
}

/// Answers the commands that the aggregate has carried out before with their first receipts.
async fn settle_repeats<A: Aggregate>(
    shell: &Shell,
    loaded: &Loaded<A>,
    commands: &mut [PendingCommand<'_, A>],
) {
    let mut search = Search::new(shell, loaded);
    let unsettled = commands.iter_mut().filter(|command| command.settled.is_none());
    // An id that was made for this call is in no log.
    for command in unsettled.filter(|command| command.identity.given) {
        match search.carried_out(command.context.command_id).await {
            Ok(None) => {}
            Ok(Some(carried_out)) => {
                let answer = repeated(loaded, command, carried_out);
                command.answer(answer.map_err(Into::into));
            }
            Err(error) => command.answer(Err(Error::from(error).into())),
        }
    }
}

/// Handles the commands that are not settled, and appends their events as one commit.
async fn round<A: Aggregate>(
    shell: &Shell,
    loaded: &mut Loaded<A>,
    commands: &mut [PendingCommand<'_, A>],
    together: &mut bool,
) -> Round {
    let Draft { state, events, accepted, refused } = draft(shell, loaded, commands, *together);
    let (Some(first), Some(state)) = (accepted.first().copied(), state) else {
        // Refusals, and commands without events, are valid only on the current state.
        return match confirm(shell, loaded).await {
            Ok(true) => {
                settle_refused(loaded, commands, refused);
                Round::Progress
            }
            Ok(false) => Round::Stale,
            Err(error) => {
                fail(commands, |_| error.clone().into());
                Round::Lost
            }
        };
    };
    let commit = Commit {
        aggregate: loaded.key.clone(),
        first_version: loaded.version.saturating_add(1),
        source: Arc::clone(&shell.source),
        events,
    };
    let outcome = append::append(&shell.events, &commit, loaded.tip(), shell.limits.patience).await;
    let verdict = verdict(outcome, accepted.len());
    let round = verdict.round();
    match verdict {
        Verdict::Receipts(sequence) => {
            let stored = StoredCommit { sequence, commit };
            for (place, carried_out) in accepted.iter().zip(commands_of(&stored)) {
                let command = &mut commands[*place];
                command.answer(Ok(receipt(loaded, &command.context, carried_out, false)));
            }
            loaded.advance(state, &stored);
            settle_refused(loaded, commands, refused);
        }
        Verdict::Misplaced(sequence) => {
            for place in accepted {
                let command = commands[place].context.command_id;
                let misplaced = Error::Misplaced { aggregate: loaded.key.clone(), command, sequence };
                commands[place].answer(Err(misplaced.into()));
            }
        }
        Verdict::Fails(error) => commands[first].answer(Err(Error::from(error).into())),
        Verdict::Unknown(source) => {
            for place in accepted {
                let command = commands[place].context.command_id;
                let source = Box::new(source.clone());
                let unknown = Error::Unknown { aggregate: loaded.key.clone(), command, source };
                commands[place].answer(Err(unknown.into()));
            }
        }
        Verdict::OneByOne => *together = false,
        Verdict::Again => {}
    }
    round
}

/// The commit that a round would append, and the answers that it would give.
struct Draft<A: Aggregate> {
    /// The state after the events, if there are any.
    state: Option<StateOf<A>>,
    events: Events<RecordedEvent>,
    /// The indexes of the commands that led to the events, in the same order.
    accepted: SmallVec<[usize; 1]>,
    /// The indexes of the commands that led to no events, each with its refusal, or `Ok` if there was nothing to do.
    refused: Vec<(usize, Result<(), CommandFailure<A>>)>,
}

/// Handles each command on the state that its predecessor left: no input or output.
fn draft<A: Aggregate>(
    shell: &Shell,
    loaded: &Loaded<A>,
    commands: &mut [PendingCommand<'_, A>],
    together: bool,
) -> Draft<A> {
    let mut draft =
        Draft { state: None, events: Events::none(), accepted: SmallVec::new(), refused: Vec::new() };
    let mut bytes = 0;
    let unsettled = commands.iter_mut().enumerate().filter(|(_, command)| command.settled.is_none());
    for (place, command) in unsettled {
        let id = command.context.command_id;
        let is_twin = draft.events.iter().any(|event| event.origin.command_id == id);
        if !may_join(together, draft.accepted.len(), bytes, is_twin) {
            continue;
        }
        command.context.time = shell.clock.now();
        let version = loaded.version.saturating_add(draft.events.len() as u64);
        // A panic of one command's handler must not fail the commands of other callers.
        let handled = catch_unwind(AssertUnwindSafe(|| {
            let before = draft.state.as_ref().unwrap_or(&loaded.state);
            let mut events =
                command.span.in_scope(|| (command.decide)(&command.context, before.borrow(), version))?;
            if events.is_empty() {
                return Ok(None);
            }
            let recorded = record(shell, loaded, command, &mut events)?;
            // On a copy: `apply` may panic, and the append may fail.
            let mut state = before.clone();
            events.iter().for_each(|event| event.apply_to(state.borrow_mut()));
            Ok(Some((state, recorded)))
        }));
        match handled {
            Err(panic) => command.settled = Some(Settled::Panic(panic)),
            Ok(Err(CommandError::Failed(error))) => command.answer(Err(error.into())),
            Ok(Err(refusal)) => draft.refused.push((place, Err(refusal))),
            Ok(Ok(None)) => draft.refused.push((place, Ok(()))),
            Ok(Ok(Some((state, events)))) => {
                bytes += events.iter().map(|event| event.data.len()).sum::<usize>();
                draft.state = Some(state);
                append_to(&mut draft.events, events);
                draft.accepted.push(place);
            }
        }
    }
    draft
}

/// Usually a commit has one command, and its events become the commit's events without a copy.
fn append_to(all: &mut Events<RecordedEvent>, events: Events<RecordedEvent>) {
    if all.is_empty() { *all = events } else { all.extend(events) }
}

fn settle_refused<A: Aggregate>(
    loaded: &Loaded<A>,
    commands: &mut [PendingCommand<'_, A>],
    refused: Vec<(usize, Result<(), CommandFailure<A>>)>,
) {
    for (place, refused) in refused {
        let command = &mut commands[place];
        let answer = refused.map(|()| receipt(loaded, &command.context, nothing(loaded, command), false));
        command.answer(answer);
    }
}

/// Encodes the command's events, and replaces `events` with what will be read back.
fn record<A: Aggregate>(
    shell: &Shell,
    loaded: &Loaded<A>,
    command: &PendingCommand<'_, A>,
    events: &mut Events<A::Event>,
) -> Result<Events<RecordedEvent>, Error> {
    let context = &command.context;
    context.metadata.check_size()?;
    let origin = Arc::new(Origin {
        time: context.time,
        command: Cow::Borrowed(command.identity.name),
        command_id: context.command_id,
        fingerprint: command.identity.fingerprint,
        correlation_id: context.correlation_id,
        causation_id: context.causation_id,
        metadata: context.metadata.clone(),
    });
    let encode = |event| codec::encode(event, shell.clock.new_id(), &loaded.key, &origin);
    events.iter_mut().map(encode).collect()
}

fn receipt<A: Aggregate>(
    loaded: &Loaded<A>,
    context: &Context,
    carried_out: CarriedOut,
    repeat: bool,
) -> Receipt {
    Receipt {
        aggregate: loaded.key.clone(),
        command_id: context.command_id,
        correlation_id: context.correlation_id,
        version: carried_out.version,
        events: carried_out.events,
        position: carried_out.position,
        repeat,
        known: KnownIn(Some(loaded.era)),
    }
}

/// The first receipt of a command that was carried out before, if its fingerprint is the same.
fn repeated<A: Aggregate>(
    loaded: &Loaded<A>,
    command: &PendingCommand<'_, A>,
    carried_out: CarriedOut,
) -> Result<Receipt, Error> {
    if carried_out.fingerprint == command.identity.fingerprint {
        return Ok(receipt(loaded, &command.context, carried_out, true));
    }
    Err(Error::AnotherCommand { aggregate: loaded.key.clone(), command: command.context.command_id })
}

/// The record of a command that led to no events, in the state that it found.
fn nothing<A: Aggregate>(loaded: &Loaded<A>, command: &PendingCommand<'_, A>) -> CarriedOut {
    CarriedOut {
        command: command.context.command_id,
        fingerprint: command.identity.fingerprint,
        version: loaded.version,
        events: 0,
        position: loaded.position,
    }
}

#[cfg(test)]
mod tests;
