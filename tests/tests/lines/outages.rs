//! An outage of a store is one line in the log for the whole service, and one when it is over. A service that stops, and a
//! login that is refused at once, are none.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use cqrs_core::{
    Backend, Cqrs, Envelope, Event, EventHandler, HandlerError, On, Start, StoreError,
    announce::Announce,
    memory::{MemoryEvents, MemoryViews},
    model::EventSource,
    port::{EventStore, ProjectionId, Save, SaveError, SavedCheckpoint, SavedDocument, ViewStore},
};
use cqrs_nats::{Connect, ConnectError, Nats};
use cqrs_nats_server::LocalServer;
use cqrs_sql::SqliteBackend;
use cqrs_tests::{
    configured_server,
    domain::{Account, AccountEvent, Bank, Idle, Openings, Statement, bank, deposit, open},
    eventually,
    lines::Lines,
    mortal::Generous,
    own_server,
    ports::Port,
    proxy::Proxy,
    server_binary, with_causes,
};
use serde::{Deserialize, Serialize};

use crate::stores::Stores;

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(name = "board.told")]
struct Told;

/// The announcements about accounts.
struct Board;

impl EventSource for Board {
    const NAME: &'static str = "board";
    type Event = Told;
}

struct Teller;

impl Announce for Teller {
    const NAME: &'static str = "teller";
    type Of = Account;
    type As = Board;

    fn announce(_: &Envelope<AccountEvent>) -> Option<Told> {
        Some(Told)
    }
}

type Service = Cqrs<(Account,), (Statement, Openings)>;

/// Each kind of projection.
const PROJECTIONS: [&str; 5] = ["statement-v1", "openings-v1", "generous-v1", "idle-v1", "teller-v1"];

async fn service(backend: impl Backend, public: impl EventStore) -> Service {
    let builder = Cqrs::builder(backend).aggregate::<Account>().view::<Statement>().view::<Openings>();
    let builder = builder.policy::<Generous>().event_handler(Idle).announcer::<Teller>(public);
    builder.start().await.unwrap()
}

/// The lines of our own crates from a moment on.
struct Since<'a> {
    lines: &'a Lines,
    warnings: usize,
    ends: usize,
}

impl<'a> Since<'a> {
    fn now(lines: &'a Lines) -> Self {
        let mut since = Self { lines, warnings: 0, ends: 0 };
        (since.warnings, since.ends) = (since.warnings().len(), since.ends());
        since
    }

    fn warnings(&self) -> Vec<String> {
        self.lines.without_spans(&["WARN", "ERROR"]).split_off(self.warnings)
    }

    /// How many outages are over.
    fn ends(&self) -> usize {
        self.lines.text().matches("the outage is over").count() - self.ends
    }

    #[track_caller]
    fn assert_one_outage(&self, words: &[&str]) {
        let warnings = self.warnings();
        let [line] = &warnings[..] else { panic!("{warnings:#?}") };
        assert!(line.starts_with("WARN cqrs_core::base::outage: an outage: "), "{line}");
        assert!(words.iter().all(|words| line.contains(words)), "{words:?} in {line}");
        assert_eq!(self.ends(), 1);
    }
}

/// Waits until each of these has failed several times.
async fn until_all_fail(lines: &Lines, parts: &[&str]) {
    let failures = |part: &&str| lines.text().matches(&format!("part=\"{part}\"")).count();
    for part in parts {
        eventually(&format!("{part} fails again and again"), async || failures(part) > 2).await;
    }
}

/// An outage that all parts notice, with commands and queries meanwhile.
async fn outage(lines: &Lines, service: &Service, end: impl AsyncFnOnce()) {
    let command = service.execute(open("late", 1));
    let command = tokio::spawn(command);
    let parts = [&PROJECTIONS[..], &["the deadlines", "the record of builds of statement"]].concat();
    until_all_fail(lines, &parts).await;
    end().await;
    command.await.unwrap().unwrap();
    let since = Since { lines, warnings: 0, ends: 0 };
    eventually("it is over", async || since.ends() > 0).await;
    service.settled().await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_killed_is_one_line_and_its_return_another() {
    let lines = Lines::collect();
    let (port, folder) = (Port::reserve(), tempfile::tempdir().unwrap());
    let start = async || {
        let server = LocalServer::builder(server_binary().await).port(port.number()).data(folder.path());
        server.start().await.unwrap()
    };
    let server = start().await;
    let nats = Nats::connect(server.url()).await.unwrap();
    let service = service(nats.context("bank").await.unwrap(), nats.public_log("bank").await.unwrap()).await;
    service.execute(open("1", 1)).await.unwrap();
    service.settled().await.unwrap();
    let since = Since::now(&lines);

    server.kill().await;
    let mut server = None;
    outage(&lines, &service, async || server = Some(start().await)).await;
    since.assert_one_outage(&["noticed_by=\"the connection to NATS\"", "the connection to NATS is lost"]);
    service.stop().await;
    server.unwrap().stop().await;
}

#[tokio::test]
async fn a_server_that_is_silent_is_one_line_too() {
    let lines = Lines::collect();
    let server = own_server().await;
    let proxy = Proxy::start(server.port()).await.unwrap();
    let nats = Nats::connect(&proxy.url()).await.unwrap();
    let service = service(nats.context("bank").await.unwrap(), nats.public_log("bank").await.unwrap()).await;
    service.execute(open("1", 1)).await.unwrap();
    service.settled().await.unwrap();
    let since = Since::now(&lines);

    proxy.half_open();
    outage(&lines, &service, async || proxy.pass()).await;
    since.assert_one_outage(&["the store did not answer: "]);
    service.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_file_that_is_moved_away_is_one_line_too() {
    let lines = Lines::collect();
    let folder = tempfile::tempdir().unwrap();
    let [file, away] = ["bank.db", "away.db"].map(|name| folder.path().join(name));
    let backend = SqliteBackend::open(&file, "bank").await.unwrap();
    let public = backend.public_log().await.unwrap();
    let service = service(backend, public).await;
    service.execute(open("1", 1)).await.unwrap();
    service.settled().await.unwrap();
    let since = Since::now(&lines);

    std::fs::rename(&file, &away).unwrap();
    outage(&lines, &service, async || std::fs::rename(&away, &file).unwrap()).await;
    since.assert_one_outage(&["the store is not there: ", "the file cannot be opened"]);
    service.stop().await;
}

/// Views that can be away: for so many calls, or until they are back.
#[derive(Clone, Default)]
struct Unreliable {
    inner: MemoryViews,
    is_away: Arc<AtomicBool>,
    fails: Arc<AtomicU32>,
}

impl Unreliable {
    fn check(&self) -> Result<(), StoreError> {
        let fails = self.fails.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        if fails || self.is_away.load(Relaxed) {
            return Err(StoreError::Unavailable { what: "the test's plan".into(), source: None });
        }
        Ok(())
    }
}

#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl ViewStore for Unreliable {
    cqrs_tests::pass_on! { to inner: open notes max_writes place get list page reached remove set_about }

    async fn checkpoint(&self, projection: &ProjectionId) -> Result<SavedCheckpoint, StoreError> {
        self.check()?;
        self.inner.checkpoint(projection).await
    }

    async fn load(
        &self,
        projection: &ProjectionId,
        keys: &[String],
    ) -> Result<Vec<SavedDocument>, StoreError> {
        self.check()?;
        self.inner.load(projection, keys).await
    }

    async fn about(&self, view: &str) -> Result<SavedDocument, StoreError> {
        self.check()?;
        self.inner.about(view).await
    }

    async fn save(&self, projection: &ProjectionId, save: Save<'_>) -> Result<u64, SaveError> {
        self.check()?;
        self.inner.save(projection, save).await
    }
}

async fn memory(views: &Unreliable) -> Service {
    service((MemoryEvents::default(), views.clone()), MemoryEvents::default()).await
}

#[tokio::test]
async fn views_that_do_not_answer_are_one_line_for_all_of_them() {
    let lines = Lines::collect();
    let views = Unreliable::default();
    let service = memory(&views).await;
    service.execute(open("1", 1)).await.unwrap();
    service.settled().await.unwrap();
    for round in 1..=2 {
        let since = Since::now(&lines);
        views.is_away.store(true, Relaxed);
        service.execute(deposit("1", 1)).await.unwrap();
        let before = lines.text().len();
        let failures = |part: &str| lines.text()[before..].matches(&format!("part=\"{part}\"")).count();
        for part in ["statement-v1", "openings-v1", "the record of builds of openings"] {
            eventually(&format!("{part} fails in round {round}"), async || failures(part) > 2).await;
        }
        views.is_away.store(false, Relaxed);
        service.settled().await.unwrap();
        eventually("it is over", async || since.ends() > 0).await;
        since.assert_one_outage(&["the store did not answer: the test's plan"]);
    }
    service.stop().await;
}

#[tokio::test]
async fn a_failure_that_passes_at_once_is_no_line() {
    let lines = Lines::collect();
    let views = Unreliable::default();
    let service = memory(&views).await;
    let since = Since::now(&lines);
    for account in ["1", "2", "3"] {
        views.fails.store(1, Relaxed);
        service.execute(open(account, 1)).await.unwrap();
        service.settled().await.unwrap();
        assert_eq!(views.fails.load(Relaxed), 0, "it has failed");
    }
    assert_eq!((since.warnings(), since.ends()), (vec![], 0));
    service.stop().await;
}

#[tokio::test]
async fn a_start_that_waits_for_its_store_is_one_line() {
    let lines = Lines::collect();
    let views = Unreliable::default();
    views.fails.store(10, Relaxed);
    let since = Since::now(&lines);
    let service = memory(&views).await;
    since.assert_one_outage(&["noticed_by=\"the start of the service\"", "the test's plan"]);
    service.stop().await;
}

/// A handler that shows whether its projector lives.
struct Held(#[expect(dead_code, reason = "it is counted")] Arc<()>);

impl EventHandler for Held {
    const NAME: &'static str = "held";
    const START: Start = Start::Beginning;
    type Of = Account;
}

impl On<AccountEvent> for Held {
    async fn on(&self, _: &Envelope<AccountEvent>) -> Result<(), HandlerError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_clean_stop_is_silent() {
    let lines = Lines::collect();
    for stores in Stores::all().await {
        for stops in [true, false] {
            let held = Arc::new(());
            let builder = Cqrs::builder(stores.backend.clone()).aggregate::<Account>().view::<Statement>();
            let builder = builder.policy::<Generous>().announcer::<Teller>(MemoryEvents::default());
            let service = builder.event_handler(Held(Arc::clone(&held))).start().await.unwrap();
            // The second one finds it there.
            let _ = service.execute(open("1", 1)).await;
            service.settled().await.unwrap();
            let since = Since::now(&lines);
            if stops {
                assert_eq!(service.stop().await, []);
            }
            drop(service);
            eventually("its projectors have ended", async || Arc::strong_count(&held) == 1).await;
            assert_eq!((since.warnings(), since.ends()), (vec![], 0), "on {}", stores.name);
        }
        let (is_nats, since) = (stores.name == "nats", Since::now(&lines));
        drop(stores);
        if is_nats {
            eventually("the client has ended", async || lines.text().contains("event: closed")).await;
        }
        assert_eq!(since.warnings(), [""; 0]);
    }
}

/// As the last thing that a program does, which has the connection until its end.
#[tokio::test]
async fn a_server_that_stops_after_its_service_is_silent() {
    let lines = Lines::collect();
    let server = own_server().await;
    let nats = Nats::connect(server.url()).await.unwrap();
    let service: Bank = bank(nats.context("bank").await.unwrap()).await;
    service.execute(open("1", 1)).await.unwrap();
    service.caught_up().await.unwrap();
    let since = Since::now(&lines);
    service.stop().await;
    server.stop().await;
    let attempts = || lines.text().matches("event: client error").count();
    eventually("the client tries to connect again", async || attempts() > 2).await;
    assert_eq!((since.warnings(), since.ends()), (vec![], 0));
    drop((service, nats));
}

#[tokio::test]
async fn a_refused_login_is_an_error_and_no_line() {
    let lines = Lines::collect();
    let since = Since::now(&lines);
    let server = configured_server("authorization { user: anna, password: right }").await;
    let connect = || Connect::to(server.url());
    for connect in [connect().user("anna", "wrong"), connect().token("wrong"), connect()] {
        let error = connect.wait_for(Duration::MAX).connect().await.unwrap_err();
        assert!(matches!(error, ConnectError::Unauthorized { .. }), "{error:?}");
    }
    let error = connect().credentials("missing.creds").connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Credentials { .. }), "{error:?}");
    server.stop().await;
    assert_eq!(since.warnings(), [""; 0]);
}

#[tokio::test]
async fn a_login_that_is_refused_later_is_a_line_however_often_it_is_tried() {
    let lines = Lines::collect();
    let (port, folder) = (Port::reserve(), tempfile::tempdir().unwrap());
    let start = async |password: &str| {
        let config = format!("authorization {{ user: anna, password: {password} }}");
        let server = LocalServer::builder(server_binary().await).port(port.number()).data(folder.path());
        server.config(config).start().await.unwrap()
    };
    let server = start("right").await;
    let nats = Connect::to(server.url()).user("anna", "right").connect().await.unwrap();
    let builder = Cqrs::builder(nats.context("bank").await.unwrap()).aggregate::<Account>();
    let builder = builder.view::<Statement>().append_patience(Duration::from_secs(3));
    let bank: Bank = builder.start().await.unwrap();
    bank.execute(open("1", 1)).await.unwrap();
    bank.caught_up().await.unwrap();
    let since = Since::now(&lines);

    server.stop().await;
    let server = start("other").await;
    let refusals = || lines.text().matches("client error: nats: authorization violation").count();
    eventually("it is refused often", async || refusals() > 20).await;
    let error = bank.execute(open("2", 1)).await.unwrap_err();
    let text = with_causes(&error);
    assert!(text.contains("the server does not accept the credentials any more"), "{text}");
    server.stop().await;
    let server = start("right").await;
    eventually("it is over", async || since.ends() > 0).await;
    bank.execute(deposit("1", 1)).await.unwrap();

    let warnings = since.warnings();
    let [lost, refused] = &warnings[..] else { panic!("{warnings:#?}") };
    assert!(lost.contains("the connection to NATS is lost"), "{lost}");
    assert!(refused.contains("the server does not accept the credentials any more"), "{refused}");
    assert_eq!(since.ends(), 1);
    bank.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_permission_that_is_missing_is_one_line_for_its_subject() {
    let lines = Lines::collect();
    let permissions = r#"permissions: { publish: { deny: ["bank.event.account.closed"] } }"#;
    let user = format!("{{ user: bank, password: p, {permissions} }}");
    let server =
        configured_server(format!("accounts {{ A {{ jetstream: enabled, users: [ {user} ] }} }}")).await;
    let nats = Connect::to(server.url()).user("bank", "p").connect().await.unwrap();
    let bank: Bank = bank(nats.context("bank").await.unwrap()).await;
    let since = Since::now(&lines);
    for _ in 0..3 {
        let error = bank.execute(open("closed", 1)).await.unwrap_err();
        assert!(error.to_string().contains("publish to bank.event.account.closed"), "{error}");
    }
    let warnings = since.warnings();
    let [line] = &warnings[..] else { panic!("{warnings:#?}") };
    let words = "the NATS server reports an error error=\"Permissions Violation for Publish to ";
    assert!(line.contains(words) && line.contains("bank.event.account.closed"), "{line}");
    bank.stop().await;
    server.stop().await;
}
