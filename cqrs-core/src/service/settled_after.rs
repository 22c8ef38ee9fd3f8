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
    service::{
        Cqrs,
        lists::{AggregateList, ViewList},
        runtime::Runtime,
        settled::executed,
    },
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

impl<A: AggregateList, V: ViewList> Cqrs<A, V> {
    /// Waits until nothing more follows from the command of `receipt`: its events are applied by every projection, the
    /// commands of policies and handlers that followed are carried out, their events are applied, and so on. Other
    /// commands may go on meanwhile, which [`settled`](Self::settled) would wait for. For tests and scripts: it reads the
    /// log from the command on.
    ///
    /// ```
    /// # use cqrs_core::{Aggregate, Apply, Command, Context, Cqrs, Effects, Envelope, Event, Handle, Handled, Policy};
    /// # use cqrs_core::{React, Start, memory::Memory};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Debug, Clone, Serialize, Deserialize, Event)]
    /// # #[event(prefix = "order")]
    /// # enum OrderEvent { Paid, Shipped }
    /// # #[derive(Debug, thiserror::Error)]
    /// # enum Never {}
    /// # #[derive(Default, Clone, Aggregate)]
    /// # #[aggregate(id = u32, event = OrderEvent, rejection = Never, commands(Pay, Ship))]
    /// # struct Order;
    /// # impl Apply<OrderEvent> for Order { fn apply(&mut self, _: &OrderEvent) {} }
    /// # #[derive(Serialize, Deserialize, Command)]
    /// # #[command(aggregate = Order, upsert)]
    /// # struct Pay { #[command(id)] order: u32 }
    /// # impl Handle<Pay> for Order {
    /// #     fn handle(&self, _: &Pay, _: &Context) -> Handled<Self> { Ok(OrderEvent::Paid.into()) }
    /// # }
    /// # #[derive(Serialize, Deserialize, Command)]
    /// # #[command(aggregate = Order)]
    /// # struct Ship { #[command(id)] order: u32 }
    /// # impl Handle<Ship> for Order {
    /// #     fn handle(&self, _: &Ship, _: &Context) -> Handled<Self> { Ok(OrderEvent::Shipped.into()) }
    /// # }
    /// # #[derive(Default, Serialize, Deserialize)]
    /// # struct ShipWhatIsPaid;
    /// # impl Policy for ShipWhatIsPaid {
    /// #     const NAME: &'static str = "ship-what-is-paid";
    /// #     const START: Start = Start::Beginning;
    /// #     type Of = Order;
    /// # }
    /// # impl React<OrderEvent> for ShipWhatIsPaid {
    /// #     fn react(&mut self, event: &Envelope<OrderEvent>, effects: &mut Effects) {
    /// #         if let (OrderEvent::Paid, Ok(order)) = (&event.data, event.aggregate_id::<Order>()) {
    /// #             effects.send(Ship { order });
    /// #         }
    /// #     }
    /// # }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cqrs = Cqrs::builder(Memory::default()).aggregate::<Order>().policy::<ShipWhatIsPaid>().start().await?;
    /// let receipt = cqrs.execute(Pay { order: 1 }).await?;
    /// cqrs.settled_after(&receipt).await?;
    /// let trace = cqrs.trace(receipt.correlation_id).await?;
    /// assert_eq!(trace.commands.iter().map(|command| &*command.name).collect::<Vec<_>>(), ["pay", "ship"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// What follows is what has the receipt's [`correlation_id`](crate::Receipt::correlation_id), from the command on.
    /// Deadlines that are due count, as for [`settled`](Self::settled), whichever command they follow from; deadlines that
    /// are not due yet do not count, and neither does what other contexts do with announcements.
    ///
    /// It ends when something cannot go on. Dead letters and dead intents on the way are an error, after everything else
    /// has followed.
    ///
    /// # Errors
    ///
    /// [`Error::SetAside`] when a projection has set aside an event that followed, or an earlier one of its aggregate, and
    /// [`Error::IntentsSetAside`] when a policy has set aside a command or a deadline that followed: the first of them, by
    /// name. [`Error::ReceiptVoid`] when the log does not have the command. [`Error::ProjectionHalted`],
    /// [`Error::ViewBehind`], [`Error::Unsettled`] and [`Error::DeadlinesOverdue`] when a projection has halted, or made no
    /// progress within the service's [`patience`](crate::Builder::patience); or the store's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing; the store may remember the name of its subscription for an hour.
    pub async fn settled_after(&self, receipt: &Receipt) -> Result<(), Error> {
        self.runtime.settled_after(receipt).await
    }
}

impl Runtime {
    /// Waits until nothing more follows from the command of a receipt.
    pub(crate) async fn settled_after(&self, receipt: &Receipt) -> Result<(), Error> {
        if receipt.events == 0 {
            return Ok(());
        }
        let what = || format!("reading what command {} has recorded", receipt.command_id);
        if !self.asked(what, || self.has(receipt)).await? {
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
            seen: receipt.position.sequence.saturating_sub(1),
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
