//! The process that the tests let die: the service of `cqrs_tests::mortal`, with a point armed by the environment.
//!
//! It takes the NATS server's address, the context, the file of its handler, and where its views are: `kv`, `memory`,
//! `sqlite:<file>` or a URL of Postgres. It ends in order when standard input closes.

use std::{env, error::Error, io, path::PathBuf, process::exit};

use cqrs_core::{failpoint, memory::MemoryViews};
use cqrs_nats::Nats;
use cqrs_sql::{PostgresViews, SqliteViews};
use cqrs_tests::mortal::{Mortal, Store, run};
use tokio::sync::mpsc;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [url, context, handled, place] = arguments.as_slice() else {
        eprintln!("usage: mortal <nats-url> <context> <file> kv|memory|sqlite:<file>|<postgres-url>");
        exit(2)
    };
    let backend = Nats::connect(url).await?.context(context).await?;
    let (events, handled) = (backend.events, PathBuf::from(handled));
    match place.as_str() {
        "kv" => live(run(events, backend.views, &handled).await?).await,
        "memory" => live(run(events, MemoryViews::default(), &handled).await?).await,
        place if place.starts_with("sqlite:") => {
            live(run(events, SqliteViews::open(place, context).await?, &handled).await?).await
        }
        place => live(run(events, PostgresViews::connect(place, context).await?, &handled).await?).await,
    }
    Ok(())
}

/// Until standard input closes; a line lets what waits at its point go on.
async fn live<V: Store>(service: Mortal<V>) {
    let (closed, mut open) = mpsc::channel::<()>(1);
    std::thread::spawn(move || {
        for _ in io::stdin().lines().map_while(Result::ok) {
            failpoint::go_on();
        }
        drop(closed);
    });
    open.recv().await;
    service.stop().await;
}
