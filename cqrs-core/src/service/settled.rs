//! Waiting until nothing more follows from what has happened.

use std::{collections::HashSet, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    base::{backoff, error::Error, id::Position, patience::asked},
    effects::{dead_intent::DeadIntents, policy_projection::notes},
    port::event_store::EventStore,
    projector::worker::Worker,
    service::{
        Cqrs,
        lists::{AggregateList, ViewList},
        runtime::Runtime,
    },
};

/// The pause before an outbox is read again, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

impl<A: AggregateList, V: ViewList> Cqrs<A, V> {
    /// Waits until nothing more follows from what has happened: every projection has applied all that is in its log,
    /// every policy has executed its commands and deadlines, and so on for the events that these led to. For tests and
    /// scripts; a service that is in use is never settled for long.
    ///
    /// A deadline that is due by the service's clock counts until its command is sent, so a test that sets its
    /// [`ManualClock`](crate::testing::ManualClock) past a deadline then calls this. Deadlines that are not due yet do not
    /// count, nor those that were delayed because their command could not be sent, and neither does what other services
    /// do with announcements. It does not return while policies cause each other's commands without end.
    ///
    /// # Errors
    ///
    /// Those of [`caught_up`](Self::caught_up); [`Error::IntentsSetAside`] when a policy has dead intents, and
    /// [`Error::Unsettled`] when a policy executed none of its intents, and
    /// [`Error::DeadlinesOverdue`] when no command of a due deadline was sent, within the service's
    /// [`patience`](crate::Builder::patience).
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn settled(&self) -> Result<(), Error> {
        self.runtime.settled().await
    }
}

impl Runtime {
    /// Waits until every projection has applied all that is in its log at the time of the call.
    pub(crate) async fn caught_up(&self) -> Result<(), Error> {
        let mut set_aside = Ok(());
        for worker in &self.workers {
            match worker.caught_up().await {
                Err(error @ Error::SetAside { .. }) => set_aside = set_aside.and(Err(error)),
                caught_up => caught_up?,
            }
        }
        set_aside
    }

    /// Waits until every projection has applied everything, every policy has executed everything, and no deadline is due.
    ///
    /// What a policy executes may lead to further events, also for policies that were looked at before. So the logs
    /// must have the same ends after all were looked at as before.
    pub(crate) async fn settled(&self) -> Result<(), Error> {
        loop {
            let before = self.ends().await?;
            let mut set_aside = match self.caught_up().await {
                Err(error @ Error::SetAside { .. }) => Err(error),
                caught_up => Ok(caught_up?),
            };
            for worker in &self.workers {
                match executed(worker, None).await {
                    Err(error @ Error::IntentsSetAside { .. }) => set_aside = set_aside.and(Err(error)),
                    executed => executed?,
                }
            }
            self.nothing_is_overdue().await?;
            if self.ends().await? == before {
                return set_aside;
            }
        }
    }

    /// Waits until the commands of all deadlines are sent that are due by the service's clock.
    pub(crate) async fn nothing_is_overdue(&self) -> Result<(), Error> {
        let (Some(deadlines), patience) = (&self.deadlines, self.waiting) else { return Ok(()) };
        let mut wait = Wait::new(patience);
        loop {
            let what = || "asking which deadlines are due".to_owned();
            let ask = || deadlines.overdue(self.shell.clock.now());
            match asked(patience, what, ask).await? {
                0 => return Ok(()),
                overdue if wait.is_over(&overdue) => {
                    return Err(Error::DeadlinesOverdue { overdue, waited: patience });
                }
                _ => wait.pause().await,
            }
        }
    }

    /// The end of each projection's log.
    async fn ends(&self) -> Result<Vec<u64>, Error> {
        let mut ends = Vec::with_capacity(self.workers.len());
        for worker in &self.workers {
            let what = || format!("asking how long the log is that {} follows", worker.name);
            let ask = || worker.log.events.log(&worker.settings.aggregates);
            ends.push(asked(worker.shared.patience, what, ask).await?.last_sequence);
        }
        Ok(ends)
    }
}

/// Waits until a policy has executed its intents, or those that follow from `events`, as long as it makes progress.
pub(crate) async fn executed(worker: &Worker, events: Option<&HashSet<Position>>) -> Result<(), Error> {
    if !worker.settings.has_effects {
        return Ok(());
    }
    let (intents, patience) = (DeadIntents::of(worker).await?, worker.shared.patience);
    let mut wait = Wait::new(patience);
    loop {
        let what = || format!("reading what policy {} has to carry out", worker.name);
        let mut outbox = asked(patience, what, || intents.outbox()).await?;
        if let Some(events) = events {
            let follows = |place: &str| notes::event_of(place).is_some_and(|event| events.contains(&event));
            outbox.open.retain(|place| follows(place));
            outbox.dead.retain(|dead| follows(&dead.place));
        }
        if outbox.open.is_empty() {
            let dead_intents = outbox.dead.len();
            let Some(first) = outbox.dead.into_iter().next() else { return Ok(()) };
            let (policy, key, what, reason) = (worker.name, first.key, first.what, first.reason);
            return Err(Error::IntentsSetAside { policy, key, what, reason, dead_intents });
        }
        if wait.is_over(&outbox.open) {
            return Err(Error::Unsettled { policy: worker.name, open: outbox.open.len(), waited: patience });
        }
        wait.pause().await;
    }
}

/// Waits for a change, again and again, and ends when there was none for as long as the patience says.
struct Wait<T> {
    patience: Duration,
    last: Option<T>,
    since: Instant,
    pauses: u32,
}

impl<T: Clone + PartialEq> Wait<T> {
    fn new(patience: Duration) -> Self {
        Self { patience, last: None, since: Instant::now(), pauses: 0 }
    }

    /// Whether what is waited for has been the same for too long.
    fn is_over(&mut self, now: &T) -> bool {
        if self.last.as_ref() != Some(now) {
            (self.last, self.since, self.pauses) = (Some(now.clone()), Instant::now(), 0);
        }
        self.since.elapsed() >= self.patience
    }

    async fn pause(&mut self) {
        sleep(backoff::pause(AGAIN.0, AGAIN.1, self.pauses)).await;
        self.pauses += 1;
    }
}
