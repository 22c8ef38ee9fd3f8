//! How a build takes the place of the one that answers, so that no reader goes back in time, whichever instances of
//! the service it asks.
//!
//! 1. The new build has caught up.
//! 2. The switch is announced in the note about the view. From then on nobody answers without having read the note.
//! 3. When everybody must have seen that, the old build's checkpoint is sealed: a write that compares its revision, so
//!    that whatever another projector of it has on its way fails, and that projector then finds the seal and ends.
//! 4. The new build gets to where the old one was sealed.
//! 5. The note says that the new build answers.
//!
//! Each step can be taken by any instance, again and again. Who ends in between leaves it to the others, or to the
//! next one that starts; until then a sealed build stands still. An attempt has a number, so that whoever comes too
//! late with a step of one that was withdrawn changes nothing.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    base::{
        backoff,
        error::{Error, StoreError, describe},
        future::BoxFuture,
    },
    port::{
        projection::{Batch, ProjectError},
        view_store::{Checkpoint, SaveError, SavedCheckpoint, ViewStore},
    },
    projector::{
        status::ProjectorState,
        worker::{LOOK, Worker, answering::Known},
    },
};

/// How long a sealed build stands still for a new one that does not get to where it was sealed. Then the seal is taken
/// back.
const STANDSTILL: Duration = Duration::from_secs(5);

impl<S: ViewStore> Worker<S> {
    /// Looks which builds there are, and follows those.
    pub(super) async fn look(self: &Arc<Self>) -> Result<Known, Error> {
        let known = self.answering.look().await?;
        if let Some(active) = known.noted.active.filter(|_| known.noted.switching.is_none())
            && self.is_replaced(active)
        {
            self.unseal(active).await?;
            // Its projector begins again.
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

    /// Lets `build` answer as soon as it has caught up, if it is on its way. (Boxed, since what it follows then may be
    /// the next build on its way.)
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
                // Maybe the attempt was over before its seal came.
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

    /// That an attempt to switch is over without success; there may be another.
    fn is_over(&self, build: u32) -> StoreError {
        let what = format!("an attempt to let build {build} of {} answer is over", self.name);
        StoreError::Unavailable { what, source: None }
    }

    /// Seals the build that answers, once everybody asks before they answer, and waits until the new one is where it
    /// was sealed; returns the number of the attempt.
    async fn fence(&self, active: u32, build: u32) -> Result<u32, Error> {
        let version = self.version;
        let known = self.answering.change(|builds| builds.announce_switch(version, build)).await?;
        let attempt = known.noted.switching.filter(|_| known.noted.building == Some(build));
        let attempt = attempt.ok_or_else(|| self.is_over(build))?;
        sleep_until(known.everybody_knows()).await;
        let sealed = self.seal(active, attempt).await?.ok_or_else(|| self.is_over(build))?;
        // A build of another log may be where this one never gets.
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

    /// Seals a build's checkpoint for an attempt, and returns where; none if a later attempt has sealed it.
    async fn seal(&self, build: u32, attempt: u32) -> Result<Option<u64>, Error> {
        let id = self.id(self.version, build);
        for tries in 0.. {
            let saved = match self.projection.checkpoint(&id).await {
                // Somebody has deleted it. Nothing then is where it was.
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

    /// Takes back the seal of the build that answers, unless it is that of the attempt that is on its way.
    pub(super) async fn unseal(&self, active: u32) -> Result<(), Error> {
        let saved = self.projection.checkpoint(&self.id(self.version, active)).await?;
        let Some(checkpoint) = saved.checkpoint.filter(|checkpoint| checkpoint.sealed.is_some()) else {
            return Ok(());
        };
        // In this order: a seal that comes after this look makes the write fail.
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

/// Lets a build take over when it has caught up, however often something fails on the way.
pub(crate) async fn switch_over<S: ViewStore>(worker: Weak<Worker<S>>, build: u32, stop: CancellationToken) {
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
