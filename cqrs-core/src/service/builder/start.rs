//! Starts a service: checks the names, makes the projections, starts the workers.

use std::{collections::HashSet, marker::PhantomData, sync::Arc, time::Duration};

use crate::{
    base::{
        error::Error,
        id::{ProjectionId, is_name},
        patience::Patience,
    },
    effects::carrier::Carrier,
    model::{
        aggregate::{Aggregate, CommandVisitor, Handle},
        command::Command,
    },
    port::{
        backend::Backend, event_feed::AnyEvents, event_store::EventStore, projection::AnyProjection,
        view_store::ViewStore,
    },
    projector::{
        followed::Followed,
        stopping::Tasks,
        worker::{Shared, Worker},
    },
    read::{view::View, view_projection::ViewProjection},
    service::{
        Cqrs,
        builder::{Builder, Parts},
        lists::{AggregateList, AggregateVisitor, ViewList, ViewVisitor},
        routes::{CommandRoutes, Routed},
        runtime::Runtime,
    },
    write::{queue::Queues, resources::Shell},
};

/// How long a starting service retries while a store does not answer.
const PATIENCE: Duration = Duration::from_secs(15);

impl<B: Backend, A: AggregateList, V: ViewList> Builder<B, A, V> {
    /// Prepares the views' places and starts their projectors. If the place of one projection cannot be prepared, the
    /// others run: [`Cqrs::projectors`] says why its projector has halted or retries.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when a name is not legal or used twice, or the view store's when it does not return the builds
    /// of a projection. A store that does not answer is asked again for 15 seconds.
    ///
    /// # Cancel safety
    ///
    /// Dropping it stops what was started.
    pub async fn start(self) -> Result<Cqrs<B, A, V>, Error> {
        let queues = A::queues(self.cached);
        let others = self.projections.iter().map(|(id, _)| id).chain(self.later.iter().map(|(id, _)| id));
        check_names::<A, V>(&queues, others)?;
        let (events, views) = self.backend.split();
        let (events, views) = (Arc::new(events), Arc::new(views));
        let tasks = Tasks::new(self.stop_patience);
        let guard = tasks.token().clone().drop_guard();
        let mut starts = Starts { views: Arc::clone(&views), starts: Vec::new() };
        V::visit(&mut starts);
        starts.starts.extend(self.projections);
        let deadlines = self.deadlines.map(|open| open(Arc::clone(&events)));
        let carrier = Carrier::new(
            deadlines.as_ref().map(|deadlines| Arc::clone(&deadlines.port)),
            Arc::clone(&self.clock),
        );
        let carrier = Arc::new(carrier);
        let parts = Parts::<B> { views: Arc::clone(&views), carrier: Arc::clone(&carrier) };
        starts.starts.extend(self.later.into_iter().map(|(id, later)| (id, later(&parts))));
        let shared = Arc::new(Shared {
            views: Arc::clone(&views),
            clock: Arc::clone(&self.clock),
            tasks: tasks.clone(),
            projects: self.projects,
            patience: self.waiting,
        });
        let workers = starts.starts.into_iter();
        let log = |id: &ProjectionId| match self.foreign.get(id.name) {
            Some(foreign) => Followed::foreign(Arc::clone(foreign), events.name()),
            None => Followed::own(Arc::clone(&events) as Arc<dyn AnyEvents>),
        };
        let worker = |(id, projection)| Arc::new(Worker::new(&id, projection, log(&id), Arc::clone(&shared)));
        let workers = workers.map(worker).collect();
        let runtime = Arc::new(Runtime {
            shell: Arc::new(Shell::new(Arc::clone(&events), Arc::clone(&self.clock), self.limits)),
            views,
            interceptors: self.interceptors,
            patience: self.patience,
            workers,
            tasks: tasks.clone(),
            _stop_on_drop: guard,
        });
        let routes = CommandRoutes::all::<A>(&queues);
        carrier.set_dispatch(Routed { runtime: Arc::downgrade(&runtime), routes });
        if let Some(deadlines) = deadlines {
            tried_for_a_while(|| async { Ok((deadlines.prepare)().await?) }).await?;
            if self.projects {
                tasks.spawn((deadlines.timer)(carrier, self.clock, tasks.token().clone()));
            }
        }
        for worker in &runtime.workers {
            tried_for_a_while(|| worker.start(self.build_changed)).await?;
        }
        Ok(Cqrs { runtime, queues: Arc::new(queues), views: PhantomData })
    }
}

/// Runs `attempt`, and repeats it while a store does not answer.
async fn tried_for_a_while<F>(attempt: impl Fn() -> F) -> Result<(), Error>
where
    F: Future<Output = Result<(), Error>>,
{
    let mut patience = Patience::of(PATIENCE);
    loop {
        match attempt().await {
            Err(Error::Store(error)) if error.is_no_answer() => {
                tracing::warn!(%error, "a store does not answer while the service starts");
                patience.after(Err::<(), _>(error)).await?;
            }
            started => return started,
        }
    }
}

/// Collects the projections of the views that are to be started.
struct Starts<S> {
    views: Arc<S>,
    starts: Vec<(ProjectionId, Arc<dyn AnyProjection>)>,
}

impl<S: ViewStore> ViewVisitor for Starts<S> {
    fn view<V: View>(&mut self) {
        let projection = ViewProjection::<V, S>::new(Arc::clone(&self.views));
        self.starts.push((V::projection(), Arc::new(projection)));
    }
}

/// Checks the names of all parts of the service, and reports all problems at once.
fn check_names<'a, A: AggregateList, V: ViewList>(
    queues: &A::Queues,
    projections: impl Iterator<Item = &'a ProjectionId>,
) -> Result<(), Error> {
    let mut names = Names { seen: HashSet::new(), wrong: Vec::new() };
    A::visit(queues, &mut names);
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
    fn aggregate<A: Aggregate>(&mut self, _: &Arc<Queues<A>>) {
        self.check("aggregate", A::NAME);
        A::visit_commands(self);
        A::visit_internal_commands(self);
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
