//! The Northwind files, read as commands.
//!
//! Everything is checked here, by the business's own rules too, so that a mistake in the files is found
//! before the first command is sent.

mod rows;

use std::{
    collections::{HashMap, HashSet},
    fmt::Display,
    hash::Hash,
    path::Path,
};

use anyhow::{Result, bail, ensure};
use cqrs_core::{Apply as _, Command, CommandId, Context, Handle};
use jiff::{Timestamp, civil::Date};
use order_service::{
    ConfirmOrder, CreateOrder, Customer, CustomerId, DeliverOrder, Line, Money, Name, Order, OrderId,
    OrderRejection, PayOrder, ProductId, ReceiveStock, Sale, ShipOrder,
};

use crate::northwind::rows::{Row, Table};

/// The content of the files.
pub(crate) struct Northwind {
    /// The orders, in the order of their file.
    pub(crate) orders: Vec<NorthwindOrder>,
    /// The pieces in stock, one command for each product that has any.
    pub(crate) stock: Vec<ReceiveStock>,
}

/// One order as its commands, in order.
#[derive(Debug, Clone)]
pub(crate) struct NorthwindOrder {
    pub(crate) create: CreateOrder,
    pub(crate) confirm: ConfirmOrder,
    pub(crate) pay: PayOrder,
    /// `None` for an order that was never shipped.
    pub(crate) sent: Option<(ShipOrder, DeliverOrder)>,
}

impl Northwind {
    /// Reads and checks the four files in `folder`.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        ensure!(folder.is_dir(), "there is no folder {}", folder.display());
        let customers = customers(folder)?;
        let (products, stock) = products(folder)?;
        let orders = orders(folder, &customers, lines(folder, &products)?)?;
        Ok(Self { orders, stock })
    }
}

fn customers(folder: &Path) -> Result<HashMap<CustomerId, Customer>> {
    let table = Table::read(folder, "customers.csv", &["customerID", "companyName"])?;
    let mut customers = HashMap::new();
    for row in table.rows() {
        let (id, name) =
            (row.value::<CustomerId>("customerID", "an id")?, row.value("companyName", "a name")?);
        if customers.insert(id.clone(), Customer { id: id.clone(), name }).is_some() {
            return Err(row.broken(format!("customer {id} is listed twice")));
        }
    }
    Ok(customers)
}

fn products(folder: &Path) -> Result<(HashSet<ProductId>, Vec<ReceiveStock>)> {
    let table = Table::read(folder, "products.csv", &["productID", "productName", "unitsInStock"])?;
    let (mut products, mut stock) = (HashSet::new(), Vec::new());
    for row in table.rows() {
        let product: ProductId = row.value("productID", "an id")?;
        let name: Name = row.value("productName", "a name")?;
        let units: u32 = row.value("unitsInStock", "a whole number")?;
        if !products.insert(product.clone()) {
            return Err(row.broken(format!("product {product} is listed twice")));
        }
        if units > 0 {
            stock.push(ReceiveStock { product, name, units });
        }
    }
    Ok((products, stock))
}

/// The lines of each order, and the line number of the first of them.
struct Lines {
    of: HashMap<OrderId, (u64, Vec<Line>)>,
    file: String,
}

fn lines(folder: &Path, products: &HashSet<ProductId>) -> Result<Lines> {
    let columns = ["orderID", "productID", "unitPrice", "quantity", "discount"];
    let table = Table::read(folder, "order_details.csv", &columns)?;
    let mut of: HashMap<OrderId, (u64, Vec<Line>)> = HashMap::new();
    for row in table.rows() {
        let order = row.value("orderID", "an id")?;
        let product = row.value("productID", "an id")?;
        check_known(&row, "product", &product, |product| products.contains(product))?;
        let line = Line {
            product,
            unit_price: row.value::<Money>("unitPrice", "a decimal number")?,
            quantity: row.value("quantity", "a whole number")?,
            discount: row.value("discount", "a decimal number")?,
        };
        line.check().map_err(|error| row.broken(error))?;
        of.entry(order).or_insert_with(|| (row.line(), Vec::new())).1.push(line);
    }
    Ok(Lines { of, file: table.file().to_owned() })
}

fn orders(
    folder: &Path,
    customers: &HashMap<CustomerId, Customer>,
    lines: Lines,
) -> Result<Vec<NorthwindOrder>> {
    let columns = ["orderID", "customerID", "orderDate", "shippedDate", "shipCountry"];
    let table = Table::read(folder, "orders.csv", &columns)?;
    let (mut orders, mut known, mut lines_of) = (Vec::new(), HashSet::new(), lines.of);
    for row in table.rows() {
        let id: OrderId = row.value("orderID", "an id")?;
        if !known.insert(id.clone()) {
            return Err(row.broken(format!("order {id} is listed twice")));
        }
        let customer: CustomerId = row.value("customerID", "an id")?;
        check_known(&row, "customer", &customer, |customer| customers.contains_key(customer))?;
        let (_, lines) = lines_of.remove(&id).unwrap_or_default();
        let create = CreateOrder {
            order: id,
            customer: customers[&customer].clone(),
            country: row.value("shipCountry", "a country")?,
            placed: row.value("orderDate", "a date")?,
            lines,
        };
        let order = NorthwindOrder::new(create, row.optional("shippedDate", "a date")?);
        order.rehearse().map_err(|rejection| row.broken(rejection))?;
        orders.push(order);
    }
    // Lines of no order are as broken as an order without lines.
    if let Some((line, order)) = lines_of.into_iter().map(|(order, (line, _))| (line, order)).min() {
        bail!("{}, line {line}: order {order} is not in orders.csv", lines.file);
    }
    Ok(orders)
}

fn check_known<Id: Display + Hash>(
    row: &Row<'_>,
    what: &str,
    id: &Id,
    known: impl Fn(&Id) -> bool,
) -> Result<()> {
    if known(id) { Ok(()) } else { Err(row.broken(format!("{what} {id} is not in {what}s.csv"))) }
}

impl NorthwindOrder {
    fn new(create: CreateOrder, shipped: Option<Date>) -> Self {
        let order = create.order.clone();
        let amount = Sale::of(&create.customer, &create.country, &create.lines).net;
        let sent = |on| (ShipOrder { order: order.clone(), on }, DeliverOrder { order: order.clone() });
        Self {
            confirm: ConfirmOrder { order: order.clone() },
            pay: PayOrder { order: order.clone(), amount },
            sent: shipped.map(sent),
            create,
        }
    }

    /// Handles all commands in turn, as the service will: `handle` and `apply` are pure.
    fn rehearse(&self) -> Result<(), OrderRejection> {
        let mut order = Order::default();
        step(&mut order, &self.create)?;
        step(&mut order, &self.confirm)?;
        step(&mut order, &self.pay)?;
        if let Some((ship, deliver)) = &self.sent {
            step(&mut order, ship)?;
            step(&mut order, deliver)?;
        }
        Ok(())
    }
}

fn step<C>(order: &mut Order, command: &C) -> Result<(), OrderRejection>
where
    C: Command<Aggregate = Order>,
    Order: Handle<C>,
{
    let context = Context::new(CommandId::derived(["rehearsal"]), Timestamp::UNIX_EPOCH);
    for event in &order.handle(command, &context)? {
        order.apply(event);
    }
    Ok(())
}
