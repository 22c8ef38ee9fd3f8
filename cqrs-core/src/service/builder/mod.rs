//! Builds a service.

pub(crate) mod following;
mod start;

use std::{collections::HashMap, marker::PhantomData, sync::Arc, time::Duration};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    base::{future::BoxFuture, id::ProjectionId, store_error::StoreError},
    effects::{
        announce::Announce, announcer::Announcer, carrier::Carrier, handler::EventHandler,
        handler_projection::HandlerProjection, policy::Policy, policy_projection::PolicyProjection, timer,
    },
    model::aggregate::Aggregate,
    port::{
        backend::Backend,
        clock::{Clock, SystemClock},
        deadlines::{AnyDeadlines, Deadlines},
        event_feed::AnyEvents,
        event_store::EventStore,
        projection::{AnyProjection, Projection},
    },
    read::view::View,
    service::{Cqrs, builder::following::Following, interceptor::Interceptor, lists::Push},
    write::resources::Limits,
};

/// Builds a service; see [`Cqrs::builder`].
pub struct Builder<B: Backend, A, V> {
    backend: B,
    clock: Arc<dyn Clock>,
    interceptors: Vec<Box<dyn Interceptor>>,
    limits: Limits,
    cached: u64,
    patience: Duration,
    stop_patience: Duration,
    waiting: Duration,
    projections: Vec<(ProjectionId, Arc<dyn AnyProjection>)>,
    /// Policies, event handlers and announcers, which need the stores.
    later: Vec<(ProjectionId, Later<B>)>,
    /// The logs of other contexts, by the name of the projection that follows them.
    foreign: HashMap<&'static str, Arc<dyn AnyEvents>>,
    /// Opens the port to deadlines, if there is a policy.
    deadlines: Option<OpenDeadlines<B>>,
    build_changed: bool,
    projects: bool,
    lists: PhantomData<fn() -> (A, V)>,
}

/// Makes a projection from the stores.
type Later<B> = Box<dyn FnOnce(&Parts<B>) -> Arc<dyn AnyProjection> + Send>;

/// The resources of policies, event handlers and announcers.
pub(crate) struct Parts<B: Backend> {
    views: Arc<B::Views>,
    carrier: Arc<Carrier>,
}

/// Opens the events' port to deadlines, and the timer that follows it.
type OpenDeadlines<B> = fn(Arc<<B as Backend>::Events>) -> OpenedDeadlines;

struct OpenedDeadlines {
    prepare: Prepare,
    port: Arc<dyn AnyDeadlines>,
    timer: StartTimer,
}

type Prepare = Box<dyn Fn() -> BoxFuture<'static, Result<(), StoreError>> + Send + Sync>;

type StartTimer =
    Box<dyn FnOnce(Arc<Carrier>, Arc<dyn Clock>, CancellationToken) -> BoxFuture<'static, ()> + Send>;

fn open_deadlines<D: Deadlines>(events: Arc<D>) -> OpenedDeadlines {
    let (preparing, timing) = (Arc::clone(&events), Arc::clone(&events));
    OpenedDeadlines {
        prepare: Box::new(move || {
            let events = Arc::clone(&preparing);
            Box::pin(async move { events.prepare().await })
        }),
        port: events,
        timer: Box::new(|carrier, clock, stop| Box::pin(timer::run(timing, carrier, clock, stop))),
    }
}

impl<B: Backend> Builder<B, (), ()> {
    pub(super) fn new(backend: B) -> Self {
        Self {
            backend,
            clock: Arc::new(SystemClock),
            interceptors: Vec::new(),
            limits: Limits::default(),
            cached: 10_000,
            patience: Duration::from_secs(5),
            stop_patience: Duration::from_secs(10),
            waiting: Duration::from_secs(60),
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

    /// Adds a projection that keeps its own results, under the name and version of `id`: its projector runs. See
    /// [`Projection`].
    pub fn projection(mut self, id: ProjectionId, projection: impl Projection) -> Self {
        self.projections.push((id, Arc::new(projection)));
        self
    }

    /// Adds a policy: commands and deadlines that follow from events. See [`Policy`] for its guarantees.
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

    /// Adds an event handler: it is called at least once for each event. See [`EventHandler`].
    pub fn event_handler<H: EventHandler>(mut self, handler: H) -> Self {
        let later: Later<B> =
            Box::new(|parts| Arc::new(HandlerProjection::new(handler, Arc::clone(&parts.views))));
        self.later.push((ProjectionId::new(H::NAME, 1), later));
        self
    }

    /// Adds an announcer: it publishes events to other contexts, in the log `public`. See [`Announce`] for its
    /// guarantees.
    pub fn announcer<N: Announce>(mut self, public: impl EventStore) -> Self {
        let later: Later<B> =
            Box::new(|parts| Arc::new(Announcer::<N, _, _>::new(Arc::new(public), Arc::clone(&parts.views))));
        self.later.push((ProjectionId::new(N::NAME, 1), later));
        self
    }

    /// Adds a projection that follows the public log of another context, in place of this context's own log:
    /// `.following(&shop).policy::<Points>()`. One projection follows one log.
    pub fn following(self, public: &(impl EventStore + Clone)) -> Following<B, A, V> {
        Following { builder: self, log: Arc::new(public.clone()) }
    }

    pub(crate) fn follows(mut self, name: &'static str, log: Arc<dyn AnyEvents>) -> Self {
        self.foreign.insert(name, log);
        self
    }

    /// Builds views and projections whose version has changed beside the old version (blue/green), which still answers
    /// in programs that have it. Queries wait until the new one has caught up, and fail with
    /// [`Error::ViewBuilding`](crate::Error::ViewBuilding) if that takes too long. By default, the service does not
    /// start with a changed version, because building it takes time and room.
    pub fn build_changed_views(mut self) -> Self {
        self.build_changed = true;
        self
    }

    /// Starts no projectors, policies, handlers or timers: for a process that sends commands or queries, or shows
    /// progress, while other processes run the projectors. Its queries wait for the views as usual.
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

    /// How often a command is handled, at least once, when other writers change its aggregate in between; 16 by
    /// default.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.limits.attempts = attempts.max(1);
        self
    }

    /// How long an append is sent again while the store gives no definite answer; 30 seconds by default.
    pub fn append_patience(mut self, patience: Duration) -> Self {
        self.limits.patience = patience;
        self
    }

    /// How many aggregates of each type keep their last state in memory, so that a command on one of them needs no
    /// load; 10,000 by default. Each takes the size of its state, and 58 bytes for each command that it remembers.
    pub fn cached_aggregates(mut self, number: u64) -> Self {
        self.cached = number;
        self
    }

    /// How many aggregates that are not in memory are read at a time (cold loads), at least one; 4 by default. Further
    /// cold loads wait for a permit, so that many loads do not hold up the appends. New aggregates, and those with only
    /// a few commits, need no permit.
    pub fn cold_loads(mut self, number: usize) -> Self {
        self.limits.cold_loads = number.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// How long a query waits for its view after a receipt; 5 seconds by default.
    pub fn query_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long [`stop`](Cqrs::stop) waits for work in progress, such as a handler's call; 10 seconds by default.
    pub fn stop_patience(mut self, patience: Duration) -> Self {
        self.stop_patience = patience;
        self
    }

    /// How long [`Cqrs::caught_up`] and [`Rebuild::finished`](crate::operate::Rebuild::finished) wait for a projection
    /// that makes no progress, and [`Cqrs::progress`] and [`Cqrs::dead_letters`] for an answer; one minute by default.
    /// Set it above the time of the slowest handler for a batch of events.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.waiting = patience;
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
            stop_patience: self.stop_patience,
            waiting: self.waiting,
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

impl<B: Backend> Cqrs<B, (), ()> {
    /// Begins to put a service together on `backend`.
    pub fn builder(backend: B) -> Builder<B, (), ()> {
        Builder::new(backend)
    }
}
