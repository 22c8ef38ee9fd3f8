//! Given, when, then for policies: which events lead to which commands and deadlines.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    base::{
        id::{AggregateKey, CausationId, CommandId, CorrelationId, EventId, Position},
        metadata::Metadata,
    },
    effects::{
        intents::{Action, CausedBy, Effects, Intent, Refusal},
        policy::{Policy, PolicyStateOf, React},
    },
    log::envelope::Envelope,
    model::{
        aggregate::{Aggregate, Lists},
        command::Command,
        event::Event as _,
    },
};

/// Begins a test of a policy without past events.
///
/// ```
/// # use cqrs_core::{
/// #     Aggregate, Apply, Command, Context, Effects, Envelope, Event, Handle, Handled, Policy, React, Start,
/// # };
/// # use serde::{Deserialize, Serialize};
/// # use std::time::Duration;
/// # #[derive(Debug, Clone, Serialize, Deserialize, Event)]
/// # #[event(prefix = "order")]
/// # enum OrderEvent { Confirmed, Paid, Cancelled }
/// # #[derive(Debug, thiserror::Error)]
/// # enum OrderRejection {}
/// # #[derive(Default, Clone, Aggregate)]
/// # #[aggregate(id = String, event = OrderEvent, rejection = OrderRejection, commands(ExpireOrder))]
/// # struct Order;
/// # impl Apply<OrderEvent> for Order { fn apply(&mut self, _: &OrderEvent) {} }
/// # #[derive(Debug, Serialize, Deserialize, Command)]
/// # #[command(aggregate = Order)]
/// # struct ExpireOrder { #[command(id)] order: String }
/// # impl Handle<ExpireOrder> for Order {
/// #     fn handle(&self, _: &ExpireOrder, _: &Context) -> Handled<Self> { Ok(OrderEvent::Cancelled.into()) }
/// # }
/// # #[derive(Default, Serialize, Deserialize)]
/// # struct Payments;
/// # impl Policy for Payments {
/// #     const NAME: &'static str = "payments";
/// #     const START: Start = Start::Beginning;
/// #     type Of = Order;
/// # }
/// # impl React<OrderEvent> for Payments {
/// #     fn react(&mut self, event: &Envelope<OrderEvent>, effects: &mut Effects) {
/// #         let order = event.subject().to_owned();
/// #         match event.data {
/// #             OrderEvent::Confirmed => {
/// #                 effects.at("payment", event.time + Duration::from_secs(60), ExpireOrder { order });
/// #             }
/// #             OrderEvent::Paid => effects.disarm("payment"),
/// #             OrderEvent::Cancelled => {}
/// #         }
/// #     }
/// # }
/// use cqrs_core::testing::policy;
///
/// let confirmed = "2026-01-01T12:00:00Z".parse()?;
/// policy::<Payments>()
///     .at(confirmed)
///     .when::<Order>("7", OrderEvent::Confirmed)
///     .then(|effects| {
///         effects.at("payment", confirmed + Duration::from_secs(60), ExpireOrder { order: "7".into() });
///     })
///     .when::<Order>("7", OrderEvent::Paid)
///     .then(|effects| effects.disarm("payment"));
/// # Ok::<(), jiff::Error>(())
/// ```
pub fn policy<P: Policy>() -> PolicyTest<P> {
    PolicyTest { states: HashMap::new(), time: Timestamp::UNIX_EPOCH, events: 0 }
}

/// A policy with its states; see [`policy`].
#[derive(Debug)]
pub struct PolicyTest<P> {
    states: HashMap<String, P>,
    time: Timestamp,
    events: u64,
}

impl<P: Policy> PolicyTest<P> {
    /// The time of the next events; by default 1970.
    pub fn at(mut self, time: Timestamp) -> Self {
        self.time = time;
        self
    }

    /// Lets an event happen to the aggregate of that id, and ignores the policy's intents.
    pub fn given<A: Aggregate>(self, id: impl Into<String>, event: A::Event) -> Self
    where
        P: React<A::Event>,
    {
        self.when::<A>(id, event).test
    }

    /// Lets an event happen to the aggregate of that id.
    ///
    /// # Panics
    ///
    /// When an intent of the policy cannot be saved, such as a deadline with an illegal name.
    #[track_caller]
    pub fn when<A: Aggregate>(mut self, id: impl Into<String>, event: A::Event) -> Reacted<P>
    where
        P: React<A::Event>,
    {
        let envelope = self.envelope::<A>(id.into(), event);
        let what = envelope.event_type().name.to_owned();
        let Some(key) = P::key(&envelope) else {
            return Reacted { test: self, cause: None, what, intents: Vec::new() };
        };
        let cause = CausedBy::event(P::NAME, key, &envelope);
        self.step(what, cause, |state, effects| state.react(&envelope, effects))
    }

    /// Lets a command be refused that the policy has sent from the state of that key.
    ///
    /// # Panics
    ///
    /// When an intent of the policy cannot be saved.
    #[track_caller]
    pub fn when_refused<C>(mut self, key: &str, command: C, reason: &str) -> Reacted<P>
    where
        C: Command<Aggregate: Lists<C>>,
    {
        self.events += 1;
        let (policy, id, order) = (P::NAME, Uuid::from_u128(self.events.into()), self.events);
        let mut sent = Effects::of(CausedBy {
            policy,
            key: key.to_owned(),
            id,
            causation_id: CausationId(id),
            correlation_id: CorrelationId(id),
            metadata: Metadata::default(),
            order,
        });
        sent.send(command);
        let intents = sent.into_intents().expect("a command that can be sent");
        let [intent @ Intent { action: Action::Send(request), .. }] = intents.as_slice() else {
            unreachable!("one command was sent");
        };
        let refusal = Refusal { request: request.clone(), reason: reason.to_owned() };
        let cause = CausedBy::refusal(P::NAME, intent, request);
        self.step(format!("the refusal of {}", request.command), cause, |state, effects| {
            state.refused(&refusal, effects);
        })
    }

    /// The state of a key, if the policy keeps one.
    pub fn state(&self, key: &str) -> Option<&P> {
        self.states.get(key)
    }

    #[track_caller]
    fn step(mut self, what: String, cause: CausedBy, react: impl FnOnce(&mut P, &mut Effects)) -> Reacted<P> {
        let state = self.states.remove(&cause.key);
        let mut state: P = state.unwrap_or_else(|| PolicyStateOf::<P>::default().into());
        let mut effects = Effects::of(cause.clone());
        react(&mut state, &mut effects);
        if state.is_kept() {
            self.states.insert(cause.key.clone(), state);
        }
        let intents = effects.into_intents().unwrap_or_else(|problem| panic!("{what}: {problem}"));
        Reacted { test: self, cause: Some(cause), what, intents }
    }

    fn envelope<A: Aggregate>(&mut self, id: String, data: A::Event) -> Envelope<A::Event> {
        self.events += 1;
        let number = Uuid::from_u128(self.events.into());
        Envelope {
            id: EventId(number),
            stored_type: data.event_type(),
            source: "/test".into(),
            aggregate: AggregateKey::new(A::NAME, id).expect("the aggregate's id"),
            version: self.events,
            position: Position { sequence: self.events, index: 0 },
            time: self.time,
            command_id: CommandId(number),
            correlation_id: CorrelationId(number),
            causation_id: None,
            metadata: Metadata::default(),
            data,
        }
    }
}

/// The intents of a policy after an event; see [`policy`].
#[derive(Debug)]
#[must_use = "say what should be wanted: `then` or `then_nothing`"]
pub struct Reacted<P> {
    test: PolicyTest<P>,
    cause: Option<CausedBy>,
    what: String,
    intents: Vec<Intent>,
}

impl<P: Policy> Reacted<P> {
    /// Expects exactly the intents of `expected`, in that order.
    ///
    /// # Panics
    ///
    /// When the policy has other intents; this is how the test fails.
    #[track_caller]
    pub fn then(self, expected: impl FnOnce(&mut Effects)) -> PolicyTest<P> {
        let Some(cause) = self.cause else {
            panic!("{} does not concern the policy", self.what);
        };
        let mut effects = Effects::of(cause);
        expected(&mut effects);
        let expected = effects.into_intents().expect("effects that can be saved");
        let (expected, found) = (shown(&expected), shown(&self.intents));
        assert!(expected == found, "{} should lead to\n  {expected:#?}\nbut led to\n  {found:#?}", self.what);
        self.test
    }

    /// Expects no intents.
    ///
    /// # Panics
    ///
    /// When the policy has intents; this is how the test fails.
    #[track_caller]
    pub fn then_nothing(self) -> PolicyTest<P> {
        assert!(
            self.intents.is_empty(),
            "{} should lead to nothing, but: {:#?}",
            self.what,
            shown(&self.intents)
        );
        self.test
    }
}

/// The parts of intents that matter to the business.
fn shown(intents: &[Intent]) -> Vec<(String, Option<Timestamp>, Value)> {
    let body = |body: &serde_json::value::RawValue| serde_json::from_str(body.get()).unwrap_or(Value::Null);
    let one = |intent: &Intent| match &intent.action {
        Action::Send(request) => (request.command.clone(), None, body(&request.body)),
        Action::Arm { deadline, at, request } => {
            (format!("{} at deadline {deadline}", request.command), Some(*at), body(&request.body))
        }
        Action::Disarm { deadline } => (format!("disarm {deadline}"), None, Value::Null),
    };
    intents.iter().map(one).collect()
}
