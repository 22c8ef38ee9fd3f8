//! The stage of the scenario: it carries commands out, and prints what has happened in the order of the log.
//!
//! The stage and the fulfilment send commands at the same time, and each view has a projector of its own. So a line is
//! printed only after what it says was seen, and what others may still change is not printed at all.

use std::{collections::HashMap, io::Write, time::Duration};

use anstyle::{AnsiColor, Style};
use anyhow::{Context as _, Result};
use cqrs_core::{
    Aggregate as _, AggregateKey, Clock as _, CommandError, CommandId, CorrelationId, Receipt, View as _,
    lists::SentTo,
    operate::{Trace, TracedCommand, TracedEvent},
    port::SystemClock,
};
use order_service::{
    Aggregates, Order, OrderService, Stock,
    views::{
        GetHistory, GetOrder, GetStock, GetTotals, OrderBy, OrderSummary, StockLevel, TopCountries,
        TopCustomers,
    },
};

use crate::{
    tables::{SALES, Table, sales},
    terminal::wrapped,
};

const TITLE: Style = Style::new().bold();
const COMMAND: Style = AnsiColor::Cyan.on_default().bold();
const EVENT: Style = AnsiColor::Green.on_default();
const REFUSED: Style = AnsiColor::Red.on_default();
const VIEW: Style = AnsiColor::Blue.on_default();

/// How long the scenario waits for a step of the process.
const PATIENCE: Duration = Duration::from_secs(30);

/// How far the words of an event or a view are indented.
const WORDS: usize = 13;

/// Carries out the commands of the scenario, and shows their events and the view that changed.
pub(crate) struct Stage<'a, W> {
    service: &'a OrderService,
    out: &'a mut W,
    /// The version of each aggregate up to which its events have been shown.
    shown: HashMap<AggregateKey, u64>,
}

/// A command of the log with the events that are shown now, each with its description.
type Step = (TracedCommand, Vec<(TracedEvent, String)>);

impl<'a, W: Write> Stage<'a, W> {
    pub(crate) fn new(service: &'a OrderService, out: &'a mut W) -> Self {
        Self { service, out, shown: HashMap::new() }
    }

    pub(crate) fn title(&mut self, text: &str) -> Result<()> {
        self.line(&format!("{TITLE}{text}{TITLE:#}"))
    }

    /// Carries out a command for an aggregate that nobody else changes, and shows its events and the aggregate's view.
    pub(crate) async fn act<C: SentTo<Aggregates, I>, I>(&mut self, what: &str, command: C) -> Result<()> {
        self.act_as(what, command, CommandId::new()).await
    }

    /// [`act`](Self::act) under this id, under which the command takes effect once.
    pub(crate) async fn act_as<C: SentTo<Aggregates, I>, I>(
        &mut self,
        what: &str,
        command: C,
        id: CommandId,
    ) -> Result<()> {
        if let Some(receipt) = self.send(what, command, id).await? {
            self.service.seen(view_of(&receipt.aggregate), &receipt).await?;
            let view = self.view(&receipt.aggregate).await?;
            self.line(&view)?;
        }
        self.line("")
    }

    /// Carries out a command that the fulfilment goes on with, and shows its events. The view is not shown: it may be
    /// further already. Returns the business transaction.
    pub(crate) async fn begin<C: SentTo<Aggregates, I>, I>(
        &mut self,
        what: &str,
        command: C,
    ) -> Result<CorrelationId> {
        let id = CommandId(SystemClock.new_id());
        self.send(what, command, id).await?;
        self.line("")?;
        Ok(id.into())
    }

    /// Sends a command and shows its events; returns its receipt, unless it is refused.
    async fn send<C: SentTo<Aggregates, I>, I>(
        &mut self,
        what: &str,
        command: C,
        id: CommandId,
    ) -> Result<Option<Receipt>> {
        let name = command.name();
        self.line(&format!("  {COMMAND}{name}{COMMAND:#} {}: {what}", command.aggregate_id()))?;
        let receipt = match self.service.execute(command).id(id).await {
            Ok(receipt) => receipt,
            Err(CommandError::Failed(error)) => return Err(error.into()),
            Err(refusal) => {
                self.line(&format!("    {REFUSED}refused{REFUSED:#}  {refusal}"))?;
                return Ok(None);
            }
        };
        if receipt.repeat {
            self.line("    repeat   nothing happens, and the answer is the first receipt")?;
            return Ok(Some(receipt));
        }
        let query = GetHistory { of: receipt.aggregate.to_string() };
        let history = self.service.query(query).after(&receipt).await?.unwrap_or_default();
        let first = (receipt.version + 1).saturating_sub(receipt.events as u64);
        for entry in history.entries.iter().filter(|entry| (first..=receipt.version).contains(&entry.version))
        {
            self.event(entry.version, &entry.event, &entry.words)?;
        }
        self.shown.insert(receipt.aggregate.clone(), receipt.version);
        Ok(Some(receipt))
    }

    /// Waits until a business transaction has led to this event, and shows the commands of the fulfilment and their
    /// events up to it, in the order of the log.
    pub(crate) async fn watch(
        &mut self,
        transaction: CorrelationId,
        aggregate: &AggregateKey,
        event_type: &str,
    ) -> Result<()> {
        let found = eventually(async || {
            // The view is asked first, since a trace reads the log.
            let query = GetHistory { of: aggregate.to_string() };
            let history = self.service.query(query).await?.unwrap_or_default();
            let shown = self.shown.get(aggregate).copied().unwrap_or_default();
            if !history.entries.iter().any(|entry| entry.version > shown && entry.event == event_type) {
                return Ok(None);
            }
            let trace = self.service.trace(transaction).await?;
            match up_to(trace, aggregate, event_type) {
                Some(commands) => self.described(commands).await,
                None => Ok(None),
            }
        });
        for (command, events) in found.await? {
            let (name, id) = (&command.name, command.aggregate.id());
            self.line(&format!("  {COMMAND}{name}{COMMAND:#} {id}: sent by the fulfilment"))?;
            for (event, words) in events {
                self.event(event.version, &event.event_type, &words)?;
                self.shown.insert(command.aggregate.clone(), event.version);
            }
        }
        Ok(())
    }

    /// The commands with events that have not been shown, and a description of each; `None` until the view has them.
    async fn described(&self, commands: Vec<TracedCommand>) -> Result<Option<Vec<Step>>> {
        let mut steps = Vec::new();
        for command in commands {
            let shown = self.shown.get(&command.aggregate).copied().unwrap_or_default();
            let new: Vec<_> = command.events.iter().filter(|event| event.version > shown).cloned().collect();
            if new.is_empty() {
                continue;
            }
            let query = GetHistory { of: command.aggregate.to_string() };
            let history = self.service.query(query).await?.unwrap_or_default();
            let words = |event: TracedEvent| {
                let entry = history.entries.iter().find(|entry| entry.version == event.version)?;
                Some((event, entry.words.clone()))
            };
            let Some(described) = new.into_iter().map(words).collect() else { return Ok(None) };
            steps.push((command, described));
        }
        Ok(Some(steps))
    }

    /// Shows the views of aggregates that nobody changes any more.
    pub(crate) async fn show(&mut self, aggregates: &[AggregateKey]) -> Result<()> {
        self.service.caught_up().await?;
        for aggregate in aggregates {
            let view = self.view(aggregate).await?;
            self.line(&view)?;
        }
        self.line("")
    }

    fn event(&mut self, version: u64, event_type: &str, words: &str) -> Result<()> {
        self.line(&format!("    event {version}  {EVENT}{event_type}{EVENT:#}: {words}"))
    }

    fn line(&mut self, text: &str) -> Result<()> {
        writeln!(self.out, "{}", wrapped(text, WORDS))?;
        Ok(())
    }

    /// The content of an aggregate's view as a line.
    async fn view(&self, aggregate: &AggregateKey) -> Result<String> {
        let view = view_of(aggregate);
        let words = if view == OrderSummary::NAME {
            let order = self.service.query(GetOrder { order: aggregate.id_of::<Order>()? }).await?;
            let order = order.unwrap_or_default();
            let net = order.sale.map(|sale| sale.net).unwrap_or_default();
            format!("{}, {net} net", order.status)
        } else {
            let stock = self.service.query(GetStock { product: aggregate.id_of::<Stock>()? }).await?;
            let stock = stock.unwrap_or_default();
            format!("{} on the shelf, {} available", stock.on_hand, stock.available())
        };
        Ok(format!("    view     {VIEW}{view}{VIEW:#}: {words}"))
    }

    /// Shows the figures of the views about all sales.
    pub(crate) async fn show_sales(&mut self) -> Result<()> {
        self.title("What the views say about sales")?;
        self.service.caught_up().await?;
        let totals = self.service.query(GetTotals).await?;
        let mut countries = Table::new(&["country"], SALES);
        for row in self.service.query(TopCountries { by: OrderBy::Net, limit: None }).await? {
            countries.row(&[&row.country], &sales(&row.sales));
        }
        let mut customers = Table::new(&["customer"], SALES);
        for row in self.service.query(TopCustomers { by: OrderBy::Net, limit: None }).await? {
            customers.row(&[&row.customer], &sales(&row.sales));
        }
        writeln!(self.out, "{countries}\n\n{customers}\n")?;
        let (orders, net) = (totals.sales.orders, totals.sales.net);
        let shipped = totals.shipped;
        self.line(&format!(
            "Sold: {orders}, for {net} net; shipped: {shipped}. A cancelled order is no sale."
        ))
    }
}

/// The view of an order, or of a product.
fn view_of(aggregate: &AggregateKey) -> &'static str {
    if aggregate.name() == Order::NAME { OrderSummary::NAME } else { StockLevel::NAME }
}

/// The commands of a trace up to an event, without what comes after it in the log; `None` without the event.
fn up_to(trace: Trace, aggregate: &AggregateKey, event_type: &str) -> Option<Vec<TracedCommand>> {
    let mut commands = trace.commands;
    let of_aggregate = |command: &&TracedCommand| command.aggregate == *aggregate;
    let mut events = commands.iter().filter(of_aggregate).flat_map(|command| &command.events);
    let end = events.find(|event| event.event_type == event_type)?.position;
    for command in &mut commands {
        command.events.retain(|event| event.position <= end);
    }
    commands.retain(|command| !command.events.is_empty());
    Some(commands)
}

/// Waits for a value, for as long as a busy machine may take.
async fn eventually<T>(mut find: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let waiting = async {
        loop {
            if let Some(found) = find().await? {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.context("the fulfilment does not go on")?
}
