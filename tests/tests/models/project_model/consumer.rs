//! The durable pull consumer: which deliveries it makes, to which client, and how often.

/// A consumer as the server keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Consumer {
    /// It starts right after this sequence.
    pub(crate) after: usize,
    /// The last sequence that was delivered for the first time, or where it starts.
    pub(crate) position: usize,
    /// The number of the last delivery.
    pub(crate) number: usize,
    /// The deliveries that may be redelivered.
    pub(crate) unacknowledged: Vec<usize>,
    /// The last acknowledged sequence.
    pub(crate) floor: usize,
    pub(crate) pin: Pin,
}

/// The pinned client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Pin {
    Nobody,
    Worker(usize),
    /// A client that is gone, until the server notices.
    Gone,
}

/// A message in flight to a worker, or in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Delivery {
    pub(crate) number: usize,
    pub(crate) sequence: usize,
}

impl Consumer {
    pub(crate) fn new(after: usize) -> Self {
        Self { after, position: after, number: 0, unacknowledged: Vec::new(), floor: after, pin: Pin::Nobody }
    }

    /// Whether the server would answer this worker's request for messages.
    pub(crate) fn serves(&self, worker: usize) -> bool {
        self.pin == Pin::Nobody || self.pin == Pin::Worker(worker)
    }

    /// Delivers for the first time, or redelivers.
    pub(crate) fn deliver(&mut self, worker: usize, sequence: usize) -> Delivery {
        self.pin = Pin::Worker(worker);
        self.number += 1;
        if sequence > self.position {
            self.position = sequence;
            self.unacknowledged.push(sequence);
        }
        Delivery { number: self.number, sequence }
    }

    /// One acknowledgment covers all before it. It may be for deliveries of a deleted consumer of the same name.
    pub(crate) fn acknowledge(&mut self, sequence: usize) {
        let sequence = sequence.min(self.position);
        self.floor = self.floor.max(sequence);
        self.unacknowledged.retain(|unacknowledged| *unacknowledged > sequence);
    }

    pub(crate) fn release(&mut self, worker: usize) {
        if self.pin == Pin::Worker(worker) {
            self.pin = Pin::Gone;
        }
    }

    /// `consumer::stands_at`.
    pub(crate) fn stands_at(&self, after: usize) -> bool {
        self.unacknowledged.is_empty() && self.position == after
    }
}
