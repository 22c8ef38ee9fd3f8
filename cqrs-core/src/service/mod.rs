//! The service: commands in, receipts out; queries in, answers out; projectors in between.

use std::{collections::HashSet, marker::PhantomData, sync::Arc};

use jiff::Timestamp;

use crate::{
    base::{
        error::Error,
        id::{AggregateKey, CorrelationId, ProjectionId},
    },
    effects::dead_intent::DeadIntents,
    log::commit::Receipt,
    model::aggregate::Aggregate,
    port::{
        backend::Backend,
        event_store::{EventStore, Search},
        notices::{Notices, NoticesOf},
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

pub(crate) mod ask;
pub(crate) mod builder;
pub(crate) mod execute;
pub(crate) mod interceptor;
pub(crate) mod lists;
pub(crate) mod router;
pub(crate) mod routes;
pub(crate) mod runtime;
pub(crate) mod trace;

/// How many commits of an aggregate are read at once.
const PAGE: usize = 100;

/// A running service: its type lists the aggregates `A` and the views `V` that it is made of.
///
/// It is a handle: cloning is cheap, and when the last clone is dropped the projectors stop.
///
/// ```
#[doc = include_str!("../../examples/reference_order.rs")]
/// ```
///
/// # What a command goes through
///
/// The aggregate's last state is in memory, or its commits are read and folded, from its
/// [snapshot](crate::model::Snapshots) on if it keeps them. [`Handle::handle`](crate::Handle::handle) decides,
/// and the events are appended as one commit under the condition that nobody else has appended in between.
/// If somebody has, the new commits are read and the command is handled again, a bounded number of times.
///
/// Commands that arrive while one is under way on the same aggregate wait, and are then carried out
/// together: each is handled on the state that its predecessor left and gets its own receipt or refusal,
/// and their events are one append.
///
/// # Idempotency
///
/// A command is known by its [`CommandId`](crate::CommandId). Sent again under the same id it has no
/// second effect and returns the first receipt, with [`repeat`](crate::Receipt::repeat) set; another command
/// under the same id is [`Error::AnotherCommand`]. An
/// aggregate remembers its last [`REMEMBERED_COMMANDS`](crate::model::REMEMBERED_COMMANDS) commands that led
/// to events, for ever: they are in its log, and in its snapshot. For older ones there is only the event store's own memory of ids (in JetStream the
/// duplicate window, two minutes by default), and of commands that shared an append it knows just the
/// first. A command that led to no events leaves nothing to remember: it is handled again.
pub struct Cqrs<B: Backend, A: AggregateList, V> {
    runtime: Arc<Runtime<B>>,
    queues: Arc<A::Queues>,
    views: PhantomData<fn() -> V>,
}

impl<B: Backend, A: AggregateList, V> Clone for Cqrs<B, A, V> {
    fn clone(&self) -> Self {
        Self { runtime: Arc::clone(&self.runtime), queues: Arc::clone(&self.queues), views: PhantomData }
    }
}

impl<B: Backend, A: AggregateList, V: ViewList> Cqrs<B, A, V> {
    /// Carries out a command. Await the returned value, after setting what it should carry:
    /// `cqrs.execute(command).id(id).await`.
    ///
    /// # Errors
    ///
    /// [`CommandError`](crate::CommandError): the aggregate's rejection, a lifecycle that does not fit,
    /// or a technical failure that says whether the command can have taken effect.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may take effect, as a whole or not at all; while it still waits for others on the same
    /// aggregate it does not. Commands of other callers are not touched. Send the command again under the
    /// same id to learn what became of it; it takes effect once.
    pub fn execute<C, Index>(&self, command: C) -> Execute<'_, B, C>
    where
        C: SentTo<A, Index>,
    {
        Execute::new(&self.runtime, C::queues_of(&self.queues), command)
    }

    /// Answers a query. Await the returned value; `cqrs.query(query).after(&receipt).await` waits until
    /// the view has seen the command that gave the receipt.
    ///
    /// # Errors
    ///
    /// [`Error`]: the view store's, [`Error::ViewBehind`] when the view did not get there in time, or
    /// [`Error::SetAside`] when it could not apply the command's events.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub fn query<Q, Index>(&self, query: Q) -> Ask<'_, B, Q>
    where
        Q: AskedOf<V, Index>,
    {
        Ask::new(&self.runtime, query)
    }

    /// Listens to what happens to the aggregates of type `T` from now on: at most once, and nothing is kept. What
    /// happens while nobody listens, or while the connection is down, is not told. For what may be missed, such
    /// as a page that shows what goes on; it costs no write.
    ///
    /// # Errors
    ///
    /// The store's; [`StoreError::Refused`](crate::StoreError::Refused) where the store does not announce what it stores.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn notices<T, Index>(
        &self,
    ) -> Result<NoticesOf<T::Event, <B::Events as Notices>::Listener>, Error>
    where
        T: Aggregate,
        A: HasAggregate<T, Index>,
        B::Events: Notices,
    {
        Ok(NoticesOf::new(self.runtime.shell.events.listen(&[T::NAME]).await?))
    }

    /// Everything that belongs to a business transaction, in order: its commands, their events, and what followed
    /// from these, also by deadlines and handlers.
    ///
    /// The log has no index for that. It is read from the time on that the id carries, if it was made anew for a
    /// command (ids that are [derived](crate::CommandId::derived) carry none), to its end: what comes in
    /// between is delivered and dropped undecoded. What is kept in memory is what is found. It holds nobody up, but it
    /// is nothing to ask for with each command.
    ///
    /// The clock that made the id may have been wrong. So the whole log is read, which takes longer, if the command that
    /// the transaction is named after is not found in this part of it. That is so for each transaction whose id belongs
    /// to no command; if you know when such a one began, see [`trace_since`](Self::trace_since).
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

    /// [`trace`](Self::trace), of which is known that it began at `since` or later. It is complete if it has the command
    /// that the transaction is named after, or if the whole log was read.
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
        let found = self.runtime.shell.events.search(search).await?;
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
            let page = self.runtime.shell.events.read(aggregate, after, PAGE).await?;
            let events = page.commits.iter().flat_map(|stored| &stored.commit.events);
            let ids = events.map(|event| event.origin.correlation_id);
            transactions.extend(ids.filter(|id| seen.insert(*id)));
            after = page.commits.last().map_or(after, |stored| stored.sequence);
            if !page.more {
                return Ok(transactions);
            }
        }
    }

    /// What each projector is doing, as far as this process knows it: one for each build of a projection that is in
    /// use. It asks nobody; [`progress`](Self::progress) asks the stores.
    pub fn projectors(&self) -> Vec<ProjectorStatus> {
        self.runtime.workers.iter().flat_map(|worker| worker.statuses()).collect()
    }

    /// [`projectors`](Self::projectors), with what the stores say at the moment: how far each build is, whoever
    /// projects it, how many commits it has still to do and since when the first of them waits, and how many dead
    /// letters it has. So it is true also of a projector that has halted, that waits for its turn behind another
    /// process, or that runs [elsewhere](crate::operate::ProjectorState::Elsewhere).
    ///
    /// # Errors
    ///
    /// The stores', also when one does not answer within the service's [`patience`](crate::Builder::patience).
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn progress(&self) -> Result<Vec<ProjectorStatus>, Error> {
        let mut all = Vec::new();
        for worker in &self.runtime.workers {
            all.extend(worker.progress().await?);
        }
        Ok(all)
    }

    /// Builds a projection anew from the beginning, beside the build that answers, which goes on doing so. When
    /// the new build has caught up, it takes over in all instances; the old one is kept until
    /// [`remove_old_builds`](Self::remove_old_builds). Nobody who asks several instances goes back in time, which
    /// takes some two seconds of notice. [`abandon_rebuild`](Self::abandon_rebuild) gives the new build up.
    ///
    /// A build that was interrupted, by whatever, goes on where it was as soon as a service with that
    /// projection runs, and this call finds it. Commands are not sent again: policies and handlers are not
    /// projections.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownProjection`], [`Error::NotRebuilt`], or the view store's. Where the place for the results
    /// cannot be prepared nothing has begun.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have begun the build.
    pub async fn rebuild(&self, projection: &str) -> Result<Rebuild, Error> {
        self.runtime.worker(projection)?.rebuild().await
    }

    /// Removes the builds of a projection that do not answer any more, and its earlier versions once the present
    /// one answers; returns what was removed. Only call it when no program runs that answers from them.
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

    /// Gives up the build of a projection that is on its way, in all instances, and removes what there is of it;
    /// returns which one it was, if there was one. The build that answers goes on doing so. Call it again should it
    /// fail in the middle: what it left behind then, [`remove_old_builds`](Self::remove_old_builds) removes.
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

    /// The events that a projection could not apply, and what can be done about them.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownProjection`], the store's, or [`Error::ViewBuilding`] when no build answers within the
    /// service's [`patience`](crate::Builder::patience).
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn dead_letters(&self, projection: &str) -> Result<DeadLetters, Error> {
        self.runtime.worker(projection)?.dead_letters().await
    }

    /// What a policy wanted and could not be carried out, and what can be done about it. (Events that it could not react
    /// to are its [`dead_letters`](Self::dead_letters).)
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

    /// Waits until a projection has seen the command that gave `receipt`, if it sees that aggregate's events
    /// at all: before one reads from tables of one's own. A query does it by [`after`](Ask::after).
    ///
    /// # Errors
    ///
    /// [`Error::ViewBehind`] when it takes longer than the service's
    /// [`query_patience`](crate::Builder::query_patience), [`Error::SetAside`] when it could not apply the command's events,
    /// [`Error::ProjectionHalted`], [`Error::UnknownProjection`], or the store's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn seen(&self, projection: &str, receipt: &Receipt) -> Result<(), Error> {
        let worker = self.runtime.worker(projection)?;
        self.runtime.wait(worker, receipt, self.runtime.patience).await.map(drop)
    }

    /// The build of a projection that answers now, where tables of one's own are named by it; none while the first
    /// build of a changed version is on its way. Ask before each read: when another build takes over, nobody who
    /// does so goes back in time. The view store is asked now and then, not each time.
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

    /// Waits until every projection has seen all that is in its log at the time of the call. It succeeds only where all
    /// of that was applied: dead letters are events that are not in the view. It takes as long as it takes while they
    /// get further.
    ///
    /// # Errors
    ///
    /// [`Error::SetAside`] when a projection has dead letters among these events, once all projections are there;
    /// [`Error::ProjectionHalted`] when a projector cannot get there, [`Error::ViewBehind`] when one has not got any
    /// further within the service's [`patience`](crate::Builder::patience), or [`Error::Store`] when a store refuses, or has
    /// not answered for as long.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn caught_up(&self) -> Result<(), Error> {
        let mut set_aside = Ok(());
        for worker in &self.runtime.workers {
            match worker.caught_up().await {
                Err(error @ Error::SetAside { .. }) => set_aside = set_aside.and(Err(error)),
                caught_up => caught_up?,
            }
        }
        set_aside
    }

    /// Stops the projectors, policies, handlers and timers, each after the write it is in.
    ///
    /// What takes longer than the service's [`stop_patience`](crate::Builder::stop_patience), such as a handler's call that
    /// never ends, is dropped where it stands, and returned. An empty list means that everything has ended in order.
    /// Either way nothing is lost: what was not saved comes again when the service starts. The same happens when the
    /// last handle is dropped; then a warning in the log is all that tells what did not finish.
    ///
    /// Commands and queries go on through clones of this handle; only the views stand still.
    ///
    /// A projection that computes without ever waiting cannot be dropped. It is returned as well, and goes on.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the projectors stopping.
    pub async fn stop(&self) -> Vec<Unfinished> {
        self.runtime.tasks.stop().await
    }

    pub(crate) fn runtime(&self) -> &Arc<Runtime<B>> {
        &self.runtime
    }

    pub(crate) fn queues(&self) -> &A::Queues {
        &self.queues
    }
}
