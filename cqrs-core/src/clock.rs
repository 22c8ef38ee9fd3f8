//! Time and new ids, as a port: the domain and the loops never ask the machine themselves.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use jiff::Timestamp;
use uuid::Uuid;

/// Where the time and new message ids come from.
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

/// A clock for tests: it stands still until it is told to move, and its ids count up.
///
/// ```
/// use std::time::Duration;
/// use cqrs_core::{Clock, ManualClock};
///
/// let clock = ManualClock::new("2026-01-01T00:00:00Z".parse()?);
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now().to_string(), "2026-01-01T00:01:00Z");
/// assert_ne!(clock.new_id(), clock.new_id());
/// # Ok::<(), jiff::Error>(())
/// ```
#[derive(Debug)]
pub struct ManualClock {
    microseconds: AtomicI64,
    next_id: AtomicU64,
}

impl ManualClock {
    /// A clock that shows `start` (to the microsecond).
    pub fn new(start: Timestamp) -> Self {
        Self { microseconds: AtomicI64::new(start.as_microsecond()), next_id: AtomicU64::new(1) }
    }

    /// Moves the clock forward.
    ///
    /// # Panics
    ///
    /// When `by` is longer than 292,000 years.
    pub fn advance(&self, by: std::time::Duration) {
        let by = i64::try_from(by.as_micros()).expect("a duration within the calendar");
        self.microseconds.fetch_add(by, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.microseconds.load(Ordering::Relaxed)).unwrap_or(Timestamp::MAX)
    }

    fn new_id(&self) -> Uuid {
        let count = u128::from(self.next_id.fetch_add(1, Ordering::Relaxed));
        uuid::Builder::from_u128(count).with_version(uuid::Version::SortRand).into_uuid()
    }
}
