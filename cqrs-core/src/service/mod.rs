//! The service: carries out commands, answers queries, and runs projectors.

use std::{collections::HashSet, marker::PhantomData, sync::Arc};

use jiff::Timestamp;
use tokio::task::JoinSet;

use crate::{
    base::{
        error::Error,
        id::{AggregateKey, CorrelationId, ProjectionId},
        patience::Limit,
        store_error::StoreError,
    },
    effects::dead_intent::DeadIntents,
    log::position::After,
    model::aggregate::Aggregate,
    port::{
        event_store::{EventStore, Search},
        notices::NoticesOf,
    },
    projector::{
        dead_letter::by_hand::DeadLetters, status::ProjectorStatus, stopping::Unfinished,
        worker::rebuild::Rebuild,
    },
    service::{
        ask::Ask,
        execute::Execute,
        lists::{AggregateList, AskedOf, HasAggregate, SentTo, ViewList},
        runtime::Runtime,
        trace::Trace,
    },
};

pub(crate) mod aggregate;
pub(crate) mod ask;
pub(crate) mod builder;
pub(crate) mod deferred;
pub(crate) mod execute;
pub(crate) mod interceptor;
pub(crate) mod listing;
pub(crate) mod lists;
pub(crate) mod router;
pub(crate) mod routes;
pub(crate) mod runtime;
pub(crate) mod settled;
pub(crate) mod settled_after;
pub(crate) mod trace;

/// How many commits of an aggregate are read with one request.
const PAGE: usize = 100;

/// A running service: its type lists its aggregates `A` and its views `V`.
///
/// It is a handle: cloning is cheap, and when the last clone is dropped the projectors stop.
///
/// ```
#[doc = include_str!("../../examples/reference_order.rs")]
/// ```
///
/// # How a command is carried out
///
/// The aggregate's last state is in memory; or its commits are read and folded, beginning with its
/// [snapshot](crate::model::Snapshots) if it has one. [`Handle::handle`](crate::Handle::handle) decides, and the events
/// are appended as one commit if no other commit was appended in between (optimistic concurrency). Otherwise the new
/// commits are read and the command is handled again, a limited number of times.
///
/// Commands that arrive while another one is in progress on the same aggregate wait, and are then carried out together
/// (group commit): each is handled on the state that its predecessor left and gets its own receipt or refusal, and
/// their events are one append.
///
/// # Idempotency
///
/// A command is identified by its [`CommandId`](crate::CommandId). If it is sent again under the same id, it has no
/// second effect and returns the first receipt, with [`repeat`](crate::Receipt::repeat) set; another command under the
/// same id is [`Error::AnotherCommand`]. This holds without a limit, however many commands the aggregate has carried out
/// since, and in every process: the log has the ids. A command that led to no events is the exception. Nothing is stored
/// of it, so it is handled again.
pub struct Cqrs<A: AggregateList, V: ViewList> {
    runtime: Arc<Runtime>,
    queues: Arc<A::Queues>,
    views: PhantomData<fn() -> V>,
}

impl<A: AggregateList, V: ViewList> Clone for Cqrs<A, V> {
    fn clone(&self) -> Self {
        Self { runtime: Arc::clone(&self.runtime), queues: Arc::clone(&self.queues), views: PhantomData }
    }
}

impl<A: AggregateList, V: ViewList> Cqrs<A, V> {
    /// Carries out a command. Set its options, then await the returned value: `cqrs.execute(command).id(id).await`.
    ///
    /// The compiler infers the parameter `AddedOnce`. If it cannot, the command's aggregate is added to the service twice.
    ///
    /// # Errors
    ///
    /// [`CommandError`](crate::CommandError): the aggregate's rejection, an error of the lifecycle, or a technical
    /// failure that says whether the command may have taken effect.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may take effect, as a whole or not at all. While it still waits in the aggregate's queue,
    /// dropping it withdraws the command. Commands of other callers are not affected. Send the command again under the
    /// same id to get its result; it takes effect once.
    pub fn execute<C, AddedOnce>(&self, command: C) -> Execute<C>
    where
        C: SentTo<A, AddedOnce>,
    {
        Execute::new(&self.runtime, C::queues_of(&self.queues), command)
    }

    /// Answers a query. Set its options, then await the returned value; `cqrs.query(query).after(&receipt).await` waits
    /// until the view has applied the command of the receipt. A query of several views waits for each.
    ///
    /// The compiler infers the parameter `AddedOnce`. If it cannot, the query's view is added to the service twice.
    ///
    /// # Errors
    ///
    /// [`Error`]: the view store's, [`Error::ViewBehind`] when a view did not reach the receipt in time,
    /// [`Error::SetAside`] when it could not apply the command's events, or [`Error::ViewBuilding`] when no build of it
    /// is active yet.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub fn query<Q, AddedOnce>(&self, query: Q) -> Ask<Q>
    where
        Q: AskedOf<V, AddedOnce>,
    {
        Ask::new(&self.runtime, query)
    }

    /// Listens to the events of the aggregates of type `T` from now on: at most once, and nothing is kept. Events while
    /// no listener is connected are lost. For uses in which a loss is acceptable, such as a page that shows current
    /// activity; it costs no write.
    ///
    /// # Errors
    ///
    /// The store's; [`StoreError::Refused`](crate::StoreError::Refused) if the store announces nothing.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn notices<T, Index>(&self) -> Result<NoticesOf<T::Event>, Error>
    where
        T: Aggregate,
        A: HasAggregate<T, Index>,
    {
        let events = &self.runtime.shell.events;
        let Some(notices) = events.capabilities().notices else {
            let what = format!("listening to {}: its store announces nothing", events.name());
            return Err(StoreError::Refused { what, source: None }.into());
        };
        Ok(NoticesOf::new(notices.listen(&[T::NAME]).await?))
    }

    /// Everything that belongs to a business transaction, in order: its commands, their events, and the commands that
    /// followed from these, also by deadlines and handlers.
    ///
    /// The log has no index for that. It is read to its end, from the time in the id, if the id was generated for a
    /// command (ids that are [derived](crate::CommandId::derived) contain no time). Commits of other transactions are
    /// delivered and dropped without decoding; only matching commits are kept in memory. The search blocks no other
    /// work, but it is too expensive to run with each command.
    ///
    /// The clock that made the id may have been wrong. So if this part of the log does not contain the command that the
    /// transaction is named after, the whole log is read, which takes longer. That is the case for each transaction
    /// whose id belongs to no command; if you know when such a one began, see [`trace_since`](Self::trace_since).
    ///
    /// # Errors
    ///
    /// The event store's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn trace(&self, correlation_id: CorrelationId) -> Result<Trace, Error> {
        let found = self.trace_since(correlation_id, trace::begin_of(correlation_id)).await?;
        if found.has_beginning() {
            return Ok(found);
        }
        self.trace_since(correlation_id, Timestamp::UNIX_EPOCH).await
    }

    /// [`trace`](Self::trace) for a transaction that is known to have begun at `since` or later. It is complete if it
    /// has the command that the transaction is named after, or if the whole log was read.
    ///
    /// # Errors
    ///
    /// The event store's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn trace_since(&self, correlation_id: CorrelationId, since: Timestamp) -> Result<Trace, Error> {
        let search = Search { correlation_id, since, max: trace::MAX_COMMITS };
        let what = || format!("searching the log for the transaction {correlation_id}");
        let found = self.runtime.asked(what, || self.runtime.shell.events.search(search)).await?;
        Ok(Trace::of(correlation_id, &found.commits, since <= Timestamp::UNIX_EPOCH, found.more))
    }

    /// The business transactions that have changed an aggregate, in order.
    ///
    /// # Errors
    ///
    /// The event store's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn transactions_of(&self, aggregate: &AggregateKey) -> Result<Vec<CorrelationId>, Error> {
        let mut seen = HashSet::new();
        let mut transactions = Vec::new();
        let mut after = 0;
        loop {
            let what = || format!("reading {aggregate}");
            let read = || self.runtime.shell.events.read(aggregate, after, PAGE);
            let page = self.runtime.asked(what, read).await?;
            let events = page.commits.iter().flat_map(|stored| &stored.commit.events);
            let ids = events.map(|event| event.origin.correlation_id);
            transactions.extend(ids.filter(|id| seen.insert(*id)));
            after = page.commits.last().map_or(after, |stored| stored.sequence);
            if !page.more {
                return Ok(transactions);
            }
        }
    }

    /// The status of each projector, as far as this process knows it: one for each build of a projection that is in
    /// use. It makes no request; [`progress`](Self::progress) asks the stores.
    pub fn projectors(&self) -> Vec<ProjectorStatus> {
        self.runtime.workers.iter().flat_map(|worker| worker.statuses()).collect()
    }

    /// The status of one projection's projector, as far as this process knows it, by the projection's name. Of several
    /// builds it is the active one; the build of a rebuild is in [`projectors`](Self::projectors). It makes no request.
    ///
    /// ```
    /// # use cqrs_core::{Aggregate, Apply, Cqrs, Envelope, Error, Event, Project, View, memory::Memory};
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
    /// # #[derive(Default, Serialize, Deserialize)]
    /// # struct Board;
    /// # impl View for Board { const NAME: &'static str = "board"; type Of = Game; }
    /// # impl Project<Won> for Board { fn project(&mut self, _: &Envelope<Won>) {} }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cqrs = Cqrs::builder(Memory::default()).aggregate::<Game>().view::<Board>().start().await?;
    ///
    /// let board = cqrs.projector("board")?;
    /// println!("{board:?}"); // ProjectorStatus { projection: board-v1, state: Running, …
    /// assert_eq!(board.dead_letters, 0);
    /// // The error says which projections there are.
    /// assert!(matches!(cqrs.projector("bord"), Err(Error::UnknownProjection { known, .. }) if known == ["board"]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::UnknownProjection`], which lists the names that the service has.
    pub fn projector(&self, projection: &str) -> Result<ProjectorStatus, Error> {
        Ok(self.runtime.worker(projection)?.status())
    }

    /// [`projectors`](Self::projectors), with the present answers of the stores: the position of each build, whichever
    /// process projects it, how many commits it has still to project, since when the first of them waits, how many dead
    /// letters it has, and whether a process runs it at all. So it is correct also for a projector that has halted, that
    /// is a standby for another process, or that runs [elsewhere](crate::operate::ProjectorState::Elsewhere).
    ///
    /// # Errors
    ///
    /// The stores', also when one does not answer within the service's [`patience`](crate::Builder::patience).
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn progress(&self) -> Result<Vec<ProjectorStatus>, Error> {
        // At the same time: an event store may have to look twice before it says that a projection has no process.
        let mut asked = JoinSet::new();
        for (place, worker) in self.runtime.workers.iter().cloned().enumerate() {
            asked.spawn(async move { (place, worker.progress().await) });
        }
        let mut answers = asked.join_all().await;
        answers.sort_by_key(|(place, _)| *place);
        let answers: Result<Vec<_>, _> = answers.into_iter().map(|(_, answer)| answer).collect();
        Ok(answers?.concat())
    }

    /// Rebuilds a projection from the first event, beside the active build, which still answers queries (blue/green).
    /// When the new build has caught up, it becomes the active one in all instances; the old one is kept until
    /// [`remove_old_builds`](Self::remove_old_builds). No caller that queries several instances sees an older state
    /// after a newer one; for that, the switch takes about two seconds of notice.
    /// [`abandon_rebuild`](Self::abandon_rebuild) abandons the new build.
    ///
    /// An interrupted build continues where it was as soon as a service with that projection runs, and this call finds
    /// it. Commands are not sent again: policies and handlers cannot be rebuilt.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownProjection`], [`Error::NotRebuilt`], or the view store's. If the place for the results cannot be
    /// prepared, no build has begun.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have begun the build.
    pub async fn rebuild(&self, projection: &str) -> Result<Rebuild, Error> {
        self.runtime.worker(projection)?.rebuild().await
    }

    /// Removes the former builds of a projection and, once the present version has an active build, its earlier
    /// versions; returns what was removed. Call it only when no program uses them any more.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownProjection`], or the stores'.
    ///
    /// # Cancel safety
    ///
    /// It can be called again.
    pub async fn remove_old_builds(&self, projection: &str) -> Result<Vec<ProjectionId>, Error> {
        self.runtime.worker(projection)?.remove_old().await
    }

    /// Abandons the build of a projection that is in progress, in all instances, and removes its results; returns it,
    /// if there was one. The active build still answers queries. If the call fails, call it again;
    /// [`remove_old_builds`](Self::remove_old_builds) removes what it left behind.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownProjection`], or the stores'.
    ///
    /// # Cancel safety
    ///
    /// It can be called again.
    pub async fn abandon_rebuild(&self, projection: &str) -> Result<Option<ProjectionId>, Error> {
        self.runtime.worker(projection)?.abandon().await
    }

    /// The events that a projection could not apply, and the operations on them.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownProjection`], the store's, or [`Error::ViewBuilding`] when no build becomes active within the
    /// service's [`patience`](crate::Builder::patience).
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn dead_letters(&self, projection: &str) -> Result<DeadLetters, Error> {
        self.runtime.worker(projection)?.dead_letters().await
    }

    /// The commands and deadlines of a policy that could not be executed, and the operations on them. (Events that it
    /// could not react to are its [`dead_letters`](Self::dead_letters).)
    ///
    /// # Errors
    ///
    /// [`Error::UnknownProjection`], or the store's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn dead_intents(&self, policy: &str) -> Result<DeadIntents, Error> {
        DeadIntents::of(self.runtime.worker(policy)?).await
    }

    /// Waits until a projection has applied the command of a [`&Receipt`](crate::Receipt), if it applies that
    /// aggregate's events at all, or all of its events up to a [`&LogPosition`](crate::log::LogPosition): call it before
    /// you read its results by hand. For a query, [`after`](Ask::after) does this.
    ///
    /// # Errors
    ///
    /// [`Error::ViewBehind`] when it takes longer than the service's
    /// [`query_patience`](crate::Builder::query_patience), [`Error::SetAside`] when it could not apply the command's
    /// events, [`Error::ReceiptVoid`] or [`Error::PositionVoid`] when the log does not have it any more,
    /// [`Error::ProjectionHalted`], [`Error::UnknownProjection`], or the store's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn seen(&self, projection: &str, after: impl Into<After>) -> Result<(), Error> {
        let (worker, after) = (self.runtime.worker(projection)?, after.into());
        self.runtime.wait(&[worker], &after, Limit::of(self.runtime.patience)).await.map(drop)
    }

    /// The active build of a projection, for tables that are named by the build; `None` while the first build of a
    /// changed version is in progress. Call it before each read: then a caller never sees an older state when another
    /// build becomes active. It asks the view store about every two seconds, and not with each call.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownProjection`], or the view store's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn active_build(&self, projection: &str) -> Result<Option<ProjectionId>, Error> {
        self.runtime.worker(projection)?.active_build().await
    }

    /// Waits until every projection has applied all that is in its log at the time of the call. It fails if some of
    /// that was set aside. There is no time limit while the projections make progress.
    ///
    /// # Errors
    ///
    /// [`Error::SetAside`] when a projection has dead letters among these events, after all projections have reached
    /// the end; [`Error::ProjectionHalted`] when a projector cannot reach it, [`Error::ViewBehind`] when one made no
    /// progress within the service's [`patience`](crate::Builder::patience), or [`Error::Store`] when a store refuses,
    /// or did not answer for as long.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn caught_up(&self) -> Result<(), Error> {
        self.runtime.caught_up().await
    }

    /// Stops the projectors, policies, handlers and timers, each after its current write.
    ///
    /// A task that takes longer than the service's [`stop_patience`](crate::Builder::stop_patience), such as a
    /// handler's call that never ends, is dropped, and its projection is returned. An empty list means that all
    /// projections have ended in order. Nothing is lost in either case: what was not saved is delivered again when the
    /// service starts. When the last handle is dropped, the same happens; then only a warning in the log reports a
    /// projection that did not finish.
    ///
    /// Commands and queries still work through clones of this handle; only the views make no progress.
    ///
    /// A projection that computes without an await point cannot be dropped. It is returned as well, and continues.
    ///
    /// # Cancel safety
    ///
    /// Dropping it does not interrupt the stop; the list of unfinished projections is lost.
    pub async fn stop(&self) -> Vec<Unfinished> {
        self.runtime.tasks.stop().await
    }

    pub(crate) fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    pub(crate) fn queues(&self) -> &A::Queues {
        &self.queues
    }
}
