//! The framework's side of the workloads on a nats-server, and nothing else: for profilers.
//!
//! `on_nats nats://127.0.0.1:4222 commands 10` carries out commands of 64 tasks for ten seconds; `loads` loads orders of
//! 1,000 events again and again; `catch-up` makes a view in memory again and again.

use std::time::{Duration, Instant};

use cqrs_benches::domain::{CreateOrder, Order, OrderSummary, PayOrder};
use cqrs_core::{Cqrs, memory::MemoryViews};
use cqrs_nats::{Nats, NatsEvents};

const TASKS: u64 = 64;
const EVENTS: u64 = 1_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("which server?")?;
    let what = arguments.next().ok_or("commands, loads or catch-up?")?;
    let time = Duration::from_secs(arguments.next().ok_or("how many seconds?")?.parse()?);
    let events = Nats::connect(&url).await?.context("profiled").await?.events;
    let service =
        Cqrs::builder((events.clone(), MemoryViews::default())).aggregate::<Order>().start().await?;
    for order in 0..TASKS {
        // They may be there from an earlier run.
        let _ = service.execute(CreateOrder::usual(order)).await;
    }
    let begin = Instant::now();
    let mut done = 0;
    match &*what {
        "commands" => {
            let tasks: Vec<_> = (0..TASKS)
                .map(|order| {
                    let service = service.clone();
                    tokio::spawn(async move {
                        let mut done = 0;
                        while begin.elapsed() < time {
                            service.execute(PayOrder::usual(order)).await.expect("a receipt");
                            done += 1;
                        }
                        done
                    })
                })
                .collect();
            for task in tasks {
                done += task.await?;
            }
        }
        "loads" => {
            for version in 0..EVENTS {
                let paid = (0..TASKS).map(|order| service.execute(PayOrder::usual(order)));
                futures_util::future::try_join_all(paid)
                    .await
                    .map_err(|error| format!("{version}: {error}"))?;
            }
            let begin = Instant::now();
            while begin.elapsed() < time {
                done += loaded(&events).await?;
            }
        }
        _ => {
            while begin.elapsed() < time {
                let builder = Cqrs::builder((events.clone(), MemoryViews::default()));
                let service = builder.aggregate::<Order>().view::<OrderSummary>().start().await?;
                service.caught_up().await?;
                done += service.projectors()[0].sequence;
                service.stop().await;
            }
        }
    }
    println!("{done} in {:?}", begin.elapsed());
    Ok(())
}

/// Loads each order once in a new service.
async fn loaded(events: &NatsEvents) -> Result<u64, Box<dyn std::error::Error>> {
    let service =
        Cqrs::builder((events.clone(), MemoryViews::default())).aggregate::<Order>().start().await?;
    for order in 0..TASKS {
        assert!(service.execute(PayOrder::refused(order)).await.is_err(), "it is refused");
    }
    service.stop().await;
    Ok(TASKS)
}
