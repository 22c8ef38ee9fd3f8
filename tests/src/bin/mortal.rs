//! The process that the tests kill: the service of `cqrs_tests::mortal`, with a failpoint armed by the environment.
//!
//! It takes the NATS server's address, the context, the file of its handler, and the place of its views: `kv`,
//! `memory`, `sqlite:<file>` or a URL of Postgres. With `all:<file>` the events are in that SQLite file too, and the
//! address is not used. It ends in order when standard input closes; a line on standard
//! input wakes a process that waits at its failpoint.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::exit,
};

use cqrs_core::{
    Error,
    memory::MemoryViews,
    port::{Deadlines, EventStore},
};
use cqrs_nats::Nats;
use cqrs_sql::{PostgresViews, SqliteBackend, SqliteViews};
use cqrs_tests::{
    failpoint,
    mortal::{Store, run},
};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // To investigate a failure: RUST_LOG=debug.
    tracing_subscriber::fmt().with_env_filter(EnvFilter::from_default_env()).with_writer(io::stderr).init();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [url, context, handled, place] = arguments.as_slice() else {
        eprintln!(
            "usage: mortal <nats-url> <context> <file> kv|memory|sqlite:<file>|<postgres-url>|all:<file>"
        );
        exit(2)
    };
    quiet_about_thirteen();
    let end = standard_input();
    let handled = PathBuf::from(handled);
    if let Some(file) = place.strip_prefix("all:") {
        let SqliteBackend { events, views, .. } = SqliteBackend::open(file, context).await?;
        return Ok(live(events, views, &handled, end).await?);
    }
    let backend = Nats::connect(url).await?.context(context).await?;
    let events = backend.events;
    match place.as_str() {
        "kv" => live(events, backend.views, &handled, end).await?,
        "memory" => live(events, MemoryViews::default(), &handled, end).await?,
        file if file.starts_with("sqlite:") => {
            live(events, SqliteViews::open(file, context).await?, &handled, end).await?;
        }
        url => live(events, PostgresViews::connect(url, context).await?, &handled, end).await?,
    }
    Ok(())
}

/// Suppresses the messages of intended panics.
fn quiet_about_thirteen() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str() != Some("no thirteen") {
            tell(panic);
        }
    }));
}

/// A channel that closes when standard input does.
fn standard_input() -> mpsc::Receiver<()> {
    let (open, end) = mpsc::channel(1);
    std::thread::spawn(move || {
        for _ in io::stdin().lines().map_while(Result::ok) {
            failpoint::go_on();
        }
        drop(open);
    });
    end
}

async fn live<E, V>(events: E, views: V, handled: &Path, mut end: mpsc::Receiver<()>) -> Result<(), Error>
where
    E: EventStore + Deadlines + Clone,
    V: Store,
{
    let service = loop {
        match run(events.clone(), views.clone(), handled).await {
            // The server died while the service was starting: start again, like a supervisor would.
            Err(Error::Store(error)) if error.is_transient() => eprintln!("starting again: {error}"),
            started => break started?,
        }
    };
    end.recv().await;
    service.stop().await;
    Ok(())
}
