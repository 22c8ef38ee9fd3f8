//! Builds a service.

pub(crate) mod following;
mod start;

use std::{
    any::{TypeId, type_name},
    collections::{HashMap, HashSet},
    marker::PhantomData,
    sync::Arc,
    time::Duration,
};

use tokio::sync::Semaphore;

use crate::{
    base::id::ProjectionId,
    effects::{
        announce::Announce,
        announcer::Announcer,
        carrier::Carrier,
        handler::{EventHandler, HandlerOf},
        handler_projection::HandlerProjection,
        policy::Policy,
        policy_projection::PolicyProjection,
    },
    model::aggregate::Aggregate,
    port::{
        any_events::AnyEvents,
        any_views::AnyViews,
        backend::Backend,
        clock::{Clock, SystemClock},
        event_store::EventStore,
        projection::{AnyProjection, Projection},
    },
    read::{
        read_model::{OwnProjection, ReadModel},
        view::View,
        view_projection::ViewProjection,
    },
    service::{Cqrs, builder::following::Following, interceptor::Interceptor, lists::AddedTo},
    write::resources::Limits,
};

/// Builds a service; see [`Cqrs::builder`].
pub struct Builder<A, V> {
    events: AnyEvents,
    views: AnyViews,
    clock: Arc<dyn Clock>,
    interceptors: Vec<Box<dyn Interceptor>>,
    limits: Limits,
    cached: u64,
    patience: Duration,
    stop_patience: Duration,
    waiting: Duration,
    projections: Vec<(ProjectionId, Arc<dyn AnyProjection>)>,
    /// The types of the read models.
    added: HashSet<TypeId>,
    /// What is said about read models that are added twice.
    twice: Vec<String>,
    /// Policies, event handlers and announcers, which need the stores.
    later: Vec<(ProjectionId, Later)>,
    /// The logs of other contexts, by the name of the projection that follows them.
    foreign: HashMap<&'static str, AnyEvents>,
    /// The first policy: it needs deadlines.
    policy: Option<&'static str>,
    build_changed: bool,
    projects: bool,
    lists: PhantomData<fn() -> (A, V)>,
}

/// Makes a projection that has effects.
type Later = Box<dyn FnOnce(&Parts) -> Arc<dyn AnyProjection> + Send>;

/// The resources of policies, event handlers and announcers.
pub(crate) struct Parts {
    /// The place of their progress.
    progress: AnyViews,
    carrier: Arc<Carrier>,
}

impl Builder<(), ()> {
    pub(super) fn new(backend: impl Backend) -> Self {
        let (events, views) = backend.split();
        Self {
            events: AnyEvents::new(events),
            views: AnyViews::new(views),
            clock: Arc::new(SystemClock),
            interceptors: Vec::new(),
            limits: Limits::default(),
            cached: 10_000,
            patience: Duration::from_secs(5),
            stop_patience: Duration::from_secs(10),
            waiting: Duration::from_secs(60),
            projections: Vec::new(),
            added: HashSet::new(),
            twice: Vec::new(),
            later: Vec::new(),
            foreign: HashMap::new(),
            policy: None,
            build_changed: false,
            projects: true,
            lists: PhantomData,
        }
    }
}

impl<A, V> Builder<A, V> {
    /// Adds an aggregate: its commands can be executed.
    pub fn aggregate<T>(self) -> Builder<T::Output, V>
    where
        T: Aggregate + AddedTo<A>,
    {
        self.with_lists()
    }

    /// Adds a view: its projector runs, and its queries can be asked.
    pub fn view<T>(self) -> Builder<A, T::Output>
    where
        T: View + AddedTo<V>,
    {
        let projection = ViewProjection::new(self.views.clone());
        self.with_read_model::<T>(projection, |name| format!("view::<{name}>()"))
    }

    /// Adds a read model that is not a [`View`], such as the rows of an `SqlView` in the crate `cqrs-sql`:
    /// `.read_model(views.projection(OrderRows))`. As with a view, its projector runs, and its queries can be asked.
    pub fn read_model<T>(self, model: T) -> Builder<A, T::Output>
    where
        T: OwnProjection + AddedTo<V>,
    {
        self.with_read_model::<T>(model, |_| "read_model(…)".to_owned())
    }

    /// `call` is how it is added, for the error about one that is added twice.
    fn with_read_model<T>(
        mut self,
        projection: T::Projection,
        call: fn(&str) -> String,
    ) -> Builder<A, T::Output>
    where
        T: ReadModel + AddedTo<V>,
    {
        if self.added.insert(TypeId::of::<T>()) {
            self.projections.push((T::FIRST, Arc::new(projection)));
        } else {
            self.twice.push(added_twice::<T>(call));
        }
        self.with_lists()
    }

    /// Adds a projection that keeps its own results, under the name and version of `id`: its projector runs, and no
    /// query can be asked of it. See [`Projection`].
    pub fn projection(mut self, id: ProjectionId, projection: impl Projection) -> Self {
        self.projections.push((id, Arc::new(projection)));
        self
    }

    /// Adds a policy: commands and deadlines that follow from events. See [`Policy`] for its guarantees.
    pub fn policy<P: Policy>(mut self) -> Self {
        self.policy.get_or_insert(P::NAME);
        let later: Later = Box::new(|parts| {
            Arc::new(PolicyProjection::<P>::new(parts.progress.clone(), Arc::clone(&parts.carrier)))
        });
        self.later.push((ProjectionId::new(P::NAME, 1), later));
        self
    }

    /// Adds an event handler: it is called at least once for each event. See [`EventHandler`].
    pub fn event_handler<H: EventHandler>(mut self, handler: H) -> Self {
        let handler: HandlerOf<H> = handler.into();
        let later: Later =
            Box::new(|parts| Arc::new(HandlerProjection::<H>::new(handler, parts.progress.clone())));
        self.later.push((ProjectionId::new(H::NAME, 1), later));
        self
    }

    /// Adds an announcer: it publishes events to other contexts, in the log `public`. See [`Announce`] for its
    /// guarantees.
    pub fn announcer<N: Announce>(mut self, public: impl EventStore) -> Self {
        let public = AnyEvents::new(public);
        let later: Later = Box::new(|parts| Arc::new(Announcer::<N>::new(public, parts.progress.clone())));
        self.later.push((ProjectionId::new(N::NAME, 1), later));
        self
    }

    /// Adds a projection that follows the public log of another context, in place of this context's own log:
    /// `.following(&shop).policy::<Points>()`. One projection follows one log.
    pub fn following(self, public: &(impl EventStore + Clone)) -> Following<A, V> {
        Following { builder: self, log: AnyEvents::new(public.clone()) }
    }

    pub(crate) fn follows(mut self, name: &'static str, log: AnyEvents) -> Self {
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

    /// How long a query waits for its views and for a store that fails for a moment; 5 seconds by default. See
    /// [`Ask::patience`](crate::futures::Ask::patience).
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

    fn with_lists<A2, V2>(self) -> Builder<A2, V2> {
        Builder {
            events: self.events,
            views: self.views,
            clock: self.clock,
            interceptors: self.interceptors,
            limits: self.limits,
            cached: self.cached,
            patience: self.patience,
            stop_patience: self.stop_patience,
            waiting: self.waiting,
            projections: self.projections,
            added: self.added,
            twice: self.twice,
            later: self.later,
            foreign: self.foreign,
            policy: self.policy,
            build_changed: self.build_changed,
            projects: self.projects,
            lists: PhantomData,
        }
    }
}

impl Cqrs<(), ()> {
    /// Begins to put a service together on `backend`.
    pub fn builder(backend: impl Backend) -> Builder<(), ()> {
        Builder::new(backend)
    }
}

/// The error about a type that is added twice by the builder's method `call`, which gets the type's name.
fn added_twice<T>(call: impl Fn(&str) -> String) -> String {
    let path = type_name::<T>();
    let module = path.split('<').next().and_then(|path| path.rfind("::"));
    let name = module.map_or(path, |end| &path[end + 2..]);
    format!("`{name}` is added twice, call `.{}` once", call(name))
}
