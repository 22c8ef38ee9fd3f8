//! Starts a service: checks the names, makes the projections, starts the workers.

use std::{
    any::TypeId,
    collections::{HashMap, HashSet},
    marker::PhantomData,
    sync::Arc,
    time::Duration,
};

use crate::{
    base::{
        error::Error,
        id::{ProjectionId, is_name},
        outage::Outages,
        patience::Patience,
    },
    effects::{carrier::Carrier, timer},
    model::{
        aggregate::{Aggregate, CommandVisitor, Handle},
        command::Command,
    },
    port::{event_store::EventStore, projection::AnyProjection},
    projector::{
        followed::Followed,
        stopping::Tasks,
        worker::{Shared, Worker},
    },
    service::{
        Cqrs,
        builder::{Builder, Parts, added_twice},
        lists::{AggregateList, AggregateVisitor, ViewList},
        routes::{CommandRoutes, Routed},
        runtime::Runtime,
    },
    write::{queue::Queues, resources::Shell},
};

/// How long a starting service retries while a store does not answer.
const PATIENCE: Duration = Duration::from_secs(15);

impl<A: AggregateList, V: ViewList> Builder<A, V> {
    /// Prepares the views' places and starts their projectors. If the place of one projection cannot be prepared, the
    /// others run: [`Cqrs::projectors`] says why its projector has halted or retries.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when a name is not legal or used twice, or an aggregate or a view is added twice; or the view
    /// store's when it does not return the builds of a projection. A store that does not answer is asked again for 15
    /// seconds.
    ///
    /// # Cancel safety
    ///
    /// Dropping it stops what was started.
    pub async fn start(self) -> Result<Cqrs<A, V>, Error> {
        let queues = A::queues(self.cached);
        let projections =
            self.projections.iter().map(|(id, _)| id).chain(self.later.iter().map(|(id, _)| id));
        check_names::<A>(&queues, projections, self.twice)?;
        let (events, views) = (self.events, self.views);
        let capabilities = events.capabilities();
        let outages = capabilities.outages;
        let deadlines = match (self.policy, capabilities.deadlines) {
            (Some(policy), None) => return Err(no_deadlines(policy, events.name())),
            (policy, deadlines) => deadlines.filter(|_| policy.is_some()),
        };
        // Without a place beside the log, what has effects shares the place of the views.
        let progress = capabilities.progress.unwrap_or_else(|| views.clone());
        let tasks = Tasks::new(self.stop_patience);
        let guard = tasks.token().clone().drop_guard();
        let (stopped, serving) = (tasks.token().clone(), outages.serve());
        tasks.spawn(async move {
            stopped.cancelled().await;
            drop(serving);
        });
        let carrier = Arc::new(Carrier::new(deadlines.clone(), Arc::clone(&self.clock)));
        let parts = Parts { progress: progress.clone(), carrier: Arc::clone(&carrier) };
        let mut projections = self.projections;
        projections.extend(self.later.into_iter().map(|(id, later)| (id, later(&parts))));
        let shared = Arc::new(Shared {
            clock: Arc::clone(&self.clock),
            tasks: tasks.clone(),
            outages: outages.clone(),
            projects: self.projects,
            patience: self.waiting,
        });
        let log = |id: &ProjectionId| match self.foreign.get(id.name) {
            Some(foreign) => Followed::foreign(foreign.clone(), events.name()),
            None => Followed::own(events.clone()),
        };
        let worker = |(id, projection): (ProjectionId, Arc<dyn AnyProjection>)| {
            let place = if projection.settings().has_effects { &progress } else { &views };
            Arc::new(Worker::new(&id, projection, log(&id), place.clone(), Arc::clone(&shared)))
        };
        let workers = projections.into_iter().map(worker).collect();
        let runtime = Arc::new(Runtime {
            shell: Arc::new(Shell::new(events.clone(), Arc::clone(&self.clock), self.limits)),
            interceptors: self.interceptors,
            patience: self.patience,
            waiting: self.waiting,
            workers,
            deadlines: deadlines.clone(),
            tasks: tasks.clone(),
            _stop_on_drop: guard,
        });
        let routes = CommandRoutes::all::<A>(&queues);
        carrier.set_dispatch(Routed { runtime: Arc::downgrade(&runtime), routes });
        if let Some(deadlines) = deadlines {
            tried_for_a_while(&outages, || async { Ok(deadlines.prepare().await?) }).await?;
            if self.projects {
                let (stop, part) = (tasks.token().clone(), outages.part("the deadlines"));
                tasks.spawn(timer::run(deadlines, carrier, self.clock, part, stop));
            }
        }
        for worker in &runtime.workers {
            tried_for_a_while(&outages, || worker.start(self.build_changed)).await?;
        }
        Ok(Cqrs { runtime, queues: Arc::new(queues), views: PhantomData })
    }
}

/// Runs `attempt`, and repeats it while a store does not answer.
async fn tried_for_a_while<F>(outages: &Outages, attempt: impl Fn() -> F) -> Result<(), Error>
where
    F: Future<Output = Result<(), Error>>,
{
    let (mut patience, part) = (Patience::of(PATIENCE), outages.part("the start of the service"));
    loop {
        match attempt().await {
            Err(Error::Store(error)) if error.is_no_answer() => {
                part.failed(&error);
                patience.after(Err::<(), _>(error)).await?;
            }
            started => {
                part.works();
                return started;
            }
        }
    }
}

/// The error for a policy whose service's event store keeps no deadlines.
fn no_deadlines(policy: &str, log: &str) -> Error {
    Error::Config(format!(
        "policy {policy:?} needs deadlines, and the event store of {log} keeps none: keep the events in memory, on NATS \
         or in SQLite, or add deadlines to `EventStore::capabilities` of their store"
    ))
}

/// Checks the names of all parts of the service, and reports all problems at once; `twice` are those about read models
/// that are added twice.
fn check_names<'a, A: AggregateList>(
    queues: &A::Queues,
    projections: impl Iterator<Item = &'a ProjectionId>,
    twice: Vec<String>,
) -> Result<(), Error> {
    let mut names = Names::default();
    A::visit(queues, &mut names);
    names.wrong.extend(twice);
    for id in projections {
        names.check("projection", id.name);
    }
    if names.wrong.is_empty() { Ok(()) } else { Err(Error::Config(names.wrong.join("; "))) }
}

#[derive(Default)]
struct Names {
    /// The types of the aggregates.
    added: HashSet<TypeId>,
    seen: HashSet<(&'static str, &'static str)>,
    /// The aggregate of each command.
    commands: HashMap<&'static str, &'static str>,
    wrong: Vec<String>,
}

impl Names {
    fn check(&mut self, kind: &'static str, name: &'static str) {
        self.check_form(kind, name);
        if !self.seen.insert((kind, name)) {
            self.wrong.push(format!("{kind} name {name:?} is used twice"));
        }
    }

    fn check_command(&mut self, aggregate: &'static str, name: &'static str) {
        self.check_form("command", name);
        if let Some(first) = self.commands.insert(name, aggregate) {
            let place = if first == aggregate {
                format!("aggregate {aggregate:?}")
            } else {
                format!("aggregates {first:?} and {aggregate:?}")
            };
            self.wrong.push(format!("command name {name:?} is used twice, in {place}"));
        }
    }

    fn check_form(&mut self, kind: &str, name: &str) {
        if !is_name(name) {
            self.wrong.push(format!("{kind} name {name:?} is not 1 to 64 characters of a-z, 0-9, _ and -"));
        }
    }
}

impl AggregateVisitor for Names {
    fn aggregate<A: Aggregate>(&mut self, _: &Arc<Queues<A>>) {
        if !self.added.insert(TypeId::of::<A>()) {
            self.wrong.push(added_twice::<A>(|name| format!("aggregate::<{name}>()")));
            return;
        }
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
            self.check_command(A::NAME, name);
        }
    }
}
