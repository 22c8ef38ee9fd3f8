//! `status`: the progress of each projection, also if another process runs it.

use std::{io::Write, time::Duration};

use anyhow::{Result, bail};
use cqrs_core::{Clock as _, operate::ProjectorStatus, port::SystemClock};
use jiff::Timestamp;
use order_service::OrderService;
use serde::Serialize;

use crate::{
    cli::Format,
    tables::{Table, lasting},
    view_store::AnyViews,
};

/// The time between two checks, from which the rate is computed.
const BETWEEN: Duration = Duration::from_secs(1);

/// The printed row of one projection.
#[derive(Debug, Serialize)]
struct Row {
    projection: String,
    state: State,
    /// The last sequence of the log that is in the view.
    position: u64,
    commits_behind: u64,
    /// How long the first of them has waited.
    seconds_behind: f64,
    /// How many of them it projects per second.
    rate: u64,
    /// How long that will take; null while the number does not fall.
    seconds_to_go: Option<u64>,
    dead_letters: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    CaughtUp,
    Following,
    StandsStill,
}

impl State {
    fn words(self) -> &'static str {
        match self {
            Self::CaughtUp => "caught up",
            Self::Following => "following",
            Self::StandsStill => "stands still",
        }
    }
}

/// Checks once, and a second time if there are commits to project, to see whether it makes progress.
pub(crate) async fn run(
    service: &OrderService,
    views: &AnyViews,
    format: Format,
    out: &mut impl Write,
) -> Result<()> {
    if matches!(views, AnyViews::Memory(_)) {
        bail!(
            "views in memory are known to their own process alone: status looks at those that are kept elsewhere"
        );
    }
    let first = service.progress().await?;
    let rows = if first.iter().any(|status| status.pending > 0) {
        tokio::time::sleep(BETWEEN).await;
        rows(&first, service.progress().await?, SystemClock.now())
    } else {
        rows(&first, first.clone(), SystemClock.now())
    };
    match format {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?,
        Format::Text => write_table(&rows, out)?,
    }
    Ok(())
}

fn rows(before: &[ProjectorStatus], after: Vec<ProjectorStatus>, now: Timestamp) -> Vec<Row> {
    let row = |mut status: ProjectorStatus| {
        let before = before.iter().find(|before| before.projection == status.projection);
        let moved = before.is_some_and(|before| before.sequence < status.sequence);
        status.rate = before.map_or(0, |before| before.pending.saturating_sub(status.pending));
        Row {
            projection: status.projection.to_string(),
            state: match status.pending {
                0 => State::CaughtUp,
                _ if moved => State::Following,
                _ => State::StandsStill,
            },
            position: status.sequence,
            commits_behind: status.pending,
            seconds_behind: status.lag(now).as_secs_f64(),
            rate: status.rate,
            seconds_to_go: status.remaining().map(|remaining| remaining.as_secs()),
            dead_letters: status.dead_letters,
        }
    };
    after.into_iter().map(row).collect()
}

fn write_table(rows: &[Row], out: &mut impl Write) -> Result<()> {
    let numbers = ["position", "commits behind", "for", "less in 1 s", "to go", "dead letters"];
    let mut table = Table::new(&["projection", "state"], &numbers);
    for row in rows {
        let behind = Duration::from_secs_f64(row.seconds_behind);
        let to_go = row.seconds_to_go.map_or("?".to_owned(), |seconds| lasting(Duration::from_secs(seconds)));
        let [position, commits, rate] = [row.position, row.commits_behind, row.rate].map(|n| n.to_string());
        let numbers = [position, commits, lasting(behind), rate, to_go, row.dead_letters.to_string()];
        table.row(&[&row.projection, row.state.words()], &numbers);
    }
    writeln!(out, "{table}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use cqrs_core::{Cqrs, memory::Memory};

    use super::*;
    use order_service::{Order, views::SalesTotals};

    /// A status of a service without events; the framework has no other way to make one.
    async fn status() -> ProjectorStatus {
        let builder = Cqrs::builder(Memory::default()).aggregate::<Order>().view::<SalesTotals>();
        let service = builder.without_projectors().start().await.unwrap();
        service.progress().await.unwrap().swap_remove(0)
    }

    #[tokio::test]
    async fn what_two_looks_say_is_told_in_commits_and_in_time() {
        let (mut before, mut after) = (status().await, status().await);
        (before.sequence, before.pending) = (100, 1_000);
        (after.sequence, after.pending) = (400, 700);
        after.pending_since = Timestamp::new(1_000, 0).ok();
        let row = &rows(&[before.clone()], vec![after], Timestamp::new(1_090, 0).unwrap())[0];
        assert_eq!((row.state, row.commits_behind, row.rate), (State::Following, 700, 300));
        assert_eq!((row.seconds_to_go, row.dead_letters), (Some(3), 0));
        assert!((row.seconds_behind - 90.0).abs() < f64::EPSILON);

        let row = &rows(&[before.clone()], vec![before], Timestamp::new(1_090, 0).unwrap())[0];
        assert_eq!((row.state, row.rate, row.seconds_to_go), (State::StandsStill, 0, None));
    }
}
