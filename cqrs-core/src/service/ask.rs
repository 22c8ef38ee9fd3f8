//! A query with its settings, before it is awaited.

use std::{sync::Arc, time::Duration};

use tracing::Instrument;

use crate::{
    base::{error::Error, future::BoxFuture, id::ProjectionId, metadata::Metadata},
    log::commit::Receipt,
    port::backend::Backend,
    read::{
        query::{Answer, Query, StoredDocuments},
        view::View,
    },
    service::{
        interceptor::{Call, CallKind, Outcome, intercept},
        runtime::Runtime,
    },
};

/// A query that is answered when it is awaited; see [`Cqrs::query`](crate::Cqrs::query).
#[must_use = "a query is answered when it is awaited"]
pub struct Ask<'a, B: Backend, Q: Query> {
    /// Answers the query: `Ask::run` of this type. A function pointer, so that a missing answer is one compile error,
    /// as for [`Execute`].
    run: fn(Self) -> BoxFuture<'a, Result<Q::Answer, Error>>,
    runtime: &'a Arc<Runtime<B>>,
    query: Q,
    after: Option<Receipt>,
    patience: Duration,
    metadata: Metadata,
}

impl<'a, B: Backend, Q: Query> Ask<'a, B, Q>
where
    Q::View: Answer<Q>,
{
    pub(crate) fn new(runtime: &'a Arc<Runtime<B>>, query: Q) -> Self {
        let run = |this: Self| -> BoxFuture<'a, _> { Box::pin(this.run()) };
        Self { run, runtime, query, after: None, patience: runtime.patience, metadata: Metadata::default() }
    }

    /// Answers only after the view has applied the command of `receipt`, so that a caller reads its own writes. If the
    /// view has set aside an event of the command, or an earlier one of the aggregate, the answer is
    /// [`Error::SetAside`].
    pub fn after(mut self, receipt: &Receipt) -> Self {
        self.after = Some(receipt.clone());
        self
    }

    /// How long to wait for that; by default the service's [`query_patience`](crate::Builder::query_patience).
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The metadata of the query, for interceptors.
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    async fn run(self) -> Result<Q::Answer, Error> {
        let Self { runtime, query, after, patience, metadata, .. } = self;
        let span = tracing::info_span!("query", query = Q::NAME, view = Q::View::NAME);
        let call = Call {
            kind: CallKind::Query,
            name: Q::NAME,
            target: Q::View::NAME,
            id: None,
            command_id: None,
            correlation_id: None,
            metadata,
            body: &|| Ok(serde_json::Value::Null),
        };
        let dispatch = |_| async move {
            let result = async {
                let build = answering::<B, Q::View>(runtime, after, patience).await?;
                <Q::View as Answer<Q>>::answer(query, &StoredDocuments::new(&*runtime.views, build)).await
            }
            .await;
            let outcome = match &result {
                Ok(_) => Outcome::Done,
                Err(error) => Outcome::Failed(error.to_string()),
            };
            (outcome, result)
        };
        intercept(&runtime.interceptors, call, dispatch).instrument(span).await?
    }
}

impl<'a, B: Backend, Q: Query> IntoFuture for Ask<'a, B, Q> {
    type Output = Result<Q::Answer, Error>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        (self.run)(self)
    }
}

/// The active build of the view, once it has applied the command of the receipt.
async fn answering<B: Backend, V: View>(
    runtime: &Runtime<B>,
    after: Option<Receipt>,
    patience: Duration,
) -> Result<ProjectionId, Error> {
    let worker = runtime.worker(V::NAME)?;
    loop {
        let seen = match &after {
            Some(receipt) => runtime.wait(worker, receipt, patience).await?,
            None => None,
        };
        let Ok(answering) = tokio::time::timeout(patience, worker.answering()).await else {
            return Err(Error::ViewBuilding { view: V::NAME, version: V::VERSION });
        };
        let answering = answering?;
        // Another build may have become active in between, with dead letters of its own.
        if seen.is_none_or(|seen| seen == answering) {
            return Ok(answering);
        }
    }
}
