//! Follows the shop on the server of `NATS_URL` to the end of its log, and prints the points of each customer.

use std::env;

use anyhow::{Context as _, Result};
use cqrs_nats::Nats;
use loyalty::AllBalances;

#[tokio::main]
async fn main() -> Result<()> {
    let shop = env::args().nth(1).unwrap_or_else(|| "orders".to_owned());
    let url = env::var("NATS_URL").context("NATS_URL has to name the server on which the shop is")?;
    let nats = Nats::connect(&url).await?;
    let public = nats.public_log(&shop).await?;
    let service = loyalty::start(nats.context(&format!("{shop}-loyalty")).await?, &public).await?;
    // Once for the shop's announcements, and once for the events of this context that follow from them.
    service.caught_up().await?;
    service.caught_up().await?;
    for (customer, points) in service.query(AllBalances).await? {
        println!("{points:>8}  {customer}");
    }
    service.stop().await;
    Ok(())
}
