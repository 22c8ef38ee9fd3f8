//! `serve`: keeps the views up to date.

use std::{io::Write, time::Duration};

use anyhow::Result;
use cqrs_core::{Backend, ProjectorState, ProjectorStatus};
use order_service::OrderService;

/// How often the projectors are looked after.
const LOOK: Duration = Duration::from_secs(1);

/// Runs until Ctrl-C, and says what the projectors do when that changes for the worse or the better.
pub(crate) async fn run<B: Backend>(
    service: &OrderService<B>,
    words: &str,
    out: &mut impl Write,
) -> Result<()> {
    writeln!(out, "{words}")?;
    writeln!(out, "The views are kept up to date until Ctrl-C.")?;
    out.flush()?;
    let mut troubles = Vec::new();
    let mut looks = tokio::time::interval(LOOK);
    let told_to_stop = told_to_stop();
    tokio::pin!(told_to_stop);
    loop {
        tokio::select! {
            stopped = &mut told_to_stop => {
                stopped?;
                break;
            }
            _ = looks.tick() => say_what_changed(&mut troubles, &service.projectors()),
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

/// Tells the operator once about each trouble, and once that it is over.
fn say_what_changed(troubles: &mut Vec<String>, now: &[ProjectorStatus]) {
    let now: Vec<_> = now.iter().filter_map(trouble).collect();
    for trouble in now.iter().filter(|trouble| !troubles.contains(trouble)) {
        anstream::eprintln!("{trouble}");
    }
    if now.is_empty() && !troubles.is_empty() {
        anstream::eprintln!("all views are followed again");
    }
    *troubles = now;
}

fn trouble(status: &ProjectorStatus) -> Option<String> {
    let view = &status.projection;
    match &status.state {
        ProjectorState::Retrying { reason } => Some(format!("{view} waits and tries again: {reason}")),
        ProjectorState::Halted { reason } => Some(format!("{view} has halted: {reason}")),
        _ => None,
    }
}
