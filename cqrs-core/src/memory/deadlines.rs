//! Deadlines in memory: a map by id, and receivers that wait for the first of them to become due.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::{
    base::store_error::StoreError,
    memory::lock,
    port::{
        clock::Clock,
        deadlines::{Deadline, Deadlines, Due, DueQueue},
    },
};

/// After how long a deadline is delivered again that a receiver has taken and dropped.
const TAKEN: Duration = Duration::from_secs(15);

/// Deadlines in memory, by the clock of the service that follows them. Clones share the same deadlines.
#[derive(Clone, Default)]
pub struct MemoryDeadlines {
    armed: Arc<Mutex<HashMap<String, Armed>>>,
    /// How often a deadline was armed or released, to wake the receivers.
    changes: watch::Sender<u64>,
}

/// A deadline that has not ended.
struct Armed {
    deadline: Deadline,
    /// When it is delivered: at its time, or later if it was delivered before.
    at: Timestamp,
    /// Alive as long as a receiver holds the deadline.
    held: Weak<()>,
    put_off: u32,
}

impl MemoryDeadlines {
    fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Changes the deadline of `id` if it still has this arming.
    fn settle(&self, deadline: &Deadline, again: Option<Timestamp>) {
        let mut all = lock(&self.armed);
        let Some(armed) = all.get_mut(&deadline.id).filter(|armed| armed.deadline.arming == deadline.arming)
        else {
            return;
        };
        match again {
            Some(at) => (armed.at, armed.put_off) = (at, armed.put_off.saturating_add(1)),
            None => drop(all.remove(&deadline.id)),
        }
        drop(all);
        self.changed();
    }
}

impl fmt::Debug for MemoryDeadlines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDeadlines").field("armed", &lock(&self.armed).len()).finish_non_exhaustive()
    }
}

impl Deadlines for MemoryDeadlines {
    type Queue = MemoryDueQueue;

    async fn prepare(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn arm(&self, deadline: &Deadline) -> Result<(), StoreError> {
        let mut all = lock(&self.armed);
        let there = all.get(&deadline.id).map(|armed| &armed.deadline);
        if there.is_none_or(|there| there.arming != deadline.arming && there.order <= deadline.order) {
            let deadline = deadline.clone();
            let armed = Armed { at: deadline.at, held: Weak::new(), put_off: 0, deadline };
            all.insert(armed.deadline.id.clone(), armed);
        }
        drop(all);
        self.changed();
        Ok(())
    }

    async fn disarm(&self, id: &str, order: u64) -> Result<(), StoreError> {
        let mut all = lock(&self.armed);
        if all.get(id).is_some_and(|armed| armed.deadline.order <= order) {
            all.remove(id);
        }
        Ok(())
    }

    async fn due(&self, clock: Arc<dyn Clock>) -> Result<MemoryDueQueue, StoreError> {
        Ok(MemoryDueQueue { deadlines: self.clone(), clock })
    }

    async fn overdue(&self, now: Timestamp) -> Result<u64, StoreError> {
        let is_overdue = |armed: &&Armed| armed.at <= now || armed.held.strong_count() > 0;
        Ok(lock(&self.armed).values().filter(is_overdue).count() as u64)
    }
}

/// Follows a [`MemoryDeadlines`].
pub struct MemoryDueQueue {
    deadlines: MemoryDeadlines,
    clock: Arc<dyn Clock>,
}

impl MemoryDueQueue {
    /// Takes the first deadline if it is due; no other receiver gets it while it is held. Otherwise the time at which
    /// one is due.
    fn take(&self) -> Result<(Deadline, u32, Arc<()>), Option<Timestamp>> {
        let now = self.clock.now();
        let mut all = lock(&self.deadlines.armed);
        loop {
            let first = all.values_mut().min_by_key(|armed| armed.at).ok_or(None)?;
            if first.at > now {
                return Err(Some(first.at));
            }
            first.at = now.saturating_add(TAKEN).unwrap_or(Timestamp::MAX);
            if first.held.strong_count() == 0 {
                let held = Arc::new(());
                first.held = Arc::downgrade(&held);
                return Ok((first.deadline.clone(), first.put_off, held));
            }
        }
    }

    fn hand_out(&self, (deadline, put_off, held): (Deadline, u32, Arc<()>)) -> Due {
        let (deadlines, clock) = (self.deadlines.clone(), Arc::clone(&self.clock));
        let (id, payload) = (deadline.id.clone(), deadline.payload.clone());
        let due = Due::new(id, payload, move |again| async move {
            let again = again.map(|pause| clock.now().saturating_add(pause).unwrap_or(Timestamp::MAX));
            drop(held);
            deadlines.settle(&deadline, again);
            Ok(())
        });
        due.put_off_before(put_off)
    }
}

impl DueQueue for MemoryDueQueue {
    async fn next(&mut self) -> Result<Due, StoreError> {
        let mut changes = self.deadlines.changes.subscribe();
        loop {
            changes.mark_unchanged();
            let next = match self.take() {
                Ok(next) => return Ok(self.hand_out(next)),
                Err(next) => next,
            };
            tokio::select! {
                // The sender lives in `self`, so this is a change.
                _ = changes.changed() => {}
                () = self.clock.sleep_until(next.unwrap_or(Timestamp::MAX)) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::port::clock::ManualClock;

    /// The deadline that is due, if there is one.
    async fn now(queue: &mut MemoryDueQueue) -> Option<Due> {
        tokio::time::timeout(Duration::from_millis(1), queue.next()).await.ok().map(Result::unwrap)
    }

    #[tokio::test]
    async fn a_deadline_comes_to_nobody_else_while_it_is_held() {
        let (deadlines, clock) =
            (MemoryDeadlines::default(), Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)));
        let (at, payload) = (Timestamp::UNIX_EPOCH, "".into());
        let deadline = Deadline { id: "1".to_owned(), at, payload, order: 1, arming: Uuid::nil() };
        deadlines.arm(&deadline).await.unwrap();
        let mut queue = deadlines.due(Arc::clone(&clock) as Arc<dyn Clock>).await.unwrap();
        let held = queue.next().await.unwrap();
        for _ in 0..3 {
            clock.advance(2 * TAKEN);
            assert!(now(&mut queue).await.is_none());
        }
        drop(held);
        clock.advance(2 * TAKEN);
        let held = queue.next().await.unwrap();
        held.later(Duration::ZERO).await.unwrap();
        queue.next().await.unwrap().done().await.unwrap();
        clock.advance(2 * TAKEN);
        assert!(now(&mut queue).await.is_none());
    }
}
