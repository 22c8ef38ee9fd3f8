//! The scenario: what happens command by command, event by event, view by view.

use std::{collections::HashMap, io::Write};

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use cqrs_core::{
    Aggregate, Backend, Clock as _, Command, CommandError, CommandId, Handle, HasAggregate, Receipt,
    SystemClock,
};
use jiff::{civil::Date, tz::TimeZone};
use order_service::{
    Aggregates, CancelOrder, ConfirmOrder, CreateOrder, Customer, DeliverOrder, Line, Order, OrderId,
    OrderService, PayOrder, ProductId, ReceiveStock, ReleaseStock, ReserveStock, ShipOrder, ShipStock,
    views::{GetHistory, GetOrder, GetStock, GetTotals, OrderBy, TopCountries, TopCustomers},
};

use crate::tables::{SALES, Table, sales};

const TITLE: Style = Style::new().bold();
const COMMAND: Style = AnsiColor::Cyan.on_default().bold();
const EVENT: Style = AnsiColor::Green.on_default();
const REFUSED: Style = AnsiColor::Red.on_default();
const VIEW: Style = AnsiColor::Blue.on_default();

/// Plays the scenario; `words` say where its events are kept.
pub(crate) async fn play<B: Backend>(
    service: &OrderService<B>,
    words: &str,
    out: &mut impl Write,
) -> Result<()> {
    writeln!(out, "{words}\n")?;
    let cast = Cast::new()?;
    let mut stage = Stage { service, out, seen: HashMap::new() };
    stock_comes_in(&mut stage, &cast).await?;
    an_order_goes_its_way(&mut stage, &cast).await?;
    an_order_is_called_off(&mut stage, &cast).await?;
    stage.show_sales().await
}

/// Who and what plays. Ids are new in every run, so that a server that remembers the last one does not mind.
struct Cast {
    run: String,
    coffee: ProductId,
    grinder: ProductId,
    today: Date,
}

impl Cast {
    fn new() -> Result<Self> {
        let id = SystemClock.new_id().to_string();
        let run = id.rsplit('-').next().map_or(id.as_str(), |tail| &tail[..6]).to_owned();
        Ok(Self {
            coffee: format!("coffee-{run}").parse()?,
            grinder: format!("grinder-{run}").parse()?,
            today: TimeZone::UTC.to_datetime(SystemClock.now()).date(),
            run,
        })
    }

    fn order(&self, of: &str) -> Result<OrderId> {
        Ok(format!("{of}-{}", self.run).parse()?)
    }
}

async fn stock_comes_in<B: Backend, W: Write>(stage: &mut Stage<'_, B, W>, cast: &Cast) -> Result<()> {
    stage.title("Stock comes in")?;
    let (product, name) = (cast.coffee.clone(), "Coffee".parse()?);
    stage.act("40 bags of coffee", ReceiveStock { product, name, units: 40 }).await?;
    let (product, name) = (cast.grinder.clone(), "Grinder".parse()?);
    stage.act("1 grinder", ReceiveStock { product, name, units: 1 }).await?;
    Ok(())
}

async fn an_order_goes_its_way<B: Backend, W: Write>(stage: &mut Stage<'_, B, W>, cast: &Cast) -> Result<()> {
    stage.title("Anna's order goes its way")?;
    let order = cast.order("anna")?;
    let lines = vec![
        Line {
            product: cast.coffee.clone(),
            unit_price: "12.50".parse()?,
            quantity: 6,
            discount: "0.15".parse()?,
        },
        Line {
            product: cast.grinder.clone(),
            unit_price: "89.00".parse()?,
            quantity: 1,
            discount: "0".parse()?,
        },
    ];
    let customer = Customer { id: "ANNA".parse()?, name: "Anna Aas".parse()? };
    let create =
        CreateOrder { order: order.clone(), customer, country: "Norway".parse()?, placed: cast.today, lines };
    stage.act("6 bags of coffee at 12.50 less 15 %, 1 grinder at 89.00", create).await?;

    let reserve =
        |product: &ProductId, units| ReserveStock { product: product.clone(), order: order.clone(), units };
    stage.act("6 bags for Anna", reserve(&cast.coffee, 6)).await?;
    stage.act("1 grinder for Anna", reserve(&cast.grinder, 1)).await?;
    stage.act("Anna's order is binding", ConfirmOrder { order: order.clone() }).await?;

    let pay = |amount: &str| anyhow::Ok(PayOrder { order: order.clone(), amount: amount.parse()? });
    stage.act("Anna pays 150.00, which is not the price", pay("150.00")?).await?;
    let id = CommandId(SystemClock.new_id());
    stage.act_as("Anna pays 152.75", pay("152.75")?, id).await?;
    stage.act_as("the same command again, as after a lost answer", pay("152.75")?, id).await?;

    let ship = |product: &ProductId| ShipStock { product: product.clone(), order: order.clone() };
    stage.act("the coffee leaves", ship(&cast.coffee)).await?;
    stage.act("the grinder leaves", ship(&cast.grinder)).await?;
    stage.act("the parcel leaves", ShipOrder { order: order.clone(), on: cast.today }).await?;
    stage.act("the parcel is at Anna's door", DeliverOrder { order }).await?;
    Ok(())
}

async fn an_order_is_called_off<B: Backend, W: Write>(
    stage: &mut Stage<'_, B, W>,
    cast: &Cast,
) -> Result<()> {
    stage.title("Ben's order is called off")?;
    let order = cast.order("ben")?;
    let line = Line {
        product: cast.coffee.clone(),
        unit_price: "12.50".parse()?,
        quantity: 30,
        discount: "0".parse()?,
    };
    let customer = Customer { id: "BEN".parse()?, name: "Ben Baker".parse()? };
    let (country, placed, lines) = ("Ireland".parse()?, cast.today, vec![line]);
    let create = CreateOrder { order: order.clone(), customer, country, placed, lines };
    stage.act("30 bags of coffee at 12.50", create).await?;

    let reserve =
        |product: &ProductId, units| ReserveStock { product: product.clone(), order: order.clone(), units };
    stage.act("a grinder for Ben, but there is none left", reserve(&cast.grinder, 1)).await?;
    stage.act("30 bags for Ben", reserve(&cast.coffee, 30)).await?;
    stage.act("Ben's order is binding", ConfirmOrder { order: order.clone() }).await?;
    let cancel = CancelOrder { order: order.clone(), reason: "found a cheaper one".parse()? };
    stage.act("Ben has second thoughts", cancel).await?;
    let release = ReleaseStock { product: cast.coffee.clone(), order };
    stage.act("his coffee is free again", release).await?;
    Ok(())
}

/// Where commands are acted out: each is carried out, and the events and the view that changed are shown.
struct Stage<'a, B: Backend, W> {
    service: &'a OrderService<B>,
    out: &'a mut W,
    /// How many events of each aggregate have been shown.
    seen: HashMap<String, u64>,
}

impl<B: Backend, W: Write> Stage<'_, B, W> {
    fn title(&mut self, text: &str) -> Result<()> {
        writeln!(self.out, "{TITLE}{text}{TITLE:#}")?;
        Ok(())
    }

    async fn act<C, Place>(&mut self, what: &str, command: C) -> Result<()>
    where
        C: Command,
        C::Aggregate: Handle<C>,
        Aggregates: HasAggregate<C::Aggregate, Place>,
    {
        self.act_as(what, command, CommandId(SystemClock.new_id())).await
    }

    async fn act_as<C, Place>(&mut self, what: &str, command: C, id: CommandId) -> Result<()>
    where
        C: Command,
        C::Aggregate: Handle<C>,
        Aggregates: HasAggregate<C::Aggregate, Place>,
    {
        let name = C::NAME;
        writeln!(self.out, "  {COMMAND}{name}{COMMAND:#} {}: {what}", command.aggregate_id())?;
        match self.service.execute(command).id(id).await {
            Ok(receipt) => self.show(&receipt).await,
            Err(CommandError::Failed(error)) => Err(error.into()),
            Err(refusal) => Ok(writeln!(self.out, "    {REFUSED}refused{REFUSED:#}  {refusal}\n")?),
        }
    }

    /// The events that are new since this aggregate was last shown, and its view.
    async fn show(&mut self, receipt: &Receipt) -> Result<()> {
        if receipt.repeat {
            writeln!(self.out, "    repeat   nothing happens, and the answer is the first receipt")?;
        }
        let of = format!("{}/{}", receipt.aggregate, receipt.id);
        let history =
            self.service.query(GetHistory { of: of.clone() }).after(receipt).await?.unwrap_or_default();
        let seen = self.seen.insert(of, receipt.version).unwrap_or(0);
        for entry in history.entries.iter().filter(|entry| entry.version > seen) {
            writeln!(
                self.out,
                "    event {}  {EVENT}{}{EVENT:#}: {}",
                entry.version, entry.event, entry.words
            )?;
        }
        let (view, words) = self.view(receipt).await?;
        writeln!(self.out, "    view     {VIEW}{view}{VIEW:#}: {words}\n")?;
        Ok(())
    }

    async fn view(&self, receipt: &Receipt) -> Result<(&'static str, String)> {
        if receipt.aggregate == Order::NAME {
            let query = GetOrder { order: receipt.id.parse()? };
            let order = self.service.query(query).after(receipt).await?.unwrap_or_default();
            let net = order.sale.map(|sale| sale.net).unwrap_or_default();
            return Ok(("order-summary", format!("{}, {net} net", order.status)));
        }
        let query = GetStock { product: receipt.id.parse()? };
        let stock = self.service.query(query).after(receipt).await?.unwrap_or_default();
        let (on_hand, available) = (stock.on_hand, stock.available());
        Ok(("stock-level", format!("{on_hand} on the shelf, {available} available")))
    }

    async fn show_sales(&mut self) -> Result<()> {
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
