//! The port to the time and to new ids: the domain and the loops never read the machine's clock themselves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;

use crate::base::{future::BoxFuture, id::CommandId};

/// The longest wait before the clock is read again: an operator may have set it.
const LOOK: Duration = Duration::from_secs(60);

/// The source of the time and of new message ids.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// A new id, unique in the world; version 7 (RFC 9562), so that ids sort by time.
    fn new_id(&self) -> Uuid {
        let now = self.now();
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let nanos = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
        Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos))
    }

    /// Waits until the clock shows `time` or later.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn sleep_until(&self, time: Timestamp) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            while let Ok(rest) = Duration::try_from(time.duration_since(self.now())) {
                if rest.is_zero() {
                    return;
                }
                tokio::time::sleep(rest.min(LOOK)).await;
            }
        })
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the machine")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

impl CommandId {
    /// A new id, unique in the world; version 7 (RFC 9562), so that ids sort by the time of the machine's clock.
    #[expect(clippy::new_without_default, reason = "a default is the same each time, and an id never is")]
    pub fn new() -> Self {
        Self(SystemClock.new_id())
    }
}

/// A shared clock is the same clock: a test keeps one handle and gives the service another.
#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn new_id(&self) -> Uuid {
        (**self).new_id()
    }

    fn sleep_until(&self, time: Timestamp) -> BoxFuture<'_, ()> {
        (**self).sleep_until(time)
    }
}

/// A clock for tests: it moves only when a test advances or sets it, and its ids count up.
///
/// The service takes a handle of it. In memory deadlines follow it too: they are due when it shows their time. (On NATS
/// the server's clock decides.)
///
/// ```
/// # use cqrs_core::{
/// #     Aggregate, Apply, Command, Context, Effects, Envelope, Event, Handle, Handled, Policy, React, Start,
/// # };
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, Clone, Serialize, Deserialize, Event)]
/// # #[event(prefix = "order")]
/// # enum OrderEvent { Placed, Expired }
/// # #[derive(Debug, thiserror::Error)]
/// # enum OrderRejection {}
/// # #[derive(Default, Clone, Aggregate)]
/// # #[aggregate(id = u32, event = OrderEvent, rejection = OrderRejection, commands(PlaceOrder, ExpireOrder))]
/// # struct Order { expired: bool }
/// # impl Apply<OrderEvent> for Order {
/// #     fn apply(&mut self, event: &OrderEvent) { self.expired |= matches!(event, OrderEvent::Expired); }
/// # }
/// # #[derive(Debug, Serialize, Deserialize, Command)]
/// # #[command(aggregate = Order, create)]
/// # struct PlaceOrder { #[command(id)] order: u32 }
/// # impl Handle<PlaceOrder> for Order {
/// #     fn handle(&self, _: &PlaceOrder, _: &Context) -> Handled<Self> { Ok(OrderEvent::Placed.into()) }
/// # }
/// # #[derive(Debug, Serialize, Deserialize, Command)]
/// # #[command(aggregate = Order)]
/// # struct ExpireOrder { #[command(id)] order: u32 }
/// # impl Handle<ExpireOrder> for Order {
/// #     fn handle(&self, _: &ExpireOrder, _: &Context) -> Handled<Self> { Ok(OrderEvent::Expired.into()) }
/// # }
/// # #[derive(Default, Serialize, Deserialize)]
/// # struct Expiry;
/// # impl Policy for Expiry {
/// #     const NAME: &'static str = "expiry";
/// #     const START: Start = Start::Beginning;
/// #     type Of = Order;
/// # }
/// # impl React<OrderEvent> for Expiry {
/// #     fn react(&mut self, event: &Envelope<OrderEvent>, effects: &mut Effects) {
/// #         let Ok(order) = event.aggregate_id::<Order>() else { return };
/// #         if let OrderEvent::Placed = event.data {
/// #             effects.at("expiry", event.time + std::time::Duration::from_secs(3_600), ExpireOrder { order });
/// #         }
/// #     }
/// # }
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{sync::Arc, time::Duration};
/// use cqrs_core::{Clock, Cqrs, memory::Memory, testing::ManualClock};
///
/// let clock = Arc::new(ManualClock::new("2026-01-01T12:00:00Z".parse()?));
/// let builder = Cqrs::builder(Memory::default()).clock(Arc::clone(&clock));
/// let cqrs = builder.aggregate::<Order>().policy::<Expiry>().start().await?;
/// cqrs.execute(PlaceOrder { order: 7 }).await?; // The policy lets it expire an hour later.
///
/// clock.advance(Duration::from_secs(3_599));
/// assert_eq!(clock.now().to_string(), "2026-01-01T12:59:59Z");
/// clock.set("2026-01-01T13:00:00Z".parse()?); // Now the deadline is due.
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ManualClock {
    microseconds: watch::Sender<i64>,
    next_id: AtomicU64,
}

impl ManualClock {
    /// A clock that shows `start` (to the microsecond). Its ids count up from 1: use it on a log that no other clock has
    /// given ids to.
    pub fn new(start: Timestamp) -> Self {
        Self { microseconds: watch::Sender::new(start.as_microsecond()), next_id: AtomicU64::new(1) }
    }

    /// Sets the clock to `time` (to the microsecond), forward or back.
    pub fn set(&self, time: Timestamp) {
        self.microseconds.send_replace(time.as_microsecond());
    }

    /// Moves the clock forward.
    ///
    /// # Panics
    ///
    /// If `by` is longer than 292,000 years.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_micros()).expect("a duration within the calendar");
        self.microseconds.send_modify(|microseconds| *microseconds += by);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(*self.microseconds.borrow()).unwrap_or(Timestamp::MAX)
    }

    fn sleep_until(&self, time: Timestamp) -> BoxFuture<'_, ()> {
        let mut shown = self.microseconds.subscribe();
        Box::pin(async move {
            // The sender lives in `self`, so the wait ends only when the time has come.
            let _ = shown.wait_for(|shown| *shown >= time.as_microsecond()).await;
        })
    }

    fn new_id(&self) -> Uuid {
        let count = u128::from(self.next_id.fetch_add(1, Ordering::Relaxed));
        uuid::Builder::from_u128(count).with_version(uuid::Version::SortRand).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The defaults of the trait would read the machine's time for new ids, and sleep by it.
    #[tokio::test]
    async fn a_shared_clock_is_the_same_clock() {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let given: Box<dyn Clock> = Box::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let ids = [clock.new_id(), given.new_id(), clock.new_id()].map(|id| id.as_u128() & 0xff);
        assert_eq!(ids, [1, 2, 3]);
        let hour = Timestamp::new(3_600, 0).unwrap();
        let ((), ()) = tokio::join!(given.sleep_until(hour), async { clock.set(hour) });
        assert_eq!(given.now(), hour);
        clock.set(Timestamp::UNIX_EPOCH);
        clock.advance(Duration::from_secs(1));
        assert_eq!(given.now(), Timestamp::new(1, 0).unwrap(), "it goes back as well");
    }

    #[test]
    fn new_ids_of_commands_have_the_time_and_differ() {
        let (before, ids, after) =
            (SystemClock.now(), [(); 100].map(|()| CommandId::new()), SystemClock.now());
        for id in ids {
            let (seconds, _) = id.0.get_timestamp().expect("version 7").to_unix();
            let seconds = i64::try_from(seconds).unwrap();
            assert!((before.as_second()..=after.as_second()).contains(&seconds), "{id}");
        }
        let different: std::collections::HashSet<_> = ids.into_iter().collect();
        assert_eq!(different.len(), 100);
    }
}
