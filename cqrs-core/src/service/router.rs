//! Dispatch by name, for messages.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    base::{error::Error, future::BoxFuture},
    encoding::json,
    log::commit::Receipt,
    model::by_name::{CommandMessage, RouteError},
    read::query::{Answer, Query},
    service::{
        Cqrs,
        ask::Ask,
        lists::{AggregateList, HasView, ViewList},
        routes::{CommandRoutes, unknown},
        runtime::Runtime,
    },
};

/// Finds commands and queries by their names and JSON bodies, for transports.
///
/// ```
#[doc = include_str!("../../examples/by_name.rs")]
/// ```
pub struct Router<A: AggregateList, V: ViewList> {
    cqrs: Cqrs<A, V>,
    commands: CommandRoutes,
    queries: HashMap<&'static str, QueryRoute>,
}
type QueryRoute = for<'a> fn(&'a Arc<Runtime>, &'a [u8]) -> BoxFuture<'a, Result<Bytes, RouteError>>;

impl<A: AggregateList, V: ViewList> Router<A, V> {
    /// A router to the public commands of the aggregates of `cqrs`: those in the lists `commands(…)`. It does not know
    /// internal commands, which are in `internal(…)`.
    pub fn new(cqrs: Cqrs<A, V>) -> Self {
        let commands = CommandRoutes::public::<A>(cqrs.queues());
        Self { cqrs, commands, queries: HashMap::new() }
    }

    /// Adds a query.
    pub fn query<Q, Index>(mut self) -> Self
    where
        Q: Query<Answer: Serialize> + DeserializeOwned,
        Q::View: Answer<Q>,
        V: HasView<Q::View, Index>,
    {
        self.queries.insert(Q::NAME, |runtime, body| Box::pin(ask::<Q>(runtime, body)));
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
        self.commands.execute(self.cqrs.runtime(), name, message).await
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
        route(self.cqrs.runtime(), body).await
    }
}

async fn ask<Q>(runtime: &Arc<Runtime>, body: &[u8]) -> Result<Bytes, RouteError>
where
    Q: Query<Answer: Serialize> + DeserializeOwned,
    Q::View: Answer<Q>,
{
    let query: Q = json::decode(body)
        .map_err(|error| RouteError::BadBody { name: Q::NAME, reason: error.to_string() })?;
    let answer = Ask::new(runtime, query).await?;
    let encode = |source| Error::Encode { what: format!("the answer to {}", Q::NAME), source };
    Ok(json::encode(&answer).map_err(encode)?)
}
