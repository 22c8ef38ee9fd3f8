//! `orders`: a list of orders, page by page.

use std::io::Write;

use anyhow::Result;
use order_service::{
    OrderService,
    views::{ListOrders, OrderRow},
};

use crate::{
    cli::Format,
    tables::{Table, exact},
};

/// Queries one page and prints it, with the start of the next one.
pub(crate) async fn run(
    service: &OrderService,
    wanted: ListOrders,
    format: Format,
    out: &mut impl Write,
) -> Result<()> {
    service.caught_up().await?;
    let page = service.query(wanted).await?;
    match format {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&page)?)?,
        Format::Text => {
            let mut table = Table::new(&["order", "status", "placed", "country", "customer"], &["net"]);
            for OrderRow { order, summary } in &page.orders {
                let status = summary.status.to_string();
                let placed = summary.placed.map(|placed| placed.to_string()).unwrap_or_default();
                let sale = summary.sale.as_ref();
                let country = sale.map_or("", |sale| sale.country.as_str());
                let customer = sale.map_or("", |sale| sale.customer.name.as_str());
                let net = sale.map(|sale| exact(sale.net, 2)).unwrap_or_default();
                table.row(&[order, &status, &placed, country, customer], &[net]);
            }
            writeln!(out, "{table}")?;
            if let Some(next) = &page.next {
                writeln!(out, "\nThere are more: --after {next}")?;
            }
        }
    }
    Ok(())
}
