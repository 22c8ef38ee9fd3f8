//! How a build becomes the active one, without a reader that sees an older state, whichever instances it queries.
//!
//! 1. The new build has caught up.
//! 2. The switch is announced in the record of the view. From then on no instance answers before it has read the
//!    record.
//! 3. When all instances must have seen the announcement, the active build's checkpoint is sealed with compare-and-set.
//!    A save that another projector of that build has in flight then fails, and that projector finds the seal and ends.
//! 4. The new build reaches the sequence at which the active one was sealed.
//! 5. The record says that the new build is the active one.
//!
//! Each step is idempotent, and any instance can take it. If an instance ends in between, the others continue, or the
//! next one that starts; until then a sealed build makes no progress. Each attempt has a number, so that a late step of
//! a withdrawn attempt changes nothing.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    base::{backoff, error::Error, future::BoxFuture, source::describe, store_error::StoreError},
    port::{
        event_store::EventStore,
        projection::{Batch, ProjectError},
        view_store::{Checkpoint, SaveError, SavedCheckpoint},
    },
    projector::{
        status::ProjectorState,
        worker::{LOOK, Worker, answering::Known},
    },
};

/// How long a sealed build waits for the new build to reach the sequence of the seal. Then the seal is removed.
const STANDSTILL: Duration = Duration::from_secs(5);

impl Worker {
    /// Reads the record, and runs the projectors of its builds.
    pub(super) async fn look(self: &Arc<Self>) -> Result<Known, Error> {
        let known = self.answering.look().await?;
        if let Some(active) = known.noted.active.filter(|_| known.noted.switching.is_none())
            && self.is_replaced(active)
        {
            self.unseal(active).await?;
            // Its projector starts again.
            self.stop(active).await;
        }
        self.follow(known.noted.clone()).await;
        Ok(known)
    }

    /// Whether the projector of a build has found its checkpoint sealed.
    fn is_replaced(&self, build: u32) -> bool {
        self.lock()
            .get(&build)
            .is_some_and(|running| running.status.borrow().state == ProjectorState::Replaced)
    }

    /// Makes `build` the active one as soon as it has caught up, if it is in progress. (Boxed, because `follow` may
    /// spawn this function for the next build.)
    fn switch_when_caught_up(self: Arc<Self>, build: u32) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(self.switch(build))
    }

    async fn switch(self: Arc<Self>, build: u32) -> Result<(), Error> {
        let known = self.answering.look().await?;
        if known.noted.building != Some(build) {
            return Ok(());
        }
        let (id, version) = (self.id(self.version, build), self.version);
        let last = self.log.events.log(&self.settings.aggregates).await?.last_sequence;
        self.build_reached(&id, last).await?;
        let attempt = match known.noted.active {
            None => None,
            Some(active) => Some(self.fence(active, build).await?),
        };
        let known = self.answering.change(|builds| builds.switch(version, build, attempt)).await?;
        if known.noted.building == Some(build) {
            if let Some(active) = known.noted.active {
                // The attempt may have been over before its seal was written.
                self.unseal(active).await?;
            }
            return Err(self.is_over(build).into());
        }
        if known.noted.active == Some(build) {
            tracing::info!(projection = %id, "the build has caught up and answers from now on");
        }
        self.follow(known.noted).await;
        Ok(())
    }

    /// The error that an attempt to switch has ended without success; another may follow.
    fn is_over(&self, build: u32) -> StoreError {
        let what = format!("an attempt to let build {build} of {} answer is over", self.name);
        StoreError::Unavailable { what, source: None }
    }

    /// Seals the active build once all instances ask before they answer, and waits until the new build has reached the
    /// seal. Returns the number of the attempt.
    async fn fence(&self, active: u32, build: u32) -> Result<u32, Error> {
        let version = self.version;
        let known = self.answering.change(|builds| builds.announce_switch(version, build)).await?;
        let attempt = known.noted.switching.filter(|_| known.noted.building == Some(build));
        let attempt = attempt.ok_or_else(|| self.is_over(build))?;
        sleep_until(known.everybody_knows()).await;
        let sealed = self.seal(active, attempt).await?.ok_or_else(|| self.is_over(build))?;
        // A build of another log may have a sequence that this log never reaches.
        let last = self.log.events.log(&self.settings.aggregates).await?.last_sequence;
        let id = self.id(version, build);
        let reached = timeout(STANDSTILL, self.build_reached(&id, sealed.min(last))).await;
        if let Err(error) = reached.unwrap_or_else(|_| Err(self.is_over(build).into())) {
            self.answering.change(|builds| builds.withdraw_switch(version, attempt)).await?;
            self.unseal(active).await?;
            return Err(error);
        }
        Ok(attempt)
    }

    /// Seals a build's checkpoint for an attempt, and returns the sequence; `None` if a later attempt has sealed it.
    async fn seal(&self, build: u32, attempt: u32) -> Result<Option<u64>, Error> {
        let id = self.id(self.version, build);
        for tries in 0.. {
            let saved = match self.projection.checkpoint(&id).await {
                // An operator has deleted it: it counts as at the beginning.
                Err(StoreError::Missing { .. }) => SavedCheckpoint { checkpoint: None, revision: 0 },
                saved => saved?,
            };
            let checkpoint = if let Some(checkpoint) = saved.checkpoint {
                checkpoint
            } else {
                self.projection.open(&id).await?;
                let log = self.log.events.log(&self.settings.aggregates).await?.id;
                Checkpoint { log, ..Checkpoint::default() }
            };
            let sequence = checkpoint.sequence;
            match checkpoint.sealed {
                Some(other) if other > attempt => return Ok(None),
                Some(other) if other == attempt => return Ok(Some(sequence)),
                _ => {}
            }
            let sealed = Checkpoint { sealed: Some(attempt), ..checkpoint };
            match self.save_checkpoint(build, &sealed, saved.revision).await {
                Err(SaveError::Conflict) => {
                    sleep(backoff::pause(Duration::from_millis(1), LOOK.1, tries)).await;
                }
                Err(SaveError::Failed(error)) => return Err(error.into()),
                Ok(()) => return Ok(Some(sequence)),
            }
        }
        Ok(None)
    }

    /// Removes the seal of the active build, unless it is the seal of the current attempt.
    pub(super) async fn unseal(&self, active: u32) -> Result<(), Error> {
        let saved = self.projection.checkpoint(&self.id(self.version, active)).await?;
        let Some(checkpoint) = saved.checkpoint.filter(|checkpoint| checkpoint.sealed.is_some()) else {
            return Ok(());
        };
        // The checkpoint was read before the record: a seal that is written in between makes this save fail.
        let noted = self.answering.look().await?.noted;
        if noted.active != Some(active) || noted.switching == checkpoint.sealed {
            return Ok(());
        }
        let open = Checkpoint { sealed: None, ..checkpoint };
        match self.save_checkpoint(active, &open, saved.revision).await {
            Ok(()) | Err(SaveError::Conflict) => Ok(()),
            Err(SaveError::Failed(error)) => Err(error.into()),
        }
    }

    async fn save_checkpoint(
        &self,
        build: u32,
        checkpoint: &Checkpoint,
        revision: u64,
    ) -> Result<(), SaveError> {
        let batch = Batch { events: &[], notes: &[], checkpoint, revision };
        match self.projection.project(&self.id(self.version, build), batch).await {
            Ok(_) => Ok(()),
            Err(ProjectError::Save(error)) => Err(error),
            Err(ProjectError::Event { reason, .. } | ProjectError::Unknown { reason, .. }) => {
                let what = format!("saving the checkpoint of build {build} of {}: {reason}", self.name);
                Err(StoreError::Refused { what, source: None }.into())
            }
        }
    }
}

/// Makes a build active when it has caught up; repeats the attempt after failures.
pub(crate) async fn switch_over(worker: Weak<Worker>, build: u32, stop: CancellationToken) {
    for attempt in 0.. {
        let Some(worker) = worker.upgrade() else { return };
        let switched = tokio::select! {
            switched = worker.switch_when_caught_up(build) => switched,
            () = stop.cancelled() => return,
        };
        match switched {
            Ok(()) | Err(Error::ProjectionHalted { .. }) => return,
            Err(error) => tracing::debug!(error = describe(&error), "the build has not taken over yet"),
        }
        sleep(backoff::pause(Duration::from_millis(50), LOOK.0, attempt)).await;
    }
}
