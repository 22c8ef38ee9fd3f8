//! A log that is replaced under a running service: its store is restored from an older copy, or its stream is created
//! again. The service's memory is of the log before, and sequences do not show the difference.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use cqrs_core::{
    CommandError, CommandId, Error, Receipt,
    log::LogPosition,
    memory::{MemoryEvents, MemoryViews},
    port::EventStore,
};
use cqrs_nats::{Nats, NatsEvents};
use cqrs_nats_server::LocalServer;
use cqrs_sql::{
    SqliteBackend, SqliteEvents,
    sqlx::{self, AssertSqlSafe, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions},
};
use cqrs_tests::{
    TestContext,
    copies::{Copy, make_again},
    domain::{self, AccountRejection, Touch, Withdraw, deposit, key, open, statement},
    eventually,
    scratch::Scratch,
    server_binary,
};

/// A log, and an operator who replaces it.
trait World: Sized {
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
struct InMemory<const KEPT: usize>(MemoryEvents);

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
struct Restored {
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
struct MadeAgain(Restored);

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
struct OnDisk {
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
struct InAFile(Scratch);

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
struct MadeAgainInAFile(InAFile);

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
struct RestoredInAFile {
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

async fn instance(url: &str, context: &str) -> NatsEvents {
    Nats::connect(url).await.unwrap().context(context).await.unwrap().events
}

type Bank = domain::Bank;

async fn bank<W: World>(world: &W) -> Bank {
    domain::bank((world.events().await, MemoryViews::default())).await
}

fn withdraw(amount: u64) -> Withdraw {
    Withdraw { account: "a".into(), amount }
}

const LOST: &str = "a deposit that the log has lost";

/// A service that knows account a with 530 in version 4 at sequence 3, and the open account c. But the log was
/// replaced: there, a has 35 at the same sequence, and c does not exist.
struct Scene<W: World> {
    world: W,
    bank: Bank,
    /// Of a command that the log has lost.
    receipt: Receipt,
    /// Of an answer before.
    position: LogPosition,
    /// How many events a has.
    version: u64,
}

impl<W: World> Scene<W> {
    async fn set() -> Self {
        let mut world = W::new().await;
        let bank = bank(&world).await;
        bank.execute(open("a", 35)).await.unwrap();
        world.copy().await;
        let lost = bank.execute(deposit("a", 100)).id(CommandId::derived([LOST])).await.unwrap();
        let receipt = bank.execute(deposit("a", 395)).await.unwrap();
        assert_eq!((lost.version, receipt.version, receipt.position.sequence), (3, 4, 3));
        bank.execute(open("c", 1)).await.unwrap();
        let position = bank.query(statement("a")).after(&receipt).with_position().await.unwrap().position;
        world.replace().await;
        let other = self::bank(&world).await;
        other.execute(open("b", 0)).await.unwrap();
        let newest = if W::KEEPS_THE_FIRST {
            other.execute(deposit("a", 0)).await.unwrap()
        } else {
            other.execute(deposit("b", 0)).await.unwrap();
            other.execute(open("a", 35)).await.unwrap()
        };
        assert_eq!(newest.position.sequence, receipt.position.sequence, "sequences do not tell");
        other.stop().await;
        Self { world, bank, receipt, position, version: newest.version }
    }

    /// The log is whole, and account a has `balance`.
    async fn check(self, balance: u64) {
        let key = key("a");
        let commits = self.world.events().await.read(&key, 0, 100).await.unwrap().commits;
        let (mut found, mut version) = (0, 0);
        for event in
            commits.iter().flat_map(|stored| (0..stored.commit.events.len()).map(move |at| (stored, at)))
        {
            let (stored, at) = event;
            version += 1;
            assert_eq!(stored.commit.first_version + at as u64, version, "{commits:#?}");
            let recorded = &stored.commit.events[at];
            match recorded.event_type.as_ref() {
                "account.deposited" => found += amount(&recorded.data),
                "account.withdrawn" => found -= amount(&recorded.data),
                _ => {}
            }
        }
        assert_eq!(found, balance);
        self.bank.stop().await;
    }
}

fn amount(data: &[u8]) -> u64 {
    serde_json::from_slice::<serde_json::Value>(data).unwrap()["amount"].as_u64().unwrap()
}

fn refused(answer: Result<Receipt, CommandError<AccountRejection>>) -> AccountRejection {
    match answer {
        Err(CommandError::Rejected(rejection)) => rejection,
        other => panic!("{other:?}"),
    }
}

const POOR: AccountRejection = AccountRejection::Insufficient { balance: 35, amount: 300 };

async fn what_the_log_cannot_cover_is_not_accepted<W: World>() {
    let scene = Scene::<W>::set().await;
    assert_eq!(refused(scene.bank.execute(withdraw(300)).await), POOR);
    let receipt = scene.bank.execute(withdraw(30)).await.unwrap();
    assert_eq!((receipt.version, receipt.repeat), (scene.version + 1, false));
    scene.check(5).await;
}

async fn what_is_accepted_follows_the_log<W: World>() {
    let scene = Scene::<W>::set().await;
    let receipt = scene.bank.execute(deposit("a", 5)).await.unwrap();
    assert_eq!(receipt.version, scene.version + 1);
    scene.check(40).await;
}

async fn a_refusal_is_about_the_log<W: World>() {
    let scene = Scene::<W>::set().await;
    let refusal = refused(scene.bank.execute(withdraw(1_000)).await);
    assert_eq!(refusal, AccountRejection::Insufficient { balance: 35, amount: 1_000 });
    scene.check(35).await;
}

async fn a_command_that_changes_nothing_sees_the_log<W: World>() {
    let scene = Scene::<W>::set().await;
    let receipt = scene.bank.execute(Touch { account: "a".into() }).await.unwrap();
    assert_eq!(receipt.version, scene.version);
    scene.check(35).await;
}

async fn what_the_log_has_lost_does_not_exist<W: World>() {
    let scene = Scene::<W>::set().await;
    let answer = scene.bank.execute(deposit("c", 1)).await;
    assert!(matches!(answer, Err(CommandError::NotFound(_))), "{answer:?}");
    assert!(matches!(scene.bank.execute(open("a", 1)).await, Err(CommandError::AlreadyExists(_))));
    scene.check(35).await;
}

async fn what_the_log_has_lost_can_be_created<W: World>() {
    let scene = Scene::<W>::set().await;
    let receipt = scene.bank.execute(open("c", 7)).await.unwrap();
    assert_eq!(receipt.version, 2);
    assert_eq!(scene.bank.execute(deposit("c", 1)).await.unwrap().version, 3);
    scene.check(35).await;
}

async fn commands_that_share_an_append_see_the_log<W: World>() {
    let scene = Scene::<W>::set().await;
    let (one, two, three, four) = tokio::join!(
        scene.bank.execute(withdraw(20)).into_future(),
        scene.bank.execute(withdraw(20)).into_future(),
        scene.bank.execute(withdraw(20)).into_future(),
        scene.bank.execute(withdraw(300)).into_future(),
    );
    assert!(matches!(refused(four), AccountRejection::Insufficient { balance: 15 | 35, .. }));
    assert_eq!([one, two, three].iter().filter(|answer| answer.is_ok()).count(), 1);
    scene.check(15).await;
}

async fn a_repeat_of_what_the_log_has_lost_takes_effect<W: World>() {
    let scene = Scene::<W>::set().await;
    let id = CommandId::derived([LOST]);
    let receipt = scene.bank.execute(deposit("a", 100)).id(id).await.unwrap();
    assert!(!receipt.repeat);
    assert!(scene.bank.execute(deposit("a", 100)).id(id).await.unwrap().repeat);
    scene.check(135).await;
}

async fn a_receipt_for_what_the_log_has_lost_is_void<W: World>() {
    let scene = Scene::<W>::set().await;
    let query = || scene.bank.query(statement("a"));
    let sent = serde_json::to_string(&scene.receipt).unwrap();
    for receipt in [scene.receipt.clone(), serde_json::from_str(&sent).unwrap()] {
        let error = query().after(&receipt).await.unwrap_err();
        assert!(matches!(error, Error::ReceiptVoid { sequence: 3, .. }), "{error:?}");
        let error = scene.bank.seen("statement", &receipt).await.unwrap_err();
        assert!(matches!(error, Error::ReceiptVoid { sequence: 3, .. }), "{error:?}");
    }
    scene.check(35).await;
}

async fn a_position_that_the_log_has_lost_is_void<W: World>() {
    let scene = Scene::<W>::set().await;
    let error = scene.bank.query(statement("a")).after(&scene.position).await.unwrap_err();
    assert!(matches!(error, Error::PositionVoid { .. }), "{error:?}");
    scene.check(35).await;
}

macro_rules! worlds {
    ({ $($module:ident: $world:ty;)* } $cases:tt) => {
        $(mod $module {
            use super::*;
            worlds! { in $world; $cases }
        })*
    };
    (in $world:ty; { $($case:ident)* }) => {
        $(#[tokio::test]
        async fn $case() {
            super::$case::<$world>().await;
        })*
    };
}

worlds! {
    {
    a_shorter_log_in_memory: InMemory<1>;
    another_log_in_memory: InMemory<0>;
    a_stream_that_was_restored: Restored;
    a_stream_that_was_made_again: MadeAgain;
    a_server_with_an_older_folder: OnDisk;
    a_file_that_was_replaced: InAFile;
    a_file_that_was_made_again: MadeAgainInAFile;
    a_file_that_was_restored: RestoredInAFile;
    }
    {
        what_the_log_cannot_cover_is_not_accepted
        what_is_accepted_follows_the_log
        a_refusal_is_about_the_log
        a_command_that_changes_nothing_sees_the_log
        what_the_log_has_lost_does_not_exist
        what_the_log_has_lost_can_be_created
        commands_that_share_an_append_see_the_log
        a_repeat_of_what_the_log_has_lost_takes_effect
        a_receipt_for_what_the_log_has_lost_is_void
        a_position_that_the_log_has_lost_is_void
    }
}
