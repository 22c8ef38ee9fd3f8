//! A query with its settings, before it is awaited.

use std::{
    borrow::Cow,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use smallvec::SmallVec;
use tracing::Instrument;

use crate::{
    base::{
        error::Error, id::ProjectionId, metadata::Metadata, patience::Limit, source::describe,
        store_error::StoreError,
    },
    log::commit::Receipt,
    projector::worker::Worker,
    read::{
        active_build::ActiveBuild,
        query::{Answer, Query},
        read_model::{Opened, ReadModels},
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
    /// [`Error::SetAside`]. A query of several views waits for each of them that applies the aggregate's events.
    pub fn after(self, receipt: &Receipt) -> Self {
        Self(self.0.with(|settings| settings.after = Some(receipt.clone())))
    }

    /// How long the query waits; by default the service's [`query_patience`](crate::Builder::query_patience). It waits for
    /// the receipt and for an active build in all its views together, and what is left is for a store that fails for a
    /// moment. One request to a store that gives no answer fails after as long as the whole patience.
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
        let names = Q::View::NAMES;
        let span = tracing::info_span!("query", query = Q::NAME, view = &*views(names));
        let call = Call {
            kind: CallKind::Query,
            name: Q::NAME,
            targets: names,
            id: None,
            command_id: None,
            correlation_id: None,
            metadata,
            body: &|| Ok(serde_json::Value::Null),
        };
        let asked = &runtime;
        let dispatch = |_| async move {
            let result = async {
                let reader = opened::<Q::View>(asked, after, patience).await?;
                <Q::View as Answer<Q>>::answer(query, &reader).await
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

/// The readers of a query's views, once each view has applied the command of the receipt.
async fn opened<M: ReadModels>(
    runtime: &Runtime,
    after: Option<Receipt>,
    patience: Duration,
) -> Result<M::Reader, Error> {
    let opened = active_builds(runtime, M::NAMES, after, Limit::of(patience)).await?;
    // A name belongs to one projection of a service, so that each has the type that the service's list says.
    M::open(&opened).ok_or_else(|| runtime.unknown(&views(M::NAMES)))
}

/// What queries have one of, and seldom several.
type Few<T> = SmallVec<[T; 2]>;

/// The active build of each view, once each has applied the command of the receipt: all of it within the limit.
async fn active_builds<'a>(
    runtime: &'a Runtime,
    names: &[&str],
    after: Option<Receipt>,
    limit: Limit,
) -> Result<Few<Opened<'a>>, Error> {
    let workers = names.iter().map(|name| runtime.worker(name)).collect::<Result<Few<_>, _>>()?;
    loop {
        let mut seen = Few::new();
        for worker in &workers {
            seen.push(match &after {
                Some(receipt) => runtime.wait(worker, receipt, limit).await?,
                None => None,
            });
        }
        // Only then the builds, so that those of all views are the active ones of about the same time.
        let mut builds = Few::new();
        for worker in &workers {
            builds.push(active_build(worker, limit).await?);
        }
        // Another build may have become active in between, with dead letters of its own.
        if seen.iter().zip(&builds).all(|(seen, build)| seen.as_ref().is_none_or(|seen| seen == build)) {
            let left = limit.left();
            let opened = |(worker, build): (&&'a Arc<Worker>, ProjectionId)| Opened {
                projection: &*worker.projection,
                build: ActiveBuild::of_query(build, left, limit.whole),
            };
            return Ok(workers.iter().zip(builds).map(opened).collect());
        }
    }
}

/// The active build of a view, once there is one.
async fn active_build(worker: &Worker, limit: Limit) -> Result<ProjectionId, Error> {
    let answering = async {
        loop {
            match worker.answering().await {
                Err(Error::Store(error)) if error.is_transient() => tokio::time::sleep(LOOK).await,
                answering => return answering,
            }
        }
    };
    tokio::time::timeout(limit.left(), answering).await.unwrap_or_else(|late| {
        Err(match worker.active_now() {
            None => Error::ViewBuilding { view: worker.name, version: worker.version },
            Some(_) => {
                StoreError::unavailable(format!("reading which build of {} answers", worker.name), late)
                    .into()
            }
        })
    })
}

/// The names of a query's views in one text.
fn views(names: &[&'static str]) -> Cow<'static, str> {
    match names {
        [name] => Cow::Borrowed(name),
        names => Cow::Owned(names.join(", ")),
    }
}
