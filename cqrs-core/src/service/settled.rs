//! Waiting until nothing more follows from what has happened.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    base::{backoff, error::Error, patience::asked},
    effects::dead_intent::DeadIntents,
    port::event_store::EventStore,
    projector::worker::Worker,
    service::runtime::Runtime,
};

/// The pause before an outbox is read again, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

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

    /// Waits until every projection has applied everything, and every policy has executed everything.
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
                match executed(worker).await {
                    Err(error @ Error::IntentsSetAside { .. }) => set_aside = set_aside.and(Err(error)),
                    executed => executed?,
                }
            }
            if self.ends().await? == before {
                return set_aside;
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

/// Waits until a policy has executed its intents, as long as it makes progress.
async fn executed(worker: &Worker) -> Result<(), Error> {
    if !worker.settings.has_effects {
        return Ok(());
    }
    let (intents, patience) = (DeadIntents::of(worker).await?, worker.shared.patience);
    let (mut last, mut since, mut pauses) = (Vec::new(), Instant::now(), 0);
    loop {
        let what = || format!("reading what policy {} has to carry out", worker.name);
        let outbox = asked(patience, what, || intents.outbox()).await?;
        if outbox.open.is_empty() {
            let dead_intents = outbox.dead.len();
            let Some(first) = outbox.dead.into_iter().next() else { return Ok(()) };
            let (policy, key, what, reason) = (worker.name, first.key, first.what, first.reason);
            return Err(Error::IntentsSetAside { policy, key, what, reason, dead_intents });
        }
        if outbox.open != last {
            (last, since, pauses) = (outbox.open, Instant::now(), 0);
        } else if since.elapsed() >= patience {
            return Err(Error::Unsettled { policy: worker.name, open: last.len(), waited: patience });
        }
        sleep(backoff::pause(AGAIN.0, AGAIN.1, pauses)).await;
        pauses += 1;
    }
}
