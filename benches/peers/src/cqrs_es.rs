//! cqrs-es on postgres-es: every command reads all events of its order.

use anyhow::Result;
use cqrs_es::{Aggregate, AggregateError, DomainEvent, event_sink::EventSink};
use postgres_es::{PostgresCqrs, postgres_cqrs};
use sqlx::postgres::PgPoolOptions;
use std::sync::Arc;
use uuid::Uuid;

use crate::{
    order::{Happened, Order, Refused, Wanted},
    peer::{CONNECTIONS, Peer},
};

/// The table as the crate's own `db/init.sql` makes it.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS events (
    aggregate_type text NOT NULL,
    aggregate_id text NOT NULL,
    sequence bigint CHECK (sequence >= 0) NOT NULL,
    event_type text NOT NULL,
    event_version text NOT NULL,
    payload json NOT NULL,
    metadata json NOT NULL,
    PRIMARY KEY (aggregate_type, aggregate_id, sequence)
)";

impl DomainEvent for Happened {
    fn event_type(&self) -> String {
        match self {
            Self::Created { .. } => "Created".to_owned(),
            Self::Paid { .. } => "Paid".to_owned(),
        }
    }

    fn event_version(&self) -> String {
        "1.0".to_owned()
    }
}

impl Aggregate for Order {
    const TYPE: &'static str = "order";
    type Command = Wanted;
    type Event = Happened;
    type Error = Refused;
    type Services = ();

    async fn handle(&mut self, wanted: Wanted, (): &(), sink: &EventSink<Self>) -> Result<(), Refused> {
        let event = self.decide(wanted)?;
        sink.write(event, self).await;
        Ok(())
    }

    fn apply(&mut self, event: Happened) {
        self.happened(&event);
    }
}

#[derive(Clone)]
pub struct CqrsEs(Arc<PostgresCqrs<Order>>);

impl Peer for CqrsEs {
    type Held = String;

    async fn open(url: &str) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(url).await?;
        sqlx::raw_sql(TABLE).execute(&pool).await?;
        Ok(Self(Arc::new(postgres_cqrs(pool, vec![], ()))))
    }

    async fn hold(&self, order: Uuid) -> Result<String> {
        Ok(order.to_string())
    }

    async fn carry_out(&self, order: &mut String, wanted: Wanted) -> Result<bool> {
        match self.0.execute(order, wanted).await {
            Ok(()) => Ok(true),
            Err(AggregateError::UserError(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
