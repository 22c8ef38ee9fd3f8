//! The workloads.

mod commands;
pub(crate) mod core;
mod derives;
mod flat;
mod hot;
mod loads;
mod old;
mod peers;
mod projections;
mod sync;

use anyhow::Result;

use futures_util::future::LocalBoxFuture;

use crate::{
    cli::{Options, Workload},
    report::Group,
};

/// Every workload, in the order in which `all` runs them.
pub(crate) const ALL: [Workload; 10] = [
    Workload::Commands,
    Workload::Hot,
    Workload::Sync,
    Workload::Loads,
    Workload::Old,
    Workload::Projections,
    Workload::Flat,
    Workload::Core,
    Workload::Derives,
    Workload::Peers,
];

/// Runs one workload.
pub(crate) async fn run(workload: Workload, options: &Options) -> Result<Group> {
    // Each is a large future, and there are many.
    let running: LocalBoxFuture<'_, Result<Group>> = match workload {
        Workload::Commands => Box::pin(commands::run(options)),
        Workload::Hot => Box::pin(hot::run(options)),
        Workload::Sync => Box::pin(sync::run(options)),
        Workload::Loads => Box::pin(loads::run(options)),
        Workload::Old => Box::pin(old::run(options)),
        Workload::Projections => Box::pin(projections::run(options)),
        Workload::Flat => Box::pin(flat::run(options)),
        Workload::Core => Box::pin(core::run(options)),
        Workload::Peers => Box::pin(peers::run(options)),
        Workload::Derives => Box::pin(derives::run(options)),
    };
    running.await
}
