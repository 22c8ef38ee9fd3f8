//! Policies: commands and deadlines that follow from events.

use std::error::Error as StdError;

use crate::{
    base::store_error::StoreError,
    effects::intents::{CausedBy, Effects, Refusal},
    log::{envelope::Envelope, recorded::Recorded, sources::sources},
    model::{
        event::Event,
        follow::{OnFailure, Retry, Start},
        required::KeepsDocument,
        source::EventSource,
    },
    projector::kept::Step,
};

/// Turns events into commands and deadlines. A policy with fields is a process manager (saga): each key has a state of
/// its own, which remembers what has happened so far.
///
/// It is effectively once: an event changes the state once, and each command takes effect once. State, progress and
/// intents are saved in one write; then the intents are executed. After a crash, intents without a recorded outcome are
/// executed again under the same command ids. The cost is one write before the commands and one after them.
///
/// ```
/// use cqrs_core::{Effects, Envelope, Policy, React, Start};
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
///     const START: Start = Start::Beginning;
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
/// # Order and failures
///
/// The intents of one state are executed in their order; those of different states at the same time. A policy may react
/// to several events before the first of its commands is sent. So it must rely on the events that its commands lead to,
/// not on having sent a command.
///
/// A command that the business refuses is reported to [`refused`](Policy::refused), and has ended. A technical failure
/// that may pass is not reported: the command is sent again until it has an answer, and meanwhile the later intents of
/// the same state wait. An intent that cannot be executed is set aside with the later intents of the same state, and an
/// operator resolves it with [`Cqrs::dead_intents`](crate::Cqrs::dead_intents): the command's handler panics, its event
/// cannot be recorded, the commit is too large, no command of that name is known, or `refused` panics or leads to an
/// endless chain of refusals. The policy's other states continue. If the operator drops such a command, the state
/// learns nothing of it.
///
/// Commands are found by name: each must be in its aggregate's list `commands(…)` or `internal(…)` (another one does not
/// compile), and the aggregate must be a part of the service. A [`Router`](crate::by_name::Router) offers only the first
/// list: put a command that only policies may send into the second.
///
/// # How often a command takes effect
///
/// A command that is sent again, after a crash or a lost answer, has the same id, and takes effect once, however many
/// other commands its aggregate has carried out since. A command that leads to no events is the exception: nothing is
/// stored of it, so it is decided again.
///
/// # What the type needs
///
/// [`Default`], the state before the first event; serde's `Serialize` and `Deserialize`, with which states are stored;
/// and [`Send`] and [`Sync`]. A bound `P: Policy` in generic code does not imply these: write those that the code needs.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a policy",
    note = "add `impl Policy for {Self}` with its `NAME` and the aggregate `Of` whose events it reacts to"
)]
pub trait Policy: Sized + 'static {
    /// The stored name, such as `fulfilment`: `a-z`, `0-9`, `_` and `-`. Command ids are derived from it, and progress
    /// and states are kept under it, so it must not change.
    const NAME: &'static str;

    /// The version of the state's shape, from 1; each stored state says its own. A change after which stored states could
    /// not be read, or would be read as something else, needs a higher version and an [`upgrade`](Self::upgrade). A policy
    /// is not rebuilt with a new version, as a view is: that would repeat its effects.
    const VERSION: u32 = 1;

    /// What happens with an event that the policy cannot react to: it cannot be read, or the rules panic.
    const ON_FAILURE: OnFailure = OnFailure::Park;

    /// How long the policy waits for a failure that may pass, before it does that: during a rolling update, a program
    /// that knows the event may start.
    const RETRY: Retry = Retry::DEFAULT;

    /// The stored names of events, such as `order.noted`, that the policy skips without reading them, in all versions,
    /// also if this program does not know them. Name events that a newer program may record and that the policy will
    /// never need.
    const IGNORED: &'static [&'static str] = &[];

    /// Where in the log the policy begins when it runs for the first time. There is no default, because either one
    /// surprises: with [`Start::Beginning`] a policy that is added later sends the commands for all of the past.
    const START: Start;

    /// The aggregate (or any [`EventSource`]) whose events it reacts to, or a tuple of several: `(Order, Stock)`.
    type Of: Reactions<Self> + KeepsDocument<Self>;

    /// Whether the state is still wanted. It is called after events have changed the state. A state that is not wanted
    /// is removed, and a later event of its key begins with the default state again.
    fn is_kept(&self) -> bool {
        true
    }

    /// Makes a state of this version of one that was stored in the earlier version `from`. A state is upgraded when the
    /// next event or refusal concerns it.
    ///
    /// If it fails, the policy halts before that event, and the error is in its status: nothing is lost, and a program
    /// that can read the state goes on. The policy halts as well where it meets a state of a later version. So in a rolling
    /// update the new program takes over each state that it has changed, and the old one leaves it as it is.
    ///
    /// ```
    /// # use cqrs_core::{Aggregate, Apply, Effects, Envelope, Event, Policy, React, Start};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Debug, Clone, Serialize, Deserialize, Event)]
    /// # #[event(name = "order.paid")]
    /// # struct Paid;
    /// # #[derive(Debug, thiserror::Error)]
    /// # enum Never {}
    /// # #[derive(Default, Clone, Aggregate)]
    /// # #[aggregate(id = u32, event = Paid, rejection = Never)]
    /// # struct Order;
    /// # impl Apply<Paid> for Order { fn apply(&mut self, _: &Paid) {} }
    /// #[derive(Default, Serialize, Deserialize)]
    /// struct Fulfilment {
    ///     payments: Vec<u64>, // Version 1 had the field `paid`, their sum.
    /// }
    ///
    /// impl Policy for Fulfilment {
    ///     const NAME: &'static str = "fulfilment";
    ///     const START: Start = Start::Beginning;
    ///     const VERSION: u32 = 2;
    ///     type Of = Order;
    ///
    ///     fn upgrade(from: u32, state: serde_json::Value) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
    ///         #[derive(Deserialize)]
    ///         struct Version1 { paid: u64 }
    ///         match from {
    ///             1 => Ok(Self { payments: vec![serde_json::from_value::<Version1>(state)?.paid] }),
    ///             _ => Err("no such version was ever stored".into()),
    ///         }
    ///     }
    /// }
    /// # impl React<Paid> for Fulfilment { fn react(&mut self, _: &Envelope<Paid>, _: &mut Effects) {} }
    /// # let old = Fulfilment::upgrade(1, serde_json::json!({ "paid": 7 })).unwrap();
    /// # assert_eq!(old.payments, [7]);
    /// ```
    ///
    /// # Errors
    ///
    /// When the state cannot be read; by default always.
    fn upgrade(from: u32, state: serde_json::Value) -> Result<Self, Box<dyn StdError + Send + Sync>> {
        let _ = (from, state);
        Err("it has no `upgrade`".into())
    }

    /// Reacts to the refusal of a command of this state. Its effects are executed like those of an event. No clock, no
    /// randomness, no input or output.
    fn refused(&mut self, refusal: &Refusal, effects: &mut Effects) {
        let _ = (refusal, effects);
    }
}

/// The states of `P`: that type, of which generic code knows here that it has a default, and can be stored and sent.
pub(crate) type PolicyStateOf<P> = <<P as Policy>::Of as KeepsDocument<P>>::Document;

/// How a policy reacts to events of type `E`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not react to `{E}`",
    label = "what this policy does about its aggregates' events is not said yet",
    note = "add `impl React<{E}> for {Self}` with `fn react`, or take the aggregate out of `Policy::Of`"
)]
pub trait React<E: Event>: Policy {
    /// The key of the state that the event concerns; `None` if the event does not concern this policy. By default, each
    /// aggregate has a state of its own, under its id.
    fn key(event: &Envelope<E>) -> Option<String> {
        Some(event.subject().to_owned())
    }

    /// Changes the state by the event, and adds effects. A state that does not exist yet is the default one. No clock,
    /// no randomness, no input or output: the time is the event's.
    ///
    /// It must not block, since it runs on the runtime's threads with everything else. What needs a call or a long
    /// computation belongs into an [`EventHandler`](crate::EventHandler).
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

    /// The policy's reaction to an event; `None` for events of other aggregates.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the event cannot be read.
    #[doc(hidden)]
    fn step(event: &Recorded<'_>) -> Result<Option<Step<P, Effects>>, StoreError>;
}

/// The change of the state by an event of the aggregate, and its effects.
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
