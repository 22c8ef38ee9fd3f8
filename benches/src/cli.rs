//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

/// Measures the framework beside the raw NATS client, on one server, in turns.
///
/// Each workload has a raw and a framework side (contenders). They run in turn, round after round, so that what else
/// happens on the machine happens to all of them; the median of the rounds is shown, and the median of the
/// rounds' ratios. The server is a private nats-server on this machine, with its store in a temporary folder.
/// Postgres, where it takes part, is a private one too.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) task: Task,
    #[command(flatten)]
    pub(crate) options: Options,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum Workload {
    /// Commands on cached aggregates beside publishes of the same data with the same check: one task and many, one
    /// event and three.
    Commands,
    /// Many tasks on one aggregate beside one task.
    Hot,
    /// Many tasks on a few aggregates, on a server that syncs every write to the disk, beside one message for each
    /// publish.
    Sync,
    /// Loads of aggregates whose events lie together beside batched direct gets of messages with the same data.
    Loads,
    /// Old aggregates, whose events are scattered over a large stream: commands on them, and what others notice
    /// of those who load them.
    Old,
    /// Views that catch up with a large stream beside a consumer that decodes messages with the same data.
    Projections,
    /// Commands while the stream grows in aggregates and in events.
    Flat,
    /// The core alone, on memory: the time of a command, and the memory that a cached aggregate takes.
    Core,
    /// Other frameworks, as published, on the same servers: commands of many tasks, and loads. Builds them first.
    Peers,
    /// The compile time of the derives beside serde's.
    Derives,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Every workload.
    All,
    #[command(flatten)]
    One(Workload),
    /// Show results that were written with --json, of one run or several, as a table and a picture.
    Report {
        /// The files.
        #[arg(required = true)]
        results: Vec<PathBuf>,
        /// Draw them into this SVG file.
        #[arg(long, value_name = "FILE")]
        picture: Option<PathBuf>,
        /// Put the table into this Markdown file, between the lines `<!-- results -->` and `<!-- end -->`.
        #[arg(long, value_name = "FILE")]
        markdown: Option<PathBuf>,
    },
    /// What this process's memory grows by when it keeps so many aggregates, in bytes.
    #[command(hide = true)]
    Growth {
        /// How many orders are made.
        orders: u64,
        /// How many of them are kept.
        cached: u64,
    },
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "How long and how large")]
pub(crate) struct Options {
    /// How often each contender runs; where little differs, five times as often, for a fifth of the time.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=101), global = true)]
    pub(crate) rounds: u32,
    /// How long it runs each time.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds, global = true)]
    pub(crate) seconds: Duration,
    /// How many tasks "many" are.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=10_000), global = true)]
    pub(crate) tasks: u64,
    /// How many events the large stream of `old` and `projections` has.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(10_000..), global = true)]
    pub(crate) events: u64,
    /// How many events the largest stream of `flat` has; 10000000 takes about ten gigabytes of disk.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(10_000..), global = true)]
    pub(crate) most_events: u64,
    /// How many aggregates the largest stream of `flat` has.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..), global = true)]
    pub(crate) most_aggregates: u64,
    /// Write the results to this file, too.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) json: Option<PathBuf>,
}

impl Options {
    /// As long altogether, in more and shorter turns.
    pub(crate) fn shorter(&self) -> Self {
        Self {
            rounds: 5 * self.rounds,
            seconds: (self.seconds / 5).max(Duration::from_millis(50)),
            ..self.clone()
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.05..=600.0).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err("not between 0.05 and 600".to_owned())
}

const EXAMPLES: &str = "\
Examples:
  cargo run --release -p cqrs-benches -- all
  cargo run --release -p cqrs-benches -- commands --rounds 3 --seconds 0.5
  cargo run --release -p cqrs-benches -- flat --most-events 10000000 --json flat.json
  cargo run --release -p cqrs-benches -- report flat.json --markdown benches/README.md

Results are of use only from a machine that does nothing else; each result names the load that was there before.";
