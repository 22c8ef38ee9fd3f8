//! The servers for the measurements, which belong to this program.

use std::fs;

use anyhow::{Context as _, Result};
use cqrs_benches::domain::{CreateOrder, KeptOrder, Order};
use cqrs_core::{Backend, Cqrs};
use cqrs_nats::Nats;
use cqrs_nats_server::LocalServer;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::{raw::Raw, rounds::as_f64};

/// When the server writes acknowledged messages to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    /// Every two minutes, the server's default.
    Default,
    /// Before it acknowledges.
    Always,
}

/// A service of orders without views.
pub(crate) type Orders = Cqrs<(Order, KeptOrder), ()>;

/// A private nats-server.
pub(crate) struct Server {
    process: LocalServer,
    sync: Sync,
}

impl Server {
    pub(crate) async fn start(sync: Sync) -> Result<Self> {
        let lines = match sync {
            Sync::Default => "",
            Sync::Always => "jetstream { sync_interval: always }",
        };
        let binary = cqrs_tests::server_binary().await;
        let process = LocalServer::builder(binary).config(lines).start().await?;
        Ok(Self { process, sync })
    }

    /// The address for clients.
    pub(crate) fn url(&self) -> &str {
        self.process.url()
    }

    /// A connection of the framework of its own.
    pub(crate) async fn nats(&self) -> Result<Nats> {
        Ok(Nats::connect(self.process.url()).await?)
    }

    /// A context with its service, each on a connection of its own, with so many cached aggregates.
    pub(crate) async fn orders(&self, context: &str, cached: u64) -> Result<Orders> {
        orders(self.nats().await?.context(context).await?, cached).await
    }

    /// The client alone, with messages like those of the framework in this context.
    pub(crate) async fn raw(&self, context: &str) -> Result<Raw> {
        let service = self.orders(context, 10).await?;
        let raw = Raw::new(async_nats::connect(self.process.url()).await?, context, &service).await;
        service.stop().await;
        raw
    }

    /// The conditions of the results.
    pub(crate) async fn setting(&self) -> Result<String> {
        let nats = self.nats().await?;
        let sync = match self.sync {
            Sync::Default => "sync_interval 2m (default)",
            Sync::Always => "sync_interval always",
        };
        Ok(format!("nats-server {}, file storage, {sync}, 1 replica", nats.client().server_info().version))
    }

    /// The resident memory of the server, in bytes.
    pub(crate) fn memory(&self) -> Result<u64> {
        resident(&self.process.pid().to_string())
    }
}

/// A service of orders on a backend.
pub(crate) async fn orders<B: Backend>(backend: B, cached: u64) -> Result<Orders> {
    let builder = Cqrs::builder(backend).cached_aggregates(cached);
    Ok(builder.aggregate::<Order>().aggregate::<KeptOrder>().start().await?)
}

/// Places orders of these numbers, many at a time.
pub(crate) async fn place(service: &Orders, orders: impl IntoIterator<Item = u64>) -> Result<()> {
    let placed = stream::iter(orders).map(|order| async move {
        service.execute(CreateOrder::usual(order)).await?;
        anyhow::Ok(())
    });
    placed.buffer_unordered(64).try_collect().await
}

/// The processor time of this process, in seconds, to the hundredth.
pub(crate) fn processor_time() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name of the program, in parentheses, may have spaces in it.
    let (_, fields) = stat.rsplit_once(')').context("no program in /proc/self/stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    Ok(as_f64(ticks.sum::<Result<u64, _>>()?) / 100.0)
}

/// The resident memory of a process, in bytes: `self` or its number.
pub(crate) fn resident(process: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}
