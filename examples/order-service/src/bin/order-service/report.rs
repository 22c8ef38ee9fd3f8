//! `report`: the figures of the views about sales.

use std::io::Write;

use anyhow::{Result, bail};
use order_service::{
    OrderService,
    views::{
        CountrySales, CustomerSales, GetTotals, MonthSales, OrderBy, Sales, SalesTotals, TopCountries,
        TopCustomers,
    },
};
use serde::Serialize;

use crate::{
    cli::Format,
    tables::{SALES, Table, sales},
    terminal::wrapped,
    view_store::Views,
};

#[derive(Debug, Serialize)]
struct Report {
    totals: Totals,
    countries: Vec<CountrySales>,
    customers: Vec<CustomerSales>,
    /// Only where the views are in a database.
    #[serde(skip_serializing_if = "Option::is_none")]
    months: Option<Vec<MonthSales>>,
}

#[derive(Debug, Serialize)]
struct Totals {
    #[serde(flatten)]
    sales: Sales,
    shipped: u64,
    never_shipped: u64,
}

/// Queries the views and prints the answers; `empty` says why there may be none.
pub(crate) async fn run(
    service: &OrderService,
    views: &Views,
    year: Option<i16>,
    format: Format,
    empty: &str,
    out: &mut impl Write,
) -> Result<()> {
    // The projectors continue from their checkpoints; they have work only if another process was killed.
    service.caught_up().await?;
    let months = views.sales_of_year(service, year).await?;
    if year.is_some() && months.is_none() {
        bail!("sales by month are rows of a database: --year needs --views sqlite or postgres");
    }
    let totals: SalesTotals = service.query(GetTotals).await?;
    let never_shipped = totals.never_shipped();
    let report = Report {
        totals: Totals { sales: totals.sales, shipped: totals.shipped, never_shipped },
        countries: service.query(TopCountries { by: OrderBy::Net, limit: None }).await?,
        customers: service.query(TopCustomers { by: OrderBy::Net, limit: None }).await?,
        months,
    };
    let is_empty = report.countries.is_empty();
    match format {
        Format::Text if is_empty => writeln!(out, "{}", wrapped(&format!("There are no sales. {empty}"), 0))?,
        Format::Text => report.write_tables(out)?,
        Format::Json => {
            writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
            if is_empty {
                anstream::eprintln!("{}", wrapped(&format!("There are no sales. {empty}"), 0));
            }
        }
    }
    Ok(())
}

impl Report {
    fn write_tables(&self, out: &mut impl Write) -> Result<()> {
        let mut countries = Table::new(&["country"], SALES).with_names(0);
        for row in &self.countries {
            countries.row(&[&row.country], &sales(&row.sales));
        }
        countries.row(&["all"], &sales(&self.totals.sales));
        let mut customers = Table::new(&["customer", "name"], SALES).with_names(1);
        for row in &self.customers {
            let name = row.name.as_ref().map_or("", |name| name.as_str());
            customers.row(&[&row.customer, name], &sales(&row.sales));
        }
        customers.row(&["all", ""], &sales(&self.totals.sales));
        writeln!(out, "Sales by country\n{countries}\n\nSales by customer\n{customers}\n")?;
        if let Some(rows) = &self.months {
            let mut months = Table::new(&["month", "country"], &["orders", "units", "net"]).with_names(1);
            for MonthSales { month, country, orders, units, net } in rows {
                months.row(&[month, country], &[orders.to_string(), units.to_string(), net.to_string()]);
            }
            writeln!(out, "Sales by month and country\n{months}\n")?;
        }
        let Totals { shipped, never_shipped, .. } = self.totals;
        writeln!(out, "{shipped} orders were shipped, {never_shipped} were not.")?;
        Ok(())
    }
}
