//! `serve`: keeps the views current and fulfils submitted orders.

use std::{io::Write, time::Duration};

use anyhow::Result;
use cqrs_core::operate::{ProjectorState, ProjectorStatus};
use order_service::OrderService;

/// How often the projectors are checked.
const LOOK: Duration = Duration::from_secs(1);

/// Runs until Ctrl-C, and prints each change of the projectors' health.
pub(crate) async fn run(service: &OrderService, words: &str, out: &mut impl Write) -> Result<()> {
    writeln!(out, "{words}")?;
    writeln!(
        out,
        "The views are kept up to date, and submitted orders go their way, until Ctrl-C; status shows how far they are."
    )?;
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
                for news in troubles.look(&service.projectors()) {
                    anstream::eprintln!("{news}");
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

/// Reports each trouble once, if it lasts from one check to the next, and reports once that all are over. Shorter
/// troubles are normal: a projector becomes a standby or active whenever another process starts or ends.
#[derive(Default)]
struct Troubles {
    last: Vec<String>,
    told: Vec<String>,
}

impl Troubles {
    fn look(&mut self, projectors: &[ProjectorStatus]) -> Vec<String> {
        let now: Vec<_> = projectors.iter().filter_map(trouble).collect();
        let lasting =
            now.iter().filter(|trouble| self.last.contains(trouble) && !self.told.contains(trouble));
        let mut news: Vec<_> = lasting.cloned().collect();
        self.told.extend(news.iter().cloned());
        if now.is_empty() && !self.told.is_empty() {
            self.told.clear();
            news.push("everything is followed again".to_owned());
        }
        self.last = now;
        news
    }
}

fn trouble(status: &ProjectorStatus) -> Option<String> {
    let view = &status.projection;
    match &status.state {
        ProjectorState::Retrying { reason } => Some(format!("{view} waits and tries again: {reason}")),
        ProjectorState::Halted { reason } => Some(format!("{view} has halted: {reason}")),
        _ => None,
    }
}
