//! eventcore on Postgres: every command reads all events of its order, and advisory locks order the writers.

use anyhow::Result;
use eventcore::{
    CommandError, CommandLogic, CommandStreams, Event, NewEvents, RetryPolicy, StreamDeclarations, StreamId,
    execute,
};
use eventcore_postgres::{MaxConnections, PostgresConfig, PostgresEventStore};
use serde::{Deserialize, Serialize};
use std::{num::NonZeroU32, sync::Arc};
use uuid::Uuid;

use crate::{
    order::{Happened, Order, Wanted},
    peer::{CONNECTIONS, Peer},
};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct OrderEvent {
    order: StreamId,
    happened: Happened,
}

impl Event for OrderEvent {
    fn stream_id(&self) -> &StreamId {
        &self.order
    }

    fn event_type_name() -> &'static str {
        "OrderEvent"
    }
}

struct Command {
    order: StreamId,
    wanted: Wanted,
}

impl CommandStreams for Command {
    fn stream_declarations(&self) -> StreamDeclarations {
        StreamDeclarations::try_from_streams(vec![self.order.clone()]).expect("one stream")
    }
}

impl CommandLogic for Command {
    type Event = OrderEvent;
    type State = Order;

    fn apply(&self, mut state: Order, event: &OrderEvent) -> Order {
        state.happened(&event.happened);
        state
    }

    fn handle(&self, state: Order) -> Result<NewEvents<OrderEvent>, CommandError> {
        let happened = state
            .decide(self.wanted)
            .map_err(|refused| CommandError::BusinessRuleViolation(refused.into()))?;
        Ok(vec![OrderEvent { order: self.order.clone(), happened }].into())
    }
}

#[derive(Clone)]
pub struct Eventcore(Arc<PostgresEventStore>);

impl Peer for Eventcore {
    type Held = StreamId;

    async fn open(url: &str) -> Result<Self> {
        let connections = NonZeroU32::new(CONNECTIONS).expect("more than none");
        let config =
            PostgresConfig { max_connections: MaxConnections::new(connections), ..PostgresConfig::default() };
        let store = PostgresEventStore::with_config(url, config).await?;
        store.migrate().await;
        Ok(Self(Arc::new(store)))
    }

    async fn hold(&self, order: Uuid) -> Result<StreamId> {
        Ok(StreamId::try_new(order.to_string())?)
    }

    async fn carry_out(&self, order: &mut StreamId, wanted: Wanted) -> Result<bool> {
        match execute(&*self.0, Command { order: order.clone(), wanted }, RetryPolicy::new()).await {
            Ok(_) => Ok(true),
            Err(CommandError::BusinessRuleViolation(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
