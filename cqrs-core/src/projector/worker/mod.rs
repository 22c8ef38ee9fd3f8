//! One projection of a service: its builds, and the projector of each build.

mod answering;
pub(crate) mod rebuild;
mod switch;
pub(crate) mod waiting;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, Notify, watch},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    base::{error::Error, id::ProjectionId, outage::Outages, patience::asked, source::describe},
    port::{
        any_views::AnyViews,
        clock::Clock,
        event_store::EventStore,
        projection::{AnyProjection, ProjectionSettings},
    },
    projector::{
        builds::{self, Version},
        dead_letter::{self, by_hand::DeadLetters},
        followed::Followed,
        projector::Projector,
        status::{ProjectorState, ProjectorStatus},
        stopping::{Busy, Tasks, Unfinished},
    },
};
use answering::Answering;

/// How often an instance reads the record of builds, and how often while a switch is in progress.
const LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(50));

/// Resources that the projections of a service share.
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
    pub(crate) outages: Outages,
    /// Whether projectors run.
    pub(crate) projects: bool,
    /// How long calls wait for a projection that makes no progress.
    pub(crate) patience: Duration,
}

/// One projection of a service.
pub(crate) struct Worker {
    pub(crate) name: &'static str,
    pub(crate) version: u32,
    pub(crate) projection: Arc<dyn AnyProjection>,
    pub(crate) settings: ProjectionSettings,
    pub(crate) log: Followed,
    /// The store of the record of builds.
    views: AnyViews,
    pub(crate) shared: Arc<Shared>,
    answering: Answering,
    running: Mutex<BTreeMap<u32, Running>>,
    /// Wakes the task that reads the record of builds.
    news: Arc<Notify>,
    /// The last known position of the active build, and when it was asked for.
    position: AsyncMutex<Option<(Instant, u64)>>,
}

/// The projector of one build.
struct Running {
    status: watch::Receiver<ProjectorStatus>,
    stop: CancellationToken,
    /// Cancelled when the projector has ended.
    ended: CancellationToken,
}

impl Worker {
    pub(crate) fn new(
        id: &ProjectionId,
        projection: Arc<dyn AnyProjection>,
        log: Followed,
        views: AnyViews,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            name: id.name,
            version: id.version,
            settings: projection.settings(),
            projection,
            log,
            answering: Answering::new(views.clone(), id.name, id.version),
            views,
            shared,
            running: Mutex::default(),
            news: Arc::default(),
            position: AsyncMutex::default(),
        }
    }

    /// Starts the projectors of the builds in the record; adds the first build if there is none.
    pub(crate) async fn start(self: &Arc<Self>, build_changed: bool) -> Result<(), Error> {
        let (noted, _) = builds::read(&self.views, self.name).await?;
        let others = noted.others(self.version);
        let is_there = noted.version(self.version).is_some_and(|version| version.has_builds());
        if !is_there && !others.is_empty() && !build_changed {
            return Err(Error::Config(format!(
                "view {:?} is there in version {}, this program has version {}: build the new one beside it with \
                 `Builder::build_changed_views`, or start the program that has the old one",
                self.name,
                others.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "),
                self.version
            )));
        }
        let version = self.version;
        let known = self.answering.change(|builds| builds.begin(version)).await?;
        self.follow(known.noted).await;
        // A projection with effects is never rebuilt, so it always has one build.
        if !self.settings.has_effects {
            let tasks = &self.shared.tasks;
            tasks.spawn(look_again(Arc::downgrade(self), tasks.token().clone()));
        }
        Ok(())
    }

    /// Removes what no program uses any more: earlier builds of this version and, if this version has an active build,
    /// older versions.
    pub(crate) async fn remove_old(&self) -> Result<Vec<ProjectionId>, Error> {
        let (noted, _) = builds::read(&self.views, self.name).await?;
        let mut removed = Vec::new();
        for build in noted.old(self.version) {
            removed.push(self.id(self.version, build));
        }
        let is_active = noted.version(self.version).is_some_and(|version| version.active.is_some());
        let older = noted.others(self.version).into_iter().filter(|other| is_active && *other < self.version);
        for version in older {
            removed.extend(noted.clone().forget(version).into_iter().map(|build| self.id(version, build)));
        }
        for id in &removed {
            self.clear(id).await?;
        }
        let versions: Vec<_> = removed.iter().map(|id| id.version).filter(|v| *v != self.version).collect();
        let forget = |builds: &mut builds::Builds| versions.iter().for_each(|v| drop(builds.forget(*v)));
        self.answering.change(forget).await?;
        Ok(removed)
    }

    /// Whether the projection applies events of this aggregate type in the service's own log.
    pub(crate) fn sees(&self, aggregate: &str) -> bool {
        self.log.is_own() && self.settings.aggregates.contains(&aggregate)
    }

    pub(crate) fn statuses(&self) -> Vec<ProjectorStatus> {
        let now = Instant::now();
        self.lock().values().map(|running| running.status.borrow().clone().at(now)).collect()
    }

    /// The status of the active build, or of the newest one while none is active.
    pub(crate) fn status(&self) -> ProjectorStatus {
        let active = self.answering.now().noted.active;
        let mut all = self.statuses();
        let place = all.iter().position(|status| Some(status.projection.build) == active);
        let status = place.map(|place| all.swap_remove(place)).or_else(|| all.pop());
        status.unwrap_or_else(|| ProjectorStatus::starting(self.id(self.version, active.unwrap_or(1))))
    }

    /// The status of each build, with what the stores say about it: other processes may run its projector.
    pub(crate) async fn progress(&self) -> Result<Vec<ProjectorStatus>, Error> {
        let mut all = self.statuses();
        for status in &mut all {
            let what = || format!("asking the stores how far {} is", status.projection);
            let id = &status.projection;
            let found = asked(self.shared.patience, what, || async {
                let saved = self.projection.checkpoint(id).await?.checkpoint;
                let sequence = saved.map_or(0, |checkpoint| checkpoint.sequence);
                let backlog = self.log.events.backlog(&self.settings.aggregates, sequence).await?;
                let dead_letters = dead_letter::read(&*self.projection, id).await?.len();
                let subscriber = self.log.subscriber(&self.projection.subscriber(id));
                let active = self.log.events.has_subscriber(&subscriber).await?;
                Ok((sequence, backlog, dead_letters, active))
            });
            let (sequence, backlog, dead_letters, active) = found.await?;
            status.sequence = sequence;
            (status.pending, status.pending_since) = (backlog.commits, backlog.since);
            (status.dead_letters, status.active) = (dead_letters, active);
        }
        Ok(all)
    }

    /// The active build, for the calls that handle dead letters and intents.
    pub(crate) async fn answering_in_time(&self) -> Result<ProjectionId, Error> {
        let building = Error::ViewBuilding { view: self.name, version: self.version };
        timeout(self.shared.patience, self.answering()).await.unwrap_or(Err(building))
    }

    /// The dead letters of the active build.
    pub(crate) async fn dead_letters(&self) -> Result<DeadLetters, Error> {
        Ok(DeadLetters {
            events: self.log.events.clone(),
            projection: Arc::clone(&self.projection),
            id: self.answering_in_time().await?,
            clock: Arc::clone(&self.shared.clock),
        })
    }

    /// Runs the projectors of the active build and the build in progress, and stops the others.
    async fn follow(self: &Arc<Self>, noted: Version) {
        for build in [noted.active, noted.building].into_iter().flatten() {
            self.run(build).await;
        }
        let in_use = |build: &u32| Some(*build) == noted.active || Some(*build) == noted.building;
        let given_up = |build: &u32| noted.given_up.contains(build);
        self.lock().retain(|build, running| {
            if !in_use(build) {
                running.stop.cancel();
            }
            in_use(build) || given_up(build)
        });
        let left: Vec<_> = self.lock().keys().copied().filter(given_up).collect();
        for build in left {
            self.stop(build).await;
            // Another instance may have removed the build before this one's last write.
            let id = self.id(self.version, build);
            if let Err(error) = self.clear(&id).await {
                tracing::warn!(error = describe(&error), projection = %id, "what is left of the build stays");
            }
        }
    }

    /// Starts the projector of a build, unless it runs. If the place for results cannot be prepared, the projector
    /// reports that and tries again: the rest of the service runs all the same.
    async fn run(self: &Arc<Self>, build: u32) {
        if self.lock().contains_key(&build) {
            return;
        }
        let id = self.id(self.version, build);
        let opened = self.projection.open(&id).await;
        let mut all = self.lock();
        // Another task may have started it during `open`.
        if all.contains_key(&build) {
            return;
        }
        let mut status = ProjectorStatus::starting(id.clone());
        if !self.shared.projects {
            status.state = ProjectorState::Elsewhere;
        }
        let (sender, status) = watch::channel(status);
        let (stop, ended) = (self.shared.tasks.token().child_token(), CancellationToken::new());
        let (projection, busy) = (Arc::clone(&self.projection), Busy::default());
        let projector = Projector {
            log: self.log.clone(),
            projection: Arc::clone(&projection),
            settings: self.settings.clone(),
            id: id.clone(),
            clock: Arc::clone(&self.shared.clock),
            status: sender.clone(),
            stop: stop.clone(),
            busy: busy.clone(),
            part: self.shared.outages.part(id.to_string()),
            projects: self.shared.projects,
        };
        let (tasks, news) = (&self.shared.tasks, Arc::clone(&self.news));
        let ending = Ending { status: sender.clone(), ended: ended.clone() };
        let projecting = AbortOnDropHandle::new(tasks.spawn_part(projector.run(opened)));
        let supervised = async move {
            let ending = ending;
            supervise_panics(projecting, sender).await;
            drop(ending);
            // It may have ended because another build becomes active.
            news.notify_one();
        };
        tasks.spawn_or(supervised, move || {
            let (commits, events) = (busy.get(), projection.under_way());
            Some(Unfinished { projection: id, commits, events })
        });
        all.insert(build, Running { status, stop, ended });
        drop(all);
        if self.shared.projects {
            tasks.spawn(switch::switch_over(Arc::downgrade(self), build, tasks.token().clone()));
        }
    }

    /// Stops the projector of a build, and waits until it has ended.
    async fn stop(&self, build: u32) {
        let ended = self.lock().remove(&build).map(|running| {
            running.stop.cancel();
            running.ended
        });
        if let Some(ended) = ended {
            ended.cancelled().await;
        }
    }

    /// Removes the results of a build and its consumer.
    async fn clear(&self, id: &ProjectionId) -> Result<(), Error> {
        self.projection.remove(id).await?;
        let subscriber = self.log.subscriber(&self.projection.subscriber(id));
        Ok(self.log.events.forget(&subscriber).await?)
    }

    fn id(&self, version: u32, build: u32) -> ProjectionId {
        ProjectionId { name: self.name, version, build }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the changes that other instances of the service make to the record.
async fn look_again(worker: Weak<Worker>, stop: CancellationToken) {
    let mut pause = LOOK.0;
    let news_and_part = worker.upgrade().map(|worker| {
        let name = format!("the record of builds of {}", worker.name);
        (Arc::clone(&worker.news), worker.shared.outages.part(name))
    });
    let Some((news, part)) = news_and_part else { return };
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = news.notified() => {}
            () = stop.cancelled() => return,
        }
        let Some(worker) = worker.upgrade() else { return };
        let looked = tokio::select! {
            looked = worker.look() => looked,
            () = stop.cancelled() => return,
        };
        match looked {
            Ok(known) => {
                part.works();
                pause = if known.noted.switching.is_some() { LOOK.1 } else { LOOK.0 };
            }
            Err(Error::Store(error)) if error.is_transient() => part.failed(&error),
            Err(error) => {
                tracing::debug!(
                    error = describe(&error),
                    view = worker.name,
                    "cannot see which build answers"
                );
            }
        }
    }
}

/// Sets the final state when a projector ends in any way, for the calls that wait for it.
struct Ending {
    status: watch::Sender<ProjectorStatus>,
    ended: CancellationToken,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.status.send_if_modified(|status| {
            let ends = !status.state.is_final();
            if ends {
                status.state = ProjectorState::Stopped;
            }
            ends
        });
        self.ended.cancel();
    }
}

/// Waits for a projector's task; if the projection panics, the projector has halted.
async fn supervise_panics(projector: AbortOnDropHandle<()>, status: watch::Sender<ProjectorStatus>) {
    let Err(error) = projector.await else {
        return;
    };
    let Ok(panic) = error.try_into_panic() else { return };
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    let reason = format!("the projection panicked: {text}");
    tracing::error!(reason, projection = %status.borrow().projection, "the projector has halted");
    status.send_modify(|status| status.state = ProjectorState::Halted { reason });
}

/// Resolves with the reason when the projector halts; never if it ends in another way.
async fn halted(status: &mut watch::Receiver<ProjectorStatus>) -> String {
    let is_halted = |status: &ProjectorStatus| matches!(status.state, ProjectorState::Halted { .. });
    match status.wait_for(is_halted).await.map(|status| status.state.clone()) {
        Ok(ProjectorState::Halted { reason }) => reason,
        // The projector has ended without halting: it was stopped, and another may run.
        _ => std::future::pending().await,
    }
}
