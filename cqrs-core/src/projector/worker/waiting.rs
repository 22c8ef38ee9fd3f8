//! Calls that wait for a projection to reach a sequence, with a limit on the wait without progress.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::{
    base::{
        backoff,
        error::Error,
        id::{AggregateKey, Position, ProjectionId},
        store_error::StoreError,
    },
    port::{event_store::EventStore, view_store::Reached},
    projector::{
        dead_letter::{self, DeadLetter},
        status::{ProjectorState, ProjectorStatus},
        worker::{Worker, halted},
    },
};

/// For how long concurrent calls share an answer about the position of a build, and how long a late query waits for it.
pub(crate) const POSITION: Duration = Duration::from_secs(1);

/// How long a waiting call pauses before it asks a failing store again, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What a call waits for that has patience as long as the projection makes progress.
struct Goal<'a> {
    /// The sequence to reach: the end of the log at the first request, if it is not given.
    last: Option<u64>,
    /// The event to apply, with the earlier ones of its aggregate; `None` for all events up to the sequence.
    of: Option<(&'a AggregateKey, Position)>,
}

impl Worker {
    /// Waits until the projection has applied all that is in its log at the time of the call, as long as it makes
    /// progress. Fails if some of that was set aside. A store that fails transiently is asked again.
    pub(crate) async fn caught_up(&self) -> Result<(), Error> {
        self.gets_to(Goal { last: None, of: None }).await
    }

    /// Waits until the projection has applied the events of an aggregate up to a position, as [`caught_up`] waits for all
    /// events. Fails if one of them was set aside.
    ///
    /// [`caught_up`]: Self::caught_up
    pub(crate) async fn has_applied(
        &self,
        aggregate: &AggregateKey,
        position: Position,
    ) -> Result<(), Error> {
        self.gets_to(Goal { last: Some(position.sequence), of: Some((aggregate, position)) }).await
    }

    async fn gets_to(&self, mut goal: Goal<'_>) -> Result<(), Error> {
        let patience = self.shared.patience;
        let mut failures = 0;
        let (mut before, mut since) = (self.last_known(), Instant::now());
        loop {
            let failed =
                match timeout(patience.saturating_sub(since.elapsed()), self.catch_up(&mut goal)).await {
                    Ok(Err(Error::Store(error))) if error.is_transient() => Some(error),
                    Ok(caught_up) => return caught_up,
                    // Whether the store answers and the build is late, or the store does not answer, is decided below.
                    Err(_) => None,
                };
            let pause = backoff::pause(AGAIN.0, AGAIN.1, failures);
            if since.elapsed() + pause < patience {
                failures += 1;
                sleep(pause).await;
                continue;
            }
            let at = self.position(patience).await;
            if at <= before {
                let silent = || {
                    let what = format!("asking how long the log is that {} follows", self.name);
                    StoreError::Unavailable { what, source: None }.into()
                };
                let behind = || goal.last.map_or_else(silent, |last| self.behind(at, last, patience));
                return Err(failed.map_or_else(behind, Error::from));
            }
            (before, since, failures) = (at, Instant::now(), 0);
        }
    }

    async fn catch_up(&self, goal: &mut Goal<'_>) -> Result<(), Error> {
        if let Some((aggregate, position)) = goal.of {
            return self.applied(aggregate, position).await.map(drop);
        }
        let last = match goal.last {
            Some(last) => last,
            None => *goal.last.insert(self.log.events.log(&self.settings.aggregates).await?.last_sequence),
        };
        self.seen(last, |letter| letter.position.sequence <= last).await.map(drop)
    }

    /// Waits for the events of a receipt, and returns the build that has applied them. Fails if one of them, or an
    /// earlier event of the aggregate, was set aside.
    pub(crate) async fn applied(
        &self,
        aggregate: &AggregateKey,
        position: Position,
    ) -> Result<ProjectionId, Error> {
        let missing = |letter: &DeadLetter| letter.aggregate == *aggregate && letter.position <= position;
        self.seen(position.sequence, missing).await
    }

    /// Waits for `sequence`, and fails if a dead letter for which `is_missing` holds is set aside.
    async fn seen(
        &self,
        sequence: u64,
        is_missing: impl Fn(&DeadLetter) -> bool,
    ) -> Result<ProjectionId, Error> {
        let (id, reached) = self.reached(sequence).await?;
        if reached.dead_letters == 0 {
            return Ok(id);
        }
        let letters = dead_letter::read(&*self.projection, &id).await?;
        let mut missing = letters.into_iter().filter(is_missing);
        let Some(first) = missing.next() else { return Ok(id) };
        Err(Error::SetAside {
            view: id.to_string(),
            aggregate: first.aggregate,
            position: first.position,
            reason: first.reason,
            dead_letters: 1 + missing.count(),
        })
    }

    /// The error that the projection did not get from `at` to `sequence` in time.
    pub(crate) fn behind(&self, at: u64, sequence: u64, waited: Duration) -> Error {
        match self.active_now() {
            Some(_) => Error::ViewBehind { view: self.name, at, sequence, waited },
            None => Error::ViewBuilding { view: self.name, version: self.version },
        }
    }

    /// The position of the active build, for a call that is late already. Concurrent calls share one answer.
    pub(crate) async fn position(&self, patience: Duration) -> u64 {
        let Some(id) = self.active_now() else { return 0 };
        let mut known = self.position.lock().await;
        if let Some((asked, at)) = *known
            && asked.elapsed() < POSITION
        {
            return at;
        }
        let at = match timeout(patience, self.projection.checkpoint(&id)).await {
            Ok(Ok(saved)) => saved.checkpoint.map_or(0, |checkpoint| checkpoint.sequence),
            // The store does not answer: the position of this process's projector is the best known.
            _ => self.last_known(),
        };
        *known = Some((Instant::now(), at));
        at
    }

    /// The position of the active build, as far as its projector in this process knows.
    fn last_known(&self) -> u64 {
        let Some(id) = self.active_now() else { return 0 };
        self.lock().get(&id.build).map_or(0, |running| running.status.borrow().sequence)
    }

    /// The build that is known to be active, once there is one.
    async fn active(&self) -> ProjectionId {
        let mut known = self.answering.watch();
        match known.wait_for(|known| known.noted.active.is_some()).await.map(|known| known.noted.active) {
            Ok(Some(build)) => self.id(self.version, build),
            // The sender lives as long as `self`.
            _ => std::future::pending().await,
        }
    }

    /// The active build as of now, once there is one.
    pub(crate) async fn answering(&self) -> Result<ProjectionId, Error> {
        loop {
            if let Some(build) = self.answering.build().await? {
                return Ok(self.id(self.version, build));
            }
            self.active().await;
        }
    }

    /// The active build as of now, if there is one.
    pub(crate) async fn active_build(&self) -> Result<Option<ProjectionId>, Error> {
        Ok(self.answering.build().await?.map(|build| self.id(self.version, build)))
    }

    /// The build that is known to be active, if there is one.
    pub(crate) fn active_now(&self) -> Option<ProjectionId> {
        self.answering.now().noted.active.map(|build| self.id(self.version, build))
    }

    /// Waits until the active build is at `sequence`, or its projector has halted.
    pub(crate) async fn reached(&self, sequence: u64) -> Result<(ProjectionId, Reached), Error> {
        loop {
            let id = self.active().await;
            let mut known = self.answering.watch();
            let switched = known.wait_for(|known| known.noted.active != Some(id.build));
            tokio::select! {
                reached = self.build_reached(&id, sequence) => return Ok((id, reached?)),
                _ = switched => {}
            }
        }
    }

    pub(super) async fn build_reached(&self, id: &ProjectionId, sequence: u64) -> Result<Reached, Error> {
        let status = self.lock().get(&id.build).map(|running| running.status.clone());
        let Some(mut status) = status else {
            return Ok(self.projection.reached(id, sequence).await?);
        };
        // An earlier checkpoint may be of another log, which the projector finds out when it starts.
        let has_started = |status: &ProjectorStatus| status.state != ProjectorState::Starting;
        let _ = status.wait_for(has_started).await;
        tokio::select! {
            biased;
            reason = halted(&mut status) => {
                let reached = status.borrow().reached();
                let halted = || Error::ProjectionHalted { view: id.to_string(), reason };
                if reached.sequence >= sequence { Ok(reached) } else { Err(halted()) }
            }
            reached = self.projection.reached(id, sequence) => Ok(reached?),
        }
    }
}
