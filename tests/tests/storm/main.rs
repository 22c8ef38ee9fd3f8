//! The write side under faults: real servers that are killed, paused and restarted, connections that
//! break in every way, many callers, and a checker that compares what they saw with the log.
//!
//! `STORM_SEED` repeats the choices of an earlier run (not its timing), and `STORM_SECONDS` makes the
//! storms last longer than they do by default.
//!
//! Not with the feature `testcontainers`: its servers are its own, so a container changes nothing.
#![cfg(not(feature = "testcontainers"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod checker;
mod faults;
mod in_a_file;
mod in_order;
mod measures;
mod naive;
mod random;
mod workload;

use std::{env, time::Duration};

use cqrs_tests::{
    cluster::Cluster,
    history::{Call, Entry, check, story},
};
use tokio::sync::Mutex;

use crate::{
    faults::Weather,
    random::Random,
    workload::{Bank, Workload},
};

/// The storms and the measurements take the whole machine: one at a time.
static MACHINE: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn one_server_in_a_storm() {
    storm(1, Duration::from_mins(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_in_a_storm() {
    storm(3, Duration::from_secs(90)).await;
}

async fn storm(servers: usize, length: Duration) {
    let _machine = MACHINE.lock().await;
    let seed = number("STORM_SEED").unwrap_or_else(random::seed);
    let length = number("STORM_SECONDS").map_or(length, Duration::from_secs);
    eprintln!("storm over {servers} servers for {length:?}: STORM_SEED={seed}");
    let mut random = Random::new(seed);
    let mut cluster = Cluster::start(servers).await;
    let bank = Bank::open(&cluster).await;
    let workload = Workload::start(&bank.services, random.fork());
    let counts = Weather::new(&mut cluster, &bank, random.fork()).rage(length).await;
    let history = workload.stop().await;
    let log = bank.log(&cluster).await;
    let violations = check(&history, &log);
    eprintln!("{}", summary(&history, log.len()));
    eprintln!("  faults: {} {counts:?}", counts.values().sum::<usize>());
    for violation in violations.iter().take(5) {
        eprintln!("{violation}\n{}", story(&violation.account, &history, &log));
    }
    assert!(violations.is_empty(), "STORM_SEED={seed}: {} violations, {:?}", violations.len(), violations[0]);
    assert!(counts.values().sum::<usize>() > 0 && !log.is_empty(), "there was a storm");
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// The figures of a history.
fn summary(history: &[Entry], commits: usize) -> String {
    let calls: Vec<_> = history.iter().flat_map(|entry| &entry.calls).collect();
    let mut outcomes = std::collections::BTreeMap::<&str, usize>::new();
    for call in &calls {
        *outcomes.entry(workload::name_of(&call.outcome)).or_default() += 1;
    }
    let longest = history.iter().max_by_key(|entry| entry.calls.iter().map(Call::length).max());
    format!(
        "  {} commands, {} calls, {commits} commits: {outcomes:?}\n  longest wait: {}",
        history.len(),
        calls.len(),
        longest.map(ToString::to_string).unwrap_or_default()
    )
}
