//! A query with its settings, before it is awaited.

use std::{
    borrow::Cow,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use tracing::Instrument;

use crate::{
    base::{
        error::Error, id::ProjectionId, metadata::Metadata, patience::Limit, source::describe,
        store_error::StoreError,
    },
    log::position::{After, LogPosition},
    port::{
        event_store::{EventStore, Log},
        view_store::Checkpoint,
    },
    projector::worker::Worker,
    read::{
        active_build::ActiveBuild,
        query::{Answer, Query},
        read_model::{Opened, ReadModels},
    },
    service::{
        deferred::Deferred,
        interceptor::{Call, CallKind, Outcome, intercept},
        runtime::{Few, LOOK, Runtime},
    },
};

/// A query that is answered when it is awaited; see [`Cqrs::query`](crate::Cqrs::query). It borrows nothing, so that it
/// can also be spawned, or awaited together with others. Its settings are made before it is polled for the first time.
#[must_use = "a query is answered when it is awaited"]
pub struct Ask<Q: Query>(Deferred<Settings<Q>, Result<Asked<Q::Answer>, Error>>);

/// A query that returns its answer with a position, when it is awaited; see [`Ask::with_position`].
#[must_use = "a query is answered when it is awaited"]
pub struct AskWithPosition<Q: Query>(Ask<Q>);

/// An answer, and how much of the log it shows; see [`Ask::with_position`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answered<T> {
    /// The answer.
    pub answer: T,
    /// The answer shows every event up to this position. It may show later events, too.
    pub position: LogPosition,
    /// How many events the views have set aside as dead letters: the answer does not show these. If it is 0, nothing up
    /// to the position is missing.
    pub dead_letters: u64,
}

/// A query and its settings.
struct Settings<Q: Query> {
    runtime: Arc<Runtime>,
    query: Q,
    after: Few<After>,
    with_position: bool,
    patience: Duration,
    metadata: Metadata,
}

/// An answer, with the position if the query asks for it.
struct Asked<T> {
    answer: T,
    shown: Option<Shown>,
}

/// How much of the log an answer shows: up to which position, and how many events it lacks.
struct Shown {
    position: LogPosition,
    dead_letters: u64,
}

impl<Q: Query> Ask<Q>
where
    Q::View: Answer<Q>,
{
    pub(crate) fn new(runtime: &Arc<Runtime>, query: Q) -> Self {
        let settings = Settings {
            runtime: Arc::clone(runtime),
            query,
            after: Few::new(),
            with_position: false,
            patience: runtime.patience,
            metadata: Metadata::default(),
        };
        Self(Deferred::Prepared(settings, |settings| Box::pin(settings.run())))
    }
}

/// Without the bound `Answer<Q>`, for the same reason.
impl<Q: Query> Ask<Q> {
    /// Answers only after the view has applied the command of a [`&Receipt`](crate::Receipt), so that a caller reads its
    /// own writes, or everything up to a [`&LogPosition`](LogPosition), so that it sees no older state than an earlier
    /// [answer with a position](Self::with_position) has shown. Called several times, it waits for all of them.
    ///
    /// If the view has set aside an event of the receipt's command, or an earlier one of the aggregate, the answer is
    /// [`Error::SetAside`]. Dead letters before a position are no error: [`Answered::dead_letters`] counts them. A query
    /// of several views waits for each of them that applies the aggregate's events, or that follows the position's log.
    pub fn after(self, after: impl Into<After>) -> Self {
        Self(self.0.with(|settings| settings.after.push(after.into())))
    }

    /// How long the query waits; by default the service's [`query_patience`](crate::Builder::query_patience). It waits for
    /// what it is [`after`](Self::after) and for an active build in all its views together, and what is left is for a
    /// store that fails for a moment. One request to a store that gives no answer fails after as long as the whole
    /// patience.
    pub fn patience(self, patience: Duration) -> Self {
        Self(self.0.with(|settings| settings.patience = patience))
    }

    /// The metadata of the query, for interceptors.
    pub fn metadata(self, metadata: Metadata) -> Self {
        Self(self.0.with(|settings| settings.metadata = metadata))
    }

    /// The answer as [`Answered`], with a position of the log: the answer shows every event up to it, and perhaps later
    /// ones. Another query can wait for it with [`after`](Self::after), also in another process and of another view; a
    /// client that sends the position of its last answer never sees an older state. It is the last setting, and costs one
    /// request to the store for each view.
    ///
    /// ```
    /// # use cqrs_core::{Aggregate, Apply, Command, Context, Cqrs, Envelope, Event, Handle, Handled, Project, Query, View};
    /// # use cqrs_core::memory::Memory;
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Debug, Clone, Serialize, Deserialize, Event)]
    /// # #[event(name = "game.won")]
    /// # struct Won;
    /// # #[derive(Debug, thiserror::Error)]
    /// # enum Never {}
    /// # #[derive(Default, Clone, Aggregate)]
    /// # #[aggregate(id = u32, event = Won, rejection = Never)]
    /// # struct Game;
    /// # impl Apply<Won> for Game { fn apply(&mut self, _: &Won) {} }
    /// # #[derive(Serialize, Deserialize, Command)]
    /// # #[command(aggregate = Game, upsert)]
    /// # struct Win { #[command(id)] game: u32 }
    /// # impl Handle<Win> for Game { fn handle(&self, _: &Win, _: &Context) -> Handled<Self> { Ok(Won.into()) } }
    /// # #[derive(Default, Serialize, Deserialize)]
    /// # struct Board { won: u64 }
    /// # impl View for Board { const NAME: &'static str = "board"; type Of = Game; }
    /// # impl Project<Won> for Board { fn project(&mut self, _: &Envelope<Won>) { self.won += 1; } }
    /// # #[derive(Query)]
    /// # #[query(view = Board, answer = Option<Board>)]
    /// # struct GetBoard { #[query(key)] game: u32 }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cqrs = Cqrs::builder(Memory::default()).aggregate::<Game>().view::<Board>().start().await?;
    /// let receipt = cqrs.execute(Win { game: 1 }).await?;
    /// let first = cqrs.query(GetBoard { game: 1 }).after(&receipt).with_position().await?;
    /// assert!(first.position.sequence >= receipt.position.sequence);
    ///
    /// // Later, perhaps in another instance:
    /// let second = cqrs.query(GetBoard { game: 1 }).after(&first.position).await?;
    /// assert!(second.is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Of several views it is the position that all of them have reached: the smallest one, where a view that has applied
    /// all events of its aggregates is behind none. Views that follow different logs have no common position:
    /// [`Error::SeveralLogs`].
    ///
    /// # Panics
    ///
    /// When it is awaited, if the query was polled before this setting was made.
    pub fn with_position(self) -> AskWithPosition<Q> {
        AskWithPosition(Self(self.0.with(|settings| settings.with_position = true)))
    }
}

impl<Q: Query> Settings<Q>
where
    Q::View: Answer<Q>,
{
    async fn run(self) -> Result<Asked<Q::Answer>, Error> {
        let Self { runtime, query, after, with_position, patience, metadata } = self;
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
                let opened = active_builds(asked, names, after, Limit::of(patience)).await?;
                // Before the first read, so that the answer cannot lack what the position covers. Of a build that is
                // replaced meanwhile, both are the state in which it was sealed.
                let shown = if with_position { Some(shown(&opened).await?) } else { None };
                let reader = reader::<Q::View>(asked, &opened)?;
                let answer = <Q::View as Answer<Q>>::answer(query, &reader).await?;
                Ok(Asked { answer, shown })
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
        Pin::new(&mut self.0).poll(context).map_ok(|asked| asked.answer)
    }
}

impl<Q: Query> Future for AskWithPosition<Q> {
    type Output = Result<Answered<Q::Answer>, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0.0).poll(context).map_ok(|Asked { answer, shown }| {
            let Some(Shown { position, dead_letters }) = shown else {
                panic!("the position of a query was asked for after the query was polled");
            };
            Answered { answer, position, dead_letters }
        })
    }
}

/// The readers of the builds.
fn reader<M: ReadModels>(runtime: &Runtime, opened: &[Ready<'_>]) -> Result<M::Reader, Error> {
    let opened: Few<_> = opened.iter().map(Ready::opened).collect();
    // A name belongs to one projection of a service, so that each has the type that the service's list says.
    M::open(&opened).ok_or_else(|| runtime.unknown(&views(M::NAMES)))
}

/// A view of a query, and the build of it that answers.
struct Ready<'a> {
    worker: &'a Arc<Worker>,
    build: ActiveBuild,
}

impl Ready<'_> {
    fn opened(&self) -> Opened<'_> {
        Opened { projection: &*self.worker.projection, build: self.build.clone() }
    }
}

/// The active build of each view, once each has applied what the query waits for: all of it within the limit.
async fn active_builds<'a>(
    runtime: &'a Runtime,
    names: &[&str],
    after: Few<After>,
    limit: Limit,
) -> Result<Few<Ready<'a>>, Error> {
    let workers = names.iter().map(|name| runtime.worker(name)).collect::<Result<Few<_>, _>>()?;
    loop {
        let mut seen = Few::new();
        for after in &after {
            seen.push(runtime.wait(&workers, after, limit).await?);
        }
        // Only then the builds, so that those of all views are the active ones of about the same time.
        let mut builds = Few::new();
        for worker in &workers {
            builds.push(active_build(worker, limit).await?);
        }
        // Another build may have become active in between, with dead letters of its own.
        let is_seen = |seen: &Few<Option<ProjectionId>>| {
            seen.iter().zip(&builds).all(|(seen, build)| seen.as_ref().is_none_or(|seen| seen == build))
        };
        if seen.iter().all(is_seen) {
            let left = limit.left();
            let ready = |(worker, build): (&&'a Arc<Worker>, ProjectionId)| Ready {
                worker,
                build: ActiveBuild::of_query(build, left, limit.whole),
            };
            return Ok(workers.iter().zip(builds).map(ready).collect());
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

/// The position that all the builds have reached, and the number of their dead letters.
async fn shown(views: &[Ready<'_>]) -> Result<Shown, Error> {
    let mut checkpoints = Few::new();
    for Ready { worker, build } in views {
        let saved = build.asked(|| worker.projection.checkpoint(build.id())).await?;
        checkpoints.push(match saved.checkpoint {
            Some(checkpoint) => checkpoint,
            None => Checkpoint { log: end(worker, build).await?.id, ..Checkpoint::default() },
        });
    }
    let dead_letters = checkpoints.iter().map(|checkpoint| checkpoint.dead_letters).sum();
    let last = checkpoints.iter().map(|checkpoint| checkpoint.sequence).max().unwrap_or_default();
    let mut smallest: Option<&Checkpoint> = None;
    for (Ready { worker, build }, checkpoint) in views.iter().zip(&checkpoints) {
        if checkpoint.log != checkpoints[0].log {
            let views = views.iter().map(|view| view.worker.name).collect::<Vec<_>>().join(", ");
            return Err(Error::SeveralLogs { views });
        }
        if checkpoint.sequence < last {
            // It may have no event of its own aggregates to apply between its checkpoint and that of another view.
            let end = end(worker, build).await?;
            if end.id == checkpoint.log && end.last_sequence == checkpoint.sequence {
                continue;
            }
        }
        if smallest.is_none_or(|smallest| checkpoint.sequence < smallest.sequence) {
            smallest = Some(checkpoint);
        }
    }
    let Checkpoint { log, sequence, event, .. } = smallest.cloned().unwrap_or_default();
    Ok(Shown { position: LogPosition { log, sequence, event }, dead_letters })
}

/// The end of a view's log, for its own aggregates.
async fn end(worker: &Worker, build: &ActiveBuild) -> Result<Log, StoreError> {
    build.asked(|| worker.log.events.log(&worker.settings.aggregates)).await
}

/// The names of a query's views in one text.
fn views(names: &[&'static str]) -> Cow<'static, str> {
    match names {
        [name] => Cow::Borrowed(name),
        names => Cow::Owned(names.join(", ")),
    }
}
