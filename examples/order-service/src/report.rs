//! `report`: what the views say about sales.

use std::io::Write;

use anyhow::Result;
use cqrs_core::Backend;
use order_service::{
    OrderService,
    views::{
        CountrySales, CustomerSales, GetTotals, OrderBy, Sales, SalesTotals, TopCountries, TopCustomers,
    },
};
use serde::Serialize;

use crate::{
    cli::Format,
    tables::{SALES, Table, sales},
};

#[derive(Debug, Serialize)]
struct Report {
    totals: Totals,
    countries: Vec<CountrySales>,
    customers: Vec<CustomerSales>,
}

#[derive(Debug, Serialize)]
struct Totals {
    #[serde(flatten)]
    sales: Sales,
    shipped: u64,
    never_shipped: u64,
}

/// Asks the views and prints the answers.
pub(crate) async fn run<B: Backend>(
    service: &OrderService<B>,
    format: Format,
    out: &mut impl Write,
) -> Result<()> {
    // The projectors go on from their checkpoints; they have work only if another process was killed.
    service.caught_up().await?;
    let totals: SalesTotals = service.query(GetTotals).await?;
    let never_shipped = totals.never_shipped();
    let report = Report {
        totals: Totals { sales: totals.sales, shipped: totals.shipped, never_shipped },
        countries: service.query(TopCountries { by: OrderBy::Net, limit: None }).await?,
        customers: service.query(TopCustomers { by: OrderBy::Net, limit: None }).await?,
    };
    match format {
        Format::Text => report.write_tables(out)?,
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?,
    }
    Ok(())
}

impl Report {
    fn write_tables(&self, out: &mut impl Write) -> Result<()> {
        let mut countries = Table::new(&["country"], SALES);
        for row in &self.countries {
            countries.row(&[&row.country], &sales(&row.sales));
        }
        countries.row(&["all"], &sales(&self.totals.sales));
        let mut customers = Table::new(&["customer", "name"], SALES);
        for row in &self.customers {
            let name = row.name.as_ref().map_or("", |name| name.as_str());
            customers.row(&[&row.customer, name], &sales(&row.sales));
        }
        customers.row(&["all", ""], &sales(&self.totals.sales));
        writeln!(out, "Sales by country\n{countries}\n\nSales by customer\n{customers}\n")?;
        let Totals { shipped, never_shipped, .. } = self.totals;
        writeln!(out, "{shipped} orders were shipped, {never_shipped} were not.")?;
        Ok(())
    }
}
