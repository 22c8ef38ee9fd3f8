//! Commands by name: the routes of all aggregates, for policies and for messages.

use std::{
    collections::HashMap,
    future,
    sync::{Arc, Weak},
};

use crate::{
    base::{
        error::{CommandError, Error},
        future::BoxFuture,
        store_error::StoreError,
    },
    effects::carrier::Dispatch,
    log::commit::Receipt,
    model::{
        aggregate::{Aggregate, CommandVisitor, Handle},
        by_name::{CommandMessage, RouteError},
        command::{self, Command},
    },
    service::{
        execute::Execute,
        lists::{AggregateList, AggregateVisitor},
        runtime::Runtime,
    },
    write::queue::Queues,
};

/// The routes to a service's commands. They do not keep the service alive.
pub(crate) struct Routed {
    pub(crate) runtime: Weak<Runtime>,
    pub(crate) routes: CommandRoutes,
}

impl Dispatch for Routed {
    fn knows(&self, aggregate: &str, command: &str) -> bool {
        self.routes.of(aggregate, command).is_some()
    }

    fn dispatch<'a>(
        &'a self,
        aggregate: &'a str,
        command: &'a str,
        message: CommandMessage,
    ) -> BoxFuture<'a, Result<Receipt, RouteError>> {
        Box::pin(async move {
            let Some(runtime) = self.runtime.upgrade() else {
                let what = "the service has ended".to_owned();
                return Err(Error::from(StoreError::Unavailable { what, source: None }).into());
            };
            let route = self.routes.of(aggregate, command).ok_or_else(|| self.routes.unknown(command))?;
            (route.execute)(&runtime, message).await
        })
    }
}

/// The way to one command. A sender that names the aggregate, too, may mean another aggregate of another program, whose
/// command has the same name.
struct CommandRoute {
    aggregate: &'static str,
    execute: ExecuteByName,
}

type ExecuteByName = Box<
    dyn Fn(&Arc<Runtime>, CommandMessage) -> BoxFuture<'static, Result<Receipt, RouteError>> + Send + Sync,
>;

/// The aggregate's type is no parameter: for `C::Aggregate`, and not for a type that is equal to it, the bounds of
/// [`Command::Aggregate`] are known here.
fn execute<C: Command>(
    runtime: &Arc<Runtime>,
    queues: &Arc<Queues<C::Aggregate>>,
    name: &'static str,
    message: CommandMessage,
) -> BoxFuture<'static, Result<Receipt, RouteError>>
where
    C::Aggregate: Handle<C>,
{
    let command: C = match command::from_json(name, &message.body) {
        Ok(command) => command,
        Err(error) => {
            let reason = error.to_string();
            return Box::pin(future::ready(Err(RouteError::BadBody { name, reason })));
        }
    };
    let mut call = Execute::new(runtime, queues, command).metadata(message.metadata);
    if let Some(id) = message.id {
        call = call.id(id);
    }
    if let Some(id) = message.correlation_id {
        call = call.correlation(id);
    }
    if let Some(id) = message.causation_id {
        call = call.caused_by(id);
    }
    if let Some(version) = message.expecting {
        call = call.expecting(version);
    }
    let call = call.begun();
    Box::pin(async move {
        call.await.map_err(|error| match error {
            CommandError::Failed(error) => RouteError::Failed(error),
            refusal => RouteError::Rejected(Box::new(refusal)),
        })
    })
}

pub(crate) fn unknown<T>(name: &str, known: &HashMap<&'static str, T>) -> RouteError {
    let mut names: Vec<_> = known.keys().copied().collect();
    names.sort_unstable();
    RouteError::Unknown { name: name.to_owned(), known: names.join(", ") }
}

/// The commands of a service by their names.
pub(crate) struct CommandRoutes {
    commands: HashMap<&'static str, CommandRoute>,
    /// Whether internal commands are among them.
    internal: bool,
}

impl CommandRoutes {
    /// Routes to the public commands of the aggregates.
    pub(crate) fn public<A: AggregateList>(queues: &A::Queues) -> Self {
        let mut routes = Self { commands: HashMap::new(), internal: false };
        A::visit(queues, &mut routes);
        routes
    }

    /// Routes to the public and the internal commands of the aggregates.
    pub(crate) fn all<A: AggregateList>(queues: &A::Queues) -> Self {
        let mut routes = Self { commands: HashMap::new(), internal: true };
        A::visit(queues, &mut routes);
        routes
    }

    /// The route to a command of this aggregate.
    fn of(&self, aggregate: &str, name: &str) -> Option<&CommandRoute> {
        self.commands.get(name).filter(|route| route.aggregate == aggregate)
    }

    fn unknown(&self, name: &str) -> RouteError {
        unknown(name, &self.commands)
    }

    pub(crate) async fn execute(
        &self,
        runtime: &Arc<Runtime>,
        name: &str,
        message: CommandMessage,
    ) -> Result<Receipt, RouteError> {
        let route = self.commands.get(name).ok_or_else(|| self.unknown(name))?;
        (route.execute)(runtime, message).await
    }
}

impl AggregateVisitor for CommandRoutes {
    fn aggregate<A: Aggregate>(&mut self, queues: &Arc<Queues<A>>) {
        let internal = self.internal;
        let mut routes = RoutesOf { routes: self, queues };
        A::visit_commands(&mut routes);
        if internal {
            A::visit_internal_commands(&mut routes);
        }
    }
}

/// The routes to the commands of one aggregate.
struct RoutesOf<'a, A: Aggregate> {
    routes: &'a mut CommandRoutes,
    queues: &'a Arc<Queues<A>>,
}

impl<A: Aggregate> CommandVisitor<A> for RoutesOf<'_, A> {
    fn command<C>(&mut self)
    where
        C: Command<Aggregate = A>,
        A: Handle<C>,
    {
        for name in C::NAMES {
            let queues = Arc::clone(self.queues);
            let execute: ExecuteByName =
                Box::new(move |runtime, message| execute::<C>(runtime, &queues, name, message));
            self.routes.commands.insert(name, CommandRoute { aggregate: A::NAME, execute });
        }
    }
}
