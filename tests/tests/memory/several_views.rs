//! One query over several views: documents of each, documents and rows, and what it waits for.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use cqrs_core::{
    Aggregate, Answer, Apply, Cqrs, Documents, Envelope, Error, Event, OnFailure, Project, Query, StoreError,
    View,
    memory::{Memory, MemoryEvents, MemoryViews},
    port::{ProjectionId, Save, SaveError, SavedDocument, ViewStore},
    read_models::ReadModels,
};
use cqrs_sql::{
    InSqlite, Rows, SqlProject, SqlView, SqliteViews, Tables,
    sqlx::{self, Sqlite, SqliteConnection},
};
use cqrs_tests::domain::{
    Account, AccountEvent, CountOpenings, Openings, Statement, deposit, open, statement,
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

/// The versions of an account's events, and how many accounts there are.
#[derive(Query)]
#[query(view = (Statement, Openings), answer = (Vec<u64>, u64))]
struct Standing {
    account: &'static str,
}

impl Answer<Standing> for (Statement, Openings) {
    async fn answer(
        query: Standing,
        (statements, openings): &(Documents<Statement>, Documents<Openings>),
    ) -> Result<(Vec<u64>, u64), Error> {
        let versions = statements.get(query.account).await?.unwrap_or_default().versions;
        let all = openings.all().await?;
        Ok((versions, all.first().map_or(0, |(_, openings)| openings.count)))
    }
}

/// The same in the other order.
#[derive(Query)]
#[query(view = (Openings, Statement), answer = (Vec<u64>, u64))]
struct Reversed {
    account: &'static str,
}

impl Answer<Reversed> for (Openings, Statement) {
    async fn answer(query: Reversed, (_, statements): &Self::Reader) -> Result<(Vec<u64>, u64), Error> {
        Ok((statements.get(query.account).await?.unwrap_or_default().versions, 0))
    }
}

fn standing() -> Standing {
    Standing { account: "1" }
}

/// A store in which saves of some views wait, reads by key fail, and listings take their time.
#[derive(Clone, Default)]
struct Slow {
    inner: MemoryViews,
    /// The views whose saves wait.
    held: watch::Sender<Vec<&'static str>>,
    fails: Arc<AtomicBool>,
    /// How many seconds a listing takes.
    listing: Arc<AtomicU64>,
    /// Whether it does not say which builds there are.
    is_silent: Arc<AtomicBool>,
}

impl Slow {
    fn hold(&self, views: &[&'static str]) {
        self.held.send_replace(views.to_vec());
    }

    /// Holds these views from some seconds from now on.
    fn hold_later(&self, seconds: u64, views: &[&'static str]) {
        let (held, views) = (self.held.clone(), views.to_vec());
        tokio::spawn(async move {
            sleep(Duration::from_secs(seconds)).await;
            held.send_replace(views);
        });
    }
}

#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl ViewStore for Slow {
    cqrs_tests::pass_on! {
        to inner: open checkpoint load notes max_writes place page reached remove set_about
    }

    async fn save(&self, projection: &ProjectionId, save: Save<'_>) -> Result<u64, SaveError> {
        let mut held = self.held.subscribe();
        held.wait_for(|held| !held.contains(&projection.name)).await.unwrap();
        self.inner.save(projection, save).await
    }

    async fn get(&self, projection: &ProjectionId, key: &str) -> Result<Option<bytes::Bytes>, StoreError> {
        if self.fails.load(Relaxed) {
            return Err(StoreError::Unavailable { what: "the test's plan".into(), source: None });
        }
        self.inner.get(projection, key).await
    }

    async fn about(&self, view: &str) -> Result<SavedDocument, StoreError> {
        if self.is_silent.load(Relaxed) {
            pending::<()>().await;
        }
        self.inner.about(view).await
    }

    async fn list(&self, projection: &ProjectionId) -> Result<Vec<(String, bytes::Bytes)>, StoreError> {
        sleep(Duration::from_secs(self.listing.load(Relaxed))).await;
        self.inner.list(projection).await
    }
}

type Bank = Cqrs<(Account,), (Statement, Openings)>;

async fn bank<V: ViewStore>(events: MemoryEvents, views: V) -> Bank {
    let builder = Cqrs::builder((events, views)).aggregate::<Account>();
    builder.view::<Statement>().view::<Openings>().start().await.unwrap()
}

const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn a_query_reads_two_views_that_have_both_seen_the_receipt() {
    let views = Slow::default();
    let bank = bank(MemoryEvents::default(), views.clone()).await;
    for held in ["statement", "openings"] {
        views.hold(&[held]);
        let receipt = match held {
            "statement" => bank.execute(open("1", 0)).await.unwrap(),
            _ => bank.execute(deposit("1", 1)).await.unwrap(),
        };
        for error in [
            bank.query(standing()).after(&receipt).patience(PATIENCE).await.unwrap_err(),
            bank.query(Reversed { account: "1" }).after(&receipt).patience(PATIENCE).await.unwrap_err(),
        ] {
            let Error::ViewBehind { view, waited, .. } = error else { panic!("{error:?}") };
            assert_eq!((view, waited), (held, PATIENCE));
        }
        views.hold_later(1, &[]);
        let (versions, accounts) = bank.query(standing()).after(&receipt).patience(PATIENCE).await.unwrap();
        assert_eq!((versions.last(), accounts), (Some(&receipt.version), 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_query_waits_until_its_view_has_reached_the_position_of_another_answer() {
    let views = Slow::default();
    let bank = bank(MemoryEvents::default(), views.clone()).await;
    bank.execute(open("1", 0)).await.unwrap();
    bank.caught_up().await.unwrap();
    views.hold(&["openings"]);
    let deposited = bank.execute(deposit("1", 1)).await.unwrap();
    let first = bank.query(statement("1")).after(&deposited).with_position().await.unwrap();
    assert_eq!(first.position.sequence, deposited.position.sequence);
    // Of both views it is the position of the one that is behind.
    let both = bank.query(standing()).with_position().await.unwrap();
    assert_eq!(both.position.sequence, 1);
    bank.query(standing()).after(&both.position).await.unwrap();

    let query = || bank.query(CountOpenings).after(&first.position).patience(PATIENCE);
    let Error::ViewBehind { view, at, sequence, waited } = query().await.unwrap_err() else {
        panic!("it has not reached the position");
    };
    assert_eq!((view, at, sequence, waited), ("openings", 1, 2, PATIENCE));
    views.hold_later(3, &[]);
    query().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn all_waits_of_a_query_share_its_patience() {
    let views = Slow::default();
    let bank = bank(MemoryEvents::default(), views.clone()).await;
    views.hold(&["statement", "openings"]);
    let opened = bank.execute(open("1", 0)).await.unwrap();
    let begin = Instant::now();
    views.hold_later(3, &["openings"]);
    let error = bank.query(standing()).after(&opened).patience(PATIENCE).await.unwrap_err();
    let Error::ViewBehind { view: "openings", waited, .. } = error else { panic!("{error:?}") };
    assert_eq!(waited, PATIENCE);
    assert!(begin.elapsed() < PATIENCE + Duration::from_secs(1), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn reads_ask_again_for_what_the_waits_have_left_of_the_patience() {
    let views = Slow::default();
    let bank = bank(MemoryEvents::default(), views.clone()).await;
    let opened = bank.execute(open("1", 0)).await.unwrap();
    bank.caught_up().await.unwrap();

    views.hold(&["openings"]);
    views.hold_later(3, &[]);
    views.fails.store(true, Relaxed);
    let deposited = bank.execute(deposit("1", 1)).await.unwrap();
    let begin = Instant::now();
    let error = bank.query(standing()).after(&deposited).patience(PATIENCE).await.unwrap_err();
    assert!(matches!(error, Error::Store(StoreError::Unavailable { .. })), "{error:?}");
    let took = begin.elapsed();
    assert!(Duration::from_secs(4) < took && took <= PATIENCE, "{took:?}");

    // A store that is at work on its answer is given the whole patience.
    views.fails.store(false, Relaxed);
    views.listing.store(4, Relaxed);
    views.hold(&["openings"]);
    views.hold_later(3, &[]);
    let deposited = bank.execute(deposit("1", 1)).await.unwrap();
    let (versions, _) = bank.query(standing()).after(&deposited).patience(PATIENCE).await.unwrap();
    assert_eq!(versions, [1, 2, 3]);
    views.listing.store(6, Relaxed);
    let error = bank.query(standing()).after(&opened).patience(PATIENCE).await.unwrap_err();
    assert!(matches!(error, Error::Store(StoreError::Unavailable { .. })), "{error:?}");
}

/// An aggregate and a view of it, which no event concerns.
#[derive(Debug, Default, Clone, Aggregate)]
#[aggregate(id = u32, event = Written, rejection = std::convert::Infallible)]
struct Note;

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(name = "note.written")]
struct Written;

impl Apply<Written> for Note {
    fn apply(&mut self, _: &Written) {}
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Noted<const VERSION: u32>;

impl<const VERSION: u32> View for Noted<VERSION> {
    const NAME: &'static str = "noted";
    const VERSION: u32 = VERSION;
    type Of = Note;
}

impl<const VERSION: u32> Project<Written> for Noted<VERSION> {
    fn project(&mut self, _: &Envelope<Written>) {}
}

#[derive(Query)]
#[query(view = (Statement, Noted<2>), answer = ())]
struct WithNotes;

impl Answer<WithNotes> for (Statement, Noted<2>) {
    async fn answer(_: WithNotes, _: &Self::Reader) -> Result<(), Error> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_view_that_is_being_built_keeps_the_query_from_an_answer() {
    let (events, views) = (MemoryEvents::default(), Slow::default());
    let builder = || Cqrs::builder((events.clone(), views.clone())).aggregate::<Account>();
    let old = builder().view::<Statement>().view::<Noted<1>>().start().await.unwrap();
    let new = builder().view::<Statement>().view::<Noted<2>>();
    let new = new.build_changed_views().without_projectors().start().await.unwrap();
    views.hold(&["statement"]);
    views.hold_later(3, &[]);
    let opened = old.execute(open("1", 0)).await.unwrap();
    let begin = Instant::now();
    let error = new.query(WithNotes).after(&opened).patience(PATIENCE).await.unwrap_err();
    assert!(matches!(error, Error::ViewBuilding { view: "noted", version: 2 }), "{error:?}");
    let took = begin.elapsed();
    assert!(PATIENCE <= took && took < PATIENCE + Duration::from_secs(1), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_say_which_build_answers_is_no_view_that_is_being_built() {
    let views = Slow::default();
    let bank = bank(MemoryEvents::default(), views.clone()).await;
    bank.query(standing()).await.unwrap();
    views.is_silent.store(true, Relaxed);
    // For a while the service relies on the last answer.
    sleep(PATIENCE).await;
    let error = bank.query(standing()).patience(PATIENCE).await.unwrap_err();
    let Error::Store(StoreError::Unavailable { what, .. }) = &error else { panic!("{error:?}") };
    assert_eq!(what, "reading which build of statement answers");
}

/// A view that does not apply deposits, if the test says so.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Moody {
    versions: Vec<u64>,
}

static IS_MOODY: AtomicBool = AtomicBool::new(false);

impl View for Moody {
    const NAME: &'static str = "moody";
    const ON_FAILURE: OnFailure = OnFailure::Park;
    type Of = Account;
}

impl Project<AccountEvent> for Moody {
    fn project(&mut self, event: &Envelope<AccountEvent>) {
        let is_deposit = matches!(event.data, AccountEvent::Deposited { .. });
        assert!(!is_deposit || !IS_MOODY.load(Relaxed), "no deposits today");
        self.versions.push(event.version);
    }
}

#[derive(Query)]
#[query(view = (Moody, Openings), answer = Vec<u64>)]
struct MoodyVersions;

impl Answer<MoodyVersions> for (Moody, Openings) {
    async fn answer(_: MoodyVersions, (moody, _): &Self::Reader) -> Result<Vec<u64>, Error> {
        Ok(moody.get("1").await?.map_or(Vec::new(), |moody| moody.versions))
    }
}

#[tokio::test(start_paused = true)]
async fn a_build_that_becomes_active_while_another_view_is_waited_for_is_asked_about_the_receipt() {
    let views = Slow::default();
    let builder = Cqrs::builder((MemoryEvents::default(), views.clone())).aggregate::<Account>();
    let bank = builder.view::<Moody>().view::<Openings>().start().await.unwrap();
    bank.execute(open("1", 0)).await.unwrap();
    bank.caught_up().await.unwrap();
    views.hold(&["openings"]);
    let deposited = bank.execute(deposit("1", 1)).await.unwrap();
    bank.seen("moody", &deposited).await.unwrap();
    let hour = Duration::from_hours(1);
    let asking = tokio::spawn(bank.query(MoodyVersions).after(&deposited).patience(hour).into_future());
    tokio::task::yield_now().await;

    IS_MOODY.store(true, Relaxed);
    bank.rebuild("moody").await.unwrap().finished().await.unwrap();
    assert!(!asking.is_finished(), "it waits for the other view");
    views.hold(&[]);
    let error = asking.await.unwrap().unwrap_err();
    assert!(matches!(&error, Error::SetAside { view, .. } if view == "moody-v1-b2"), "{error:?}");
    assert_eq!(bank.query(MoodyVersions).await.unwrap(), [1]);
}

/// A row for each event.
struct Ledger;

impl SqlView<Sqlite> for Ledger {
    const NAME: &'static str = "ledger";
    const TABLES: &'static [&'static str] = &["entries"];
    type Of = (Account,);

    async fn create(&self, tables: &Tables, connection: &mut SqliteConnection) -> sqlx::Result<()> {
        sqlx::query(tables.sql("CREATE TABLE {entries} (account TEXT NOT NULL)")).execute(connection).await?;
        Ok(())
    }
}

impl SqlProject<AccountEvent, Sqlite> for Ledger {
    async fn project(
        &self,
        event: &Envelope<AccountEvent>,
        tables: &Tables,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<()> {
        let insert = sqlx::query(tables.sql("INSERT INTO {entries} VALUES ($1)"));
        insert.bind(event.subject()).execute(connection).await?;
        Ok(())
    }
}

/// The number of events by an account's document, and by its rows.
#[derive(Query)]
#[query(view = (Statement, InSqlite<Ledger>), answer = (usize, i64))]
struct Counts(&'static str);

impl Answer<Counts> for (Statement, InSqlite<Ledger>) {
    async fn answer(
        Counts(account): Counts,
        (statements, ledger): &(Documents<Statement>, Rows<Sqlite>),
    ) -> Result<(usize, i64), Error> {
        let statement = statements.get(account).await?.unwrap_or_default();
        let count = "SELECT count(*) FROM {entries} WHERE account = $1";
        let rows =
            ledger.read(|| sqlx::query_scalar(ledger.sql(count)).bind(account).fetch_one(ledger.pool()));
        Ok((statement.versions.len(), rows.await?))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_reads_documents_and_rows() {
    let rows = SqliteViews::in_memory("bank").await.unwrap();
    let builder = Cqrs::builder(Memory::default()).aggregate::<Account>().view::<Statement>();
    let bank = builder.read_model(rows.projection(Ledger)).start().await.unwrap();
    let mut receipt = bank.execute(open("1", 0)).await.unwrap();
    for number in 1..20 {
        let counts = bank.query(Counts("1")).after(&receipt).await.unwrap();
        assert_eq!(counts, (number, i64::try_from(number).unwrap()));
        receipt = bank.execute(deposit("1", 1)).await.unwrap();
    }
    bank.rebuild("ledger").await.unwrap().finished().await.unwrap();
    assert_eq!(bank.query(Counts("1")).after(&receipt).await.unwrap(), (20, 20));
    bank.stop().await;
}

#[tokio::test]
async fn a_read_model_that_is_added_twice_is_named_once() {
    let rows = SqliteViews::in_memory("bank").await.unwrap();
    let builder = Cqrs::builder(Memory::default()).aggregate::<Account>();
    let twice = builder.read_model(rows.projection(Ledger)).read_model(rows.projection(Ledger));
    let error = twice.start().await.err().expect("it is there twice").to_string();
    assert!(error.contains("Ledger>` is added twice, call `.read_model(…)` once"), "{error}");
    assert!(!error.contains("used twice"), "{error}");
}

/// The number `N` by the number of openings.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Times<const N: usize>(usize);

impl<const N: usize> View for Times<N> {
    const NAME: &'static str = ["zero", "one", "two", "three", "four", "five", "six", "seven"][N];
    type Of = Account;
}

impl<const N: usize> Project<AccountEvent> for Times<N> {
    fn project(&mut self, _: &Envelope<AccountEvent>) {
        self.0 += N;
    }
}

type Eight = (Times<0>, Times<1>, Times<2>, Times<3>, Times<4>, Times<5>, Times<6>, Times<7>);

#[derive(Query)]
#[query(view = Eight, answer = Vec<usize>)]
struct AllTimes;

impl Answer<AllTimes> for Eight {
    async fn answer(_: AllTimes, all: &Self::Reader) -> Result<Vec<usize>, Error> {
        async fn of<const N: usize>(documents: &Documents<Times<N>>) -> Result<usize, Error> {
            Ok(documents.get("1").await?.map_or(0, |times| times.0))
        }
        let low = [of(&all.0).await?, of(&all.1).await?, of(&all.2).await?, of(&all.3).await?];
        let high = [of(&all.4).await?, of(&all.5).await?, of(&all.6).await?, of(&all.7).await?];
        Ok([low, high].concat())
    }
}

#[tokio::test]
async fn a_query_reads_up_to_eight_views_each_from_its_own_documents() {
    let builder = Cqrs::builder(Memory::default()).aggregate::<Account>();
    // In another order than in the query.
    let builder = builder.view::<Times<7>>().view::<Times<0>>().view::<Times<3>>().view::<Times<1>>();
    let builder = builder.view::<Times<2>>().view::<Times<6>>().view::<Times<5>>().view::<Times<4>>();
    let bank = builder.start().await.unwrap();
    bank.execute(open("1", 0)).await.unwrap();
    let deposited = bank.execute(deposit("1", 1)).await.unwrap();
    let times = bank.query(AllTimes).after(&deposited).await.unwrap();
    assert_eq!(times, [0, 2, 4, 6, 8, 10, 12, 14]);
}

#[tokio::test]
async fn an_answer_is_tested_with_documents_of_the_test() {
    let statement = |versions: &[u64]| Statement { balance: 0, versions: versions.to_vec() };
    let statements = Documents::of([("2", statement(&[1])), ("1", statement(&[1, 2]))]).unwrap();
    let keys = |page: Vec<(String, Statement)>| page.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(keys(statements.all().await.unwrap()), ["1", "2"]);
    assert_eq!(keys(statements.page(None, 1).await.unwrap()), ["1"]);
    assert_eq!(keys(statements.page(Some("1"), 5).await.unwrap()), ["2"]);
    let openings = Documents::of([("all", Openings { count: 2 })]).unwrap();
    let reader: <(Statement, Openings) as ReadModels>::Reader = (statements, openings);
    let answer = <(Statement, Openings)>::answer(standing(), &reader).await.unwrap();
    assert_eq!(answer, (vec![1, 2], 2));
    let error = Documents::of([("k".repeat(200), statement(&[]))]).unwrap_err();
    assert!(matches!(error, Error::InvalidId(_)), "{error:?}");
}
