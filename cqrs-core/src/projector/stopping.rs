//! The stop of a service: its tasks have a limited time to finish.

use std::{
    fmt,
    future::Future,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{task::JoinHandle, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::base::id::{AggregateKey, Position, ProjectionId};

/// How long `stop` waits for tasks to end after they were dropped. A task that computes without an await point does not
/// end at all.
const NOTICE: Duration = Duration::from_secs(1);

/// A projection that did not finish in time when its service stopped; see [`Cqrs::stop`](crate::Cqrs::stop).
///
/// Nothing is lost: events that were not saved are delivered again when the service starts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unfinished {
    /// The projection.
    pub projection: ProjectionId,
    /// The sequences of the commits in its batch. `None` if it had no batch, but waited for a store or carried out
    /// intents of a policy.
    pub commits: Option<RangeInclusive<u64>>,
    /// The events that it had begun and not finished, if the projection knows them. Event handlers do.
    pub events: Vec<(AggregateKey, Position)>,
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} did not finish in time", self.projection)?;
        if let Some(commits) = &self.commits {
            write!(f, ", it was busy with commits {} to {}", commits.start(), commits.end())?;
        }
        for (at, (aggregate, position)) in self.events.iter().enumerate() {
            let before = if at == 0 { ": with" } else { "," };
            write!(
                f,
                "{before} event {} of the commit of {aggregate} at sequence {}",
                position.index, position.sequence
            )?;
        }
        Ok(())
    }
}

/// The tasks of a service.
#[derive(Clone)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    patience: Duration,
    unfinished: Arc<Mutex<Vec<Unfinished>>>,
}

impl Tasks {
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            patience,
            unfinished: Arc::default(),
        }
    }

    /// The token that is cancelled when all tasks have to stop.
    pub(crate) fn token(&self) -> &CancellationToken {
        &self.stop
    }

    /// Runs a task that should end when the service stops. A task that takes too long is dropped.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_or(task, || None);
    }

    /// The same; if the task takes too long, `stop` returns what `unfinished` returns.
    pub(crate) fn spawn_or(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
        unfinished: impl FnOnce() -> Option<Unfinished> + Send + 'static,
    ) {
        let tasks = self.clone();
        self.tracker.spawn(async move {
            let too_late = async {
                tasks.stop.cancelled().await;
                tokio::time::sleep(tasks.patience).await;
            };
            tokio::select! {
                biased;
                () = task => {}
                () = too_late => tasks.lock().extend(unfinished().inspect(|unfinished| {
                    tracing::warn!(projection = %unfinished.projection, "{unfinished}");
                })),
            }
        });
    }

    /// Runs a part of a task; the task that spawns it also ends it.
    pub(crate) fn spawn_part(&self, part: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.tracker.spawn(part)
    }

    /// Stops all tasks, and returns the projections that did not finish.
    pub(crate) async fn stop(&self) -> Vec<Unfinished> {
        self.stop.cancel();
        self.tracker.close();
        let _ = timeout(self.patience.saturating_add(NOTICE), self.tracker.wait()).await;
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Unfinished>> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The batch that a projector is busy with.
#[derive(Clone, Default)]
pub(crate) struct Busy(Arc<Mutex<Option<RangeInclusive<u64>>>>);

impl Busy {
    pub(crate) fn set(&self, commits: Option<RangeInclusive<u64>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = commits;
    }

    pub(crate) fn get(&self) -> Option<RangeInclusive<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
