//! `serve`: runs the projections, and tells what goes wrong.

use std::{io::Write, time::Duration};

use anyhow::Result;
use order_service::OrderService;

use crate::{terminal::wrapped, troubles::Troubles};

/// How often the projectors are checked.
const LOOK: Duration = Duration::from_secs(1);

/// Runs until Ctrl-C, and prints each change of the projectors' health on stderr.
pub(crate) async fn run(
    service: &OrderService,
    words: &str,
    in_memory: bool,
    out: &mut impl Write,
) -> Result<()> {
    writeln!(out, "{}", wrapped(words, 0))?;
    let told = "The views are kept up to date, and submitted orders are fulfilled, until Ctrl-C. With the same stores, \
                order-service status shows how far they are; what is set aside is told here.";
    writeln!(out, "{}", wrapped(told, 0))?;
    if in_memory {
        let alone = "No other process reaches events in memory, so nothing will happen here: name a NATS server with \
                     --nats.";
        writeln!(out, "{}", wrapped(alone, 0))?;
    }
    out.flush()?;
    let mut troubles = Troubles::default();
    let mut looks = tokio::time::interval(LOOK);
    let told_to_stop = told_to_stop();
    tokio::pin!(told_to_stop);
    loop {
        tokio::select! {
            stopped = &mut told_to_stop => {
                stopped?;
                break;
            }
            _ = looks.tick() => {
                for news in troubles.look(service).await {
                    anstream::eprintln!("{}", wrapped(&news, 4));
                }
            }
        }
    }
    writeln!(out, "Stopping: each projector ends with the write that it is in.")?;
    service.stop().await;
    writeln!(out, "Stopped.")?;
    out.flush()?;
    Ok(())
}

/// Resolves at Ctrl-C, or at the signal by which a system ends a service.
#[cfg(unix)]
async fn told_to_stop() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn told_to_stop() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}
