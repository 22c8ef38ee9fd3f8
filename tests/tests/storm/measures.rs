//! How long callers wait when a server fails: figures, which depend on the machine, so no test asserts them.

use std::time::Duration;

use cqrs_tests::{
    cluster::Cluster,
    eventually,
    history::{Call, Entry},
};
use tokio::time::{Instant, sleep};

use crate::{
    MACHINE,
    random::{self, Random},
    workload::{Bank, Workload},
};

/// How often each is measured.
const ROUNDS: usize = 5;

/// The measured faults.
#[derive(Debug, Clone, Copy)]
enum Loss {
    /// The server is killed and comes back at once.
    Crash,
    /// The server stops in order and comes back at once.
    Restart,
    /// The stream's leader is killed and stays away until there is another.
    Leader,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures and asserts nothing: run it with `--ignored --nocapture`"]
async fn how_long_a_caller_waits_when_the_only_server_restarts() {
    measure(1, &[Loss::Crash, Loss::Restart]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures and asserts nothing: run it with `--ignored --nocapture`"]
async fn how_long_a_caller_waits_when_the_leader_of_three_is_killed() {
    measure(3, &[Loss::Leader]).await;
}

async fn measure(servers: usize, losses: &[Loss]) {
    let _machine = MACHINE.lock().await;
    let mut cluster = Cluster::start(servers).await;
    let bank = Bank::open(&cluster).await;
    for loss in losses {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let workload = Workload::start(&bank.services, Random::new(random::seed()));
            let start = Instant::now();
            // The load must be running before and after.
            sleep(Duration::from_secs(1)).await;
            let begun = start.elapsed();
            let recovered = strike(&mut cluster, &bank.stream(), *loss).await;
            sleep(Duration::from_secs(1)).await;
            let history = workload.stop().await;
            rounds.push((longest_wait(&history, begun), longest_without(&history, begun), recovered));
        }
        eprintln!("{servers} servers, {loss:?}: longest wait (before, without a server or leader):");
        for (wait, before, recovered) in rounds {
            eprintln!("  {wait:.2?} ({before:.2?}, {recovered:.2?})");
        }
    }
}

/// Returns how long it took until the servers were ready again.
async fn strike(cluster: &mut Cluster, stream: &str, loss: Loss) -> Duration {
    let start = Instant::now();
    let node = cluster.leader(stream).await.unwrap_or_default();
    match loss {
        Loss::Crash => cluster.kill(node).await,
        Loss::Restart => cluster.stop(node).await,
        Loss::Leader => {
            cluster.kill(node).await;
            eventually("another leads", async || {
                cluster.leader(stream).await.is_some_and(|leader| leader != node)
            })
            .await;
        }
    }
    let led = start.elapsed();
    cluster.restart(node).await;
    let ready = if matches!(loss, Loss::Leader) { led } else { start.elapsed() };
    eventually("the stream is healthy", async || cluster.is_healthy(stream).await).await;
    ready
}

/// The calls that were in progress when the server was lost, or began while it was down.
fn longest_wait(history: &[Entry], lost: Duration) -> Duration {
    longest(history, |call| call.end > lost && call.start < lost + Duration::from_millis(100))
}

/// The calls before, which wait only for each other.
fn longest_without(history: &[Entry], lost: Duration) -> Duration {
    longest(history, |call| call.end < lost)
}

fn longest(history: &[Entry], counts: impl Fn(&Call) -> bool) -> Duration {
    let calls = history.iter().flat_map(|entry| &entry.calls).filter(|call| counts(call));
    calls.map(Call::length).max().unwrap_or_default()
}
