//! The scenario: what happens command by command, event by event, view by view.

mod stage;
#[cfg(test)]
mod tests;

use std::io::Write;

use anyhow::Result;
use cqrs_core::{Aggregate as _, AggregateKey, Clock as _, CommandId, port::SystemClock};
use jiff::{civil::Date, tz::TimeZone};
use order_service::{
    CancelOrder, ConfirmOrder, CreateOrder, Customer, DeliverOrder, Line, Order, OrderId, OrderService,
    PayOrder, ProductId, ReceiveStock, ReleaseStock, ReserveStock, ShipOrder, ShipStock, Stock, SubmitOrder,
};

use crate::{scenario::stage::Stage, terminal::wrapped};

/// Plays the scenario; `words` say where its events are kept.
pub(crate) async fn play(service: &OrderService, words: &str, out: &mut impl Write) -> Result<()> {
    writeln!(out, "{}\n", wrapped(words, 0))?;
    let mut scenario = Scenario::new(Stage::new(service, out))?;
    scenario.stock_comes_in().await?;
    scenario.an_order_goes_its_way().await?;
    scenario.an_order_is_called_off().await?;
    scenario.an_order_goes_by_itself().await?;
    scenario.an_order_is_not_paid().await?;
    scenario.an_order_cannot_be_fulfilled().await?;
    scenario.stage.show_sales().await
}

/// The products and ids of one run. They are new in every run, so that a server with the data of an earlier run can be
/// used.
struct Scenario<'a, W> {
    stage: Stage<'a, W>,
    run: String,
    coffee: ProductId,
    grinder: ProductId,
    today: Date,
}

impl<'a, W: Write> Scenario<'a, W> {
    fn new(stage: Stage<'a, W>) -> Result<Self> {
        let id = SystemClock.new_id().to_string();
        let run = id.rsplit('-').next().map_or(id.as_str(), |tail| &tail[..6]).to_owned();
        Ok(Self {
            stage,
            coffee: format!("coffee-{run}").parse()?,
            grinder: format!("grinder-{run}").parse()?,
            today: TimeZone::UTC.to_datetime(SystemClock.now()).date(),
            run,
        })
    }

    async fn stock_comes_in(&mut self) -> Result<()> {
        self.stage.title("Stock comes in")?;
        let (product, name) = (self.coffee.clone(), "Coffee".parse()?);
        self.stage.act("40 bags of coffee", ReceiveStock { product, name, units: 40 }).await?;
        let (product, name) = (self.grinder.clone(), "Grinder".parse()?);
        self.stage.act("1 grinder", ReceiveStock { product, name, units: 1 }).await
    }

    async fn an_order_goes_its_way(&mut self) -> Result<()> {
        self.stage.title("Anna's order goes its way")?;
        let order = self.order("anna")?;
        let lines = vec![line(&self.coffee, "12.50", 6, "0.15")?, line(&self.grinder, "89.00", 1, "0")?];
        let create = self.create(&order, ["ANNA", "Anna Aas"], "Norway", lines)?;
        let Self { stage, coffee, grinder, today, .. } = self;
        stage.act("6 bags at 12.50 less 15 %, a grinder at 89.00", create).await?;

        stage.act("6 bags for Anna", reserve(&order, coffee, 6)).await?;
        stage.act("1 grinder for Anna", reserve(&order, grinder, 1)).await?;
        stage.act("Anna's order is to be binding", ConfirmOrder { order: order.clone() }).await?;

        stage.act("Anna offers 150.00, which is not the price", pay(&order, "150.00")?).await?;
        let id = CommandId(SystemClock.new_id());
        stage.act_as("Anna pays 152.75", pay(&order, "152.75")?, id).await?;
        stage.act_as("the same command again, as after a lost answer", pay(&order, "152.75")?, id).await?;

        let ship = |product: &ProductId| ShipStock { product: product.clone(), order: order.clone() };
        stage.act("take Anna's coffee from the shelf", ship(coffee)).await?;
        stage.act("take her grinder from the shelf", ship(grinder)).await?;
        stage.act("send the parcel", ShipOrder { order: order.clone(), on: *today }).await?;
        stage.act("the parcel is at Anna's door", DeliverOrder { order }).await
    }

    async fn an_order_is_called_off(&mut self) -> Result<()> {
        self.stage.title("Ben's order is called off")?;
        let order = self.order("ben")?;
        let lines = vec![line(&self.coffee, "12.50", 30, "0")?];
        let create = self.create(&order, ["BEN", "Ben Baker"], "Ireland", lines)?;
        let Self { stage, coffee, grinder, .. } = self;
        stage.act("30 bags of coffee at 12.50", create).await?;

        stage.act("a grinder for Ben, but there is none left", reserve(&order, grinder, 1)).await?;
        stage.act("30 bags for Ben", reserve(&order, coffee, 30)).await?;
        stage.act("Ben's order is to be binding", ConfirmOrder { order: order.clone() }).await?;
        let cancel = CancelOrder { order: order.clone(), reason: "found a cheaper one".parse()? };
        stage.act("Ben has second thoughts", cancel).await?;
        stage.act("his coffee is not needed", ReleaseStock { product: coffee.clone(), order }).await
    }

    async fn an_order_goes_by_itself(&mut self) -> Result<()> {
        self.stage.title("Carla's order goes its way by itself")?;
        let order = self.order("carla")?;
        let lines = vec![line(&self.coffee, "12.50", 2, "0")?];
        let create = self.create(&order, ["CARLA", "Carla Conti"], "Ireland", lines)?;
        let Self { stage, coffee, .. } = self;
        stage.act("2 bags of coffee at 12.50", create).await?;
        let submit = SubmitOrder { order: order.clone(), seconds_to_pay: 15 * 60 };
        let submitted = stage.begin("with a quarter of an hour to pay", submit).await?;
        stage.watch(submitted, &key(&order)?, "order.confirmed").await?;
        stage.show(&[key(&order)?]).await?;
        let paid = stage.begin("Carla pays", pay(&order, "25.00")?).await?;
        stage.watch(paid, &stock(coffee)?, "stock.shipped").await?;
        stage.show(&[key(&order)?]).await
    }

    async fn an_order_is_not_paid(&mut self) -> Result<()> {
        self.stage.title("Dora does not pay")?;
        let order = self.order("dora")?;
        let lines = vec![line(&self.coffee, "12.50", 3, "0")?];
        let create = self.create(&order, ["DORA", "Dora Dahl"], "Ireland", lines)?;
        let Self { stage, coffee, .. } = self;
        stage.act("3 bags of coffee at 12.50", create).await?;
        let submit = SubmitOrder { order: order.clone(), seconds_to_pay: 1 };
        let submitted = stage.begin("with a second to pay", submit).await?;
        stage.watch(submitted, &key(&order)?, "order.confirmed").await?;
        // The deadline may have passed by now. So the view is shown when nothing follows any more.
        stage.watch(submitted, &stock(coffee)?, "stock.released").await?;
        stage.show(&[key(&order)?]).await
    }

    async fn an_order_cannot_be_fulfilled(&mut self) -> Result<()> {
        self.stage.title("Emil wants what is not there")?;
        let order = self.order("emil")?;
        let lines = vec![line(&self.coffee, "12.50", 1, "0")?, line(&self.grinder, "12.50", 1, "0")?];
        let create = self.create(&order, ["EMIL", "Emil Eder"], "Ireland", lines)?;
        let Self { stage, coffee, .. } = self;
        stage.act("a bag of coffee and a grinder", create).await?;
        let submit = SubmitOrder { order: order.clone(), seconds_to_pay: 60 };
        let submitted = stage.begin("with a minute to pay", submit).await?;
        stage.watch(submitted, &stock(coffee)?, "stock.released").await?;
        stage.show(&[key(&order)?, stock(coffee)?]).await
    }

    fn order(&self, of: &str) -> Result<OrderId> {
        Ok(format!("{of}-{}", self.run).parse()?)
    }

    /// The order of a customer with this id and name.
    fn create(
        &self,
        order: &OrderId,
        [id, name]: [&str; 2],
        country: &str,
        lines: Vec<Line>,
    ) -> Result<CreateOrder> {
        Ok(CreateOrder {
            order: order.clone(),
            customer: Customer { id: id.parse()?, name: name.parse()? },
            country: country.parse()?,
            placed: self.today,
            lines,
        })
    }
}

fn line(product: &ProductId, unit_price: &str, quantity: u32, discount: &str) -> Result<Line> {
    let (unit_price, discount) = (unit_price.parse()?, discount.parse()?);
    Ok(Line { product: product.clone(), unit_price, quantity, discount })
}

fn key(order: &OrderId) -> Result<AggregateKey> {
    Ok(AggregateKey::new(Order::NAME, order.to_string())?)
}

fn stock(product: &ProductId) -> Result<AggregateKey> {
    Ok(AggregateKey::new(Stock::NAME, product.to_string())?)
}

fn reserve(order: &OrderId, product: &ProductId, units: u32) -> ReserveStock {
    ReserveStock { product: product.clone(), order: order.clone(), units }
}

fn pay(order: &OrderId, amount: &str) -> Result<PayOrder> {
    Ok(PayOrder { order: order.clone(), amount: amount.parse()? })
}
