//! `import`: Northwind's orders as commands.

use std::{io::Write, time::Duration};

use anyhow::{Context as _, Result};
use cqrs_core::{CommandId, CorrelationId, lists::SentTo};
use futures_util::{StreamExt as _, TryStreamExt as _, future::Either, stream};
use indicatif::{ProgressBar, ProgressStyle};
use order_service::{
    Aggregates, Money, OrderService, grouped,
    views::{CountrySales, CustomerSales, GetTotals, OrderBy, SalesTotals, TopCountries, TopCustomers},
};
use serde::Serialize;

use crate::{
    cli::Format,
    northwind::{Northwind, NorthwindOrder},
    tables::Table,
    terminal::wrapped,
};

/// How many orders are imported at the same time. Within one order each command waits for the one before.
const AT_ONCE: usize = 64;

/// How many countries and customers are shown.
const TOP: usize = 5;

/// Sends the commands, waits for the views, and prints their figures.
pub(crate) async fn run(
    service: &OrderService,
    northwind: Northwind,
    format: Format,
    out: &mut impl Write,
) -> Result<()> {
    let tally = send_all(service, northwind).await?;
    service.caught_up().await.context("what was imported is stored, but the views do not follow")?;
    let figures = Figures::ask(service, tally).await?;
    match format {
        Format::Text => figures.write_tables(out)?,
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&figures)?)?,
    }
    Ok(())
}

/// The results of the commands.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    new_events: usize,
    repeats: usize,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.new_events += other.new_events;
        self.repeats += other.repeats;
    }
}

async fn send_all(service: &OrderService, northwind: Northwind) -> Result<Tally> {
    let total = northwind.stock.len() + northwind.orders.len();
    let bar = progress_bar(total);
    let stock = northwind.stock.into_iter().map(|receive| Either::Left(receive_stock(service, receive)));
    let orders = northwind.orders.into_iter().map(|order| Either::Right(place_order(service, order)));
    let mut under_way = stream::iter(stock.chain(orders)).buffer_unordered(AT_ONCE);
    let mut tally = Tally::default();
    loop {
        match under_way.try_next().await {
            Ok(Some(one)) => tally.add(one),
            Ok(None) => break,
            Err(error) => {
                let done = bar.position();
                bar.finish_and_clear();
                let done =
                    format!("stopped after {done} of {total} orders and products, import again to go on");
                return Err(error.context(done));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(tally)
}

async fn receive_stock(service: &OrderService, receive: order_service::ReceiveStock) -> Result<Tally> {
    let mut sender = Sender::new(service, receive.product.as_str());
    sender.send(receive).await?;
    Ok(sender.tally)
}

async fn place_order(service: &OrderService, order: NorthwindOrder) -> Result<Tally> {
    let mut sender = Sender::new(service, order.create.order.as_str());
    sender.send(order.create).await?;
    sender.send(order.confirm).await?;
    sender.send(order.pay).await?;
    if let Some((ship, deliver)) = order.sent {
        sender.send(ship).await?;
        sender.send(deliver).await?;
    }
    Ok(sender.tally)
}

/// Sends the commands of one order or product, which belong together as one business transaction.
struct Sender<'a> {
    service: &'a OrderService,
    correlation: CorrelationId,
    tally: Tally,
}

impl<'a> Sender<'a> {
    fn new(service: &'a OrderService, of: &str) -> Self {
        let correlation = CommandId::derived(["northwind", of]).into();
        Self { service, correlation, tally: Tally::default() }
    }

    /// Sends a command. Its id is derived from the data, so that the same row never takes effect twice.
    async fn send<C: SentTo<Aggregates, I>, I>(&mut self, command: C) -> Result<()> {
        let of = command.aggregate_id().to_string();
        let name = command.name();
        let id = CommandId::derived(["northwind", name, &of]);
        let sent = self.service.execute(command).id(id).correlation(self.correlation).await;
        let receipt = sent.with_context(|| format!("{name} {of} failed"))?;
        if receipt.repeat {
            self.tally.repeats += 1;
        } else {
            self.tally.new_events += receipt.events;
        }
        Ok(())
    }
}

/// A progress bar on stderr; hidden if stderr is not a terminal.
fn progress_bar(total: usize) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(total).unwrap_or(u64::MAX));
    if let Ok(style) = ProgressStyle::with_template("importing {bar:40} {pos}/{len}, {eta} to go") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// The figures of the views after an import.
#[derive(Debug, Serialize)]
struct Figures {
    orders: u64,
    lines: u64,
    units: u64,
    gross: Money,
    net: Money,
    shipped: u64,
    never_shipped: u64,
    top_countries: Vec<CountryOrders>,
    top_customers: Vec<CustomerNet>,
    new_events: usize,
    repeats: usize,
}

#[derive(Debug, Serialize)]
struct CountryOrders {
    country: String,
    orders: u64,
}

#[derive(Debug, Serialize)]
struct CustomerNet {
    customer: String,
    net: Money,
}

impl Figures {
    async fn ask(service: &OrderService, tally: Tally) -> Result<Self> {
        let totals: SalesTotals = service.query(GetTotals).await?;
        let countries = service.query(TopCountries { by: OrderBy::Orders, limit: Some(TOP) }).await?;
        let customers = service.query(TopCustomers { by: OrderBy::Net, limit: Some(TOP) }).await?;
        let country = |row: CountrySales| CountryOrders { country: row.country, orders: row.sales.orders };
        let customer = |row: CustomerSales| CustomerNet { customer: row.customer, net: row.sales.net };
        Ok(Self {
            orders: totals.sales.orders,
            lines: totals.sales.lines,
            units: totals.sales.units,
            gross: totals.sales.gross,
            net: totals.sales.net,
            shipped: totals.shipped,
            never_shipped: totals.never_shipped(),
            top_countries: countries.into_iter().map(country).collect(),
            top_customers: customers.into_iter().map(customer).collect(),
            new_events: tally.new_events,
            repeats: tally.repeats,
        })
    }

    fn write_tables(&self, out: &mut impl Write) -> Result<()> {
        let mut sums = Table::new(&["sales"], &["in all"]);
        sums.row(&["orders"], &[self.orders]);
        sums.row(&["lines"], &[self.lines]);
        sums.row(&["units"], &[self.units]);
        sums.row(&["gross"], &[self.gross]);
        sums.row(&["net"], &[self.net]);
        sums.row(&["orders shipped"], &[self.shipped]);
        sums.row(&["orders never shipped"], &[self.never_shipped]);
        let mut countries = Table::new(&["top countries"], &["orders"]);
        for row in &self.top_countries {
            countries.row(&[&row.country], &[row.orders]);
        }
        let mut customers = Table::new(&["top customers"], &["net"]);
        for row in &self.top_customers {
            customers.row(&[&row.customer], &[row.net]);
        }
        writeln!(out, "{sums}\n\n{countries}\n\n{customers}\n")?;
        let (events, repeats) = (grouped(self.new_events), grouped(self.repeats));
        let line = format!("{events} new events; {repeats} commands had been carried out before.");
        writeln!(out, "{}", wrapped(&line, 0))?;
        Ok(())
    }
}
