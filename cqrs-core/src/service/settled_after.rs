//! Waiting for all that follows from one command, while other commands go on.
//!
//! The log is read from the command's commit on, with a subscription of its own. The commits of its business transaction
//! are those that follow. Each round waits until the projections have applied them and the policies have executed the
//! intents that they led to, and then reads the log to its new end. An intent is removed from the outbox after its command
//! is stored. So when a round finds nothing new, nothing more follows.

use std::collections::{BTreeMap, HashSet};

use tokio::time::timeout;

use crate::{
    base::{
        error::Error,
        id::{AggregateKey, CorrelationId, Position},
        patience::{Patience, asked},
        store_error::StoreError,
    },
    log::commit::Receipt,
    port::{
        any_events::AnySubscription,
        clock::Clock as _,
        event_store::EventStore,
        subscription::{Delivery, Subscribe, Subscription as _},
    },
    projector::deliveries::sequence,
    service::{runtime::Runtime, settled::executed},
};

/// How many commits are read at once.
const PAGE: usize = 500;

/// What has followed from a command so far.
struct Following {
    correlation_id: CorrelationId,
    aggregates: Vec<&'static str>,
    subscriber: String,
    subscription: Option<AnySubscription>,
    /// The last sequence that was read.
    seen: u64,
    /// The last event of each aggregate.
    last: BTreeMap<AggregateKey, Position>,
    /// The positions of all events.
    events: HashSet<Position>,
}

impl Runtime {
    /// Waits until nothing more follows from the command of a receipt.
    pub(crate) async fn settled_after(&self, receipt: &Receipt) -> Result<(), Error> {
        if receipt.events == 0 {
            return Ok(());
        }
        let sequence = receipt.position.sequence;
        let what = || format!("reading what command {} has recorded", receipt.command_id);
        let there = self.asked(what, || self.shell.events.commit_at(sequence)).await?;
        if !there.is_some_and(|there| there.is_ok_and(|there| receipt.is_about(&there))) {
            return Err(receipt.void());
        }
        let own = self.workers.iter().filter(|worker| worker.log.is_own());
        let mut aggregates: Vec<_> = own.flat_map(|worker| worker.settings.aggregates.clone()).collect();
        aggregates.sort_unstable();
        aggregates.dedup();
        let mut following = Following {
            correlation_id: receipt.correlation_id,
            aggregates,
            subscriber: format!("settled-after={}", self.shell.clock.new_id().simple()),
            subscription: None,
            seen: sequence.saturating_sub(1),
            last: BTreeMap::new(),
            events: HashSet::new(),
        };
        let settled = self.follow(&mut following).await;
        drop(following.subscription.take());
        // What the store keeps about the subscriber, if anything, it would also forget later.
        let _ = self.shell.events.forget(&following.subscriber).await;
        settled
    }

    async fn follow(&self, following: &mut Following) -> Result<(), Error> {
        let mut set_aside = Ok(());
        while self.read_on(following).await? {
            set_aside = Ok(());
            let mut note = |waited: Result<(), Error>| match waited {
                Err(error @ (Error::SetAside { .. } | Error::IntentsSetAside { .. })) => {
                    if set_aside.is_ok() {
                        set_aside = Err(error);
                    }
                    Ok(())
                }
                waited => waited,
            };
            for worker in &self.workers {
                for (aggregate, position) in &following.last {
                    if worker.sees(aggregate.name()) {
                        note(worker.has_applied(aggregate, *position).await)?;
                    }
                }
            }
            for worker in self.workers.iter().filter(|worker| worker.log.is_own()) {
                note(executed(worker, Some(&following.events)).await)?;
            }
            self.nothing_is_overdue().await?;
        }
        set_aside
    }

    /// Reads the log to its end; returns whether there was something of the transaction.
    async fn read_on(&self, following: &mut Following) -> Result<bool, Error> {
        let events = &self.shell.events;
        let what = || "asking how long the log is".to_owned();
        let log = asked(self.waiting, what, || events.log(&following.aggregates)).await?;
        let known = following.events.len();
        let mut patience = Patience::of(self.waiting);
        while following.seen < log.last_sequence {
            let read = match timeout(self.waiting, following.next(events)).await {
                Ok(read) => read,
                Err(late) => Err(StoreError::unavailable("reading what has followed from a command", late)),
            };
            if read.is_err() {
                following.subscription = None;
            }
            if let Some(deliveries) = patience.after(read).await? {
                following.take(&deliveries);
                patience = Patience::of(self.waiting);
            }
        }
        Ok(following.events.len() > known)
    }
}

impl Following {
    async fn next(
        &mut self,
        events: &impl EventStore<Subscription = AnySubscription>,
    ) -> Result<Vec<Delivery>, StoreError> {
        if self.subscription.is_none() {
            let Self { subscriber, aggregates, seen, .. } = self;
            let request = Subscribe { subscriber, aggregates, after: *seen };
            self.subscription = Some(events.subscribe(request).await?);
        }
        let Some(subscription) = &mut self.subscription else { return Ok(Vec::new()) };
        let deliveries = subscription.next(PAGE).await?;
        if let Some(last) = deliveries.last() {
            subscription.done(sequence(last)).await?;
        }
        Ok(deliveries)
    }

    fn take(&mut self, deliveries: &[Delivery]) {
        for delivery in deliveries {
            self.seen = self.seen.max(sequence(delivery));
            // A message that cannot be read is of no transaction.
            let Ok(stored) = delivery else { continue };
            for (index, event) in (0..).zip(&stored.commit.events) {
                if event.origin.correlation_id == self.correlation_id {
                    let position = Position { sequence: stored.sequence, index };
                    self.last.insert(stored.commit.aggregate.clone(), position);
                    self.events.insert(position);
                }
            }
        }
    }
}
