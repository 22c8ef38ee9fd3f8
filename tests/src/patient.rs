//! A store for a cluster that may be electing a leader.

use std::{sync::Arc, time::Duration};

use cqrs_core::{
    Clock, StoreError,
    log::Commit,
    port::{
        AppendError, Deadline, Deadlines, EventStore, Expected, ProjectionId, Save, SaveError, ViewStore,
    },
};
use tokio::time::{Instant, sleep};

/// How long a call is repeated; an election under load takes seconds.
const PATIENCE: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(50);

/// A store whose calls are repeated after transient errors, as services do it: those calls that read, and those that have
/// the same effect a second time. The others are passed on once.
#[derive(Debug, Clone)]
pub struct Patient<S> {
    inner: S,
}

impl<S> Patient<S> {
    /// `inner`, whose calls are repeated.
    pub fn new(inner: S) -> Self {
        Self { inner }
    }
}

/// Calls until there is a success or an error that is not transient, or the patience ends.
pub(crate) async fn again<T, F>(call: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        match call().await {
            Err(error) if error.is_transient() && Instant::now() < deadline => sleep(PAUSE).await,
            answer => return answer,
        }
    }
}

#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl<S: EventStore> EventStore for Patient<S> {
    type Subscription = S::Subscription;

    crate::pass_on! { to inner: source name era capabilities }
    crate::pass_on! {
        repeatedly to inner: backlog read last last_confirmed next_after last_before commit_at has_subscriber forget log
            search aggregates subscribe load_snapshot save_snapshot
    }

    async fn append(&self, commit: &Commit, expected: Expected) -> Result<u64, AppendError> {
        self.inner.append(commit, expected).await
    }
}

#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl<S: ViewStore> ViewStore for Patient<S> {
    crate::pass_on! { to inner: max_writes place set_about }
    crate::pass_on! { repeatedly to inner: open checkpoint load notes get list page reached remove about }

    async fn save(&self, projection: &ProjectionId, save: Save<'_>) -> Result<u64, SaveError> {
        self.inner.save(projection, save).await
    }
}

#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl<S: Deadlines> Deadlines for Patient<S> {
    type Queue = S::Queue;

    async fn prepare(&self) -> Result<(), StoreError> {
        again(|| self.inner.prepare()).await
    }

    async fn arm(&self, deadline: &Deadline) -> Result<(), StoreError> {
        again(|| self.inner.arm(deadline)).await
    }

    async fn disarm(&self, id: &str, order: u64) -> Result<(), StoreError> {
        again(|| self.inner.disarm(id, order)).await
    }

    async fn due(&self, clock: Arc<dyn Clock>) -> Result<S::Queue, StoreError> {
        again(|| self.inner.due(Arc::clone(&clock))).await
    }

    async fn overdue(&self, now: jiff::Timestamp) -> Result<u64, StoreError> {
        again(|| self.inner.overdue(now)).await
    }
}
