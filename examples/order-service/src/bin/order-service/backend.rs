//! Where the service keeps its events and views: on a NATS server, or in memory.

use std::{
    fs::{self, File, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use cqrs_core::memory::{MemoryEvents, MemoryViews};
use cqrs_nats::{LocalServer, Nats, NatsBackend, NatsEvents};

use crate::{
    cli::Place,
    view_store::{AnyViews, Choice},
};

/// The folder of the private server, unless another is named.
const DATA: &str = "order-service-data";

/// A backend, what to say about it, and the server that has to be stopped in the end.
pub(crate) struct Opened {
    pub(crate) events: Log,
    pub(crate) views: AnyViews,
    pub(crate) words: String,
    pub(crate) private: Option<Private>,
}

/// The log, and the public one beside it.
pub(crate) enum Log {
    InMemory(MemoryEvents, MemoryEvents),
    OnNats(Box<(NatsEvents, NatsEvents)>),
}

/// Where the events are, before it is known where the views are.
struct Events {
    log: Log,
    /// The view store beside the events, which is taken unless another is asked for.
    beside: AnyViews,
    /// What to say where the views are beside the events, and what where they are not.
    words: [String; 2],
    private: Option<Private>,
    /// Whether the log ends with this process.
    passing: bool,
}

impl Opened {
    /// Opens the place that `place` and the machine lead to.
    pub(crate) async fn open(place: &Place, scenario: bool) -> Result<Self> {
        // What is wrong on the command line is said before a server is started.
        let choice = place.views.as_deref().map(Choice::read).transpose()?;
        let context = place.context.as_deref().unwrap_or(if scenario { "orders-scenario" } else { "orders" });
        let events = Events::open(place, context, scenario).await?;
        let opened = events.with_views(choice, place, context).await;
        match opened {
            Ok(opened) => Ok(opened),
            Err((error, private)) => {
                if let Some(private) = private {
                    private.stop().await;
                }
                Err(error)
            }
        }
    }
}

impl Events {
    async fn open(place: &Place, context: &str, scenario: bool) -> Result<Self> {
        if place.memory {
            return Ok(Self::in_memory("as asked for with --memory"));
        }
        // A variable that is set to nothing is one that is not set.
        if let Some(url) = place.nats.as_deref().filter(|url| !url.is_empty()) {
            return Self::on_server(url, context).await;
        }
        match LocalServer::find() {
            Ok(binary) => Self::on_private_server(binary, place, context, scenario).await,
            Err(error) => Ok(Self::in_memory(&format!("no --nats, no NATS_URL, and {error}"))),
        }
    }

    fn in_memory(why: &str) -> Self {
        Self {
            log: Log::InMemory(MemoryEvents::default(), MemoryEvents::default()),
            beside: AnyViews::Memory(MemoryViews::default()),
            words: [
                format!("Events and views are kept in memory and end with this process ({why})."),
                format!("Events are kept in memory and end with this process ({why})"),
            ],
            private: None,
            passing: true,
        }
    }

    fn on_nats((backend, public): (NatsBackend, NatsEvents), on: &str, private: Option<Private>) -> Self {
        let NatsBackend { events, views } = backend;
        Self {
            log: Log::OnNats(Box::new((events, public))),
            beside: AnyViews::Kv(Box::new(views)),
            words: [format!("Events and views are kept on {on}."), format!("Events are kept on {on}")],
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
        let url = private.server.url();
        let backend = connect(url, context).await?;
        let passing = folder.is_none();
        let folder =
            folder.map_or_else(|| "a temporary folder".to_owned(), |folder| folder.display().to_string());
        let on = format!("a private NATS server at {url} ({shown}), data in {folder}, context {context}");
        Ok(Self { passing, ..Self::on_nats(backend, &on, Some(private)) })
    }

    /// Opens the views, or gives the server back that has to be stopped.
    async fn with_views(
        self,
        choice: Option<Choice>,
        place: &Place,
        context: &str,
    ) -> Result<Opened, (anyhow::Error, Option<Private>)> {
        let Self { log, beside, words: [both, alone], private, passing } = self;
        let (views, words) = match choice {
            None => (beside, both),
            Some(choice) => match open_views(choice, &beside, passing, place, context).await {
                Ok(views) => {
                    let words = format!("{alone}; views {}.", views.words());
                    (views, words)
                }
                Err(error) => return Err((error, private)),
            },
        };
        Ok(Opened { events: log, views, words, private })
    }
}

/// Opens the view store that was asked for. What a database keeps of a log that ends with this process is of no use
/// to the next one, so it is kept apart, and begun anew each time.
async fn open_views(
    choice: Choice,
    beside: &AnyViews,
    passing: bool,
    place: &Place,
    context: &str,
) -> Result<AnyViews> {
    let context = if passing { format!("{context}-passing") } else { context.to_owned() };
    let folder = (!passing).then(|| place.data.as_deref().unwrap_or(Path::new(DATA)));
    let views = match choice {
        Choice::Kv => {
            if matches!(beside, AnyViews::Kv(_)) {
                return Ok(beside.clone());
            }
            bail!(
                "--views kv keeps views on a NATS server, and the events are in memory: name the server with \
                 --nats, or take --views memory, sqlite or postgres"
            )
        }
        Choice::Memory => return Ok(AnyViews::Memory(MemoryViews::default())),
        Choice::Sqlite(file) => AnyViews::sqlite(file.as_deref(), folder, &context).await?,
        Choice::Postgres(url) => AnyViews::postgres(url.as_deref(), &context).await?,
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

/// A user and a password in the URL are nobody's business.
fn without_secrets(url: &str) -> String {
    let one = |url: &str| match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        _ => url.to_owned(),
    };
    url.split(',').map(|url| one(url.trim())).collect::<Vec<_>>().join(",")
}

/// A NATS server of this process alone, and its hold on the folder.
pub(crate) struct Private {
    server: LocalServer,
    _hold: Option<File>,
}

impl Private {
    async fn start(binary: PathBuf, folder: Option<&Path>) -> Result<Self> {
        let Some(folder) = folder else {
            let server = LocalServer::builder(binary).start().await?;
            return Ok(Self { server, _hold: None });
        };
        let mut hold = hold(folder)?;
        let server = LocalServer::builder(binary).data(folder).start().await?;
        // For whoever finds the folder in use. Its lock is what counts, so an old address does no harm.
        let noted =
            hold.set_len(0).and_then(|()| hold.rewind()).and_then(|()| write!(hold, "{}", server.url()));
        noted.with_context(|| format!("cannot write into {}", folder.display()))?;
        Ok(Self { server, _hold: Some(hold) })
    }

    /// Shuts the server down in order.
    pub(crate) async fn stop(self) {
        self.server.stop().await;
    }
}

/// Locks `folder`: two servers on one folder would damage each other's files.
fn hold(folder: &Path) -> Result<File> {
    let shown = folder.display();
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {shown}"))?;
    let file = folder.join("in-use");
    let mut options = File::options();
    let options = options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(file).with_context(|| format!("cannot write into {shown}"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {shown}")),
        Err(TryLockError::WouldBlock) => {
            let mut url = String::new();
            // Where a locked file cannot be read, the advice just lacks the address.
            let _ = file.read_to_string(&mut url);
            bail!("{shown} is in use by another order-service, whose server can be shared: --nats {url}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_held_by_one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = hold(folder.path()).unwrap();
        write!(first, "nats://127.0.0.1:4321").unwrap();
        let refusal = hold(folder.path()).unwrap_err().to_string();
        assert!(refusal.ends_with("--nats nats://127.0.0.1:4321"), "{refusal}");
        drop(first);
        assert!(hold(folder.path()).is_ok());
    }

    #[test]
    fn secrets_in_urls_are_not_shown() {
        assert_eq!(without_secrets("nats://anna:s3cret@host:4222,two"), "nats://host:4222,two");
    }
}
