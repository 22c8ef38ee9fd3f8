//! Follows the shop on the server of `NATS_URL` as far as it goes, and prints who has how many points.

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
    // Once for what the shop has announced, and once for what has come of it here.
    service.caught_up().await?;
    service.caught_up().await?;
    for (customer, points) in service.query(AllBalances).await? {
        println!("{points:>8}  {customer}");
    }
    service.stop().await;
    Ok(())
}
