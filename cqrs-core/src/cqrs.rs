//! The service: commands in, receipts out; queries in, answers out; projectors in between.

use std::{
    collections::{HashMap, HashSet},
    marker::PhantomData,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    Aggregate, AggregateKey, Announce, Answer, BoxFuture, Clock, Command, CommandVisitor, CorrelationId,
    DeadLetters, Deadlines, Error, EventStore, Handle, Handler, Interceptor, Notices, NoticesOf, Policy,
    Projection, ProjectionId, ProjectorStatus, Query, Rebuild, Receipt, Search, StoreError, SystemClock,
    Trace, View, ViewStore,
    announce::Announcer,
    carry_out::{Carrier, Routed},
    deadline::AnyDeadlines,
    dispatch::{Ask, Execute},
    documents::DocumentProjection,
    entity::Entities,
    execute::{Limits, Shell},
    followed::{AnyEvents, Followed},
    following::Following,
    handle_events::HandlerProjection,
    id::is_name,
    projection::AnyProjection,
    react::PolicyProjection,
    registry::{AggregateList, AggregateVisitor, AskedOf, HasAggregate, Push, SentTo, ViewList, ViewVisitor},
    router::CommandRoutes,
    timer, trace,
    worker::{Shared, Worker},
};

/// How many commits of an aggregate are read at once.
const PAGE: usize = 100;

/// Where a service keeps its events and its views.
///
/// An adapter for both implements it; a pair `(events, views)` combines two adapters.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no place to keep events and views in",
    note = "take `Memory::default()`, a context of `cqrs-nats`, or a pair `(events, views)` of two stores"
)]
pub trait Backend: Send + Sync + 'static {
    /// The event store.
    type Events: EventStore;
    /// The view store.
    type Views: ViewStore;

    /// The two stores.
    fn split(self) -> (Self::Events, Self::Views);
}

impl<E: EventStore, V: ViewStore> Backend for (E, V) {
    type Events = E;
    type Views = V;

    fn split(self) -> (E, V) {
        self
    }
}

/// A running service: its type lists the aggregates `A` and the views `V` that it is made of.
///
/// It is a handle: cloning is cheap, and when the last clone is dropped the projectors stop.
///
/// ```
#[doc = include_str!("../examples/reference_order.rs")]
/// ```
///
/// # What a command goes through
///
/// The aggregate's last state is in memory, or its commits are read and folded, from its
/// [snapshot](crate::Snapshots) on if it keeps them. [`Handle::handle`] decides,
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
/// aggregate remembers its last [`REMEMBERED_COMMANDS`](crate::REMEMBERED_COMMANDS) commands that led
/// to events, for ever: they are in its log, and in its snapshot. For older ones there is only the event store's own memory of ids (in JetStream the
/// duplicate window, two minutes by default), and of commands that shared an append it knows just the
/// first. A command that led to no events leaves nothing to remember: it is handled again.
pub struct Cqrs<B: Backend, A: AggregateList, V> {
    inner: Arc<Inner<B>>,
    entities: Arc<A::Entities>,
    views: PhantomData<fn() -> V>,
}

/// A projection on the stores of a backend.
type WorkerOf<B> = Worker<<B as Backend>::Views>;

pub(crate) struct Inner<B: Backend> {
    pub(crate) shell: Arc<Shell<B::Events>>,
    pub(crate) views: Arc<B::Views>,
    pub(crate) interceptors: Vec<Box<dyn Interceptor>>,
    pub(crate) patience: Duration,
    workers: Vec<Arc<WorkerOf<B>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl<B: Backend, A: AggregateList, V> Clone for Cqrs<B, A, V> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), entities: Arc::clone(&self.entities), views: PhantomData }
    }
}

impl<B: Backend> Cqrs<B, (), ()> {
    /// Begins to put a service together on `backend`.
    pub fn builder(backend: B) -> Builder<B, (), ()> {
        Builder {
            backend,
            clock: Arc::new(SystemClock),
            interceptors: Vec::new(),
            limits: Limits::default(),
            cached: 10_000,
            patience: Duration::from_secs(5),
            projections: Vec::new(),
            later: Vec::new(),
            foreign: HashMap::new(),
            deadlines: None,
            build_changed: false,
            projects: true,
            lists: PhantomData,
        }
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
    pub fn execute<C, Place>(&self, command: C) -> Execute<'_, B, C>
    where
        C: Command + SentTo<A, Place>,
        C::Aggregate: Handle<C>,
    {
        Execute::new(&self.inner, C::entities_of(&self.entities), command)
    }

    /// Answers a query. Await the returned value; `cqrs.query(query).after(&receipt).await` waits until
    /// the view has seen the command that gave the receipt.
    ///
    /// # Errors
    ///
    /// [`Error`]: the view store's, or [`Error::ViewBehind`] when the view did not get there in time.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub fn query<Q, Place>(&self, query: Q) -> Ask<'_, B, Q>
    where
        Q: Query + AskedOf<V, Place>,
        Q::View: Answer<Q>,
    {
        Ask::new(&self.inner, query)
    }

    /// Listens to what happens to the aggregates of type `T` from now on: at most once, and nothing is kept. What
    /// happens while nobody listens, or while the connection is down, is not told. For what may be missed, such
    /// as a page that shows what goes on; it costs no write.
    ///
    /// # Errors
    ///
    /// The store's; [`StoreError::Refused`] where the store does not announce what it stores.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn notices<T, Place>(
        &self,
    ) -> Result<NoticesOf<T::Event, <B::Events as Notices>::Listener>, Error>
    where
        T: Aggregate,
        A: HasAggregate<T, Place>,
        B::Events: Notices,
    {
        Ok(NoticesOf::new(self.inner.shell.events.listen(&[T::NAME]).await?))
    }

    /// Everything that belongs to a business transaction, in order: its commands, their events, and what followed
    /// from these, also by deadlines and handlers.
    ///
    /// The log has no index for that. It is read from the time on that the id carries, if it was made anew for a
    /// command (ids that are [derived](crate::CommandId::derived) carry none), to its end: what comes in
    /// between is delivered and dropped undecoded. What is kept in memory is what is found. It holds nobody up, but it
    /// is nothing to ask for with each command.
    ///
    /// # Errors
    ///
    /// The event store's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn trace(&self, correlation_id: CorrelationId) -> Result<Trace, Error> {
        self.trace_since(correlation_id, trace::begin_of(correlation_id)).await
    }

    /// [`trace`](Self::trace), of which is known that it began at `since` or later.
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
        let found = self.inner.shell.events.search(search).await?;
        Ok(Trace::of(correlation_id, &found.commits, !found.more))
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
            let page = self.inner.shell.events.read(aggregate, after, PAGE).await?;
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
        self.inner.workers.iter().flat_map(|worker| worker.statuses()).collect()
    }

    /// [`projectors`](Self::projectors), with what the stores say at the moment: how far each build is, whoever
    /// projects it, how many commits it has still to do and since when the first of them waits, and how many dead
    /// letters it has. So it is true also of a projector that has halted, that waits for its turn behind another
    /// process, or that runs [elsewhere](crate::ProjectorState::Elsewhere).
    ///
    /// # Errors
    ///
    /// The stores'.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn progress(&self) -> Result<Vec<ProjectorStatus>, Error> {
        let mut all = Vec::new();
        for worker in &self.inner.workers {
            all.extend(worker.progress().await?);
        }
        Ok(all)
    }

    /// Builds a projection anew from the beginning, beside the build that answers, which goes on doing so. When
    /// the new build has caught up, it takes over; the old one is kept until
    /// [`remove_old_builds`](Self::remove_old_builds).
    ///
    /// A build that was interrupted, by whatever, goes on where it was as soon as a service with that
    /// projection runs, and this call finds it. Commands are not sent again: policies and handlers are not
    /// projections.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownProjection`], or the view store's.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have begun the build.
    pub async fn rebuild(&self, projection: &str) -> Result<Rebuild, Error> {
        self.inner.worker(projection)?.rebuild().await
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
        self.inner.worker(projection)?.remove_old().await
    }

    /// The events that a projection could not apply, and what can be done about them.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownProjection`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn dead_letters(&self, projection: &str) -> Result<DeadLetters, Error> {
        Ok(self.inner.worker(projection)?.dead_letters().await)
    }

    /// Waits until a projection has seen the command that gave `receipt`, if it sees that aggregate's events
    /// at all: before one reads from tables of one's own. A query does it by [`after`](Ask::after).
    ///
    /// # Errors
    ///
    /// [`Error::ViewBehind`] when it takes longer than the service's
    /// [`query_patience`](Builder::query_patience), [`Error::ProjectionHalted`], [`Error::UnknownProjection`],
    /// or the store's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn seen(&self, projection: &str, receipt: &Receipt) -> Result<(), Error> {
        let worker = self.inner.worker(projection)?;
        self.inner
            .wait(worker, receipt.aggregate.name(), receipt.position.sequence, self.inner.patience)
            .await
    }

    /// The build of a projection that answers at the moment, where tables of one's own are named by it; none
    /// while the first build of a changed version is on its way.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownProjection`].
    pub fn active_build(&self, projection: &str) -> Result<Option<ProjectionId>, Error> {
        Ok(self.inner.worker(projection)?.active_now())
    }

    /// Waits until every view has seen all that is in its log at the time of the call.
    ///
    /// # Errors
    ///
    /// [`Error::ProjectionHalted`] when a projector cannot get there, or the stores' errors.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn caught_up(&self) -> Result<(), Error> {
        for worker in &self.inner.workers {
            worker.caught_up().await?;
        }
        Ok(())
    }

    /// Stops the projectors, each after the write it is in.
    ///
    /// Commands and queries go on through clones of this handle; only the views stand still.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the projectors stopping.
    pub async fn stop(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    pub(crate) fn inner(&self) -> &Arc<Inner<B>> {
        &self.inner
    }

    pub(crate) fn entities(&self) -> &A::Entities {
        &self.entities
    }
}

impl<B: Backend> Inner<B> {
    pub(crate) fn worker(&self, name: &str) -> Result<&Arc<WorkerOf<B>>, Error> {
        self.workers.iter().find(|worker| worker.name == name).ok_or_else(|| Error::UnknownProjection {
            name: name.to_owned(),
            known: self.workers.iter().map(|worker| worker.name).collect(),
        })
    }

    /// Waits until the projection has seen `sequence`, if it sees that aggregate's events at all.
    pub(crate) async fn wait(
        &self,
        worker: &WorkerOf<B>,
        aggregate: &str,
        sequence: u64,
        patience: Duration,
    ) -> Result<(), Error> {
        if !worker.sees(aggregate) {
            return Ok(());
        }
        let behind = Error::ViewBehind { view: worker.name, sequence, waited: patience };
        tokio::time::timeout(patience, worker.reached(sequence)).await.unwrap_or(Err(behind))
    }
}

/// Puts a service together; see [`Cqrs::builder`].
pub struct Builder<B: Backend, A, V> {
    backend: B,
    clock: Arc<dyn Clock>,
    interceptors: Vec<Box<dyn Interceptor>>,
    limits: Limits,
    cached: u64,
    patience: Duration,
    projections: Vec<(ProjectionId, Arc<dyn AnyProjection>)>,
    /// Policies and handlers, which need the stores.
    later: Vec<(ProjectionId, Later<B>)>,
    /// The logs of other contexts, by the names of those who follow them.
    foreign: HashMap<&'static str, Arc<dyn AnyEvents>>,
    /// What keeps deadlines, if there is a policy.
    deadlines: Option<OpenDeadlines<B>>,
    build_changed: bool,
    projects: bool,
    lists: PhantomData<fn() -> (A, V)>,
}

/// Makes a projection of the stores.
type Later<B> = Box<dyn FnOnce(&Parts<B>) -> Arc<dyn AnyProjection> + Send>;

/// What policies and handlers are made of.
struct Parts<B: Backend> {
    views: Arc<B::Views>,
    carrier: Arc<Carrier>,
}

/// The events' port to deadlines, and the timer that follows it.
type OpenDeadlines<B> = fn(Arc<<B as Backend>::Events>) -> OpenedDeadlines;

struct OpenedDeadlines {
    prepare: BoxFuture<'static, Result<(), StoreError>>,
    port: Arc<dyn AnyDeadlines>,
    timer: StartTimer,
}

type StartTimer =
    Box<dyn FnOnce(Arc<Carrier>, Arc<dyn Clock>, CancellationToken) -> BoxFuture<'static, ()> + Send>;

fn open_deadlines<D: Deadlines>(events: Arc<D>) -> OpenedDeadlines {
    let (preparing, timing) = (Arc::clone(&events), Arc::clone(&events));
    OpenedDeadlines {
        prepare: Box::pin(async move { preparing.prepare().await }),
        port: events,
        timer: Box::new(|carrier, clock, stop| Box::pin(timer::run(timing, carrier, clock, stop))),
    }
}

impl<B: Backend, A, V> Builder<B, A, V> {
    /// Adds an aggregate: its commands can be executed.
    pub fn aggregate<T: Aggregate>(self) -> Builder<B, A::Output, V>
    where
        A: Push<T>,
    {
        self.with_lists()
    }

    /// Adds a view: its projector runs, and its queries can be asked.
    pub fn view<T: View>(self) -> Builder<B, A, V::Output>
    where
        V: Push<T>,
    {
        self.with_lists()
    }

    /// Adds a projection that keeps its results itself, under the name and version of `id`: its projector
    /// runs. See [`Projection`].
    pub fn projection(mut self, id: ProjectionId, projection: impl Projection) -> Self {
        self.projections.push((id, Arc::new(projection)));
        self
    }

    /// Adds a policy: what follows from events is done. See [`Policy`] for what it promises.
    pub fn policy<P: Policy>(mut self) -> Self
    where
        B::Events: Deadlines,
    {
        self.deadlines = Some(open_deadlines::<B::Events>);
        self.later.push((
            ProjectionId::new(P::NAME, 1),
            Box::new(|parts| {
                let (views, carrier) = (Arc::clone(&parts.views), Arc::clone(&parts.carrier));
                Arc::new(PolicyProjection::<P, B::Views>::new(views, carrier))
            }),
        ));
        self
    }

    /// Adds an event handler: it is called at least once for each event. See [`Handler`].
    pub fn handler<H: Handler>(mut self, handler: H) -> Self {
        let later: Later<B> =
            Box::new(|parts| Arc::new(HandlerProjection::new(handler, Arc::clone(&parts.views))));
        self.later.push((ProjectionId::new(H::NAME, 1), later));
        self
    }

    /// Adds an announcer: it tells other contexts what they are to know, in the log `public`. See [`Announce`] for what
    /// it promises.
    pub fn announcer<N: Announce>(mut self, public: impl EventStore) -> Self {
        let later: Later<B> =
            Box::new(|parts| Arc::new(Announcer::<N, _, _>::new(Arc::new(public), Arc::clone(&parts.views))));
        self.later.push((ProjectionId::new(N::NAME, 1), later));
        self
    }

    /// Adds something that follows what another context announces in its public log, in place of this context's own
    /// events: `.following(&shop).policy::<Points>()`. One projection follows one log.
    pub fn following(self, public: &(impl EventStore + Clone)) -> Following<B, A, V> {
        Following { builder: self, log: Arc::new(public.clone()) }
    }

    pub(crate) fn follows(mut self, name: &'static str, log: Arc<dyn AnyEvents>) -> Self {
        self.foreign.insert(name, log);
        self
    }

    /// Builds views and projections whose version has changed, beside the old version, which answers in the
    /// programs that have it. Queries wait until the new one has caught up, and fail with
    /// [`Error::ViewBuilding`] if that takes too long. Unless this is set, the service does not start with a
    /// changed version, since building one takes its time and room.
    pub fn build_changed_views(mut self) -> Self {
        self.build_changed = true;
        self
    }

    /// Starts no projectors, policies, handlers or timers: for a process that sends commands, asks, or looks how far
    /// others are, while they run elsewhere. Its queries wait for the views as always.
    pub fn without_projectors(mut self) -> Self {
        self.projects = false;
        self
    }

    /// Takes the time and new ids from `clock` instead of the machine.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Adds an interceptor around every dispatch; the first one added is the outermost.
    pub fn interceptor(mut self, interceptor: impl Interceptor) -> Self {
        self.interceptors.push(Box::new(interceptor));
        self
    }

    /// How often a command is handled, at least once, when others change its aggregate in between; 16
    /// unless it is set.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.limits.attempts = attempts.max(1);
        self
    }

    /// How long an append is tried again while the store gives no definite answer; 30 seconds unless it
    /// is set.
    pub fn append_patience(mut self, patience: Duration) -> Self {
        self.limits.patience = patience;
        self
    }

    /// How many aggregates of each type keep their last state in memory, so that a command on one of them
    /// needs no load; 10,000 unless it is set. Each takes the size of its state, and 56 bytes for each of
    /// the commands that it remembers.
    pub fn cached_aggregates(mut self, number: u64) -> Self {
        self.cached = number;
        self
    }

    /// How many aggregates that are not in memory are read at a time, at least one; 4 unless it is set. Others
    /// wait for their turn, so that many loads at once do not hold up the appends. New aggregates, and those with
    /// the first few commits only, need no turn.
    pub fn cold_loads(mut self, number: usize) -> Self {
        self.limits.cold_loads = number.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// How long a query waits for its view after a receipt; 5 seconds unless it is set.
    pub fn query_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    fn with_lists<A2, V2>(self) -> Builder<B, A2, V2> {
        Builder {
            backend: self.backend,
            clock: self.clock,
            interceptors: self.interceptors,
            limits: self.limits,
            cached: self.cached,
            patience: self.patience,
            projections: self.projections,
            later: self.later,
            foreign: self.foreign,
            deadlines: self.deadlines,
            build_changed: self.build_changed,
            projects: self.projects,
            lists: PhantomData,
        }
    }
}

impl<B: Backend, A: AggregateList, V: ViewList> Builder<B, A, V> {
    /// Prepares the views' places and starts their projectors.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when a name is not legal or used twice, or the view store's errors.
    ///
    /// # Cancel safety
    ///
    /// Dropping it stops what was started.
    pub async fn start(self) -> Result<Cqrs<B, A, V>, Error> {
        let entities = A::entities(self.cached);
        let others = self.projections.iter().map(|(id, _)| id).chain(self.later.iter().map(|(id, _)| id));
        check_names::<A, V>(&entities, others)?;
        let (events, views) = self.backend.split();
        let (events, views) = (Arc::new(events), Arc::new(views));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let guard = stop.clone().drop_guard();
        let mut starts = Starts { views: Arc::clone(&views), starts: Vec::new() };
        V::visit(&mut starts);
        starts.starts.extend(self.projections);
        let deadlines = self.deadlines.map(|open| open(Arc::clone(&events)));
        let carrier = Arc::new(Carrier::new(deadlines.as_ref().map(|deadlines| Arc::clone(&deadlines.port))));
        let parts = Parts::<B> { views: Arc::clone(&views), carrier: Arc::clone(&carrier) };
        starts.starts.extend(self.later.into_iter().map(|(id, later)| (id, later(&parts))));
        let shared = Arc::new(Shared {
            views: Arc::clone(&views),
            clock: Arc::clone(&self.clock),
            tasks: tasks.clone(),
            stop: stop.clone(),
            projects: self.projects,
        });
        let workers = starts.starts.into_iter();
        let log = |id: &ProjectionId| match self.foreign.get(id.name) {
            Some(foreign) => Followed::foreign(Arc::clone(foreign), events.source()),
            None => Followed::own(Arc::clone(&events) as Arc<dyn AnyEvents>),
        };
        let worker = |(id, projection)| Arc::new(Worker::new(&id, projection, log(&id), Arc::clone(&shared)));
        let workers = workers.map(worker).collect();
        let inner = Arc::new(Inner {
            shell: Arc::new(Shell::new(Arc::clone(&events), Arc::clone(&self.clock), self.limits)),
            views,
            interceptors: self.interceptors,
            patience: self.patience,
            workers,
            tasks: tasks.clone(),
            stop: stop.clone(),
            _stop_on_drop: guard,
        });
        let routes = CommandRoutes::to::<A>(&entities);
        carrier.set_dispatch(Routed { inner: Arc::downgrade(&inner), routes });
        if let Some(deadlines) = deadlines {
            deadlines.prepare.await?;
            if self.projects {
                tasks.spawn((deadlines.timer)(carrier, self.clock, stop));
            }
        }
        for worker in &inner.workers {
            worker.start(self.build_changed).await?;
        }
        Ok(Cqrs { inner, entities: Arc::new(entities), views: PhantomData })
    }
}

/// What it takes to start the projection of each view.
struct Starts<S> {
    views: Arc<S>,
    starts: Vec<(ProjectionId, Arc<dyn AnyProjection>)>,
}

impl<S: ViewStore> ViewVisitor for Starts<S> {
    fn view<V: View>(&mut self) {
        let projection = DocumentProjection::<V, S>::new(Arc::clone(&self.views));
        self.starts.push((V::projection(), Arc::new(projection)));
    }
}

/// Checks the names of everything that the service is made of, and reports all that is wrong at once.
fn check_names<'a, A: AggregateList, V: ViewList>(
    entities: &A::Entities,
    projections: impl Iterator<Item = &'a ProjectionId>,
) -> Result<(), Error> {
    let mut names = Names { seen: HashSet::new(), wrong: Vec::new() };
    A::visit(entities, &mut names);
    V::visit(&mut names);
    for id in projections {
        names.check("view", id.name);
    }
    if names.wrong.is_empty() { Ok(()) } else { Err(Error::Config(names.wrong.join("; "))) }
}

struct Names {
    seen: HashSet<(&'static str, &'static str)>,
    wrong: Vec<String>,
}

impl Names {
    fn check(&mut self, kind: &'static str, name: &'static str) {
        if !is_name(name) {
            self.wrong.push(format!("{kind} name {name:?} is not 1 to 64 characters of a-z, 0-9, _ and -"));
        }
        if !self.seen.insert((kind, name)) {
            self.wrong.push(format!("{kind} name {name:?} is used twice"));
        }
    }
}

impl AggregateVisitor for Names {
    fn aggregate<A: Aggregate>(&mut self, _: &Arc<Entities<A>>) {
        self.check("aggregate", A::NAME);
        A::visit_commands(self);
    }
}

impl<A: Aggregate> CommandVisitor<A> for Names {
    fn command<C>(&mut self)
    where
        C: Command<Aggregate = A>,
        A: Handle<C>,
    {
        for name in C::NAMES {
            self.check("command", name);
        }
    }
}

impl ViewVisitor for Names {
    fn view<V: View>(&mut self) {
        self.check("view", V::NAME);
    }
}
