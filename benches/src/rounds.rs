//! Runs contenders in turn, round after round.

use std::time::Duration;

use anyhow::{Context as _, Result};
use cqrs_core::port::BoxFuture;
use futures_util::future::try_join_all;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::{
    cli::Options,
    report::{Line, Unit},
};

/// A contender: it runs for about the given time and returns its measurement.
pub(crate) struct Contender<'a> {
    what: String,
    unit: Unit,
    run: Box<dyn FnMut(Duration) -> BoxFuture<'a, Result<f64>> + 'a>,
}

impl<'a> Contender<'a> {
    pub(crate) fn new<F>(what: impl Into<String>, unit: Unit, mut run: impl FnMut(Duration) -> F + 'a) -> Self
    where
        F: Future<Output = Result<f64>> + Send + 'a,
    {
        Self { what: what.into(), unit, run: Box::new(move |time| Box::pin(run(time))) }
    }
}

/// Runs the contenders in turn, every other round backwards, so that no contender always follows the same one. A first
/// short run of each is not counted.
pub(crate) async fn in_turn(options: &Options, contenders: Vec<Contender<'_>>) -> Result<Vec<Line>> {
    let mut contenders = contenders;
    let mut rounds = vec![Vec::new(); contenders.len()];
    let bar = ProgressBar::new(u64::from(options.rounds) * contenders.len() as u64);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}")?);
    for round in 0..=options.rounds {
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for place in order {
            let contender = &mut contenders[place];
            bar.set_message(contender.what.clone());
            let time = if round == 0 { options.seconds / 4 } else { options.seconds };
            let value = (contender.run)(time).await.with_context(|| contender.what.clone())?;
            if round > 0 {
                rounds[place].push(value);
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    let lines = contenders.into_iter().zip(rounds);
    Ok(lines.map(|(contender, rounds)| Line::new(contender.what, contender.unit, rounds)).collect())
}

/// Shows a text while something is prepared that has no progress bar.
pub(crate) fn preparing(what: &str, steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}

/// The time at which a run ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Until(Instant);

impl Until {
    pub(crate) fn goes_on(self) -> bool {
        Instant::now() < self.0
    }
}

/// Runs tasks at the same time for the given time, each of which returns its count; returns the count per second.
pub(crate) async fn per_second<F>(
    time: Duration,
    tasks: impl IntoIterator<Item = impl FnOnce(Until) -> F>,
) -> Result<f64>
where
    F: Future<Output = Result<u64>> + Send + 'static,
{
    let begin = Instant::now();
    let until = Until(begin + time);
    let tasks = tasks.into_iter().map(|task| tokio::spawn(task(until)));
    let mut done = 0;
    for task in try_join_all(tasks).await? {
        done += task?;
    }
    Ok(as_f64(done) / begin.elapsed().as_secs_f64())
}

/// A count as a number for divisions.
#[expect(clippy::cast_precision_loss, reason = "no count comes near what a double holds exactly")]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}
