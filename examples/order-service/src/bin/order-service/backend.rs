//! The stores of the service: on a NATS server, in an SQLite file, or in memory.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use cqrs_core::{
    memory::{MemoryEvents, MemoryViews},
    port::{AnyEvents, EventStore},
};
use cqrs_nats::{Nats, NatsBackend, NatsEvents};
use cqrs_nats_server::LocalServer;
use cqrs_sql::SqliteBackend;

use crate::{
    cli::Place,
    folder,
    private_server::Private,
    view_store::{Choice, Views},
};

/// The folder of the private server or of the file, unless another is named.
const DATA: &str = "order-service-data";

/// The file in that folder, with the events and the views beside them.
const FILE: &str = "orders.db";

/// A backend, a description of it for the user, and the private server to stop at the end.
pub(crate) struct Opened {
    pub(crate) log: Log,
    /// Whether the log is in this process's memory.
    pub(crate) in_memory: bool,
    pub(crate) views: Views,
    pub(crate) words: String,
    pub(crate) private: Option<Private>,
}

/// The log, and the public one beside it.
pub(crate) struct Log {
    pub(crate) events: AnyEvents,
    pub(crate) public: AnyEvents,
}

impl Log {
    fn new(events: impl EventStore, public: impl EventStore) -> Self {
        Self { events: AnyEvents::new(events), public: AnyEvents::new(public) }
    }
}

impl Opened {
    /// Opens the stores that the command line, the environment and the machine determine.
    pub(crate) async fn open(place: &Place, scenario: bool) -> Result<Self> {
        // Errors on the command line are reported before a server is started.
        let choice = place.views.as_deref().map(Choice::read).transpose()?;
        let context = place.context.as_deref().unwrap_or(if scenario { "orders-scenario" } else { "orders" });
        let opened = Events::open(place, context, scenario).await?;
        let Events { log, beside, kept, private, passing } = opened;
        let in_memory = matches!(beside, Views::Memory(_));
        let Some(choice) = choice else {
            let words = format!("Events and views are kept {kept}.");
            return Ok(Self { log, in_memory, views: beside, words, private });
        };
        match open_views(choice, beside, passing, place, context).await {
            Ok(views) => {
                let words = format!("Events are kept {kept}; views {}.", views.words());
                Ok(Self { log, in_memory, views, words, private })
            }
            Err(error) => {
                if let Some(private) = private {
                    private.stop().await;
                }
                Err(error)
            }
        }
    }
}

/// The store of the events, before the view store is chosen.
struct Events {
    log: Log,
    /// The view store beside the events, which is the default.
    beside: Views,
    /// A description of the place of the events.
    kept: String,
    private: Option<Private>,
    /// Whether the log ends with this process.
    passing: bool,
}

impl Events {
    async fn open(place: &Place, context: &str, scenario: bool) -> Result<Self> {
        if place.memory {
            return Ok(Self::in_memory("as asked for with --memory"));
        }
        if place.sqlite {
            return Self::in_a_file(place, context, "as asked for with --sqlite").await;
        }
        // An empty variable counts as unset.
        if let Some(url) = place.nats.as_deref().filter(|url| !url.is_empty()) {
            return Self::on_server(url, context).await;
        }
        match LocalServer::find() {
            Ok(binary) => Self::on_private_server(binary, place, context, scenario).await,
            Err(error) => {
                let why = format!("no --nats, no NATS_URL, and {error}");
                Self::in_a_file(place, context, &why).await
            }
        }
    }

    /// In one file, which other runs of the program may use at the same time.
    async fn in_a_file(place: &Place, context: &str, why: &str) -> Result<Self> {
        let folder = place.data.as_deref().unwrap_or(Path::new(DATA));
        folder::make(folder)?;
        let backend = SqliteBackend::open(folder.join(FILE), context).await?;
        let public = backend.public_log().await?;
        let SqliteBackend { events, views, .. } = backend;
        Ok(Self {
            kept: format!("in an SQLite file, {}, context {context} ({why})", views.address()),
            log: Log::new(events, public),
            beside: Views::Sqlite(views),
            private: None,
            passing: false,
        })
    }

    fn in_memory(why: &str) -> Self {
        Self {
            log: Log::new(MemoryEvents::default(), MemoryEvents::default()),
            beside: Views::Memory(MemoryViews::default()),
            kept: format!("in memory and end with this process ({why})"),
            private: None,
            passing: true,
        }
    }

    fn on_nats((backend, public): (NatsBackend, NatsEvents), on: &str, private: Option<Private>) -> Self {
        let NatsBackend { events, views } = backend;
        Self {
            log: Log::new(events, public),
            beside: Views::Kv(Box::new(views)),
            kept: format!("on {on}"),
            private,
            passing: false,
        }
    }

    async fn on_server(url: &str, context: &str) -> Result<Self> {
        let backend = connect(url, context).await?;
        Ok(Self::on_nats(backend, &format!("{}, context {context}", without_secrets(url)), None))
    }

    async fn on_private_server(
        binary: PathBuf,
        place: &Place,
        context: &str,
        scenario: bool,
    ) -> Result<Self> {
        let folder = match &place.data {
            Some(folder) => Some(folder.clone()),
            None if scenario => None,
            None => Some(PathBuf::from(DATA)),
        };
        let shown = binary.display().to_string();
        let private = Private::start(binary, folder.as_deref()).await?;
        let url = private.url();
        let backend = connect(url, context).await?;
        let passing = folder.is_none();
        let folder =
            folder.map_or_else(|| "a temporary folder".to_owned(), |folder| folder.display().to_string());
        let on = format!("a private NATS server at {url} ({shown}), data in {folder}, context {context}");
        Ok(Self { passing, ..Self::on_nats(backend, &on, Some(private)) })
    }
}

/// Opens the chosen view store. Views of a log that ends with this process are of no use to the next process, so they
/// are kept under another name, and are rebuilt each time.
async fn open_views(
    choice: Choice,
    beside: Views,
    passing: bool,
    place: &Place,
    context: &str,
) -> Result<Views> {
    let context = if passing { format!("{context}-passing") } else { context.to_owned() };
    let folder = (!passing).then(|| place.data.as_deref().unwrap_or(Path::new(DATA)));
    let views = match choice {
        Choice::Kv if matches!(beside, Views::Kv(_)) => return Ok(beside),
        Choice::Kv => bail!(
            "--views kv keeps views on a NATS server, and the events are not on one: name the server with --nats, or \
             take --views memory, sqlite or postgres"
        ),
        Choice::Memory => return Ok(Views::Memory(MemoryViews::default())),
        // The file of the events is the default file of the views, too.
        Choice::Sqlite(None) if matches!(beside, Views::Sqlite(_)) => return Ok(beside),
        Choice::Sqlite(file) => Views::sqlite(file.as_deref(), folder, &context).await?,
        Choice::Postgres(url) => Views::postgres(url.as_deref(), &context).await?,
    };
    if passing {
        views.begin_anew().await?;
    }
    Ok(views)
}

async fn connect(url: &str, context: &str) -> Result<(NatsBackend, NatsEvents)> {
    let nats = Nats::connect(url).await?;
    Ok((nats.context(context).await?, nats.public_log(context).await?))
}

/// The URL without its user and password.
fn without_secrets(url: &str) -> String {
    let one = |url: &str| match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        _ => url.to_owned(),
    };
    url.split(',').map(|url| one(url.trim())).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_urls_are_not_shown() {
        assert_eq!(without_secrets("nats://anna:s3cret@host:4222,two"), "nats://host:4222,two");
    }
}
