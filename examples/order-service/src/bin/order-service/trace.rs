//! `trace`: the commands and events of a business transaction.

use std::io::Write;

use anyhow::{Context as _, Result, bail};
use cqrs_core::{Aggregate, AggregateKey, CorrelationId};
use order_service::{Order, OrderId, OrderService};

/// The subject of the trace.
pub(crate) enum Of {
    Transaction(CorrelationId),
    Order(OrderId),
}

impl Of {
    pub(crate) fn parse(id: &str) -> Result<Self> {
        if let Ok(transaction) = id.parse() {
            return Ok(Self::Transaction(transaction));
        }
        let order = id.parse().with_context(|| format!("{id:?} is neither an order nor a transaction"))?;
        Ok(Self::Order(order))
    }
}

/// Prints each business transaction as a tree.
pub(crate) async fn run(service: &OrderService, of: Of, out: &mut impl Write) -> Result<()> {
    let transactions = match &of {
        Of::Transaction(id) => vec![*id],
        Of::Order(order) => {
            service.transactions_of(&AggregateKey::new(Order::NAME, order.to_string())?).await?
        }
    };
    let mut found = false;
    for id in transactions {
        let trace = service.trace(id).await?;
        if !trace.commands.is_empty() {
            found = true;
            writeln!(out, "transaction {id}\n{trace}")?;
        }
    }
    match of {
        _ if found => Ok(()),
        Of::Transaction(id) => bail!("nothing in the log belongs to transaction {id}"),
        Of::Order(order) => bail!("there is no order {order}"),
    }
}
