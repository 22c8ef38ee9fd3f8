//! What is measured.

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

use crate::{
    cli::{Options, Workload},
    report::Group,
};

/// Every workload, in the order in which `all` runs them.
pub(crate) const ALL: [Workload; 5] =
    [Workload::Commands, Workload::Hot, Workload::Sync, Workload::Loads, Workload::Old];

/// Runs one workload.
pub(crate) async fn run(workload: Workload, options: &Options) -> Result<Group> {
    match workload {
        Workload::Commands => commands::run(options).await,
        Workload::Hot => hot::run(options).await,
        Workload::Sync => sync::run(options).await,
        Workload::Loads => loads::run(options).await,
        Workload::Old => old::run(options).await,
        Workload::Projections => projections::run(options).await,
        Workload::Flat => flat::run(options).await,
        Workload::Core => core::run(options).await,
        Workload::Peers => peers::run(options).await,
        Workload::Derives => derives::run(options).await,
    }
}
