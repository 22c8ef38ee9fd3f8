//! The stage of the scenario: it carries commands out, and prints the events and the view that changed.

use std::{collections::HashMap, io::Write, time::Duration};

use anstyle::{AnsiColor, Style};
use anyhow::{Context as _, Result};
use cqrs_core::{Aggregate as _, CommandError, CommandId, Receipt, lists::SentTo};
use order_service::{
    Aggregates, Order, OrderId, OrderService, ProductId, Status,
    views::{GetHistory, GetOrder, GetStock, GetTotals, History, OrderBy, TopCountries, TopCustomers},
};

use crate::tables::{SALES, Table, sales};

const TITLE: Style = Style::new().bold();
const COMMAND: Style = AnsiColor::Cyan.on_default().bold();
const EVENT: Style = AnsiColor::Green.on_default();
const REFUSED: Style = AnsiColor::Red.on_default();
const VIEW: Style = AnsiColor::Blue.on_default();

/// How long the scenario waits for a step of the process.
const PATIENCE: Duration = Duration::from_secs(30);

/// Carries out the commands of the scenario, and shows their events and the view that changed.
pub(crate) struct Stage<'a, W> {
    service: &'a OrderService,
    out: &'a mut W,
    /// How many events of each aggregate have been shown.
    seen: HashMap<String, u64>,
}

impl<'a, W: Write> Stage<'a, W> {
    pub(crate) fn new(service: &'a OrderService, out: &'a mut W) -> Self {
        Self { service, out, seen: HashMap::new() }
    }

    pub(crate) fn title(&mut self, text: &str) -> Result<()> {
        writeln!(self.out, "{TITLE}{text}{TITLE:#}")?;
        Ok(())
    }

    /// Carries out a command.
    pub(crate) async fn act<C: SentTo<Aggregates, I>, I>(&mut self, what: &str, command: C) -> Result<()> {
        self.act_as(what, command, CommandId::new()).await
    }

    /// Carries out a command under this id, under which it takes effect once.
    pub(crate) async fn act_as<C: SentTo<Aggregates, I>, I>(
        &mut self,
        what: &str,
        command: C,
        id: CommandId,
    ) -> Result<()> {
        let name = command.name();
        writeln!(self.out, "  {COMMAND}{name}{COMMAND:#} {}: {what}", command.aggregate_id())?;
        match self.service.execute(command).id(id).await {
            Ok(receipt) => self.show(&receipt).await,
            Err(CommandError::Failed(error)) => Err(error.into()),
            Err(refusal) => Ok(writeln!(self.out, "    {REFUSED}refused{REFUSED:#}  {refusal}\n")?),
        }
    }

    /// Waits until fulfilment has brought an order to a status, or past it, and shows the order's new events.
    pub(crate) async fn watch(&mut self, what: &str, order: &OrderId, until: Status) -> Result<()> {
        writeln!(self.out, "  {COMMAND}fulfilment{COMMAND:#} {order}: {what}")?;
        let service = self.service;
        let status = async || {
            let found = service.query(GetOrder { order: order.clone() }).await?;
            anyhow::Ok(found.is_some_and(|found| found.status >= until))
        };
        eventually(status).await?;
        service.caught_up().await?;
        let query = GetHistory::of_order(order);
        let history = service.query(query.clone()).await?.unwrap_or_default();
        self.show_new(query.of, &history)?;
        writeln!(self.out, "    view     {VIEW}order-summary{VIEW:#}: {until}\n")?;
        Ok(())
    }

    /// Waits until this quantity of a product is available, and shows it.
    pub(crate) async fn stock_is_back(
        &mut self,
        what: &str,
        product: &ProductId,
        available: u64,
    ) -> Result<()> {
        let service = self.service;
        let stock = async || {
            let found = service.query(GetStock { product: product.clone() }).await?;
            anyhow::Ok(found.is_some_and(|found| found.available() == available))
        };
        eventually(stock).await?;
        writeln!(self.out, "    view     {VIEW}stock-level{VIEW:#}: {available} available, {what}\n")?;
        Ok(())
    }

    /// The events that are new since this aggregate was last shown, and its view.
    async fn show(&mut self, receipt: &Receipt) -> Result<()> {
        if receipt.repeat {
            writeln!(self.out, "    repeat   nothing happens, and the answer is the first receipt")?;
        }
        let query = GetHistory { of: receipt.aggregate.to_string() };
        let history = self.service.query(query.clone()).after(receipt).await?.unwrap_or_default();
        self.show_new(query.of, &history)?;
        let (view, words) = self.view(receipt).await?;
        writeln!(self.out, "    view     {VIEW}{view}{VIEW:#}: {words}\n")?;
        Ok(())
    }

    fn show_new(&mut self, of: String, history: &History) -> Result<()> {
        let last = history.entries.back().map_or(0, |entry| entry.version);
        let seen = self.seen.insert(of, last).unwrap_or(0);
        for entry in history.entries.iter().filter(|entry| entry.version > seen) {
            writeln!(
                self.out,
                "    event {}  {EVENT}{}{EVENT:#}: {}",
                entry.version, entry.event, entry.words
            )?;
        }
        Ok(())
    }

    /// The view of a command's aggregate, and its content.
    async fn view(&self, receipt: &Receipt) -> Result<(&'static str, String)> {
        if receipt.aggregate.name() == Order::NAME {
            let query = GetOrder { order: receipt.aggregate.id().parse()? };
            let order = self.service.query(query).after(receipt).await?.unwrap_or_default();
            let net = order.sale.map(|sale| sale.net).unwrap_or_default();
            return Ok(("order-summary", format!("{}, {net} net", order.status)));
        }
        let query = GetStock { product: receipt.aggregate.id().parse()? };
        let stock = self.service.query(query).after(receipt).await?.unwrap_or_default();
        let (on_hand, available) = (stock.on_hand, stock.available());
        Ok(("stock-level", format!("{on_hand} on the shelf, {available} available")))
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
        writeln!(
            self.out,
            "Sold: {orders}, for {net} net; shipped: {}. A cancelled order is no sale.",
            totals.shipped
        )?;
        Ok(())
    }
}

/// Waits until the condition holds, for as long as a busy machine may take.
async fn eventually(mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let waiting = async {
        while !holds().await? {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, waiting).await.context("the process does not go on")?
}
