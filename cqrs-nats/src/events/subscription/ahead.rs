//! The queue of messages that are read ahead of the projector, bounded in messages and in bytes (back-pressure).

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// How many messages are read ahead: as many as the projector takes in one batch.
pub(super) const MESSAGES: usize = 512;

/// How many bytes of messages are read ahead. A larger message is alone in the queue.
pub(super) const BYTES: u32 = 8 * 1024 * 1024;

/// A message with the permit for its bytes, until the projector takes it.
struct Held<T> {
    what: T,
    _room: OwnedSemaphorePermit,
}

/// The end of the task that reads.
pub(super) struct Sender<T> {
    to: mpsc::Sender<Held<T>>,
    room: Arc<Semaphore>,
    bytes: u32,
}

/// The end of the projector.
pub(super) struct Receiver<T> {
    from: mpsc::Receiver<Held<T>>,
}

/// A queue for at most so many messages, and so many bytes in all.
pub(super) fn queue<T>(messages: usize, bytes: u32) -> (Sender<T>, Receiver<T>) {
    let (to, from) = mpsc::channel(messages);
    let room = Arc::new(Semaphore::new(bytes as usize));
    (Sender { to, room, bytes }, Receiver { from })
}

impl<T> Sender<T> {
    /// Waits for room; returns false when the projector's end is gone.
    pub(super) async fn send(&self, what: T, bytes: usize) -> bool {
        let bytes = u32::try_from(bytes).unwrap_or(self.bytes).min(self.bytes);
        let Ok(room) = Arc::clone(&self.room).acquire_many_owned(bytes).await else { return false };
        self.to.send(Held { what, _room: room }).await.is_ok()
    }
}

impl<T> Receiver<T> {
    /// Waits for a message, and takes the others that have arrived; an empty list when no more will come.
    pub(super) async fn take(&mut self, max: usize) -> Vec<T> {
        let mut held = Vec::new();
        self.from.recv_many(&mut held, max).await;
        held.into_iter().map(|held| held.what).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.from.len()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    /// How many of these messages the queue takes before the projector takes any.
    fn taken_in(sizes: &[usize]) -> usize {
        let (to, _from) = queue(4, 100);
        sizes.iter().take_while(|size| to.send((), **size).now_or_never().is_some()).count()
    }

    #[test]
    fn what_is_held_is_bounded_in_messages_and_in_bytes() {
        assert_eq!(taken_in(&[0; 9]), 4);
        assert_eq!(taken_in(&[40, 40, 40]), 2);
        assert_eq!(taken_in(&[40, 60, 1]), 2);
        assert_eq!(taken_in(&[usize::MAX, 1]), 1, "one that is larger comes alone");
        assert_eq!(taken_in(&[1, 1_000]), 1);
    }

    #[tokio::test]
    async fn what_the_projector_takes_makes_room() {
        let (to, mut from) = queue(4, 100);
        for round in 0..9 {
            assert!(to.send(round, 1_000).await);
            assert!(to.send(round, 100).now_or_never().is_none());
            assert_eq!((from.len(), from.take(9).await), (1, vec![round]));
        }
        drop(to);
        assert!(from.take(9).await.is_empty());
    }

    #[tokio::test]
    async fn one_who_reads_for_nobody_is_told() {
        let (to, from) = queue(4, 100);
        drop(from);
        assert!(!to.send((), 1).await);
    }
}
