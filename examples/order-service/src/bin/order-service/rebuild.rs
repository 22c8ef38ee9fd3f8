//! `rebuild`: rebuilds a view beside the active build.

use std::{io::Write, time::Duration};

use anyhow::{Context as _, Result};
use cqrs_core::operate::ProjectorStatus;
use indicatif::{ProgressBar, ProgressStyle};
use order_service::{OrderService, grouped};

use crate::terminal::wrapped;

/// How often the bar moves.
const TICK: Duration = Duration::from_millis(200);

/// Rebuilds the view, shows the progress, and removes the former build; `empty` says why the log may be empty.
pub(crate) async fn run(service: &OrderService, view: &str, empty: &str, out: &mut impl Write) -> Result<()> {
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
    let line = match seen.progress().sequence {
        0 => format!("{view} was built anew, and is empty like the log. {empty}"),
        last => format!("{view} was built anew up to sequence {} and answers from now on.", grouped(last)),
    };
    writeln!(out, "{}", wrapped(&line, 0))?;
    for removed in service.remove_old_builds(view).await? {
        writeln!(out, "{}", wrapped(&format!("{removed}, which answered before, is removed."), 2))?;
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
