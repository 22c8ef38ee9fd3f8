//! Where the service keeps its events and views: on a NATS server, or in memory.

use std::{
    fs::{self, File, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use cqrs_core::memory::{Memory, MemoryEvents};
use cqrs_nats::{LocalServer, Nats, NatsBackend, NatsEvents};

use crate::cli::Place;

/// The folder of the private server, unless another is named.
const DATA: &str = "order-service-data";

/// A backend, what to say about it, and the server that has to be stopped in the end.
pub(crate) struct Opened {
    pub(crate) kept: Kept,
    pub(crate) words: String,
    pub(crate) private: Option<Private>,
}

/// The backend and the public log.
pub(crate) enum Kept {
    InMemory(Memory, MemoryEvents),
    OnNats(Box<(NatsBackend, NatsEvents)>),
}

impl Opened {
    /// Opens the place that `place` and the machine lead to.
    pub(crate) async fn open(place: &Place, scenario: bool) -> Result<Self> {
        let context = place.context.as_deref().unwrap_or(if scenario { "orders-scenario" } else { "orders" });
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
        let words = format!("Events and views are kept in memory and end with this process ({why}).");
        Self { kept: Kept::InMemory(Memory::default(), MemoryEvents::default()), words, private: None }
    }

    async fn on_server(url: &str, context: &str) -> Result<Self> {
        let backend = connect(url, context).await?;
        let words = format!("Events and views are kept on {}, context {context}.", without_secrets(url));
        Ok(Self { kept: Kept::OnNats(Box::new(backend)), words, private: None })
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
        let folder =
            folder.map_or_else(|| "a temporary folder".to_owned(), |folder| folder.display().to_string());
        let words = format!(
            "Events and views are kept on a private NATS server at {url} ({shown}), data in {folder}, context {context}."
        );
        Ok(Self { kept: Kept::OnNats(Box::new(backend)), words, private: Some(private) })
    }
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
