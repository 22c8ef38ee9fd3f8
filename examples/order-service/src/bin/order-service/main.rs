//! The order service's command line; see `order-service --help`.

mod backend;
mod cli;
mod dead_intents;
mod dead_letters;
mod folder;
mod import;
mod northwind;
mod orders;
mod private_server;
mod rebuild;
mod report;
mod scenario;
mod serve;
mod status;
mod tables;
mod terminal;
mod trace;
mod troubles;
mod view_store;

use std::{io, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use cqrs_core::Error;
use order_service::{Fulfilment, ShopAnnouncer, views::ListOrders};

use crate::{
    backend::{Log, Opened},
    cli::{Cli, Task},
    northwind::Northwind,
    terminal::wrapped,
    view_store::Views,
};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(mistake) if mistake.use_stderr() => {
            anstream::eprintln!("order-service: {}", cli::in_one_line(&mistake.render()));
            return ExitCode::from(2);
        }
        Err(help) => {
            // The reader of the output, such as `head`, may have seen enough.
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    log_to_stderr();
    match run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of the output, such as `head`, has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("order-service: {}", in_one_line(&error));
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<()> {
    // Files are read before a server is started or gets a request, so that a mistake in them changes nothing.
    let job = match cli.command {
        None => Job::Scenario,
        Some(Task::Import { folder, format }) => Job::Import(Northwind::read(&folder)?, format),
        Some(Task::Report { year, format }) => Job::Report(year, format),
        Some(Task::Orders { status, country, after, limit, format }) => {
            let status = status.map(Into::into);
            Job::Orders(ListOrders { status, country, after, limit }, format)
        }
        Some(Task::Status { format }) => Job::Status(format),
        Some(Task::DeadLetters { action }) => Job::DeadLetters(action),
        Some(Task::DeadIntents { action }) => Job::DeadIntents(action),
        Some(Task::Trace { id }) => Job::Trace(trace::Of::parse(&id)?),
        Some(Task::Rebuild { view }) => Job::Rebuild(view),
        Some(Task::Serve) => Job::Serve,
    };
    let Opened { log, in_memory, views, words, private } =
        Opened::open(&cli.place, matches!(job, Job::Scenario)).await?;
    let result = job.run(log, views, &Kept { words, in_memory }).await;
    if let Some(private) = private {
        private.stop().await;
    }
    result
}

/// Where the events are kept.
struct Kept {
    /// A description, with the place of the views.
    words: String,
    /// The events end with this process.
    in_memory: bool,
}

/// Why there is nothing, where the events are in memory, and what to do about it.
const IN_MEMORY: &str = "the events are in this process's memory, which begins empty with each run; to keep them, run \
                         it without --memory: on a NATS server, or in an SQLite file with --sqlite";

impl Kept {
    /// Why there is nothing, and what to do about it; a sentence.
    fn empty(&self) -> String {
        if self.in_memory {
            return format!("T{}.", &IN_MEMORY[1..]);
        }
        "To add orders, run order-service import DIR; to see those of another context, name it with --context."
            .to_owned()
    }
}

enum Job {
    Scenario,
    Import(Northwind, cli::Format),
    Report(Option<i16>, cli::Format),
    Orders(ListOrders, cli::Format),
    Status(cli::Format),
    DeadLetters(Option<cli::LettersAction>),
    DeadIntents(Option<cli::IntentsAction>),
    Rebuild(String),
    Trace(trace::Of),
    Serve,
}

impl Job {
    /// Starts the service, does the job, and stops the service.
    async fn run(self, Log { events, public }: Log, views: Views, kept: &Kept) -> Result<()> {
        let looks = matches!(self, Self::Status(_) | Self::DeadLetters(_) | Self::DeadIntents(_));
        if looks && matches!(views, Views::Memory(_)) {
            bail!(
                "views in memory are known to their own process alone, and to no other one that asks about them: keep \
                 them on a NATS server (--nats) or in a database (--views sqlite or postgres)"
            );
        }
        let mut builder = views.add_tables(order_service::builder((events, views.store())));
        // The fulfilment of orders and the announcer run only in a scenario and in `serve`: an import or a report sends
        // no commands of its own. The calls of an operator are about them too, and run no projectors.
        if looks || matches!(self, Self::Scenario | Self::Serve) {
            builder = builder.policy::<Fulfilment>().announcer::<ShopAnnouncer>(public);
        }
        if looks {
            builder = builder.without_projectors();
        }
        let service = builder.start().await.context("the service cannot start")?;
        // Programs read the stdout of the other tasks, so the description of the place goes to stderr.
        if !matches!(self, Self::Scenario | Self::Serve) {
            anstream::eprintln!("{}", wrapped(&kept.words, 0));
        }
        let out = &mut anstream::stdout().lock();
        let (words, empty) = (&*kept.words, &*kept.empty());
        let result = match self {
            Self::Scenario => scenario::play(&service, words, out).await,
            Self::Import(northwind, format) => import::run(&service, northwind, format, out).await,
            Self::Report(year, format) => report::run(&service, &views, year, format, empty, out).await,
            Self::Orders(wanted, format) => orders::run(&service, wanted, format, empty, out).await,
            Self::Status(format) => status::run(&service, format, out).await,
            Self::DeadLetters(action) => dead_letters::run(&service, action, out).await,
            Self::DeadIntents(action) => dead_intents::run(&service, action, out).await,
            Self::Rebuild(view) => rebuild::run(&service, &view, empty, out).await,
            Self::Trace(of) => trace::run(&service, of, kept.in_memory, out).await,
            Self::Serve => serve::run(&service, words, kept.in_memory, out).await,
        };
        service.stop().await;
        result
    }
}

/// The log of the framework is shown only with `RUST_LOG`, and without colours.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::BrokenPipe)
}

/// An error and its causes in one line, without a cause that repeats the text before it.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    match error.downcast_ref() {
        Some(Error::SetAside { .. }) => {
            text + "; order-service dead-letters shows them, and how to resolve them"
        }
        _ => text,
    }
}
