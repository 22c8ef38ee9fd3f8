//! The blue/green rebuild of a view: how it begins, how it is abandoned, and its handle.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    base::{error::Error, future::BoxFuture, id::ProjectionId, store_error::StoreError},
    port::{event_store::EventStore, projection::AnyProjection},
    projector::{
        followed::Followed,
        status::ProjectorStatus,
        worker::{Worker, answering::Known, halted},
    },
};

impl Worker {
    /// Begins another build from the first event, or finds the build in progress.
    pub(crate) async fn rebuild(self: &Arc<Self>) -> Result<Rebuild, Error> {
        if self.settings.has_effects {
            return Err(Error::NotRebuilt { projection: self.name });
        }
        let (mut noted, version) = (self.answering.look().await?.noted, self.version);
        while noted.building.is_none() {
            let build = noted.next();
            // The place first and then the record: if the place cannot be prepared, no instance learns of the build.
            self.projection.open(&self.id(version, build)).await?;
            noted = self.answering.change(|builds| builds.rebuild(version, build)).await?.noted;
        }
        let build = noted.next();
        self.follow(noted).await;
        let status = self.lock().get(&build).map(|running| running.status.clone());
        // The build may have caught up and become active already.
        let status = status.ok_or_else(|| StoreError::Unavailable {
            what: format!("following build {build} of {}", self.name),
            source: None,
        })?;
        Ok(Rebuild {
            view: self.name,
            id: self.id(version, build),
            status,
            known: self.answering.watch(),
            look: look(self),
            projection: Arc::clone(&self.projection),
            log: self.log.clone(),
            patience: self.shared.patience,
        })
    }

    /// Abandons the build in progress, and returns it.
    pub(crate) async fn abandon(self: &Arc<Self>) -> Result<Option<ProjectionId>, Error> {
        let (noted, version) = (self.answering.look().await?.noted, self.version);
        let Some(build) = noted.building else { return Ok(None) };
        let noted = self.answering.change(|builds| builds.abandon(version, build)).await?.noted;
        if !noted.given_up.contains(&build) {
            // The build became active in between.
            return Ok(None);
        }
        if let Some(active) = noted.active {
            self.unseal(active).await?;
        }
        self.stop(build).await;
        let id = self.id(version, build);
        self.clear(&id).await?;
        Ok(Some(id))
    }
}

/// Asks the store which builds there are; `None` if the service no longer exists or the store does not answer.
type Look = Arc<dyn Fn() -> BoxFuture<'static, Option<Known>> + Send + Sync>;

fn look(worker: &Arc<Worker>) -> Look {
    let worker = Arc::downgrade(worker);
    Arc::new(move || {
        let worker = worker.upgrade();
        Box::pin(async move { worker?.answering.look().await.ok() })
    })
}

/// A build in progress, seen from outside; see [`Cqrs::rebuild`](crate::Cqrs::rebuild). The build continues when this
/// is dropped.
#[derive(Clone)]
pub struct Rebuild {
    view: &'static str,
    id: ProjectionId,
    status: watch::Receiver<ProjectorStatus>,
    known: watch::Receiver<Known>,
    look: Look,
    projection: Arc<dyn AnyProjection>,
    log: Followed,
    patience: Duration,
}

impl std::fmt::Debug for Rebuild {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rebuild")
            .field("id", &self.id)
            .field("progress", &self.progress())
            .finish_non_exhaustive()
    }
}

impl Rebuild {
    /// Its progress.
    pub fn progress(&self) -> ProjectorStatus {
        self.status.borrow().clone().at(Instant::now())
    }

    /// Whether it is the active build, or was before a later build.
    pub fn is_finished(&self) -> bool {
        is_finished(&self.known.borrow(), self.id.build)
    }

    /// Waits until it has caught up and is the active build, as long as it makes progress.
    ///
    /// # Errors
    ///
    /// [`Error::ProjectionHalted`] when its projector has halted, or the service was stopped;
    /// [`Error::RebuildAbandoned`] when the build was [abandoned](crate::Cqrs::abandon_rebuild); [`Error::ViewBehind`]
    /// when it made no progress within the service's [`patience`](crate::Builder::patience), or [`Error::ViewBuilding`]
    /// when it has caught up and is still not active. After the latter two the build continues.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing; the build continues.
    pub async fn finished(&mut self) -> Result<(), Error> {
        let mut before = self.status.borrow().sequence;
        loop {
            if let Ok(over) = timeout(self.patience, self.over()).await {
                return over;
            }
            let (at, last) = self.position().await?;
            if at <= before {
                return Err(if at < last {
                    Error::ViewBehind { view: self.view, at, sequence: last, waited: self.patience }
                } else {
                    Error::ViewBuilding { view: self.view, version: self.id.version }
                });
            }
            before = at;
        }
    }

    /// Waits until the build is active, or never will be.
    async fn over(&mut self) -> Result<(), Error> {
        let view = self.id.to_string();
        let build = self.id.build;
        let is_over = |known: &Known| is_finished(known, build) || known.noted.given_up.contains(&build);
        // The guard of the known record is no part of the future, which could not be spawned with it.
        let known = async { self.known.wait_for(is_over).await.map(|known| is_finished(&known, build)) };
        tokio::select! {
            finished = known => match finished {
                Ok(true) => Ok(()),
                Ok(false) => Err(Error::RebuildAbandoned { view }),
                Err(_) => Err(Error::ProjectionHalted { view, reason: "the service was stopped".into() }),
            },
            reason = halted(&mut self.status) => {
                // The instance that gives a build up also removes its documents. This instance's projector may
                // notice that first, and halt.
                let known = (self.look)().await;
                let is_given_up = known.is_some_and(|known| known.noted.given_up.contains(&build));
                let view = self.id.to_string();
                Err(if is_given_up {
                    Error::RebuildAbandoned { view }
                } else {
                    Error::ProjectionHalted { view, reason }
                })
            }
        }
    }

    /// The position of the build, and the end of its log.
    async fn position(&self) -> Result<(u64, u64), Error> {
        let asking = async {
            let saved = self.projection.checkpoint(&self.id).await?.checkpoint;
            let last = self.log.events.log(&self.projection.settings().aggregates).await?.last_sequence;
            Ok::<_, StoreError>((saved.map_or(0, |checkpoint| checkpoint.sequence), last))
        };
        let late = |late| StoreError::unavailable(format!("asking how far {} is", self.id), late);
        Ok(timeout(self.patience, asking).await.map_err(late)??)
    }
}

fn is_finished(known: &Known, build: u32) -> bool {
    known.noted.active.is_some_and(|active| active >= build) && !known.noted.given_up.contains(&build)
}
