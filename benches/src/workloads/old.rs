//! Old aggregates, whose events are scattered over a large stream.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use cqrs_benches::domain::{PayKeptOrder, PayOrder};
use cqrs_core::port::BoxFuture;
use cqrs_nats::NatsBackend;
use tokio::task::JoinSet;

use crate::{
    cli::Options,
    raw::{Kind, Raw},
    report::{Goal, Group, Unit, beside_the_first},
    rounds::{Contender, as_f64, in_turn},
    server::{Orders, Server, Sync, orders, place},
    workloads::{
        commands::commanding,
        loads::{Kept, cold, refused, snapshot, with_snapshots},
    },
};

/// How many events an old order has.
const LENGTH: u64 = 100;

/// At which of them the snapshot is, for a snapshot that is not at the end.
const EARLIER: u64 = 76;

/// How many commands of each kind a round has: each needs an order that was not loaded before.
const OF_EACH: u64 = 40;

/// How many clients load old orders during other measurements.
const LOADERS: u64 = 4;

/// The orders that are in memory.
const HOT: u64 = 100_000_000;

pub(crate) async fn run(options: &Options) -> Result<Group> {
    let server = Server::start(Sync::Default).await?;
    let raw = server.raw("old").await?;
    let backend = server.nats().await?.context("old").await?;
    let touched = OF_EACH * u64::from(options.rounds + 1);
    // Half of them keep snapshots, of which some get a snapshot at the end and some earlier.
    let all = options.events / LENGTH / 2;
    ensure!(all >= 5 * touched, "--events must be at least {}", 10 * touched * LENGTH);
    let (fresh, earlier) = (1..1 + touched, 1 + touched..1 + 2 * touched);
    let by_hand = earlier.end..earlier.end + touched;
    // These are only loaded.
    let untouched = by_hand.end..all;
    let loaded = untouched.start..untouched.start + touched;
    for version in 1..EARLIER {
        raw.fill(Kind::Order, 1..all, version..version + 1).await?;
        raw.fill(Kind::KeptOrder, 1..all, version..version + 1).await?;
    }
    with_snapshots(&raw, &backend, earlier.clone()).await?;
    for version in EARLIER..LENGTH {
        raw.fill(Kind::Order, 1..all, version..version + 1).await?;
        raw.fill(Kind::KeptOrder, fresh.clone(), version..version + 1).await?;
        raw.fill(Kind::KeptOrder, earlier.clone(), version + 1..version + 2).await?;
        raw.fill(Kind::KeptOrder, by_hand.start..untouched.end, version..version + 1).await?;
    }
    with_snapshots(&raw, &backend, fresh.clone()).await?;
    let mut by_hand = with_snapshots(&raw, &backend, by_hand).await?.into_iter();
    with_snapshots(&raw, &backend, loaded.clone()).await?;
    // The effect on other clients.
    raw.fill(Kind::Order, all..2 * all, 1..1 + LENGTH / 10).await?;

    let hot = server.orders("old", 2 * options.tasks).await?;
    place(&hot, HOT..HOT + options.tasks).await?;
    let lone = Contender::new("command on an order in memory", Unit::Milliseconds, |time| {
        let paying = commanding(hot.clone(), PayOrder::usual, [HOT], time);
        async move { Ok(1_000.0 / paying.await?) }
    });
    let with_fresh = once(&backend, "command, snapshot at its last event", fresh.start, pay_kept);
    let with_earlier = once(&backend, "command, 24 events after its snapshot", earlier.start, pay_kept);
    let without = once(&backend, "command, no snapshot", 1, pay);
    let reads = Contender::new("two direct gets and a publish, for a snapshot", Unit::Milliseconds, |_| {
        let orders = (0..OF_EACH).filter_map(|_| by_hand.next()).collect();
        by_the_client(raw.clone(), orders)
    });
    let lines = in_turn(options, vec![lone, with_fresh, with_earlier, without, reads]).await?;
    let mut lines = beside_the_first(lines, |place| (place == 0).then_some(Goal::AtMost(5.0)));

    let tasks = options.tasks;
    let others = |what: &str, loaders: Loaders, numbers: Range<u64>| {
        let (hot, server) = (hot.clone(), &server);
        let what = format!("commands of {tasks} tasks, {what}");
        Contender::new(what, Unit::CommandsPerSecond, move |time| {
            let (hot, numbers) = (hot.clone(), numbers.clone());
            async move {
                let mut loading = JoinSet::new();
                for loader in 0..LOADERS {
                    let backend = server.nats().await?.context("old").await?;
                    let numbers = numbers.clone().filter(|order| order % LOADERS == loader).collect();
                    loading.spawn(loaders(backend, numbers, time));
                }
                let measured = commanding(hot, PayOrder::usual, HOT..HOT + tasks, time).await;
                loading.abort_all();
                while let Some(ended) = loading.join_next().await {
                    // An error of a loader fails the measurement; that it was ended does not.
                    ended.unwrap_or(Ok(()))?;
                }
                measured
            }
        })
    };
    let alone = others("alone", |_, _, _| Box::pin(async { Ok(()) }), 0..0);
    let snapshots: Loaders = |backend, numbers, time| {
        Box::pin(async move { cold(backend, numbers, refused, time * 2).await.map(drop) })
    };
    let beside_snapshots = others("4 clients load with snapshots", snapshots, loaded);
    let replays: Loaders = |backend, numbers, time| {
        Box::pin(async move { cold(backend, numbers, PayOrder::refused, time * 2).await.map(drop) })
    };
    let beside_replays = others("4 clients load without snapshots", replays, untouched);
    let with_loaders = in_turn(options, vec![alone, beside_snapshots, beside_replays]).await?;
    // Without snapshots the effect remains, which the last line shows.
    lines.extend(beside_the_first(with_loaders, |place| (place == 0).then_some(Goal::AtLeast(0.5))));
    hot.stop().await;
    let title = format!("Old orders: {LENGTH} events scattered over {} messages", options.events);
    Ok(Group { title, setting: server.setting().await?, lines })
}

type Loaders = fn(NatsBackend, Vec<u64>, Duration) -> Loading;
type Loading = BoxFuture<'static, Result<()>>;

/// Pays the next so many orders, each once, on a service that has not loaded them.
fn once<'a>(backend: &'a NatsBackend, what: &str, first: u64, pay: PayOnce) -> Contender<'a> {
    let next = Arc::new(AtomicU64::new(first));
    Contender::new(what, Unit::Milliseconds, move |_| {
        let (backend, first) = (backend.clone(), next.fetch_add(OF_EACH, Ordering::Relaxed));
        async move {
            let service = orders(backend, OF_EACH).await?;
            let begin = Instant::now();
            pay(service.clone(), first).await?;
            let took = begin.elapsed();
            service.stop().await;
            Ok(took.as_secs_f64() * 1_000.0 / as_f64(OF_EACH))
        }
    })
}

/// The server's work for a command on an order with a snapshot: the snapshot, the commit that it ends with, and the
/// append.
async fn by_the_client(raw: Raw, orders: Vec<Kept>) -> Result<f64> {
    let begin = Instant::now();
    for Kept { order, last } in &orders {
        ensure!(snapshot(&raw, *order).await?, "no snapshot of order {order}");
        let found = raw.get_batch(&raw.subject(Kind::KeptOrder, *order), *last, 16).await?;
        ensure!(found.len() == 1, "{} messages after the snapshot, not 1", found.len());
        raw.append_once(Kind::KeptOrder, *order, LENGTH + 1, *last).await?;
    }
    Ok(begin.elapsed().as_secs_f64() * 1_000.0 / as_f64(OF_EACH))
}

type PayOnce = fn(Orders, u64) -> Loading;

fn pay_kept(service: Orders, first: u64) -> Loading {
    Box::pin(async move {
        for order in first..first + OF_EACH {
            service.execute(PayKeptOrder::from(PayOrder::usual(order))).await?;
        }
        Ok(())
    })
}

fn pay(service: Orders, first: u64) -> Loading {
    Box::pin(async move {
        for order in first..first + OF_EACH {
            service.execute(PayOrder::usual(order)).await?;
        }
        Ok(())
    })
}
