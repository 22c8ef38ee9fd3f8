//! Dispatch by name: for messages that come off a wire.

use std::{collections::HashMap, error::Error as StdError, sync::Arc};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Aggregate, Answer, Backend, BoxFuture, CausationId, Command, CommandError, CommandId, CommandVisitor,
    CorrelationId, Cqrs, Error, Handle, Metadata, Query, Receipt, codec,
    cqrs::Inner,
    dispatch::{Ask, Execute},
    entity::Entities,
    registry::{AggregateList, AggregateVisitor, HasView, ViewList},
};

/// Finds commands and queries by their names and JSON bodies, for transports.
///
/// ```
#[doc = include_str!("../examples/by_name.rs")]
/// ```
pub struct Router<B: Backend, A: AggregateList, V> {
    cqrs: Cqrs<B, A, V>,
    commands: CommandRoutes<B>,
    queries: HashMap<&'static str, QueryRoute<B>>,
}

type CommandRoute<B> = Box<
    dyn for<'a> Fn(&'a Arc<Inner<B>>, CommandMessage) -> BoxFuture<'a, Result<Receipt, RouteError>>
        + Send
        + Sync,
>;
type QueryRoute<B> = for<'a> fn(&'a Arc<Inner<B>>, &'a [u8]) -> BoxFuture<'a, Result<Bytes, RouteError>>;

/// A command as it comes off a wire.
#[derive(Debug, Clone, Default)]
pub struct CommandMessage {
    /// The command's id; a new one if there is none.
    pub id: Option<CommandId>,
    /// The business transaction; one of its own if there is none.
    pub correlation_id: Option<CorrelationId>,
    /// The message that caused it, if another message did.
    pub causation_id: Option<CausationId>,
    /// What travels with it.
    pub metadata: Metadata,
    /// The command's fields as JSON.
    pub body: Bytes,
}

/// Why a message off a wire got no receipt or answer.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// No command or query has that name.
    #[error("{name:?} is not known here, known are: {known}")]
    Unknown {
        /// The name.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// The body is not what the message's type wants.
    #[error("the body of {name} cannot be read: {reason}")]
    BadBody {
        /// The message's name.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The business said no: the rejection, or a lifecycle that does not fit.
    #[error(transparent)]
    Rejected(Box<dyn StdError + Send + Sync>),
    /// A technical failure.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl<B: Backend, A: AggregateList, V: ViewList> Router<B, A, V> {
    /// A router to the public commands of the aggregates of `cqrs`: those in the lists `commands(…)`. Internal commands,
    /// those in `internal(…)`, are unknown to it.
    pub fn new(cqrs: Cqrs<B, A, V>) -> Self {
        let commands = CommandRoutes::public::<A>(cqrs.entities());
        Self { cqrs, commands, queries: HashMap::new() }
    }

    /// Adds a query.
    pub fn query<Q, Place>(mut self) -> Self
    where
        Q: Query<Answer: Serialize> + DeserializeOwned,
        Q::View: Answer<Q>,
        V: HasView<Q::View, Place>,
    {
        self.queries.insert(Q::NAME, |inner, body| Box::pin(ask::<B, Q>(inner, body)));
        self
    }

    /// Carries out the command called `name`.
    ///
    /// # Errors
    ///
    /// [`RouteError`].
    ///
    /// # Cancel safety
    ///
    /// That of [`Cqrs::execute`].
    pub async fn execute(&self, name: &str, message: CommandMessage) -> Result<Receipt, RouteError> {
        self.commands.execute(self.cqrs.inner(), name, message).await
    }

    /// Answers the query called `name` with the fields `body`, as JSON.
    ///
    /// # Errors
    ///
    /// [`RouteError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn answer(&self, name: &str, body: &[u8]) -> Result<Bytes, RouteError> {
        let route = self.queries.get(name).ok_or_else(|| unknown(name, &self.queries))?;
        route(self.cqrs.inner(), body).await
    }
}

async fn execute<B: Backend, C: Command>(
    inner: &Arc<Inner<B>>,
    entities: &Arc<Entities<C::Aggregate>>,
    name: &'static str,
    message: CommandMessage,
) -> Result<Receipt, RouteError>
where
    C::Aggregate: Handle<C>,
{
    let command: C = codec::command_from_json(name, &message.body)
        .map_err(|error| RouteError::BadBody { name, reason: error.to_string() })?;
    let mut call = Execute::new(inner, entities, command).metadata(message.metadata);
    if let Some(id) = message.id {
        call = call.id(id);
    }
    if let Some(id) = message.correlation_id {
        call = call.correlation(id);
    }
    if let Some(id) = message.causation_id {
        call = call.caused_by(id);
    }
    call.await.map_err(|error| match error {
        CommandError::Failed(error) => RouteError::Failed(error),
        refusal => RouteError::Rejected(Box::new(refusal)),
    })
}

async fn ask<B: Backend, Q>(inner: &Arc<Inner<B>>, body: &[u8]) -> Result<Bytes, RouteError>
where
    Q: Query<Answer: Serialize> + DeserializeOwned,
    Q::View: Answer<Q>,
{
    let query: Q = codec::from_json(body)
        .map_err(|error| RouteError::BadBody { name: Q::NAME, reason: error.to_string() })?;
    let answer = Ask::new(inner, query).await?;
    let encode = |source| Error::Encode { what: format!("the answer to {}", Q::NAME), source };
    Ok(codec::to_json(&answer).map_err(encode)?)
}

fn unknown<T>(name: &str, known: &HashMap<&'static str, T>) -> RouteError {
    let mut names: Vec<_> = known.keys().copied().collect();
    names.sort_unstable();
    RouteError::Unknown { name: name.to_owned(), known: names.join(", ") }
}

/// The commands of a service by their names.
pub(crate) struct CommandRoutes<B: Backend> {
    commands: HashMap<&'static str, CommandRoute<B>>,
    /// Whether internal commands are among them.
    internal: bool,
}

impl<B: Backend> CommandRoutes<B> {
    /// Routes to the public commands of the aggregates.
    fn public<A: AggregateList>(entities: &A::Entities) -> Self {
        let mut routes = Self { commands: HashMap::new(), internal: false };
        A::visit(entities, &mut routes);
        routes
    }

    /// Routes to the public and the internal commands of the aggregates.
    pub(crate) fn all<A: AggregateList>(entities: &A::Entities) -> Self {
        let mut routes = Self { commands: HashMap::new(), internal: true };
        A::visit(entities, &mut routes);
        routes
    }

    pub(crate) fn knows(&self, name: &str) -> bool {
        self.commands.contains_key(name)
    }

    pub(crate) async fn execute(
        &self,
        inner: &Arc<Inner<B>>,
        name: &str,
        message: CommandMessage,
    ) -> Result<Receipt, RouteError> {
        let route = self.commands.get(name).ok_or_else(|| unknown(name, &self.commands))?;
        route(inner, message).await
    }
}

impl<B: Backend> AggregateVisitor for CommandRoutes<B> {
    fn aggregate<A: Aggregate>(&mut self, entities: &Arc<Entities<A>>) {
        let internal = self.internal;
        let mut routes = RoutesOf { routes: self, entities };
        A::visit_commands(&mut routes);
        if internal {
            A::visit_internal_commands(&mut routes);
        }
    }
}

/// The routes to the commands of one aggregate.
struct RoutesOf<'a, B: Backend, A: Aggregate> {
    routes: &'a mut CommandRoutes<B>,
    entities: &'a Arc<Entities<A>>,
}

impl<B: Backend, A: Aggregate> CommandVisitor<A> for RoutesOf<'_, B, A> {
    fn command<C>(&mut self)
    where
        C: Command<Aggregate = A>,
        A: Handle<C>,
    {
        for name in C::NAMES {
            let entities = Arc::clone(self.entities);
            let route: CommandRoute<B> = Box::new(move |inner, message| {
                let entities = Arc::clone(&entities);
                Box::pin(async move { execute::<B, C>(inner, &entities, name, message).await })
            });
            self.routes.commands.insert(name, route);
        }
    }
}
