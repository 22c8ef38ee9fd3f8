//! disintegrate on Postgres: every command reads all events of its order, and serializable transactions check it.

use anyhow::{Result, bail};
use disintegrate::{Decision, Event, NoSnapshot, StateMutate, StateQuery, serde::json::Json};
use disintegrate_postgres::{PgDecisionMaker, PgEventStore, decision_maker};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;
use std::sync::Arc;
use uuid::Uuid;

use crate::{
    order::{Happened, Order, Refused, Wanted},
    peer::{CONNECTIONS, Peer},
};

/// Its ids become columns unchanged, so that none may have the name of an SQL keyword.
#[derive(Debug, Clone, PartialEq, Eq, Event, Serialize, Deserialize)]
#[stream(OrderEvent, [Created, Paid])]
enum DomainEvent {
    Created {
        #[id]
        order_id: String,
        customer: String,
        address: String,
        total: u64,
    },
    Paid {
        #[id]
        order_id: String,
        amount: u64,
        reference: String,
        note: String,
    },
}

#[derive(Debug, Default, Clone, StateQuery, Serialize, Deserialize)]
#[state_query(OrderEvent)]
struct OrderState {
    #[id]
    order_id: String,
    state: Order,
}

impl StateMutate for OrderState {
    fn mutate(&mut self, event: Self::Event) {
        self.state.happened(&match event {
            OrderEvent::Created { customer, address, total, .. } => {
                Happened::Created { customer, address, total }
            }
            OrderEvent::Paid { amount, reference, note, .. } => Happened::Paid { amount, reference, note },
        });
    }
}

struct Command {
    order_id: String,
    wanted: Wanted,
}

impl Decision for Command {
    type Event = DomainEvent;
    type StateQuery = OrderState;
    type Error = Refused;

    fn state_query(&self) -> OrderState {
        OrderState { order_id: self.order_id.clone(), state: Order::default() }
    }

    fn process(&self, state: &OrderState) -> Result<Vec<DomainEvent>, Refused> {
        let order_id = self.order_id.clone();
        Ok(vec![match state.state.decide(self.wanted)? {
            Happened::Created { customer, address, total } => {
                DomainEvent::Created { order_id, customer, address, total }
            }
            Happened::Paid { amount, reference, note } => {
                DomainEvent::Paid { order_id, amount, reference, note }
            }
        }])
    }
}

/// How often a command is tried.
const TRIES: u32 = 1_000;

#[derive(Clone)]
pub struct Disintegrate(Arc<PgDecisionMaker<DomainEvent, Json<DomainEvent>, NoSnapshot>>);

impl Peer for Disintegrate {
    type Held = String;

    async fn open(url: &str) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(url).await?;
        let store = PgEventStore::try_new(pool, Json::<DomainEvent>::default()).await?;
        Ok(Self(Arc::new(decision_maker(store, NoSnapshot))))
    }

    async fn hold(&self, order: Uuid) -> Result<String> {
        Ok(order.to_string())
    }

    async fn carry_out(&self, order: &mut String, wanted: Wanted) -> Result<bool> {
        // It leaves retries to its user. A read ends before the oldest append in progress of any writer, so that a
        // command may not see the one before it on the same order; and other orders make serializable transactions fail
        // as well.
        for _ in 0..TRIES {
            match self.0.make(Command { order_id: order.clone(), wanted }).await {
                Ok(_) => return Ok(true),
                Err(disintegrate::DecisionError::Domain(Refused::Missing)) => {}
                Err(disintegrate::DecisionError::Domain(_)) => return Ok(false),
                Err(error) if is_concurrency(&error) => {}
                Err(error) => return Err(anyhow::anyhow!("{error:?}")),
            }
        }
        bail!("{TRIES} conflicts in a row")
    }
}

fn is_concurrency<E: std::fmt::Debug>(error: &disintegrate::DecisionError<E>) -> bool {
    format!("{error:?}").contains("Concurrency") || format!("{error:?}").contains("40001")
}
