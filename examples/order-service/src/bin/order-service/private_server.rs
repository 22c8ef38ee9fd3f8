//! A NATS server of this process alone, and the folder of its data.

use std::{
    fs::{File, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use cqrs_nats_server::LocalServer;

use crate::folder;

/// A NATS server of this process alone, and the lock on its folder.
pub(crate) struct Private {
    server: LocalServer,
    _hold: Option<File>,
}

impl Private {
    /// Starts `binary` with its data in `folder`, or in a temporary one.
    pub(crate) async fn start(binary: PathBuf, folder: Option<&Path>) -> Result<Self> {
        let Some(folder) = folder else {
            let server = LocalServer::builder(binary).start().await?;
            return Ok(Self { server, _hold: None });
        };
        let mut hold = hold(folder)?;
        let server = LocalServer::builder(binary).data(folder).start().await?;
        // Another process that finds the folder in use reads the address. Only the lock decides, so an outdated address
        // does no harm.
        let noted =
            hold.set_len(0).and_then(|()| hold.rewind()).and_then(|()| write!(hold, "{}", server.url()));
        noted.with_context(|| folder::unwritable(folder))?;
        Ok(Self { server, _hold: Some(hold) })
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> &str {
        self.server.url()
    }

    /// Shuts the server down in order.
    pub(crate) async fn stop(self) {
        self.server.stop().await;
    }
}

/// Locks `folder`: two servers on one folder would damage each other's files.
fn hold(folder: &Path) -> Result<File> {
    let shown = folder.display();
    folder::make(folder)?;
    let file = folder.join("in-use");
    let mut options = File::options();
    let options = options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(file).with_context(|| folder::unwritable(folder))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {shown}")),
        Err(TryLockError::WouldBlock) => {
            let mut url = String::new();
            // If the locked file cannot be read, the error lacks the address.
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
}
