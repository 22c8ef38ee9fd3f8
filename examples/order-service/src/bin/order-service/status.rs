//! `status`: the progress of each projection, also if another process runs it.

use std::{io::Write, time::Duration};

use anyhow::Result;
use cqrs_core::{Clock as _, operate::ProjectorStatus, port::SystemClock};
use jiff::Timestamp;
use order_service::OrderService;
use serde::Serialize;

use crate::{
    cli::Format,
    tables::{Table, lasting},
    terminal::wrapped,
};

/// The time between two checks, from which the rate is computed.
const BETWEEN: Duration = Duration::from_secs(1);

/// The printed row of one projection.
#[derive(Debug, Serialize)]
struct Row {
    /// Its name, which the other commands take.
    name: &'static str,
    /// Its name with the version and the build.
    projection: String,
    state: State,
    /// Whether a process runs it; null if the event store cannot tell.
    process: Option<bool>,
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

impl Row {
    /// The state in few words.
    fn words(&self) -> String {
        match (self.process, self.state, self.seconds_to_go) {
            (Some(false), ..) => "no process runs it".to_owned(),
            (_, State::CaughtUp, _) => "caught up".to_owned(),
            (_, State::Following, Some(seconds)) => {
                format!("{} to go", lasting(Duration::from_secs(seconds)))
            }
            (_, State::Following, None) => "following".to_owned(),
            (_, State::StandsStill, _) => "stands still".to_owned(),
        }
    }
}

/// Checks once, and a second time if there are commits to project, to see whether it makes progress.
pub(crate) async fn run(service: &OrderService, format: Format, out: &mut impl Write) -> Result<()> {
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
            name: status.projection.name,
            projection: status.projection.to_string(),
            state: match status.pending {
                0 => State::CaughtUp,
                _ if moved => State::Following,
                _ => State::StandsStill,
            },
            process: status.active,
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
    let numbers = ["position", "commits\nbehind", "for", "dead\nletters"];
    let mut table = Table::new(&["projection", "state"], &numbers);
    for row in rows {
        let behind = lasting(Duration::from_secs_f64(row.seconds_behind));
        let [position, commits] = [row.position, row.commits_behind].map(|number| number.to_string());
        let numbers = [position, commits, behind, row.dead_letters.to_string()];
        let builds = rows.iter().filter(|other| other.name == row.name).count();
        let name = if builds > 1 { &row.projection } else { row.name };
        table.row(&[name, &row.words()], &numbers);
    }
    writeln!(out, "{table}")?;
    for hint in hints(rows) {
        writeln!(out, "{}", wrapped(hint, 0))?;
    }
    Ok(())
}

/// What to do about the states of some projections.
fn hints(rows: &[Row]) -> impl Iterator<Item = &'static str> {
    let no_process = rows.iter().any(|row| row.process == Some(false));
    let dead_letters = rows.iter().any(|row| row.dead_letters > 0);
    let hints = [
        (no_process, "order-service serve runs what no process runs, with the same stores."),
        (dead_letters, "order-service dead-letters shows the dead letters, and how to resolve them."),
    ];
    hints.into_iter().filter(|(is_true, _)| *is_true).map(|(_, hint)| hint)
}

#[cfg(test)]
mod tests {
    use std::slice;

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

    #[tokio::test]
    async fn a_state_in_words_says_first_that_no_process_runs_it() {
        let mut status = status().await;
        let words = |before: &ProjectorStatus, after: &ProjectorStatus| {
            rows(slice::from_ref(before), vec![after.clone()], Timestamp::UNIX_EPOCH)[0].words()
        };
        // The memory backend can tell.
        assert_eq!(words(&status, &status), "no process runs it");
        for active in [Some(true), None] {
            (status.active, status.pending) = (active, 0);
            assert_eq!(words(&status, &status), "caught up");
            status.pending = 700;
            assert_eq!(words(&status, &status), "stands still");
            let mut after = status.clone();
            after.sequence += 10;
            assert_eq!(words(&status, &after), "following", "and as much comes as is done");
            after.pending = 600;
            assert_eq!(words(&status, &after), "6 s to go");
        }
        status.active = Some(false);
        assert_eq!(words(&status, &status), "no process runs it");
    }
}
