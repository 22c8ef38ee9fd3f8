//! The order service's command line; see `order-service --help`.

mod backend;
mod cli;
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
mod trace;
mod view_store;

use std::{io, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Parser as _;
use cqrs_core::port::{Deadlines, EventStore};
use order_service::{Fulfilment, ShopAnnouncer, views::ListOrders};

use crate::{
    backend::{Log, Opened},
    cli::{Cli, Task},
    northwind::Northwind,
    view_store::AnyViews,
};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
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
        Some(Task::Trace { id }) => Job::Trace(trace::Of::parse(&id)?),
        Some(Task::Rebuild { view }) => Job::Rebuild(view),
        Some(Task::Serve) => Job::Serve,
    };
    let Opened { log, views, words, private } =
        Opened::open(&cli.place, matches!(job, Job::Scenario)).await?;
    let result = match log {
        Log::InMemory(events, public) => job.run(events, public, views, &words).await,
        Log::InAFile(logs) => {
            let (events, public) = *logs;
            job.run(events, public, views, &words).await
        }
        Log::OnNats(logs) => {
            let (events, public) = *logs;
            job.run(events, public, views, &words).await
        }
    };
    if let Some(private) = private {
        private.stop().await;
    }
    result
}

enum Job {
    Scenario,
    Import(Northwind, cli::Format),
    Report(Option<i16>, cli::Format),
    Orders(ListOrders, cli::Format),
    Status(cli::Format),
    Rebuild(String),
    Trace(trace::Of),
    Serve,
}

impl Job {
    /// Starts the service, does the job, and stops the service.
    async fn run<E: EventStore + Deadlines>(
        self,
        events: E,
        public: impl EventStore,
        views: AnyViews,
        words: &str,
    ) -> Result<()> {
        let mut builder = views.add_tables(order_service::builder((events, views.clone())));
        // The fulfilment of orders and the announcer run only in a scenario and in `serve`: an import or a report sends
        // no commands of its own. The status shows them too, and runs no projectors.
        if let Self::Scenario | Self::Serve | Self::Status(_) = self {
            builder = builder.policy::<Fulfilment>().announcer::<ShopAnnouncer>(public);
        }
        if let Self::Status(_) = self {
            builder = builder.without_projectors();
        }
        let service = builder.start().await.context("the service cannot start")?;
        // Programs read the stdout of the other tasks, so the description of the place goes to stderr.
        if !matches!(self, Self::Scenario | Self::Serve) {
            anstream::eprintln!("{words}");
        }
        let out = &mut anstream::stdout().lock();
        let result = match self {
            Self::Scenario => scenario::play(&service, words, out).await,
            Self::Import(northwind, format) => import::run(&service, northwind, format, out).await,
            Self::Report(year, format) => report::run(&service, &views, year, format, out).await,
            Self::Orders(wanted, format) => orders::run(&service, wanted, format, out).await,
            Self::Status(format) => status::run(&service, &views, format, out).await,
            Self::Rebuild(view) => rebuild::run(&service, &view, out).await,
            Self::Trace(of) => trace::run(&service, of, out).await,
            Self::Serve => serve::run(&service, words, out).await,
        };
        service.stop().await;
        result
    }
}

/// The log of the framework is shown only with `RUST_LOG`.
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
    text
}
