//! Both ports in the process's memory: for tests, examples and first steps.
//!
//! Nothing outlives the process. Apart from that it fulfils the same contracts as every other adapter.

mod deadlines;
pub(crate) mod events;
pub(crate) mod views;

pub use deadlines::{MemoryDeadlines, MemoryDueQueue};
pub use events::{MemoryEvents, MemoryNotices, MemorySubscription};
pub use views::MemoryViews;

use crate::port::backend::Backend;

/// A service's whole backend in memory.
///
/// Clones share what they store, so a second service on a clone sees the events of the first.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// The event store.
    pub events: MemoryEvents,
    /// The view store.
    pub views: MemoryViews,
}

impl Backend for Memory {
    type Events = MemoryEvents;
    type Views = MemoryViews;

    fn split(self) -> (MemoryEvents, MemoryViews) {
        (self.events, self.views)
    }
}

/// Locks a mutex, also after another holder has panicked: each change under it is a single step.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Two numbers from two newly keyed hashers: enough to make the ids of two stores differ.
fn random() -> u128 {
    use std::hash::{BuildHasher, RandomState};
    let number = || u128::from(RandomState::new().hash_one(0));
    (number() << 64) | number()
}
