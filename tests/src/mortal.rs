//! A service with every kind of effect, for tests that kill it at every step.
//!
//! [`run`] starts it on stores of any kind, with the points of [`failpoint`](crate::failpoint). The process
//! `mortal` does so for the tests to kill; its correct final state follows from the log alone.

use std::{
    fs::File,
    future::Future,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use cqrs_core::{
    Builder, Cqrs, Effects, Envelope, Error, EventHandler, HandlerError, On, Policy, Project, React, Refusal,
    Start, View,
    memory::MemoryViews,
    port::{Deadlines, EventStore, ProjectionId, ViewStore},
};
use cqrs_nats::KvViews;
use cqrs_sql::{
    PostgresViews, SqlProject, SqlView, SqliteViews, Tables,
    sqlx::{self, PgConnection, Postgres, Sqlite, SqliteConnection},
};
use serde::{Deserialize, Serialize};

use crate::{
    domain::{Account, AccountEvent, Deposit, Statement, Withdraw},
    failpoint::{Point, Sends, Stops, reached},
};

/// The projections of the service.
pub const PROJECTIONS: [&str; 4] = [Statement::NAME, Picky::NAME, Generous::NAME, Notary::NAME];

/// The view of a service on a database.
pub const ROWS: ProjectionId = ProjectionId::new("rows", 1);

/// The amount at which the rules of [`Picky`] and [`Generous`] panic.
pub const THIRTEEN: u64 = 13;

/// The service.
pub type Mortal = Cqrs<(Account,), (Statement, Picky)>;

type MortalBuilder = Builder<(Account,), (Statement, Picky)>;

/// A view store that the service can run on.
pub trait Store: ViewStore + Clone {
    /// Whether the store has the view in a table of its own.
    const HAS_ROWS: bool = false;

    /// Adds the projections that need this store.
    #[must_use]
    fn add(&self, builder: MortalBuilder) -> MortalBuilder {
        builder
    }

    /// The accounts and versions of all events, as [`Rows`] stores them; `None` if the store has no rows.
    fn rows(&self) -> impl Future<Output = Option<Vec<(String, i64)>>> + Send {
        std::future::ready(None)
    }
}

impl Store for KvViews {}

impl Store for MemoryViews {}

macro_rules! store_of_rows {
    ($store:ty, $database:ty, $connection:ty) => {
        impl Store for $store {
            const HAS_ROWS: bool = true;

            fn add(&self, builder: MortalBuilder) -> MortalBuilder {
                builder.projection(ROWS, Stops::new(self.projection(Rows)))
            }

            async fn rows(&self) -> Option<Vec<(String, i64)>> {
                let rows = self.rows::<Rows>(&ROWS);
                let select = rows.sql("SELECT account, version FROM {events} ORDER BY account, version");
                Some(sqlx::query_as(select).fetch_all(self.pool()).await.expect("the rows"))
            }
        }

        impl SqlView<$database> for Rows {
            const NAME: &'static str = ROWS.name;
            const TABLES: &'static [&'static str] = &["events"];
            type Of = (Account,);

            async fn create(&self, tables: &Tables, connection: &mut $connection) -> sqlx::Result<()> {
                let create = "CREATE TABLE {events} (account text NOT NULL, version bigint NOT NULL)";
                sqlx::query(tables.sql(create)).execute(connection).await?;
                Ok(())
            }
        }

        impl SqlProject<AccountEvent, $database> for Rows {
            async fn project(
                &self,
                event: &Envelope<AccountEvent>,
                tables: &Tables,
                connection: &mut $connection,
            ) -> sqlx::Result<()> {
                let insert = sqlx::query(tables.sql("INSERT INTO {events} VALUES ($1, $2)"));
                insert.bind(event.subject()).bind(event.version.cast_signed()).execute(connection).await?;
                Ok(())
            }
        }
    };
}

store_of_rows!(SqliteViews, Sqlite, SqliteConnection);
store_of_rows!(PostgresViews, Postgres, PgConnection);

/// A row for each event, without a constraint that would refuse a second one.
#[derive(Debug)]
pub struct Rows;

/// Starts the service; its handler writes lines to the file `handled`.
///
/// # Errors
///
/// The service's.
///
/// # Cancel safety
///
/// Dropping it stops what was started.
pub async fn run<E, V>(events: E, views: V, handled: &Path) -> Result<Mortal, Error>
where
    E: EventStore + Deadlines + Clone,
    V: Store,
{
    let builder = Cqrs::builder((Stops::new(events), Stops::new(views.clone())))
        .interceptor(Sends)
        .aggregate::<Account>()
        .view::<Statement>()
        .view::<Picky>()
        .policy::<Generous>()
        .event_handler(Notary::new(handled.to_owned()));
    views.add(builder).start().await
}

/// The versions of the applied events; the rules panic at [`THIRTEEN`].
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picky {
    /// The versions.
    pub versions: Vec<u64>,
}

impl View for Picky {
    const NAME: &'static str = "picky";
    type Of = Account;
}

impl Project<AccountEvent> for Picky {
    fn project(&mut self, event: &Envelope<AccountEvent>) {
        assert!(event.data != AccountEvent::Deposited { amount: THIRTEEN }, "no thirteen");
        self.versions.push(event.version);
    }
}

/// The owner of a new account gets 5. After a deposit of 50 the account `bank` pays out 100, which it may not have; for
/// each rejected command the account `consolation` gets 1. After a deposit of 7 the owner has until a deadline to
/// deposit 9, or loses 1; after a deposit of 70 the deadline is later.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generous {
    /// How many events this state has seen.
    pub seen: u32,
    /// Why commands were refused.
    pub refused: Vec<String>,
}

/// The deadlines after deposits of 7 and of 70.
const SOON: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_hours(1);

impl Policy for Generous {
    const NAME: &'static str = "generous";
    const START: Start = Start::Beginning;
    type Of = Account;

    fn refused(&mut self, refusal: &Refusal, effects: &mut Effects) {
        self.refused.push(refusal.reason().to_owned());
        effects.send(Deposit { account: "consolation".into(), amount: 1 });
    }
}

impl React<AccountEvent> for Generous {
    fn react(&mut self, event: &Envelope<AccountEvent>, effects: &mut Effects) {
        self.seen += 1;
        let account = event.subject().to_owned();
        match &event.data {
            AccountEvent::Opened { .. } => effects.send(Deposit { account, amount: 5 }),
            AccountEvent::Deposited { amount: 50 } => {
                effects.send(Withdraw { account: "bank".into(), amount: 100 });
            }
            AccountEvent::Deposited { amount: 7 } => {
                effects.at("nine", event.time + SOON, Withdraw { account, amount: 1 });
            }
            AccountEvent::Deposited { amount: 70 } => {
                effects.at("nine", event.time + LATE, Withdraw { account, amount: 1 });
            }
            AccountEvent::Deposited { amount: 9 } => effects.disarm("nine"),
            AccountEvent::Deposited { amount: THIRTEEN } => panic!("no thirteen"),
            _ => {}
        }
    }
}

/// Writes each event into a file, as an effect outside the framework that cannot be undone.
#[derive(Debug)]
pub struct Notary {
    path: PathBuf,
    file: Mutex<Option<File>>,
}

impl Notary {
    fn new(path: PathBuf) -> Self {
        Self { path, file: Mutex::default() }
    }

    fn note(&self, event: &Envelope<AccountEvent>) -> Result<(), HandlerError> {
        let mut file = self.file.lock().map_err(|error| HandlerError::permanent(error.to_string()))?;
        let file = match &mut *file {
            Some(file) => file,
            none => none.insert(File::options().append(true).create(true).open(&self.path)?),
        };
        file.write_all(format!("{} {}\n", event.subject(), event.version).as_bytes())?;
        Ok(())
    }
}

impl EventHandler for Notary {
    const NAME: &'static str = "notary";
    const START: Start = Start::Beginning;
    type Of = Account;
}

impl On<AccountEvent> for Notary {
    async fn on(&self, event: &Envelope<AccountEvent>) -> Result<(), HandlerError> {
        reached(Point::BeforeHandle, event.subject()).await;
        self.note(event)?;
        reached(Point::AfterHandle, event.subject()).await;
        Ok(())
    }
}
