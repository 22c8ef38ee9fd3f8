//! The port to the time and to new ids: the domain and the loops never read the machine's clock themselves.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;

use crate::base::future::BoxFuture;

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

/// A clock for tests: it moves only when a test advances it, and its ids count up.
///
/// ```
/// use std::time::Duration;
/// use cqrs_core::{Clock, testing::ManualClock};
///
/// let clock = ManualClock::new("2026-01-01T00:00:00Z".parse()?);
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now().to_string(), "2026-01-01T00:01:00Z");
/// assert_ne!(clock.new_id(), clock.new_id());
/// # Ok::<(), jiff::Error>(())
/// ```
#[derive(Debug)]
pub struct ManualClock {
    microseconds: watch::Sender<i64>,
    next_id: AtomicU64,
}

impl ManualClock {
    /// A clock that shows `start` (to the microsecond).
    pub fn new(start: Timestamp) -> Self {
        Self { microseconds: watch::Sender::new(start.as_microsecond()), next_id: AtomicU64::new(1) }
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
