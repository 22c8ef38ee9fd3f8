//! `rebuild`: rebuilds a view beside the active build.

use std::{io::Write, time::Duration};

use anyhow::{Context as _, Result};
use cqrs_core::operate::ProjectorStatus;
use indicatif::{ProgressBar, ProgressStyle};
use order_service::OrderService;

use crate::tables::grouped;

/// How often the bar moves.
const TICK: Duration = Duration::from_millis(200);

/// Rebuilds the view, shows the progress, and removes the former build.
pub(crate) async fn run(service: &OrderService, view: &str, out: &mut impl Write) -> Result<()> {
    let mut rebuild = service.rebuild(view).await?;
    let (bar, seen) = (progress_bar(), rebuild.clone());
    let finished = loop {
        tokio::select! {
            finished = rebuild.finished() => break finished,
            () = tokio::time::sleep(TICK) => show(&bar, &seen.progress()),
        }
    };
    bar.finish_and_clear();
    finished.context("the build before it goes on answering")?;
    let commits = grouped(seen.progress().sequence);
    writeln!(out, "{view} was built anew from {commits} commits and answers from now on.")?;
    for removed in service.remove_old_builds(view).await? {
        writeln!(out, "{removed}, which answered before, is removed.")?;
    }
    Ok(())
}

fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("rebuilding {bar:40} {pos}/{len} commits, {msg}") {
        bar.set_style(style);
    }
    bar
}

/// Shows the progress from the framework's status.
fn show(bar: &ProgressBar, status: &ProjectorStatus) {
    bar.set_length(status.sequence + status.pending);
    bar.set_position(status.sequence);
    let left = status.remaining().map_or_else(String::new, |left| format!(", {} s to go", left.as_secs()));
    bar.set_message(format!("{} behind, {}/s{left}", grouped(status.pending), grouped(status.rate)));
}
