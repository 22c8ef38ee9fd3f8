//! One projection of a service: its builds, a projector for each of them, and which one answers.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    AggregateKey, BoxFuture, Clock, Error, Position, ProjectionId, Reached, StoreError, ViewStore, backoff,
    builds::{self, Version},
    dead_letter::{self, DeadLetter, DeadLetters},
    followed::Followed,
    project::{Projector, describe},
    projection::AnyProjection,
    status::{ProjectorState, ProjectorStatus},
    stopping::{Busy, Tasks, Unfinished},
};

/// How often an instance looks whether another one has switched to another build.
const LOOK: Duration = Duration::from_secs(2);

/// What the projections of a service share.
pub(crate) struct Shared<S> {
    pub(crate) views: Arc<S>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
    /// Whether projectors run.
    pub(crate) projects: bool,
}

/// One projection of a service.
pub(crate) struct Worker<S> {
    pub(crate) name: &'static str,
    pub(crate) version: u32,
    pub(crate) aggregates: Vec<&'static str>,
    projection: Arc<dyn AnyProjection>,
    log: Followed,
    shared: Arc<Shared<S>>,
    /// The build that answers; none while the first one of a changed version is on its way.
    active: watch::Sender<Option<u32>>,
    running: Mutex<BTreeMap<u32, Running>>,
}

/// The projector of one build.
struct Running {
    status: watch::Receiver<ProjectorStatus>,
    stop: CancellationToken,
    /// Cancelled when the projector has ended.
    ended: CancellationToken,
}

impl<S: ViewStore> Worker<S> {
    pub(crate) fn new(
        id: &ProjectionId,
        projection: Arc<dyn AnyProjection>,
        log: Followed,
        shared: Arc<Shared<S>>,
    ) -> Self {
        Self {
            name: id.name,
            version: id.version,
            aggregates: projection.aggregates(),
            projection,
            log,
            shared,
            active: watch::Sender::new(None),
            running: Mutex::default(),
        }
    }

    /// Starts the projectors of the builds that there are, the first one if there is none.
    pub(crate) async fn start(self: &Arc<Self>, build_changed: bool) -> Result<(), Error> {
        let (noted, _) = builds::read(&*self.shared.views, self.name).await?;
        let others = noted.others(self.version);
        if noted.version(self.version).is_none() && !others.is_empty() && !build_changed {
            return Err(Error::Config(format!(
                "view {:?} is there in version {}, this program has version {}: build the new one beside it with \
                 `Builder::build_changed_views`, or start the program that has the old one",
                self.name,
                others.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "),
                self.version
            )));
        }
        let version = self.version;
        let noted = builds::change(&*self.shared.views, self.name, |builds| builds.begin(version)).await?;
        self.follow(noted.version(version).unwrap_or_default()).await?;
        let tasks = &self.shared.tasks;
        tasks.spawn(look_again(Arc::downgrade(self), tasks.token().clone()));
        Ok(())
    }

    /// Begins another build from the beginning, or finds the one that is on its way.
    pub(crate) async fn rebuild(self: &Arc<Self>) -> Result<Rebuild, Error> {
        if self.projection.has_effects() {
            return Err(Error::NotRebuilt { projection: self.name });
        }
        let version = self.version;
        let change = |builds: &mut builds::Builds| {
            builds.rebuild(version);
        };
        let noted = builds::change(&*self.shared.views, self.name, change).await?;
        let noted = noted.version(version).unwrap_or_default();
        self.follow(noted).await?;
        let build = noted.building.unwrap_or_default();
        let status = self.lock().get(&build).map(|running| running.status.clone());
        // It may have caught up and taken over already.
        let status = status.ok_or_else(|| StoreError::Unavailable {
            what: format!("following build {build} of {}", self.name),
            source: None,
        })?;
        Ok(Rebuild { build, status, active: self.active.subscribe() })
    }

    /// Removes what no program answers from any more: earlier builds, and versions before this one's.
    pub(crate) async fn remove_old(&self) -> Result<Vec<ProjectionId>, Error> {
        let views = &*self.shared.views;
        let (noted, _) = builds::read(views, self.name).await?;
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
            self.projection.remove(id).await?;
            let subscriber = self.log.subscriber(&self.projection.subscriber(id));
            self.log.events.forget(&subscriber).await?;
        }
        let versions: Vec<_> = removed.iter().map(|id| id.version).filter(|v| *v != self.version).collect();
        let forget = |builds: &mut builds::Builds| versions.iter().for_each(|v| drop(builds.forget(*v)));
        builds::change(views, self.name, forget).await?;
        Ok(removed)
    }

    /// Whether it sees these aggregates' events of the service's own log.
    pub(crate) fn sees(&self, aggregate: &str) -> bool {
        self.log.is_own() && self.aggregates.contains(&aggregate)
    }

    /// Waits until it has seen all that is in its log at the time of the call, and has set nothing of it aside.
    pub(crate) async fn caught_up(&self) -> Result<(), Error> {
        let last = self.log.events.log(&self.aggregates).await?.last_sequence;
        self.seen(last, |letter| letter.position.sequence <= last).await
    }

    /// Waits until it has seen the events of a receipt, and has set none of them aside, nor one before them.
    pub(crate) async fn applied(&self, aggregate: &AggregateKey, position: Position) -> Result<(), Error> {
        let missing = |letter: &DeadLetter| letter.aggregate == *aggregate && letter.position <= position;
        self.seen(position.sequence, missing).await
    }

    /// Waits until it is at `sequence`, and fails if one of its dead letters is missing there.
    async fn seen(&self, sequence: u64, is_missing: impl Fn(&DeadLetter) -> bool) -> Result<(), Error> {
        let (id, reached) = self.reached(sequence).await?;
        if reached.dead_letters == 0 {
            return Ok(());
        }
        let letters = dead_letter::read(&*self.projection, &id).await?;
        let mut missing = letters.into_iter().filter(is_missing);
        let Some(first) = missing.next() else { return Ok(()) };
        Err(Error::SetAside {
            view: id.to_string(),
            aggregate: first.aggregate,
            position: first.position,
            reason: first.reason,
            dead_letters: 1 + missing.count(),
        })
    }

    pub(crate) fn statuses(&self) -> Vec<ProjectorStatus> {
        let now = Instant::now();
        self.lock().values().map(|running| running.status.borrow().clone().at(now)).collect()
    }

    /// The builds with what the stores say about them, also of what other processes do.
    pub(crate) async fn progress(&self) -> Result<Vec<ProjectorStatus>, Error> {
        let mut all = self.statuses();
        for status in &mut all {
            let id = status.projection.clone();
            let saved = self.projection.checkpoint(&id).await?.checkpoint;
            status.sequence = saved.map_or(0, |checkpoint| checkpoint.sequence);
            let backlog = self.log.events.backlog(&self.aggregates, status.sequence).await?;
            (status.pending, status.pending_since) = (backlog.commits, backlog.since);
            status.dead_letters = dead_letter::read(&*self.projection, &id).await?.len();
        }
        Ok(all)
    }

    /// The build that answers, once there is one.
    pub(crate) async fn active(&self) -> ProjectionId {
        let mut active = self.active.subscribe();
        match active.wait_for(Option::is_some).await.map(|active| *active) {
            Ok(Some(build)) => self.id(self.version, build),
            // The sender lives as long as `self`.
            _ => std::future::pending().await,
        }
    }

    /// The build that answers, if there is one.
    pub(crate) fn active_now(&self) -> Option<ProjectionId> {
        self.active.borrow().map(|build| self.id(self.version, build))
    }

    /// Waits until the build that answers is at `sequence`, or its projector has given up.
    async fn reached(&self, sequence: u64) -> Result<(ProjectionId, Reached), Error> {
        loop {
            let id = self.active().await;
            let mut active = self.active.subscribe();
            let switched = active.wait_for(|active| *active != Some(id.build));
            tokio::select! {
                reached = self.build_reached(&id, sequence) => return Ok((id, reached?)),
                _ = switched => {}
            }
        }
    }

    /// The dead letters of the build that answers.
    pub(crate) async fn dead_letters(&self) -> DeadLetters {
        DeadLetters {
            events: Arc::clone(&self.log.events),
            projection: Arc::clone(&self.projection),
            id: self.active().await,
            clock: Arc::clone(&self.shared.clock),
        }
    }

    async fn build_reached(&self, id: &ProjectionId, sequence: u64) -> Result<Reached, Error> {
        let status = self.lock().get(&id.build).map(|running| running.status.clone());
        let Some(mut status) = status else {
            return Ok(self.projection.reached(id, sequence).await?);
        };
        // What was saved before may be of another log, which the projector sees when it starts.
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

    /// Runs the projectors of the builds that there are now, and stops those of others.
    async fn follow(self: &Arc<Self>, noted: Version) -> Result<(), Error> {
        for build in [noted.active, noted.building].into_iter().flatten() {
            self.run(build).await?;
        }
        self.active.send_if_modified(|active| {
            let changed = *active != noted.active && noted.active.is_some();
            if changed {
                *active = noted.active;
            }
            changed
        });
        let in_use = |build: &u32| Some(*build) == noted.active || Some(*build) == noted.building;
        self.lock().retain(|build, running| {
            if !in_use(build) {
                running.stop.cancel();
            }
            in_use(build)
        });
        Ok(())
    }

    /// Starts the projector of a build, unless it runs.
    async fn run(self: &Arc<Self>, build: u32) -> Result<(), Error> {
        if self.lock().contains_key(&build) {
            return Ok(());
        }
        let id = self.id(self.version, build);
        self.projection.open(&id).await?;
        let mut all = self.lock();
        // Somebody else may have started it in between.
        if all.contains_key(&build) {
            return Ok(());
        }
        let (sender, status) = watch::channel(ProjectorStatus::starting(id.clone()));
        let (stop, ended) = (self.shared.tasks.token().child_token(), CancellationToken::new());
        if !self.shared.projects {
            sender.send_modify(|status| status.state = ProjectorState::Elsewhere);
            ended.cancel();
            all.insert(build, Running { status, stop, ended });
            return Ok(());
        }
        let (projection, busy) = (Arc::clone(&self.projection), Busy::default());
        let projector = Projector {
            log: self.log.clone(),
            projection: Arc::clone(&projection),
            id: id.clone(),
            clock: Arc::clone(&self.shared.clock),
            status: sender.clone(),
            stop: stop.clone(),
            busy: busy.clone(),
        };
        let tasks = &self.shared.tasks;
        let ending = Ending { status: sender.clone(), ended: ended.clone() };
        let projecting = AbortOnDropHandle::new(tasks.spawn_part(projector.run()));
        let supervised = async move {
            let ending = ending;
            supervise_panics(projecting, sender).await;
            drop(ending);
        };
        tasks.spawn_or(supervised, move || {
            let (commits, events) = (busy.get(), projection.under_way());
            Some(Unfinished { projection: id, commits, events })
        });
        all.insert(build, Running { status, stop, ended });
        drop(all);
        tasks.spawn(switch_over(Arc::downgrade(self), build, tasks.token().clone()));
        Ok(())
    }

    /// Lets `build` answer as soon as it has caught up, if it is on its way. (Boxed, since what it follows then
    /// may be the next build on its way.)
    fn switch_when_caught_up(self: Arc<Self>, build: u32) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(self.switch(build))
    }

    async fn switch(self: Arc<Self>, build: u32) -> Result<(), Error> {
        let views = &*self.shared.views;
        let (noted, _) = builds::read(views, self.name).await?;
        let noted = noted.version(self.version).unwrap_or_default();
        if noted.building != Some(build) {
            return Ok(());
        }
        let id = self.id(self.version, build);
        let last = self.log.events.log(&self.aggregates).await?.last_sequence;
        self.build_reached(&id, last).await?;
        if let Some(active) = noted.active {
            // The build that answers stands still now, so that its readers never go back in time.
            self.stop(active).await;
            let before = self.projection.checkpoint(&self.id(self.version, active)).await?.checkpoint;
            self.build_reached(&id, before.map_or(0, |checkpoint| checkpoint.sequence)).await?;
        }
        let version = self.version;
        let noted = builds::change(views, self.name, |builds| builds.switch(version, build)).await?;
        tracing::info!(projection = %id, "the build has caught up and answers from now on");
        self.follow(noted.version(version).unwrap_or_default()).await
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

    fn id(&self, version: u32, build: u32) -> ProjectionId {
        ProjectionId { name: self.name, version, build }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets a build take over when it has caught up, however often something fails on the way.
async fn switch_over<S: ViewStore>(worker: Weak<Worker<S>>, build: u32, stop: CancellationToken) {
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
        tokio::time::sleep(backoff::pause(Duration::from_millis(50), LOOK, attempt)).await;
    }
}

/// Follows what other instances of the service do.
async fn look_again<S: ViewStore>(worker: Weak<Worker<S>>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => return,
        }
        let Some(worker) = worker.upgrade() else { return };
        let looked = async {
            let (noted, _) = builds::read(&*worker.shared.views, worker.name).await?;
            match noted.version(worker.version) {
                Some(noted) => worker.follow(noted).await,
                None => Ok(()),
            }
        };
        if let Err(error) = looked.await {
            tracing::debug!(error = describe(&error), view = worker.name, "cannot see which build answers");
        }
    }
}

/// However a projector ends, those who look see that it has.
struct Ending {
    status: watch::Sender<ProjectorStatus>,
    ended: CancellationToken,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.status.send_if_modified(|status| {
            let ends = !matches!(status.state, ProjectorState::Halted { .. } | ProjectorState::Stopped);
            if ends {
                status.state = ProjectorState::Stopped;
            }
            ends
        });
        self.ended.cancel();
    }
}

/// Waits for a projector's task; when a projection panics, the projector has halted.
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

/// Resolves with the reason when the projector halts; never while it may still go on.
async fn halted(status: &mut watch::Receiver<ProjectorStatus>) -> String {
    let is_halted = |status: &ProjectorStatus| matches!(status.state, ProjectorState::Halted { .. });
    match status.wait_for(is_halted).await.map(|status| status.state.clone()) {
        Ok(ProjectorState::Halted { reason }) => reason,
        // The projector is gone without having halted: it was stopped, and another may run.
        _ => std::future::pending().await,
    }
}

/// A build that is on its way, seen from outside; see [`Cqrs::rebuild`](crate::Cqrs::rebuild). It goes on
/// when this is dropped.
#[derive(Debug, Clone)]
pub struct Rebuild {
    build: u32,
    status: watch::Receiver<ProjectorStatus>,
    active: watch::Receiver<Option<u32>>,
}

impl Rebuild {
    /// How far it is.
    pub fn progress(&self) -> ProjectorStatus {
        self.status.borrow().clone().at(Instant::now())
    }

    /// Whether it answers.
    pub fn is_finished(&self) -> bool {
        *self.active.borrow() == Some(self.build)
    }

    /// Waits until it has caught up and answers in the place of the build before it.
    ///
    /// # Errors
    ///
    /// [`Error::ProjectionHalted`] when its projector has given up, or the service was stopped.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing; the build goes on.
    pub async fn finished(&mut self) -> Result<(), Error> {
        let view = self.status.borrow().projection.to_string();
        let build = self.build;
        let stopped =
            || Error::ProjectionHalted { view: view.clone(), reason: "the service was stopped".into() };
        tokio::select! {
            finished = self.active.wait_for(|active| *active == Some(build)) => {
                finished.map(drop).map_err(|_| stopped())
            }
            reason = halted(&mut self.status) => Err(Error::ProjectionHalted { view: view.clone(), reason }),
        }
    }
}
