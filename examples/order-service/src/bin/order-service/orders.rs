//! `orders`: a list of orders, page by page.

use std::io::Write;

use anyhow::Result;
use order_service::{
    OrderService,
    views::{ListOrders, OrderRow},
};

use crate::{
    cli::Format,
    tables::Table,
    terminal::{argument, wrapped},
};

/// Queries one page and prints it, with the start of the next one; `empty` says why there may be no orders at all.
pub(crate) async fn run(
    service: &OrderService,
    wanted: ListOrders,
    format: Format,
    empty: &str,
    out: &mut impl Write,
) -> Result<()> {
    service.caught_up().await?;
    let all = ListOrders { limit: 1, ..ListOrders::default() };
    let has_none = service.query(all).await?.orders.is_empty();
    let page = service.query(wanted).await?;
    match format {
        Format::Json => {
            writeln!(out, "{}", serde_json::to_string_pretty(&page)?)?;
            if page.orders.is_empty() {
                anstream::eprintln!("{}", wrapped(&none(has_none, empty), 0));
            }
        }
        Format::Text => {
            let columns = ["order", "status", "placed", "country", "customer"];
            let mut table = Table::new(&columns, &["net"]).with_names(4);
            for OrderRow { order, summary } in &page.orders {
                let status = summary.status.to_string();
                let placed = summary.placed.map(|placed| placed.to_string()).unwrap_or_default();
                let sale = summary.sale.as_ref();
                let country = sale.map_or("", |sale| sale.country.as_str());
                let customer = sale.map_or("", |sale| sale.customer.name.as_str());
                let net = sale.map(|sale| sale.net.to_string()).unwrap_or_default();
                table.row(&[order, &status, &placed, country, customer], &[net]);
            }
            if table.is_empty() {
                return Ok(writeln!(out, "{}", wrapped(&none(has_none, empty), 0))?);
            }
            writeln!(out, "{table}")?;
            if let Some(next) = &page.next {
                writeln!(out, "\nThere are more: --after {}", argument(next))?;
            }
        }
    }
    Ok(())
}

/// Why no orders are listed.
fn none(has_none: bool, empty: &str) -> String {
    if has_none { format!("There are no orders. {empty}") } else { "No order is like that.".to_owned() }
}
