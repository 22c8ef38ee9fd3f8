//! `trace`: the commands and events of a business transaction.

use std::io::Write;

use anyhow::{Context as _, Result, bail};
use cqrs_core::{Aggregate, AggregateKey, CorrelationId};
use jiff::Unit;
use order_service::{Order, OrderId, OrderService};

use crate::{IN_MEMORY, terminal::wrapped};

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
pub(crate) async fn run(service: &OrderService, of: Of, in_memory: bool, out: &mut impl Write) -> Result<()> {
    let transactions = match &of {
        Of::Transaction(id) => vec![*id],
        Of::Order(order) => {
            service.transactions_of(&AggregateKey::new(Order::NAME, order.to_string())?).await?
        }
    };
    let mut found = false;
    for id in transactions {
        let mut trace = service.trace(id).await?;
        for command in &mut trace.commands {
            // Less precise times, which leave room for long ids.
            command.time = command.time.round(Unit::Millisecond)?;
        }
        if !trace.commands.is_empty() {
            found = true;
            writeln!(out, "transaction {id}")?;
            for line in trace.to_string().lines() {
                let indent = line.len() - line.trim_start().len();
                writeln!(out, "{}", wrapped(line, indent + 4))?;
            }
            writeln!(out)?;
        }
    }
    let why = if in_memory { format!(": {IN_MEMORY}") } else { String::new() };
    match of {
        _ if found => Ok(()),
        Of::Transaction(id) => bail!("nothing in the log belongs to transaction {id}{why}"),
        Of::Order(order) => bail!("there is no order {order}{why}"),
    }
}
