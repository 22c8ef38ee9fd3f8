//! Figures about sales: in all, by country and by customer.
//!
//! An order is a sale from its confirmation on; a cancellation after that removes the sale. Both events carry the sale,
//! so these views need no data about single orders.

use std::cmp::Reverse;

use cqrs_core::{Answer, Documents, Envelope, Error, Project, Query, View};
use serde::{Deserialize, Serialize};

use crate::domain::{Money, Name, Order, OrderEvent, Sale};

/// Sums over sales.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sales {
    /// How many orders.
    pub orders: u64,
    /// How many lines they have.
    pub lines: u64,
    /// How many pieces they order.
    pub units: u64,
    /// Their sum before discounts.
    pub gross: Money,
    /// Their sum less the discounts.
    pub net: Money,
}

impl Sales {
    fn add(&mut self, sale: &Sale) {
        self.orders += 1;
        self.lines += u64::from(sale.lines);
        self.units += sale.units;
        self.gross += sale.gross;
        self.net += sale.net;
    }

    fn take_out(&mut self, sale: &Sale) {
        self.orders = self.orders.saturating_sub(1);
        self.lines = self.lines.saturating_sub(u64::from(sale.lines));
        self.units = self.units.saturating_sub(sale.units);
        self.gross -= sale.gross;
        self.net -= sale.net;
    }

    fn follow(&mut self, event: &OrderEvent) {
        match event {
            OrderEvent::Confirmed { sale } => self.add(sale),
            OrderEvent::Cancelled { undone: Some(sale), .. } => self.take_out(sale),
            _ => {}
        }
    }
}

/// The sale that an event makes or undoes.
fn sale_in(event: &OrderEvent) -> Option<&Sale> {
    match event {
        OrderEvent::Confirmed { sale } | OrderEvent::Cancelled { undone: Some(sale), .. } => Some(sale),
        _ => None,
    }
}

/// All sales in one document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SalesTotals {
    /// The sums.
    pub sales: Sales,
    /// How many of the orders were shipped.
    pub shipped: u64,
}

impl SalesTotals {
    const KEY: &'static str = "all";

    /// How many of the orders were not shipped, or not yet.
    pub fn never_shipped(&self) -> u64 {
        self.sales.orders.saturating_sub(self.shipped)
    }
}

impl View for SalesTotals {
    const NAME: &'static str = "sales-totals";
    type Of = Order;
}

impl Project<OrderEvent> for SalesTotals {
    fn key(event: &Envelope<OrderEvent>) -> Option<String> {
        let counts = sale_in(&event.data).is_some() || matches!(event.data, OrderEvent::Shipped { .. });
        counts.then(|| Self::KEY.to_owned())
    }

    fn project(&mut self, event: &Envelope<OrderEvent>) {
        self.sales.follow(&event.data);
        self.shipped += u64::from(matches!(event.data, OrderEvent::Shipped { .. }));
    }
}

/// Asks for the sums over all sales.
#[derive(Debug, Clone, Serialize, Deserialize, Query)]
#[query(view = SalesTotals, answer = SalesTotals)]
pub struct GetTotals;

impl Answer<GetTotals> for SalesTotals {
    async fn answer(_: GetTotals, documents: &Documents<Self>) -> Result<SalesTotals, Error> {
        // Before the first sale there is no document, and all sums are zero.
        Ok(documents.get(Self::KEY).await?.unwrap_or_default())
    }
}

/// Sales by the country that orders are shipped to, which is the key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SalesByCountry {
    /// The sums.
    pub sales: Sales,
}

impl View for SalesByCountry {
    const NAME: &'static str = "sales-by-country";
    type Of = Order;
}

impl Project<OrderEvent> for SalesByCountry {
    fn key(event: &Envelope<OrderEvent>) -> Option<String> {
        sale_in(&event.data).map(|sale| sale.country.to_string())
    }

    fn project(&mut self, event: &Envelope<OrderEvent>) {
        self.sales.follow(&event.data);
    }
}

/// Sales by customer; the key is the customer's id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SalesByCustomer {
    /// The customer's name in the latest sale.
    pub name: Option<Name>,
    /// The sums.
    pub sales: Sales,
}

impl View for SalesByCustomer {
    const NAME: &'static str = "sales-by-customer";
    type Of = Order;
}

impl Project<OrderEvent> for SalesByCustomer {
    fn key(event: &Envelope<OrderEvent>) -> Option<String> {
        sale_in(&event.data).map(|sale| sale.customer.id.to_string())
    }

    fn project(&mut self, event: &Envelope<OrderEvent>) {
        self.name = sale_in(&event.data).map(|sale| sale.customer.name.clone());
        self.sales.follow(&event.data);
    }
}

/// The sort order of a list of sales; rows with equal figures are sorted by key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderBy {
    /// The most orders.
    Orders,
    /// The highest net sum.
    Net,
}

/// Sorts rows that are sorted by key already; the sort is stable.
fn top<Row>(
    mut rows: Vec<Row>,
    by: OrderBy,
    limit: Option<usize>,
    sales: impl Fn(&Row) -> Sales,
) -> Vec<Row> {
    match by {
        OrderBy::Orders => rows.sort_by_key(|row| Reverse(sales(row).orders)),
        OrderBy::Net => rows.sort_by_key(|row| Reverse(sales(row).net)),
    }
    rows.truncate(limit.unwrap_or(usize::MAX));
    rows
}

/// Asks for the countries with the most sales, or for all.
#[derive(Debug, Clone, Serialize, Deserialize, Query)]
#[query(view = SalesByCountry, answer = Vec<CountrySales>)]
pub struct TopCountries {
    /// The sort order.
    pub by: OrderBy,
    /// How many countries; with `None`, all.
    pub limit: Option<usize>,
}

/// The sales to one country.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountrySales {
    /// The country.
    pub country: String,
    /// The sums.
    #[serde(flatten)]
    pub sales: Sales,
}

impl Answer<TopCountries> for SalesByCountry {
    async fn answer(query: TopCountries, documents: &Documents<Self>) -> Result<Vec<CountrySales>, Error> {
        let row = |(country, view): (String, Self)| CountrySales { country, sales: view.sales };
        let rows = documents.all().await?.into_iter().map(row).filter(|row| row.sales.orders > 0).collect();
        Ok(top(rows, query.by, query.limit, |row| row.sales))
    }
}

/// Asks for the customers with the most sales, or for all.
#[derive(Debug, Clone, Serialize, Deserialize, Query)]
#[query(view = SalesByCustomer, answer = Vec<CustomerSales>)]
pub struct TopCustomers {
    /// The sort order.
    pub by: OrderBy,
    /// How many customers; with `None`, all.
    pub limit: Option<usize>,
}

/// The sales to one customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomerSales {
    /// The customer's id.
    pub customer: String,
    /// The customer's name.
    pub name: Option<Name>,
    /// The sums.
    #[serde(flatten)]
    pub sales: Sales,
}

impl Answer<TopCustomers> for SalesByCustomer {
    async fn answer(query: TopCustomers, documents: &Documents<Self>) -> Result<Vec<CustomerSales>, Error> {
        let row =
            |(customer, view): (String, Self)| CustomerSales { customer, name: view.name, sales: view.sales };
        let rows = documents.all().await?.into_iter().map(row).filter(|row| row.sales.orders > 0).collect();
        Ok(top(rows, query.by, query.limit, |row| row.sales))
    }
}
