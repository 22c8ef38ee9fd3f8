//! A query with its settings, before it is awaited.

use std::{
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use tracing::Instrument;

use crate::{
    base::{error::Error, id::ProjectionId, metadata::Metadata, source::describe},
    log::commit::Receipt,
    read::{
        query::{Answer, Query, StoredDocuments},
        view::View,
    },
    service::{
        deferred::Deferred,
        interceptor::{Call, CallKind, Outcome, intercept},
        runtime::{LOOK, Runtime},
    },
};

/// A query that is answered when it is awaited; see [`Cqrs::query`](crate::Cqrs::query). It borrows nothing, so that it
/// can also be spawned, or awaited together with others. Its settings are made before it is polled for the first time.
#[must_use = "a query is answered when it is awaited"]
pub struct Ask<Q: Query>(Deferred<Settings<Q>, Result<Q::Answer, Error>>);

/// A query and its settings.
struct Settings<Q: Query> {
    runtime: Arc<Runtime>,
    query: Q,
    after: Option<Receipt>,
    patience: Duration,
    metadata: Metadata,
}

impl<Q: Query> Ask<Q>
where
    Q::View: Answer<Q>,
{
    pub(crate) fn new(runtime: &Arc<Runtime>, query: Q) -> Self {
        let settings = Settings {
            runtime: Arc::clone(runtime),
            query,
            after: None,
            patience: runtime.patience,
            metadata: Metadata::default(),
        };
        Self(Deferred::Prepared(settings, |settings| Box::pin(settings.run())))
    }
}

/// Without the bound `Answer<Q>`, for the same reason.
impl<Q: Query> Ask<Q> {
    /// Answers only after the view has applied the command of `receipt`, so that a caller reads its own writes. If the
    /// view has set aside an event of the command, or an earlier one of the aggregate, the answer is
    /// [`Error::SetAside`].
    pub fn after(self, receipt: &Receipt) -> Self {
        Self(self.0.with(|settings| settings.after = Some(receipt.clone())))
    }

    /// How long to wait for that; by default the service's [`query_patience`](crate::Builder::query_patience).
    pub fn patience(self, patience: Duration) -> Self {
        Self(self.0.with(|settings| settings.patience = patience))
    }

    /// The metadata of the query, for interceptors.
    pub fn metadata(self, metadata: Metadata) -> Self {
        Self(self.0.with(|settings| settings.metadata = metadata))
    }
}

impl<Q: Query> Settings<Q>
where
    Q::View: Answer<Q>,
{
    async fn run(self) -> Result<Q::Answer, Error> {
        let Self { runtime, query, after, patience, metadata } = self;
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
        let asked = &runtime;
        let dispatch = |_| async move {
            let result = async {
                let build = answering::<Q::View>(asked, after, patience).await?;
                <Q::View as Answer<Q>>::answer(query, &StoredDocuments::new(&asked.views, build, patience))
                    .await
            }
            .await;
            let outcome = match &result {
                Ok(_) => Outcome::Done,
                Err(error) => Outcome::Failed(describe(&error)),
            };
            (outcome, result)
        };
        intercept(&runtime.interceptors, call, dispatch).instrument(span).await?
    }
}

impl<Q: Query> Future for Ask<Q> {
    type Output = Result<Q::Answer, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

/// The active build of the view, once it has applied the command of the receipt.
async fn answering<V: View>(
    runtime: &Runtime,
    after: Option<Receipt>,
    patience: Duration,
) -> Result<ProjectionId, Error> {
    let worker = runtime.worker(V::NAME)?;
    loop {
        let seen = match &after {
            Some(receipt) => runtime.wait(worker, receipt, patience).await?,
            None => None,
        };
        let answering = async {
            loop {
                match worker.answering().await {
                    Err(Error::Store(error)) if error.is_transient() => tokio::time::sleep(LOOK).await,
                    answering => return answering,
                }
            }
        };
        let Ok(answering) = tokio::time::timeout(patience, answering).await else {
            return Err(Error::ViewBuilding { view: V::NAME, version: V::VERSION });
        };
        let answering = answering?;
        // Another build may have become active in between, with dead letters of its own.
        if seen.is_none_or(|seen| seen == answering) {
            return Ok(answering);
        }
    }
}
