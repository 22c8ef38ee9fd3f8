//! The parts of a running service, without its types of aggregates and views.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::DropGuard;

use crate::{
    base::{
        error::Error,
        id::ProjectionId,
        patience::{Limit, asked},
        store_error::StoreError,
    },
    log::commit::Receipt,
    port::{deadlines::AnyDeadlines, event_store::EventStore},
    projector::{
        stopping::Tasks,
        worker::{Worker, waiting::POSITION},
    },
    service::interceptor::Interceptor,
    write::resources::Shell,
};

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

    /// Waits until the projection has applied the command of a receipt, if it applies that aggregate's events at all;
    /// returns the build that has. The log must have the command: sequences are compared, and another log has other
    /// commits at the same sequences.
    pub(crate) async fn wait(
        &self,
        worker: &Worker,
        receipt: &Receipt,
        limit: Limit,
    ) -> Result<Option<ProjectionId>, Error> {
        if !worker.sees(receipt.aggregate.name()) {
            return Ok(None);
        }
        let wait = async {
            let mut known = receipt.known.0;
            loop {
                known = self.check(receipt, known).await?;
                let build = match worker.applied(&receipt.aggregate, receipt.position).await {
                    Err(Error::Store(error)) if error.is_transient() => {
                        tokio::time::sleep(LOOK).await;
                        continue;
                    }
                    applied => applied?,
                };
                if known == Some(self.shell.events.era()) {
                    return Ok(Some(build));
                }
            }
        };
        if let Ok(applied) = tokio::time::timeout(limit.left(), wait).await {
            return applied;
        }
        let sequence = receipt.position.sequence;
        Err(worker.behind(worker.position(POSITION).await, sequence, limit.whole))
    }

    /// Makes sure that the log has the command of a receipt, unless that is known in this era; returns the era.
    async fn check(&self, receipt: &Receipt, known: Option<u64>) -> Result<Option<u64>, Error> {
        let (events, sequence) = (&self.shell.events, receipt.position.sequence);
        let era = Some(events.era());
        if known == era || sequence == 0 {
            return Ok(era);
        }
        let there = loop {
            match events.commit_at(sequence).await {
                Err(error) if error.is_transient() => tokio::time::sleep(LOOK).await,
                there => break there?,
            }
        };
        if there.is_some_and(|there| there.is_ok_and(|there| receipt.is_about(&there))) {
            return Ok(era);
        }
        let (aggregate, command) = (receipt.aggregate.clone(), receipt.command_id);
        Err(Error::ReceiptVoid { aggregate, command, sequence })
    }
}
