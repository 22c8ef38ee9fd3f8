//! The build of a projection that answers a query.

use std::time::Duration;

use crate::base::{id::ProjectionId, patience::asked_within, store_error::StoreError};

/// The build of a projection from which a query is answered, and how long the query asks its store again.
///
/// A service makes it for each query. Made by hand, it names a build for reading without a service, as in a test.
#[derive(Debug, Clone)]
pub struct ActiveBuild {
    id: ProjectionId,
    /// How long a request is repeated that fails transiently.
    again: Duration,
    /// How long a request may go without an answer.
    silence: Duration,
}

impl ActiveBuild {
    /// A build, and for how long each request to its store is repeated while it fails transiently or gets no answer.
    pub const fn new(id: ProjectionId, patience: Duration) -> Self {
        Self { id, again: patience, silence: patience }
    }

    /// The build for a query that has waited for its read models: `left` is what is left of its `patience`.
    pub(crate) const fn of_query(id: ProjectionId, left: Duration, patience: Duration) -> Self {
        Self { id, again: left, silence: patience }
    }

    /// The build.
    pub const fn id(&self) -> &ProjectionId {
        &self.id
    }

    /// The store's answer to a request about the build. A request that fails transiently is made again as long as the
    /// query has patience left. One that gets no answer at all fails after as long as the whole patience, so that an
    /// answer that takes its time does not fail because the query had to wait before.
    ///
    /// # Errors
    ///
    /// The request's; [`StoreError::Unavailable`] when there is no answer in time.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the request.
    pub async fn asked<T, F>(&self, ask: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        asked_within(self.again, self.silence, || format!("reading view {}", self.id), ask).await
    }
}
