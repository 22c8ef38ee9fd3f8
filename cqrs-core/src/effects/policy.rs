//! Policies: what is to be done when something has happened.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    base::error::StoreError,
    effects::intents::{CausedBy, Effects, Refusal},
    log::{envelope::Envelope, recorded::Recorded, sources::sources},
    model::{
        event::Event,
        follow::{OnFailure, Retry, Start},
        source::EventSource,
    },
    projector::kept::Step,
};

/// Turns events into commands and deadlines. With fields it is what the field calls a process manager: each
/// key has a state of its own, which remembers what has happened so far.
///
/// It is effectively once: an event changes the state once, and each command takes effect once. State, progress and
/// what is to be done are saved in one write; then it is done, and whatever a crash leaves undone is done again
/// under the same command ids. What it costs is one write before the commands and one after them.
///
/// ```
/// use cqrs_core::{Effects, Envelope, Policy, React};
/// use serde::{Deserialize, Serialize};
/// # use cqrs_core::{Aggregate, Apply, Command, Context, Event, Handle, Handled};
/// # #[derive(Debug, Clone, Serialize, Deserialize, Event)]
/// # #[event(prefix = "order")]
/// # enum OrderEvent { Paid, Shipped }
/// # #[derive(Debug, thiserror::Error)]
/// # enum OrderRejection {}
/// # #[derive(Default, Clone, Aggregate)]
/// # #[aggregate(id = String, event = OrderEvent, rejection = OrderRejection, commands(ShipOrder))]
/// # struct Order;
/// # impl Apply<OrderEvent> for Order { fn apply(&mut self, _: &OrderEvent) {} }
/// # #[derive(Debug, Serialize, Deserialize, Command)]
/// # #[command(aggregate = Order)]
/// # struct ShipOrder { #[command(id)] order: String }
/// # impl Handle<ShipOrder> for Order {
/// #     fn handle(&self, _: &ShipOrder, _: &Context) -> Handled<Self> { Ok(OrderEvent::Shipped.into()) }
/// # }
///
/// /// What is paid is shipped.
/// #[derive(Default, Serialize, Deserialize)]
/// struct ShipWhatIsPaid;
///
/// impl Policy for ShipWhatIsPaid {
///     const NAME: &'static str = "ship-what-is-paid";
///     type Of = Order;
///
///     fn is_kept(&self) -> bool {
///         false // There is nothing to remember.
///     }
/// }
///
/// impl React<OrderEvent> for ShipWhatIsPaid {
///     fn react(&mut self, event: &Envelope<OrderEvent>, effects: &mut Effects) {
///         if let OrderEvent::Paid = event.data {
///             effects.send(ShipOrder { order: event.subject().to_owned() });
///         }
///     }
/// }
/// ```
///
/// # The order of things
///
/// What one state wants is done in the order in which it was wanted; different states are served at the same
/// time. Events that come together may all have been reacted to before the first command is sent, so a policy
/// goes by the events that its commands lead to, not by having sent them.
///
/// A command that the business refuses is told to [`refused`](Policy::refused), and is over. A technical failure that may
/// pass is not told: the command is sent again until it has an answer, and until then what comes after it of the same
/// state waits. What cannot be carried out at all is set aside with what comes after it of the same state, and
/// [`Cqrs::dead_intents`](crate::Cqrs::dead_intents) is for dealing with it: the command's handler panics, its event
/// cannot be recorded, the commit is too large, no command of that name is known, `refused` panics or does not come to an
/// end. The policy's other states go on. Dropping such a command tells the state nothing.
///
/// Commands are found by their names: each must be in its aggregate's list `commands(…)` or `internal(…)`, and the
/// aggregate part of the service. A [`Router`](crate::by_name::Router) offers the first list only: put a command that policies
/// send and nobody else may into the second.
///
/// # How often a command takes effect
///
/// A command that is sent again, after a crash or a lost answer, has the id that it had, and takes effect once as long
/// as its aggregate remembers it. Each aggregate remembers its last 1,000 command ids
/// ([`REMEMBERED_COMMANDS`](crate::model::REMEMBERED_COMMANDS)). A policy that stood still (no process ran, an aggregate was
/// busy) while 1,000 other commands were carried out on that aggregate may send a command again that is forgotten, and
/// the command takes effect twice. Where that matters, let the aggregate itself remember what it was told, such as the
/// id of the order that a bonus was paid for, and do nothing the second time.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a policy",
    note = "add `impl Policy for {Self}` with its `NAME` and the aggregate `Of` whose events it reacts to"
)]
pub trait Policy: Default + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The stored name, such as `fulfilment`: `a-z`, `0-9`, `_` and `-`. Command ids are derived from it, and
    /// under it progress and states are kept: it stays as it is.
    const NAME: &'static str;

    /// What becomes of an event that cannot be reacted to: it cannot be read, or the rules panic.
    const ON_FAILURE: OnFailure = OnFailure::Park;

    /// How long it waits for what may pass by itself, before it does that: a program that knows an event, during a
    /// rolling update.
    const RETRY: Retry = Retry::DEFAULT;

    /// The stored names of events, such as `order.noted`, that the policy passes over without reading them, in
    /// all versions, also when this program does not know them. Name what a newer program may record and the policy is
    /// certain not to need.
    const IGNORED: &'static [&'static str] = &[];

    /// Where in the log the policy begins, the first time that it runs.
    const START: Start = Start::Beginning;

    /// The aggregate (or any [`EventSource`]) whose events it reacts to, or a tuple of several: `(Order, Stock)`.
    type Of: Reactions<Self>;

    /// Whether the state is still wanted. It is asked after events have changed the state; one that is not
    /// wanted is removed, and a later event of its key begins with the default one again.
    fn is_kept(&self) -> bool {
        true
    }

    /// A command of this state was refused. What follows from it is done as what follows from an event is. No
    /// clock, no randomness, no input or output.
    fn refused(&mut self, refusal: &Refusal, effects: &mut Effects) {
        let _ = (refusal, effects);
    }
}

/// How a policy reacts to events of type `E`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not react to `{E}`",
    label = "what this policy does about its aggregates' events is not said yet",
    note = "add `impl React<{E}> for {Self}` with `fn react`, or take the aggregate out of `Policy::Of`"
)]
pub trait React<E: Event>: Policy {
    /// The key of the state that the event concerns; none if it does not concern this policy. Unless it is
    /// written otherwise, each aggregate has a state of its own, under its id.
    fn key(event: &Envelope<E>) -> Option<String> {
        Some(event.subject().to_owned())
    }

    /// Changes the state by what happened, and says what is to be done. A state that is not there yet is the
    /// default one. No clock, no randomness, no input or output: the time is the event's.
    fn react(&mut self, event: &Envelope<E>, effects: &mut Effects);
}

/// The aggregates whose events a policy reacts to: one, or a tuple of up to eight.
#[diagnostic::on_unimplemented(
    message = "`{P}` cannot react to the events of `{Self}`",
    label = "no aggregate, or with events that the policy does not react to",
    note = "`Policy::Of` is an aggregate or a tuple of up to eight, and `{P}` has a `React` for the events of each"
)]
pub trait Reactions<P>: 'static {
    /// The stored names of the aggregates.
    fn names() -> Vec<&'static str>;

    /// What the policy does about an event: nothing for events of other aggregates.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the event cannot be read.
    #[doc(hidden)]
    fn step(event: &Recorded<'_>) -> Result<Option<Step<P, Effects>>, StoreError>;
}

/// What an event of the aggregate does to a state, and what is wanted then.
fn step<A, P>(event: &Recorded<'_>) -> Result<Option<Step<P, Effects>>, StoreError>
where
    A: EventSource,
    P: React<A::Event>,
{
    let event = event.decode::<A::Event>()?;
    let Some(key) = P::key(&event) else { return Ok(None) };
    let mut effects = Effects::of(CausedBy::event(P::NAME, key.clone(), &event));
    Ok(Some(Step::new(key, move |policy: &mut P| {
        policy.react(&event, &mut effects);
        effects
    })))
}

sources! { impl Reactions<P> where each: React, fn step() -> Step<P, Effects> = step }
