//! Runs one peer for a while and prints one number; see `--help`. The program `cqrs-benches` runs it in turn with
//! this framework, on the same servers.

mod cqrs_es;
mod disintegrate;
mod esrc;
mod eventcore;
mod eventsourced;
mod order;
mod peer;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use futures::future::try_join_all;
use uuid::Uuid;

use crate::{order::Wanted, peer::Peer};

/// One event-sourcing framework, as it is published, with the reference order.
#[derive(Debug, Parser)]
struct Cli {
    peer: Which,
    /// Its server: postgres://… or nats://….
    #[arg(long)]
    url: String,
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Which {
    CqrsEs,
    Disintegrate,
    Eventcore,
    Eventsourced,
    Esrc,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Measure {
    /// Commands per second.
    Commands {
        /// How many tasks there are, each on an order of its own.
        #[arg(long)]
        tasks: u64,
        /// How many commands an order gets before its task takes a new one; 0 is any number.
        #[arg(long)]
        each: u64,
    },
    /// Milliseconds for a command that is refused, on an order with so many events of which nothing is held.
    Load {
        #[arg(long)]
        events: u64,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let number = match cli.peer {
        Which::CqrsEs => measure::<cqrs_es::CqrsEs>(&cli).await,
        Which::Disintegrate => measure::<disintegrate::Disintegrate>(&cli).await,
        Which::Eventcore => measure::<eventcore::Eventcore>(&cli).await,
        Which::Eventsourced => measure::<eventsourced::Eventsourced>(&cli).await,
        Which::Esrc => measure::<esrc::Esrc>(&cli).await,
    };
    println!("{}", number?);
    Ok(())
}

async fn measure<P: Peer>(cli: &Cli) -> Result<f64> {
    let peer = P::open(&cli.url).await?;
    let time = Duration::from_secs_f64(cli.seconds);
    match cli.measure {
        Measure::Commands { tasks, each } => commands(&peer, tasks, each, time).await,
        Measure::Load { events } => load(&peer, events, time).await,
    }
}

async fn commands<P: Peer>(peer: &P, tasks: u64, each: u64, time: Duration) -> Result<f64> {
    // Every connection is open before the time begins.
    try_join_all((0..tasks).map(|_| task(peer.clone(), 1, Duration::ZERO))).await?;
    let begin = Instant::now();
    let tasks = (0..tasks).map(|_| tokio::spawn(task(peer.clone(), each, time)));
    let mut done = 0;
    for task in try_join_all(tasks).await? {
        done += task?;
    }
    Ok(done as f64 / begin.elapsed().as_secs_f64())
}

/// At least one command.
async fn task<P: Peer>(peer: P, each: u64, time: Duration) -> Result<u64> {
    let begin = Instant::now();
    let mut done = 0;
    loop {
        let mut held = peer.hold(Uuid::new_v4()).await?;
        let mut wanted = Wanted::Create;
        for on_this in 0.. {
            if on_this == each && each > 0 {
                break;
            }
            ensure!(peer.carry_out(&mut held, wanted).await?, "{wanted:?} was refused");
            wanted = Wanted::Pay;
            done += 1;
            if begin.elapsed() >= time {
                return Ok(done);
            }
        }
    }
}

async fn load<P: Peer>(peer: &P, events: u64, time: Duration) -> Result<f64> {
    let orders: Vec<Uuid> = (0..8).map(|_| Uuid::new_v4()).collect();
    for order in &orders {
        let mut held = peer.hold(*order).await?;
        for event in 0..events {
            let wanted = if event == 0 { Wanted::Create } else { Wanted::Pay };
            ensure!(peer.carry_out(&mut held, wanted).await?, "{wanted:?} was refused");
        }
    }
    let (begin, mut loads) = (Instant::now(), 0);
    while begin.elapsed() < time {
        let mut held = peer.hold(orders[loads % orders.len()]).await?;
        ensure!(!peer.carry_out(&mut held, Wanted::PayNothing).await?, "it was to be refused");
        loads += 1;
    }
    Ok(begin.elapsed().as_secs_f64() * 1_000.0 / loads as f64)
}
