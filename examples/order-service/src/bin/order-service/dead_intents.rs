//! `dead-intents`: the commands and deadlines that the fulfilment could not send.

use std::io::Write;

use anyhow::{Result, bail};
use cqrs_core::{Policy as _, operate::DeadIntent};
use order_service::{Fulfilment, OrderId, OrderService};
use serde::Serialize;
use serde_json::Value;

use crate::{
    cli::{Format, IntentsAction},
    terminal::{argument, counted, wrapped},
};

/// A dead intent, with the fields of its command if these are asked for.
#[derive(Debug, Serialize)]
struct Row<'a> {
    order: &'a str,
    what: &'a str,
    reason: &'a str,
    behind: bool,
    attempts: u32,
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<Value>,
}

impl<'a> Row<'a> {
    fn new(intent: &'a DeadIntent, with_command: bool) -> Self {
        let DeadIntent { key, what, reason, behind, attempts, time, command, .. } = intent;
        let body = command.as_ref().filter(|_| with_command);
        // What is not JSON is shown as text.
        let body =
            body.map(|one| serde_json::from_str(&one.body).unwrap_or_else(|_| one.body.clone().into()));
        let time = time.map(|time| time.to_string());
        Self { order: key, what, reason, behind: *behind, attempts: *attempts, time, command: body }
    }
}

/// Lists, shows or changes dead intents.
pub(crate) async fn run(
    service: &OrderService,
    action: Option<IntentsAction>,
    out: &mut impl Write,
) -> Result<()> {
    let intents = service.dead_intents(Fulfilment::NAME).await?;
    let all = intents.list().await?;
    let of = |order: &OrderId| {
        let found: Vec<_> = all.iter().filter(|intent| intent.key == order.as_str()).collect();
        if found.is_empty() {
            bail!("order {order} has no dead intent: order-service dead-intents lists all");
        }
        Ok(found)
    };
    match action.unwrap_or(IntentsAction::List { format: Format::Text }) {
        IntentsAction::List { format: Format::Text } => list(&all, out),
        IntentsAction::List { format: Format::Json } => json(&all.iter().collect::<Vec<_>>(), false, out),
        IntentsAction::Show { order, format: Format::Text } => show(&of(&order)?, out),
        IntentsAction::Show { order, format: Format::Json } => json(&of(&order)?, true, out),
        IntentsAction::Retry { order } => {
            of(&order)?;
            let retried = intents.retry(order.as_str()).await?;
            let sent = counted(retried.carried_out, "dead intent");
            if let Some(intent) = retried.stopped_at {
                bail!(
                    "{}; carried out before it: {sent}; repair the cause and retry, or edit or drop it",
                    in_words(&intent)
                );
            }
            let waiting = match retried.waiting {
                0 => String::new(),
                waiting => format!("; still waiting: {waiting}, which order-service serve tries again"),
            };
            let line = format!("Carried out for order {order}: {sent}{waiting}.");
            Ok(writeln!(out, "{}", wrapped(&line, 2))?)
        }
        IntentsAction::Edit { order, fields } => {
            let first = of(&order)?[0];
            let Some(edited) = intents.edit(&first.place, &fields).await? else {
                bail!("{}, which has no fields to edit", in_words(first));
            };
            writeln!(out, "{}", wrapped(&format!("Edited: {}.", edited.what), 2))?;
            let order = argument(order);
            writeln!(out, "To send it, and what is behind it:\n  order-service dead-intents retry {order}")?;
            Ok(())
        }
        IntentsAction::Drop { order } => {
            let left = of(&order)?.len() - 1;
            let Some(dropped) = intents.drop_first(order.as_str()).await? else {
                bail!("order {order} has no dead intent any more");
            };
            writeln!(out, "{}", wrapped(&format!("Dropped: {}.", dropped.what), 2))?;
            if left > 0 {
                let left = counted(left, "dead intent");
                let order = argument(order);
                writeln!(
                    out,
                    "Left behind it: {left}. To send what is left:\n  order-service dead-intents retry {order}"
                )?;
            }
            Ok(())
        }
    }
}

fn list(all: &[DeadIntent], out: &mut impl Write) -> Result<()> {
    for intent in all {
        writeln!(out, "{}", wrapped(&in_words(intent), 2))?;
    }
    match all.first() {
        None => writeln!(out, "There are no dead intents.")?,
        Some(first) => writeln!(
            out,
            "\nFor the first one, and likewise for the others, once the cause is gone:\n{}",
            what_to_do(&first.key)
        )?,
    }
    Ok(())
}

fn show(found: &[&DeadIntent], out: &mut impl Write) -> Result<()> {
    for intent in found {
        writeln!(out, "{}", wrapped(&in_words(intent), 2))?;
        if let Some(time) = intent.time {
            let attempts = counted(intent.attempts as usize, "vain attempt");
            writeln!(out, "  set aside or tried last at {time:.0}, {attempts}")?;
        }
        if let Some(body) = Row::new(intent, true).command {
            writeln!(out, "  {}", serde_json::to_string_pretty(&body)?.replace('\n', "\n  "))?;
        }
    }
    Ok(())
}

fn json(found: &[&DeadIntent], with_command: bool, out: &mut impl Write) -> Result<()> {
    let rows: Vec<_> = found.iter().map(|intent| Row::new(intent, with_command)).collect();
    Ok(writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?)
}

/// What the fulfilment could not send, and why.
pub(crate) fn in_words(intent: &DeadIntent) -> String {
    let DeadIntent { key, what, reason, .. } = intent;
    // The reason of a failure begins with the intent; that of an intent behind another one does not.
    let why = if reason.starts_with(what) { reason.clone() } else { format!("{what}: {reason}") };
    format!("the fulfilment of order {key} could not send {why}")
}

/// The commands to see and to retry the dead intents of an order.
pub(crate) fn what_to_do(order: &str) -> String {
    let order = argument(order);
    format!(
        "  see it:   order-service dead-intents show {order}\n  retry it: order-service dead-intents retry {order}"
    )
}
