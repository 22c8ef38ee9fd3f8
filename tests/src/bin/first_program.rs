//! The first program of `tests/ages.rs`: it records deposits in version 1, as JSON.

use cqrs_core::{Aggregate, Apply, Command, Context, Event, Handle, Handled};
use cqrs_tests::ages::{Program, Seen, run};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(prefix = "account")]
enum AccountEvent {
    Opened { owner: String },
    Deposited { amount: u64 },
}

#[derive(Debug, thiserror::Error)]
#[error("the balance is {0}")]
struct Balance(u64);

#[derive(Debug, Default, Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(id = String, event = AccountEvent, rejection = Balance, snapshot(every = 6))]
struct Account {
    balance: u64,
}

impl Apply<AccountEvent> for Account {
    fn apply(&mut self, event: &AccountEvent) {
        if let AccountEvent::Deposited { amount } = event {
            self.balance += amount;
        }
    }
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Account, create)]
struct Open {
    #[command(id)]
    account: String,
}

impl Handle<Open> for Account {
    fn handle(&self, _: &Open, _: &Context) -> Handled<Self> {
        // Two events are stored as a batch.
        Ok([AccountEvent::Opened { owner: "anna".into() }, AccountEvent::Deposited { amount: 1 }].into())
    }
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Account)]
struct Deposit {
    #[command(id)]
    account: String,
    amount: u64,
}

impl Handle<Deposit> for Account {
    fn handle(&self, command: &Deposit, _: &Context) -> Handled<Self> {
        Ok(AccountEvent::Deposited { amount: command.amount }.into())
    }
}

#[derive(Serialize, Deserialize, Command)]
#[command(aggregate = Account)]
struct Look {
    #[command(id)]
    account: String,
}

impl Handle<Look> for Account {
    fn handle(&self, _: &Look, _: &Context) -> Handled<Self> {
        Err(Balance(self.balance))
    }
}

cqrs_tests::views_of_age!(Account, AccountEvent, see);

fn see(seen: &mut Seen, event: &AccountEvent) {
    if let AccountEvent::Deposited { amount } = event {
        // Only `statement` may set such an account aside; no other program has this rule.
        assert!(*amount != 13, "no thirteen");
        seen.balance += amount;
    }
}

struct First;

impl Program for First {
    type Account = Account;
    type Open = Open;
    type Deposit = Deposit;
    type Look = Look;
    type Statement = Statement;
    type Careful = Careful;
    type Openings = Openings;

    fn open(account: String) -> Open {
        Open { account }
    }

    fn deposit(account: String, amount: u64) -> Deposit {
        Deposit { account, amount }
    }

    fn look(account: String) -> Look {
        Look { account }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    run::<First>().await;
}
