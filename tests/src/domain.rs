//! A small domain for tests of the framework: accounts with deposits and withdrawals.

use cqrs_core::{
    Aggregate, AggregateKey, Answer, Apply, Backend, Command, Context, Cqrs, Documents, Envelope, Error,
    Event, EventHandler, Handle, Handled, HandlerError, On, Project, Query, Start, View,
};
use serde::{Deserialize, Serialize};

/// What happens to an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(prefix = "account")]
pub enum AccountEvent {
    /// It was opened.
    Opened {
        /// The owner.
        owner: String,
    },
    /// Money came in.
    Deposited {
        /// How much.
        amount: u64,
    },
    /// Money went out.
    Withdrawn {
        /// How much.
        amount: u64,
    },
}

/// Why an account rejects a command.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountRejection {
    /// There is not enough money.
    #[error("the balance is {balance}, not {amount}")]
    Insufficient {
        /// The balance.
        balance: u64,
        /// The amount of the command.
        amount: u64,
    },
}

/// An account. It saves snapshots more often than is useful, so that faults affect them.
#[derive(Debug, Default, Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(
    id = String,
    event = AccountEvent,
    rejection = AccountRejection,
    commands(Open, Deposit, Withdraw),
    internal(Touch),
    snapshot(every = 5),
)]
pub struct Account {
    balance: u64,
}

impl Apply<AccountEvent> for Account {
    fn apply(&mut self, event: &AccountEvent) {
        match event {
            AccountEvent::Opened { .. } => {}
            AccountEvent::Deposited { amount } => self.balance += amount,
            AccountEvent::Withdrawn { amount } => self.balance -= amount,
        }
    }
}

/// A service of accounts and their statements.
pub type Bank = Cqrs<(Account,), (Statement,)>;

/// Starts a service.
///
/// # Panics
///
/// When it does not start.
///
/// # Cancel safety
///
/// Dropping it stops what was started.
pub async fn bank<B: Backend>(backend: B) -> Bank {
    let builder = Cqrs::builder(backend).aggregate::<Account>().view::<Statement>();
    builder.start().await.expect("the service starts")
}

/// Opens an account of anna's.
pub fn open(account: impl Into<String>, amount: u64) -> Open {
    Open { account: account.into(), owner: "anna".into(), amount }
}

/// Pays in.
pub fn deposit(account: impl Into<String>, amount: u64) -> Deposit {
    Deposit { account: account.into(), amount }
}

/// Pays out.
pub fn withdraw(account: impl Into<String>, amount: u64) -> Withdraw {
    Withdraw { account: account.into(), amount }
}

/// Asks for an account's statement.
pub fn statement(account: impl Into<String>) -> GetStatement {
    GetStatement { account: account.into() }
}

/// The aggregate key of an account.
///
/// # Panics
///
/// When the text is not a valid id.
pub fn key(account: impl Into<String>) -> AggregateKey {
    AggregateKey::new("account", account.into()).expect("an id")
}

/// Accounts and versions of their events, one by one.
pub fn places(of: &[(&str, &[u64])]) -> Vec<(String, u64)> {
    of.iter().flat_map(|(account, versions)| versions.iter().map(|v| ((*account).to_owned(), *v))).collect()
}

/// Opens an account with a first deposit: two events in one commit.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Account, create)]
pub struct Open {
    /// The account.
    #[command(id)]
    pub account: String,
    /// The owner.
    pub owner: String,
    /// The first deposit; with 0 there is only one event.
    pub amount: u64,
}

/// Pays in.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Account)]
pub struct Deposit {
    /// The account.
    #[command(id)]
    pub account: String,
    /// How much.
    pub amount: u64,
}

/// Pays out.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Account)]
pub struct Withdraw {
    /// The account.
    #[command(id)]
    pub account: String,
    /// How much.
    pub amount: u64,
}

/// Changes nothing.
#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Account, upsert)]
pub struct Touch {
    /// The account.
    #[command(id)]
    pub account: String,
}

impl Handle<Open> for Account {
    fn handle(&self, command: &Open, _: &Context) -> Handled<Self> {
        let opened = AccountEvent::Opened { owner: command.owner.clone() };
        if command.amount == 0 {
            return Ok(opened.into());
        }
        Ok([opened, AccountEvent::Deposited { amount: command.amount }].into())
    }
}

impl Handle<Deposit> for Account {
    fn handle(&self, command: &Deposit, _: &Context) -> Handled<Self> {
        Ok(AccountEvent::Deposited { amount: command.amount }.into())
    }
}

impl Handle<Withdraw> for Account {
    fn handle(&self, command: &Withdraw, _: &Context) -> Handled<Self> {
        let (balance, amount) = (self.balance, command.amount);
        if amount > balance {
            return Err(AccountRejection::Insufficient { balance, amount });
        }
        Ok(AccountEvent::Withdrawn { amount }.into())
    }
}

impl Handle<Touch> for Account {
    fn handle(&self, _: &Touch, _: &Context) -> Handled<Self> {
        Ok(cqrs_core::Events::none())
    }
}

/// The statement of one account: its events, so that a lost or doubled one shows.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The balance.
    pub balance: i64,
    /// The versions of the events that were projected, in the order they came.
    pub versions: Vec<u64>,
}

impl View for Statement {
    const NAME: &'static str = "statement";
    type Of = Account;
}

impl Project<AccountEvent> for Statement {
    fn project(&mut self, event: &Envelope<AccountEvent>) {
        self.versions.push(event.version);
        match &event.data {
            AccountEvent::Opened { .. } => {}
            AccountEvent::Deposited { amount } => self.balance += i64::try_from(*amount).unwrap_or(0),
            AccountEvent::Withdrawn { amount } => self.balance -= i64::try_from(*amount).unwrap_or(0),
        }
    }
}

/// The number of opened accounts; it ignores deposits and withdrawals.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Openings {
    /// The number.
    pub count: u64,
}

impl View for Openings {
    const NAME: &'static str = "openings";
    type Of = (Account,);
}

impl Project<AccountEvent> for Openings {
    fn key(event: &Envelope<AccountEvent>) -> Option<String> {
        matches!(event.data, AccountEvent::Opened { .. }).then(|| "all".to_owned())
    }

    fn project(&mut self, _: &Envelope<AccountEvent>) {
        self.count += 1;
    }
}

/// Handles events and does nothing.
#[derive(Debug)]
pub struct Idle;

impl EventHandler for Idle {
    const NAME: &'static str = "idle";
    const START: Start = Start::Beginning;
    type Of = Account;
}

impl On<AccountEvent> for Idle {
    async fn on(&self, _: &Envelope<AccountEvent>) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// Asks for one account's statement.
#[derive(Debug, Serialize, Deserialize, Query)]
#[query(view = Statement, answer = Option<Statement>)]
pub struct GetStatement {
    /// The account.
    #[query(key)]
    pub account: String,
}

/// Asks for the accounts with at least so much money.
#[derive(Debug, Serialize, Deserialize, Query)]
#[query(view = Statement, answer = Vec<String>)]
pub struct RichAccounts {
    /// The least balance.
    pub at_least: i64,
}

impl Answer<RichAccounts> for Statement {
    async fn answer(query: RichAccounts, documents: &Documents<Self>) -> Result<Vec<String>, Error> {
        let all = documents.all().await?.into_iter();
        Ok(all.filter(|(_, found)| found.balance >= query.at_least).map(|(account, _)| account).collect())
    }
}

/// Asks how many accounts were opened.
#[derive(Debug, Query)]
#[query(view = Openings, answer = u64)]
pub struct CountOpenings;

impl Answer<CountOpenings> for Openings {
    async fn answer(_: CountOpenings, documents: &Documents<Self>) -> Result<u64, Error> {
        Ok(documents.get("all").await?.map_or(0, |found| found.count))
    }
}
