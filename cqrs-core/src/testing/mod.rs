//! Given, when, then: tests of an aggregate's rules, without stores and without async.
//!
//! ```
//! # use cqrs_core::{Aggregate, Apply, Command, Context, Event, Handle, Handled};
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
//! # #[event(prefix = "order")]
//! # enum OrderEvent { Created, Paid { amount: u64 } }
//! # #[derive(Debug, PartialEq, thiserror::Error)]
//! # enum OrderRejection { #[error("it is paid already")] AlreadyPaid }
//! # #[derive(Debug, Default, Clone, Aggregate)]
//! # #[aggregate(id = u32, event = OrderEvent, rejection = OrderRejection, commands(PayOrder))]
//! # struct Order { paid: bool }
//! # impl Apply<OrderEvent> for Order {
//! #     fn apply(&mut self, event: &OrderEvent) { self.paid |= matches!(event, OrderEvent::Paid { .. }); }
//! # }
//! # #[derive(Debug, Serialize, Deserialize, Command)]
//! # #[command(aggregate = Order)]
//! # struct PayOrder { #[command(id)] order: u32, amount: u64 }
//! # impl Handle<PayOrder> for Order {
//! #     fn handle(&self, command: &PayOrder, _: &Context) -> Handled<Self> {
//! #         if self.paid { return Err(OrderRejection::AlreadyPaid); }
//! #         Ok(OrderEvent::Paid { amount: command.amount }.into())
//! #     }
//! # }
//! use cqrs_core::testing::given;
//!
//! given::<Order>([OrderEvent::Created])
//!     .when(PayOrder { order: 1, amount: 10 })
//!     .then([OrderEvent::Paid { amount: 10 }]);
//!
//! given::<Order>([OrderEvent::Created, OrderEvent::Paid { amount: 10 }])
//!     .when(PayOrder { order: 1, amount: 10 })
//!     .then_rejected(OrderRejection::AlreadyPaid);
//! ```

mod policy;
#[cfg(feature = "schema")]
mod schema;

use std::fmt::Debug;

use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    base::{
        error::CommandError,
        id::{AggregateKey, CommandId},
        metadata::Metadata,
        rejection::IsRejection,
    },
    log::codec,
    model::{
        aggregate::{Aggregate, Handle, replay},
        command::{Command, Context},
        event::Events,
    },
    write::decide::decide,
};

pub use crate::port::clock::ManualClock;
pub use policy::{PolicyTest, Reacted, policy};
#[cfg(feature = "schema")]
pub use schema::{Older, StoredShape, check_policy_lock, check_schema_lock};

/// Begins a test with the aggregate's past events.
pub fn given<A: Aggregate>(events: impl IntoIterator<Item = A::Event>) -> Given<A> {
    let events: Vec<_> = events.into_iter().collect();
    let state = replay(&events);
    let context = Context::new(CommandId(Uuid::nil()), Timestamp::UNIX_EPOCH);
    Given { state, version: events.len() as u64, context }
}

/// Begins a test of an aggregate without events.
pub fn given_nothing<A: Aggregate>() -> Given<A> {
    given([])
}

/// The past of a test; see [`given`].
#[derive(Debug, Clone)]
pub struct Given<A> {
    state: A,
    version: u64,
    context: Context,
}

impl<A: Aggregate> Given<A> {
    /// The time at which the command is handled; by default 1970.
    pub fn at(mut self, time: Timestamp) -> Self {
        self.context.time = time;
        self
    }

    /// The metadata of the command.
    pub fn with(mut self, metadata: Metadata) -> Self {
        self.context.metadata = metadata;
        self
    }

    /// The state that follows from the events.
    pub fn state(&self) -> &A {
        &self.state
    }

    /// Handles `command`, the lifecycle's rules included.
    ///
    /// # Panics
    ///
    /// When no store takes the command's aggregate id.
    #[expect(clippy::needless_pass_by_value, reason = "a test reads better without the borrow")]
    pub fn when<C>(self, command: C) -> When<A>
    where
        C: Command<Aggregate = A>,
        A: Handle<C>,
    {
        let id = command.aggregate_id().to_string();
        let key = AggregateKey::new(A::NAME, id).expect("the command's aggregate id");
        let result = decide(&command, &self.context, &self.state, self.version, None, &key);
        When { name: command.name(), result }
    }
}

/// The result of the command; see [`given`].
#[derive(Debug)]
#[must_use = "say what should have happened: `then`, `then_nothing` or `then_rejected`"]
pub struct When<A: Aggregate> {
    name: &'static str,
    result: Result<Events<A::Event>, CommandError<A::Rejection>>,
}

impl<A: Aggregate<Event: Debug + PartialEq>> When<A> {
    /// Expects exactly these events, and that they are the same after they were recorded.
    ///
    /// # Panics
    ///
    /// When the command was refused or led to other events, or to one that cannot be recorded or comes back as another;
    /// this is how the test fails.
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = A::Event>) {
        let expected: Vec<_> = expected.into_iter().collect();
        match self.result {
            Ok(events) => {
                let events: Vec<_> = events.into_iter().collect();
                assert!(
                    events == expected,
                    "{} should lead to\n  {expected:#?}\nbut led to\n  {events:#?}",
                    self.name
                );
                for event in events {
                    match codec::written_and_read(&event) {
                        Ok((_, read)) => assert!(read == event, "{event:#?}\nis recorded as\n  {read:#?}"),
                        Err(error) => panic!("{event:#?}\ncannot be recorded: {error}"),
                    }
                }
            }
            Err(error) => panic!("{} should lead to\n  {expected:#?}\nbut was refused: {error}", self.name),
        }
    }

    /// Expects that the command changes nothing and is not refused.
    ///
    /// # Panics
    ///
    /// Otherwise; this is how the test fails.
    #[track_caller]
    pub fn then_nothing(self) {
        self.then([]);
    }
}

impl<A: Aggregate<Event: Debug, Rejection: PartialEq>> When<A> {
    /// Expects that the aggregate refuses with this rejection.
    ///
    /// # Panics
    ///
    /// When it does not; this is how the test fails.
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "a test reads better without the borrow")]
    pub fn then_rejected(self, expected: A::Rejection) {
        match &self.result {
            Err(CommandError::Rejected(rejection)) if *rejection == expected => {}
            other => {
                let expected = expected.as_error();
                panic!("{} should be rejected with {expected:?}, but: {other:#?}", self.name);
            }
        }
    }
}

impl<A: Aggregate<Event: Debug>> When<A> {
    /// Expects that the command is refused because its aggregate exists already.
    ///
    /// # Panics
    ///
    /// When it is not; this is how the test fails.
    #[track_caller]
    pub fn then_already_exists(self) {
        let found = matches!(self.result, Err(CommandError::AlreadyExists(_)));
        assert!(found, "{} should find its aggregate there already, but: {:#?}", self.name, self.result);
    }

    /// Expects that the command is refused because its aggregate does not exist.
    ///
    /// # Panics
    ///
    /// When it is not; this is how the test fails.
    #[track_caller]
    pub fn then_not_found(self) {
        let found = matches!(self.result, Err(CommandError::NotFound(_)));
        assert!(found, "{} should find no aggregate, but: {:#?}", self.name, self.result);
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use cqrs_derive::{Aggregate, Command, Event};

    use super::*;
    use crate::model::aggregate::{Apply, Handled};

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
    #[event(prefix = "kept", crate = crate)]
    enum Kept {
        Known(u8),
        Partly(Partly),
        Number(f64),
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Partly {
        #[serde(skip)]
        hidden: u8,
    }

    #[derive(Debug, Default, Clone, Aggregate)]
    #[aggregate(id = u8, event = Kept, rejection = std::fmt::Error, commands(Keep), crate = crate)]
    struct Keeper;

    impl Apply<Kept> for Keeper {
        fn apply(&mut self, _: &Kept) {}
    }

    #[derive(Debug, Clone, Serialize, Deserialize, Command)]
    #[command(aggregate = Keeper, upsert, crate = crate)]
    struct Keep {
        #[command(id)]
        keeper: u8,
        what: Kept,
    }

    impl Handle<Keep> for Keeper {
        fn handle(&self, command: &Keep, _: &Context) -> Handled<Self> {
            Ok(command.what.clone().into())
        }
    }

    fn keeps(what: Kept) {
        given_nothing::<Keeper>().when(Keep { keeper: 1, what: what.clone() }).then([what]);
    }

    #[test]
    fn what_comes_back_passes() {
        keeps(Kept::Known(1));
        keeps(Kept::Partly(Partly { hidden: 0 }));
    }

    #[test]
    #[should_panic(expected = "is recorded as")]
    fn what_comes_back_as_another_fails() {
        keeps(Kept::Partly(Partly { hidden: 1 }));
    }

    #[test]
    #[should_panic(expected = "cannot be recorded")]
    fn what_cannot_be_recorded_fails() {
        keeps(Kept::Number(f64::INFINITY));
    }
}
