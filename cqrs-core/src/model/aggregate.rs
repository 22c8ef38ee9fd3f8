//! Aggregates: the consistency boundary of the rules, with state folded from events.

use std::{borrow::BorrowMut, fmt::Display};

use crate::{
    base::rejection::IsRejection,
    model::{
        command::{Command, Context},
        event::{Event, Events},
        required::{IsSharedEvent, KeepsState},
        snapshot::Snapshots,
    },
};

/// The consistency boundary inside which the rules always hold; its state is the fold of its events.
///
/// Derive it (see the derive of the same name for its attributes), or write it by hand:
///
/// ```
/// use cqrs_core::{Aggregate, Apply, Event};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Clone, Serialize, Deserialize, Event)]
/// #[event(name = "counter.raised")]
/// struct Raised;
///
/// #[derive(Debug, thiserror::Error)]
/// enum Never {}
///
/// #[derive(Default, Clone)]
/// struct Counter(u64);
///
/// impl Aggregate for Counter {
///     const NAME: &'static str = "counter";
///     type Id = u32;
///     type Event = Raised;
///     type Rejection = Never;
/// }
///
/// impl Apply<Raised> for Counter {
///     fn apply(&mut self, _: &Raised) {
///         self.0 += 1;
///     }
/// }
///
/// assert_eq!(cqrs_core::model::replay::<Counter>(&[Raised, Raised]).0, 2);
/// ```
///
/// The type needs [`Default`], the state before the first event; [`Clone`], since events are applied to a clone until
/// they are stored; and [`Send`] and [`Sync`]. A bound `A: Aggregate` in generic code does not imply these: write those
/// that the code needs.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an aggregate",
    note = "add `#[derive(cqrs_core::Aggregate)]` with `#[aggregate(id = …, event = …, rejection = …)]`"
)]
pub trait Aggregate: Sized + 'static {
    /// The stored name, such as `order`: `a-z`, `0-9`, `_` and `-`. It must not change, because it is in the log.
    const NAME: &'static str;

    /// The id of an aggregate of this type. Its `Display` text is stored.
    type Id: Display + Send + Sync;

    /// The events that this aggregate records, and [applies](Apply).
    type Event: Event + IsSharedEvent + AppliesTo<Self> + KeepsState<Self>;

    /// Why a command may be rejected: reasons of the business, never a technical failure. An error type: it implements
    /// [`std::error::Error`].
    type Rejection: IsRejection + Send + Sync;

    /// Passes every public command of this aggregate to `visitor`: those that a [`Router`](crate::by_name::Router),
    /// policies and deadlines find by name.
    ///
    /// The derive writes it from `commands(…)`, and implements [`Lists`] for each command. Commands in neither list work
    /// only through [`Cqrs::execute`](crate::Cqrs::execute).
    fn visit_commands<V: CommandVisitor<Self>>(visitor: &mut V) {
        let _ = visitor;
    }

    /// Passes every internal command of this aggregate to `visitor`: those that policies and deadlines find by name,
    /// and a [`Router`](crate::by_name::Router) does not. Each command is in one list.
    ///
    /// The derive writes it from `internal(…)`, and implements [`Lists`] for each command.
    fn visit_internal_commands<V: CommandVisitor<Self>>(visitor: &mut V) {
        let _ = visitor;
    }

    /// The settings of snapshots of this aggregate, with which a load need not replay all of its events. By default
    /// `None`: no snapshots. See [`Snapshots`].
    fn snapshots() -> Option<Snapshots<Self>> {
        None
    }
}

/// Folds one event into the state. It cannot fail: the event has already happened.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not apply `{E}`",
    label = "the state of `{Self}` does not follow from these events yet",
    note = "add `impl Apply<{E}> for {Self} {{ fn apply(&mut self, event: &{E}) {{ … }} }}`"
)]
pub trait Apply<E> {
    /// Changes the state by the event. No clock, no randomness, no input or output.
    fn apply(&mut self, event: &E);
}

/// [`Apply`], seen from the event: the compiler reports a missing bound on [`Aggregate::Event`] once, where the event
/// is named. It would report a missing supertrait wherever the aggregate is used.
#[doc(hidden)]
pub trait AppliesTo<A> {
    fn apply_to(&self, aggregate: &mut A);
}

impl<E, A: Apply<E>> AppliesTo<A> for E {
    fn apply_to(&self, aggregate: &mut A) {
        aggregate.apply(self);
    }
}

/// The state of `A`: that type, of which generic code knows here that it has a default, and can be cloned and sent.
pub(crate) type StateOf<A> = <<A as Aggregate>::Event as KeepsState<A>>::State;

/// An aggregate with the command `C` in one of its lists, so that policies and deadlines find it by name:
/// [`Effects::send`](crate::Effects::send) and [`Effects::at`](crate::Effects::at) accept no other command.
///
/// The derive implements it for each command in `commands(…)` and `internal(…)`. If you write
/// [`visit_commands`](Aggregate::visit_commands) or [`visit_internal_commands`](Aggregate::visit_internal_commands) by
/// hand, implement it for the commands that they pass to the visitor, and for no others.
#[diagnostic::on_unimplemented(
    message = "`{C}` is in no list of commands of `{Self}`",
    label = "a policy's commands and deadlines are found by name, and no list has this one",
    note = "add `{C}` to `commands(…)` or `internal(…)` in the attribute `#[aggregate(…)]` of `{Self}`"
)]
pub trait Lists<C> {}

/// The decision on one type of command.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle `{C}`",
    label = "no `Handle<{C}>` for this aggregate",
    note = "add `impl Handle<{C}> for {Self} {{ fn handle(&self, command: &{C}, context: &Context) -> Handled<Self> {{ … }} }}`"
)]
pub trait Handle<C: Command<Aggregate = Self>>: Sized + 'static {
    /// The events that follow from `command` in this state, or why it is rejected.
    ///
    /// It may run more than once for one command (when another writer was faster), so it only decides: time and ids
    /// come from `context`.
    ///
    /// # Errors
    ///
    /// The aggregate's rejection.
    fn handle(&self, command: &C, context: &Context) -> Handled<Self>
    where
        // As a supertrait it would be reported three times for each command of a type that is no aggregate.
        Self: Aggregate;
}

/// What [`Handle::handle`] returns: the events, or the aggregate's rejection.
pub type Handled<A> = Result<Events<<A as Aggregate>::Event>, <A as Aggregate>::Rejection>;

/// A visitor of the command types of an aggregate; see [`Aggregate::visit_commands`].
pub trait CommandVisitor<A: Aggregate> {
    /// Called once for each command.
    fn command<C>(&mut self)
    where
        C: Command<Aggregate = A>,
        A: Handle<C>;
}

/// The state after `events`, from the default state.
pub fn replay<'a, A: Aggregate>(events: impl IntoIterator<Item = &'a A::Event>) -> A {
    let state = events.into_iter().fold(StateOf::<A>::default(), |mut state, event| {
        event.apply_to(state.borrow_mut());
        state
    });
    state.into()
}
