//! The scenario: what happens command by command, event by event, view by view.

use std::{collections::HashMap, io::Write, time::Duration};

use anstyle::{AnsiColor, Style};
use anyhow::{Context as _, Result};
use cqrs_core::{
    Aggregate, Backend, Clock as _, Command, CommandError, CommandId, Handle, HasAggregate, Receipt,
    SystemClock,
};
use jiff::{civil::Date, tz::TimeZone};
use order_service::{
    Aggregates, CancelOrder, ConfirmOrder, CreateOrder, Customer, DeliverOrder, Line, Order, OrderId,
    OrderService, PayOrder, ProductId, ReceiveStock, ReleaseStock, ReserveStock, ShipOrder, ShipStock,
    Status, SubmitOrder,
    views::{GetHistory, GetOrder, GetStock, GetTotals, History, OrderBy, TopCountries, TopCustomers},
};

use rust_decimal::Decimal;

use crate::tables::{SALES, Table, sales};

const TITLE: Style = Style::new().bold();
const COMMAND: Style = AnsiColor::Cyan.on_default().bold();
const EVENT: Style = AnsiColor::Green.on_default();
const REFUSED: Style = AnsiColor::Red.on_default();
/// How long the scenario waits for a step of the process.
const PATIENCE: Duration = Duration::from_secs(30);

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
    an_order_goes_by_itself(&mut stage, &cast).await?;
    an_order_is_not_paid(&mut stage, &cast).await?;
    an_order_cannot_be_fulfilled(&mut stage, &cast).await?;
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

    /// An order of some pieces at 12.50 each.
    fn orders(&self, order: &OrderId, of: &str, wanted: &[(&ProductId, u32)]) -> Result<CreateOrder> {
        let price = "12.50".parse()?;
        let line = |&(product, quantity): &(&ProductId, u32)| Line {
            product: product.clone(),
            unit_price: price,
            quantity,
            discount: Decimal::ZERO,
        };
        Ok(CreateOrder {
            order: order.clone(),
            customer: Customer { id: of.parse()?, name: of.parse()? },
            country: "Ireland".parse()?,
            placed: self.today,
            lines: wanted.iter().map(line).collect(),
        })
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

async fn an_order_goes_by_itself<B: Backend, W: Write>(
    stage: &mut Stage<'_, B, W>,
    cast: &Cast,
) -> Result<()> {
    stage.title("Carla's order goes its way by itself")?;
    let order = cast.order("carla")?;
    stage.act("2 bags of coffee at 12.50", cast.orders(&order, "CARLA", &[(&cast.coffee, 2)])?).await?;
    let submit = SubmitOrder { order: order.clone(), seconds_to_pay: 15 * 60 };
    stage.act("it is submitted, with a quarter of an hour to pay", submit).await?;
    stage.watch("it reserves the coffee and makes the order binding", &order, Status::Confirmed).await?;
    let pay = PayOrder { order: order.clone(), amount: "25.00".parse()? };
    stage.act("Carla pays", pay).await?;
    stage.watch("it ships", &order, Status::Shipped).await
}

async fn an_order_is_not_paid<B: Backend, W: Write>(stage: &mut Stage<'_, B, W>, cast: &Cast) -> Result<()> {
    stage.title("Dora does not pay")?;
    let order = cast.order("dora")?;
    stage.act("3 bags of coffee at 12.50", cast.orders(&order, "DORA", &[(&cast.coffee, 3)])?).await?;
    let submit = SubmitOrder { order: order.clone(), seconds_to_pay: 1 };
    stage.act("it is submitted, with a second to pay", submit).await?;
    stage.watch("it reserves the coffee and makes the order binding", &order, Status::Confirmed).await?;
    stage.watch("the deadline passes, and it calls the order off", &order, Status::Cancelled).await
}

async fn an_order_cannot_be_fulfilled<B: Backend, W: Write>(
    stage: &mut Stage<'_, B, W>,
    cast: &Cast,
) -> Result<()> {
    stage.title("Emil wants what is not there")?;
    let order = cast.order("emil")?;
    let wanted = [(&cast.coffee, 1), (&cast.grinder, 1)];
    stage.act("a bag of coffee and a grinder", cast.orders(&order, "EMIL", &wanted)?).await?;
    stage.act("it is submitted", SubmitOrder { order: order.clone(), seconds_to_pay: 60 }).await?;
    stage.watch("it finds no grinder and calls the order off", &order, Status::Cancelled).await?;
    stage.stock_is_back("the coffee of Dora and Emil is free again", &cast.coffee, 32).await
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
        let name = command.name();
        writeln!(self.out, "  {COMMAND}{name}{COMMAND:#} {}: {what}", command.aggregate_id())?;
        match self.service.execute(command).id(id).await {
            Ok(receipt) => self.show(&receipt).await,
            Err(CommandError::Failed(error)) => Err(error.into()),
            Err(refusal) => Ok(writeln!(self.out, "    {REFUSED}refused{REFUSED:#}  {refusal}\n")?),
        }
    }

    /// Waits until the process has led an order to a status, or past it, and shows what has happened to it.
    async fn watch(&mut self, what: &str, order: &OrderId, until: Status) -> Result<()> {
        writeln!(self.out, "  {COMMAND}fulfilment{COMMAND:#} {order}: {what}")?;
        let service = self.service;
        let status = async || {
            let found = service.query(GetOrder { order: order.clone() }).await?;
            anyhow::Ok(found.is_some_and(|found| found.status >= until))
        };
        eventually(status).await?;
        service.caught_up().await?;
        let of = format!("{}/{order}", Order::NAME);
        let history = service.query(GetHistory { of: of.clone() }).await?.unwrap_or_default();
        self.show_new(of, &history)?;
        writeln!(self.out, "    view     {VIEW}order-summary{VIEW:#}: {until}\n")?;
        Ok(())
    }

    /// Waits until so much of a product is available, and shows it.
    async fn stock_is_back(&mut self, what: &str, product: &ProductId, available: u64) -> Result<()> {
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
        let of = receipt.aggregate.to_string();
        let history =
            self.service.query(GetHistory { of: of.clone() }).after(receipt).await?.unwrap_or_default();
        self.show_new(of, &history)?;
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

/// Waits until the condition holds, for as long as a machine may take that has much to do.
async fn eventually(mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let waiting = async {
        while !holds().await? {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, waiting).await.context("the process does not go on")?
}
