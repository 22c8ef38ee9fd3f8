//! The parts of a running service, without its types of aggregates and views.

use std::{sync::Arc, time::Duration};

use smallvec::SmallVec;
use tokio_util::sync::DropGuard;

use crate::{
    base::{
        error::Error,
        id::ProjectionId,
        patience::{Limit, asked},
        store_error::StoreError,
    },
    log::{
        commit::Receipt,
        position::{After, Awaited, LogPosition},
    },
    port::{any_events::AnyEvents, deadlines::AnyDeadlines, event_store::EventStore},
    projector::{
        deliveries::last_event,
        stopping::Tasks,
        worker::{Worker, waiting::POSITION},
    },
    service::interceptor::Interceptor,
    write::resources::Shell,
};

/// What queries have one of, and seldom several.
pub(crate) type Few<T> = SmallVec<[T; 2]>;

/// The pause before a store is asked again that did not answer.
pub(crate) const LOOK: Duration = Duration::from_millis(50);

pub(crate) struct Runtime {
    pub(crate) shell: Arc<Shell>,
    pub(crate) interceptors: Vec<Box<dyn Interceptor>>,
    /// How long a query waits for its view, and for the view store's answer.
    pub(crate) patience: Duration,
    /// How long the calls of operators wait for a store.
    pub(crate) waiting: Duration,
    pub(crate) workers: Vec<Arc<Worker>>,
    /// The deadlines of the service's policies.
    pub(crate) deadlines: Option<Arc<dyn AnyDeadlines>>,
    pub(crate) tasks: Tasks,
    pub(crate) _stop_on_drop: DropGuard,
}

impl Runtime {
    pub(crate) fn worker(&self, name: &str) -> Result<&Arc<Worker>, Error> {
        self.workers.iter().find(|worker| worker.name == name).ok_or_else(|| self.unknown(name))
    }

    /// The error about a projection that the service does not have.
    pub(crate) fn unknown(&self, name: &str) -> Error {
        Error::UnknownProjection {
            name: name.to_owned(),
            known: self.workers.iter().map(|worker| worker.name).collect(),
        }
    }

    /// A store's answer to an operator's call.
    pub(crate) async fn asked<T, F>(
        &self,
        what: impl Fn() -> String,
        ask: impl Fn() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        asked(self.waiting, what, ask).await
    }

    /// Waits until each projection has applied what is awaited, as far as it concerns the projection; returns the build
    /// that has, for each that is concerned.
    pub(crate) async fn wait(
        &self,
        workers: &[&Arc<Worker>],
        after: &After,
        limit: Limit,
    ) -> Result<Few<Option<ProjectionId>>, Error> {
        let mut builds = Few::new();
        for worker in workers {
            builds.push(self.wait_for(worker, after, limit).await?);
        }
        match &after.0 {
            Awaited::Position(position) if builds.iter().all(Option::is_none) => Err(void(position)),
            _ => Ok(builds),
        }
    }

    async fn wait_for(
        &self,
        worker: &Worker,
        after: &After,
        limit: Limit,
    ) -> Result<Option<ProjectionId>, Error> {
        let waiting = async {
            let mut known = after.known();
            loop {
                let waited = match &after.0 {
                    Awaited::Receipt(receipt) => self.applied(worker, receipt, &mut known).await,
                    Awaited::Position(position) => reached(worker, position).await,
                };
                match waited {
                    Err(Error::Store(error)) if error.is_transient() => tokio::time::sleep(LOOK).await,
                    // Another era began meanwhile.
                    Ok(None) => {}
                    Ok(Some(waited)) => return Ok(waited),
                    Err(error) => return Err(error),
                }
            }
        };
        if let Ok(waited) = tokio::time::timeout(limit.left(), waiting).await {
            return waited;
        }
        Err(worker.behind(worker.position(POSITION).await, after.sequence(), limit.whole))
    }

    /// Waits until the projection has applied the command of a receipt, if it applies that aggregate's events at all;
    /// returns the build that has, or `None` if the era has ended meanwhile. The log must have the command: sequences are
    /// compared, and another log has other commits at the same sequences.
    async fn applied(
        &self,
        worker: &Worker,
        receipt: &Receipt,
        known: &mut Option<u64>,
    ) -> Result<Option<Option<ProjectionId>>, Error> {
        if !worker.sees(receipt.aggregate.name()) {
            return Ok(Some(None));
        }
        *known = self.check(receipt, *known).await?;
        let build = worker.applied(&receipt.aggregate, receipt.position).await?;
        Ok((*known == Some(self.shell.events.era())).then_some(Some(build)))
    }

    /// Makes sure that the log has the command of a receipt, unless that is known in this era; returns the era.
    async fn check(&self, receipt: &Receipt, known: Option<u64>) -> Result<Option<u64>, Error> {
        let (events, sequence) = (&self.shell.events, receipt.position.sequence);
        let era = Some(events.era());
        if known == era || sequence == 0 {
            return Ok(era);
        }
        if self.has(receipt).await? { Ok(era) } else { Err(receipt.void()) }
    }

    /// Whether the log has the command of a receipt.
    pub(crate) async fn has(&self, receipt: &Receipt) -> Result<bool, StoreError> {
        let there = self.shell.events.commit_at(receipt.position.sequence).await?;
        Ok(there.is_some_and(|there| there.is_ok_and(|there| receipt.is_about(&there))))
    }
}

/// Waits until the projection has applied all of its events up to the position, if it follows that log; returns the
/// build that has, or `None` if the era has ended meanwhile.
async fn reached(worker: &Worker, position: &LogPosition) -> Result<Option<Option<ProjectionId>>, Error> {
    let events = &worker.log.events;
    let era = events.era();
    let log = events.log(&worker.settings.aggregates).await?;
    if log.id != position.log {
        return Ok(Some(None));
    }
    if !has(events, position).await? {
        return Err(void(position));
    }
    // A projection stays at the last commit of its own aggregates.
    let (build, _) = worker.reached(position.sequence.min(log.last_sequence)).await?;
    Ok((era == events.era()).then_some(Some(build)))
}

/// Whether the log, which has the id of the position's, has the position, too.
async fn has(events: &AnyEvents, position: &LogPosition) -> Result<bool, StoreError> {
    if position.sequence == 0 {
        return Ok(true);
    }
    let there = events.commit_at(position.sequence).await?;
    let is_same = |event| there.as_ref().and_then(last_event) == Some(event);
    Ok(position.event.map_or(there.is_some(), is_same))
}

fn void(position: &LogPosition) -> Error {
    Error::PositionVoid { log: position.log.clone(), sequence: position.sequence }
}
