//! The ways in which a log is replaced under a running service.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use cqrs_core::{memory::MemoryEvents, port::EventStore};
use cqrs_nats::{Nats, NatsEvents};
use cqrs_nats_server::LocalServer;
use cqrs_sql::{
    SqliteBackend, SqliteEvents,
    sqlx::{self, AssertSqlSafe, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions},
};
use cqrs_tests::{
    TestContext,
    copies::{Copy, make_again},
    eventually,
    scratch::Scratch,
    server_binary,
};

/// A log, and an operator who replaces it.
pub(super) trait World: Sized {
    type Events: EventStore + Clone;

    async fn new() -> Self;

    /// The log, for one instance of a service.
    async fn events(&self) -> Self::Events;

    /// Takes a copy of the log, which has one commit.
    async fn copy(&mut self);

    /// Restores the copy, or an empty log, in place of the log.
    async fn replace(&mut self);

    /// Whether the replacement has the commit of the copy.
    const KEEPS_THE_FIRST: bool;
}

/// In memory; with one commit left, or none.
pub(super) struct InMemory<const KEPT: usize>(MemoryEvents);

impl<const KEPT: usize> World for InMemory<KEPT> {
    type Events = MemoryEvents;
    const KEEPS_THE_FIRST: bool = KEPT > 0;

    async fn new() -> Self {
        Self(MemoryEvents::default())
    }

    async fn events(&self) -> MemoryEvents {
        self.0.clone()
    }

    async fn copy(&mut self) {}

    async fn replace(&mut self) {
        self.0.put_back(KEPT);
    }
}

/// Through the server, which keeps running: no connection is lost.
pub(super) struct Restored {
    context: TestContext,
    operator: async_nats::Client,
    copy: Option<Copy>,
}

impl World for Restored {
    type Events = NatsEvents;
    const KEEPS_THE_FIRST: bool = true;

    async fn new() -> Self {
        let context = TestContext::new("restored").await;
        let operator = async_nats::connect(context.url()).await.unwrap();
        Self { context, operator, copy: None }
    }

    async fn events(&self) -> NatsEvents {
        instance(self.context.url(), &self.context.name).await
    }

    async fn copy(&mut self) {
        self.copy = Some(Copy::of(&self.operator, &self.context.stream()).await);
    }

    async fn replace(&mut self) {
        self.copy.as_ref().unwrap().put_back(&self.operator).await;
    }
}

/// The stream is deleted and created again by an operator.
pub(super) struct MadeAgain(Restored);

impl World for MadeAgain {
    type Events = NatsEvents;
    const KEEPS_THE_FIRST: bool = false;

    async fn new() -> Self {
        Self(Restored::new().await)
    }

    async fn events(&self) -> NatsEvents {
        self.0.events().await
    }

    async fn copy(&mut self) {}

    async fn replace(&mut self) {
        make_again(&self.0.operator, &self.0.context.stream()).await;
    }
}

/// The server is stopped, its folder replaced by an older one, and started again at the same address.
pub(super) struct OnDisk {
    server: Option<LocalServer>,
    port: u16,
    folder: Scratch,
}

impl OnDisk {
    async fn start(&mut self) {
        let server = LocalServer::builder(server_binary().await).data(self.folder.path().join("now"));
        self.server = Some(server.port(self.port).start().await.unwrap());
    }

    async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }
}

impl World for OnDisk {
    type Events = NatsEvents;
    const KEEPS_THE_FIRST: bool = true;

    async fn new() -> Self {
        let folder = Scratch::new().unwrap();
        let server = LocalServer::builder(server_binary().await).data(folder.path().join("now"));
        let server = server.start().await.unwrap();
        Self { port: server.port(), server: Some(server), folder }
    }

    async fn events(&self) -> NatsEvents {
        instance(self.server.as_ref().unwrap().url(), "shop").await
    }

    async fn copy(&mut self) {
        self.stop().await;
        copy_folder(&self.folder.path().join("now"), &self.folder.path().join("before"));
        self.start().await;
    }

    async fn replace(&mut self) {
        self.stop().await;
        fs::remove_dir_all(self.folder.path().join("now")).unwrap();
        copy_folder(&self.folder.path().join("before"), &self.folder.path().join("now"));
        self.start().await;
    }
}

/// In an SQLite file that an operator replaces by a copy while the service runs.
pub(super) struct InAFile(Scratch);

impl InAFile {
    fn file(&self) -> PathBuf {
        self.0.path().join("shop.db")
    }

    async fn operate(&self, statements: &[&str]) {
        let options = SqliteConnectOptions::new().filename(self.file());
        let mut operator = SqliteConnection::connect_with(&options).await.unwrap();
        for sql in statements {
            let sql = sql.replace("COPY", &self.0.path().join("copy.db").display().to_string());
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut operator).await.unwrap();
        }
        operator.close().await.unwrap();
    }

    fn remove(&self) {
        for end in ["", "-wal", "-shm"] {
            fs::remove_file(format!("{}{end}", self.file().display())).unwrap();
        }
    }
}

impl World for InAFile {
    type Events = SqliteEvents;
    const KEEPS_THE_FIRST: bool = true;

    async fn new() -> Self {
        Self(Scratch::new().unwrap())
    }

    async fn events(&self) -> SqliteEvents {
        SqliteBackend::open(self.file(), "shop").await.unwrap().events
    }

    async fn copy(&mut self) {
        self.operate(&["VACUUM INTO 'COPY'"]).await;
    }

    async fn replace(&mut self) {
        self.remove();
        fs::rename(self.0.path().join("copy.db"), self.file()).unwrap();
    }
}

/// The file is removed, and the next instance makes a new one.
pub(super) struct MadeAgainInAFile(InAFile);

impl World for MadeAgainInAFile {
    type Events = SqliteEvents;
    const KEEPS_THE_FIRST: bool = false;

    async fn new() -> Self {
        Self(InAFile::new().await)
    }

    async fn events(&self) -> SqliteEvents {
        self.0.events().await
    }

    async fn copy(&mut self) {}

    async fn replace(&mut self) {
        self.0.remove();
    }
}

/// The content of the file is replaced by that of a copy in one transaction, as `.restore` does.
pub(super) struct RestoredInAFile {
    file: InAFile,
    /// The log as the first instance knows it.
    first: OnceLock<SqliteEvents>,
}

impl World for RestoredInAFile {
    type Events = SqliteEvents;
    const KEEPS_THE_FIRST: bool = true;

    async fn new() -> Self {
        Self { file: InAFile::new().await, first: OnceLock::new() }
    }

    async fn events(&self) -> SqliteEvents {
        let events = self.file.events().await;
        self.first.get_or_init(|| events.clone());
        events
    }

    async fn copy(&mut self) {
        self.file.copy().await;
    }

    /// The next statement notices it. What needs none is right as soon as the process has looked for news.
    async fn replace(&mut self) {
        let tables = ["log", "commits", "events", "snapshots", "deadlines"];
        let restore = tables.map(|table| {
            format!(
                r#"DELETE FROM main."shop.{table}"; INSERT INTO main."shop.{table}" SELECT * FROM copy."shop.{table}";"#
            )
        });
        let restore = format!("BEGIN IMMEDIATE; {} COMMIT;", restore.concat());
        let era = self.first.get().unwrap().era();
        self.file.operate(&["ATTACH 'COPY' AS copy", &restore]).await;
        eventually("it is noticed", async || self.first.get().unwrap().era() != era).await;
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(path, target).unwrap();
        }
    }
}

pub(super) async fn instance(url: &str, context: &str) -> NatsEvents {
    Nats::connect(url).await.unwrap().context(context).await.unwrap().events
}
