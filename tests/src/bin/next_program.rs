//! The next program of `tests/server/ages.rs`: it reads deposits in versions 1 and 2, records them in version 3 and in
//! bincode, has another name for the opening of an account, and makes notes.

use cqrs_core::{Aggregate, Apply, Context, Event, Handle, Handled};
use cqrs_tests::ages::{Balance, Seen, run};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(prefix = "account", codec = bincode)]
enum AccountEvent {
    Noted(String),
    #[event(aliases("account.opened"))]
    Created {
        owner: String,
    },
    #[event(version = 3, upcast(1 = DepositedV1, 2 = DepositedV2))]
    Deposited {
        money: Money,
        by: String,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Money {
    amount: u64,
    currency: String,
}

#[derive(Deserialize)]
struct DepositedV1 {
    amount: u64,
}

/// A version that no program of the test has ever recorded.
#[derive(Deserialize)]
struct DepositedV2 {
    amount: u64,
    currency: String,
}

impl From<DepositedV1> for DepositedV2 {
    fn from(old: DepositedV1) -> Self {
        Self { amount: old.amount, currency: "EUR".into() }
    }
}

impl From<DepositedV2> for AccountEvent {
    fn from(DepositedV2 { amount, currency }: DepositedV2) -> Self {
        Self::Deposited { money: Money { amount, currency }, by: "nobody".into() }
    }
}

#[derive(Debug, Default, Clone, Serialize, Deserialize, Aggregate)]
#[aggregate(id = String, event = AccountEvent, rejection = Balance, snapshot(every = 6))]
struct Account {
    balance: u64,
}

impl Apply<AccountEvent> for Account {
    fn apply(&mut self, event: &AccountEvent) {
        if let AccountEvent::Deposited { money, .. } = event {
            assert_eq!(money.currency, "EUR");
            self.balance += money.amount;
        }
    }
}

fn deposited(amount: u64) -> AccountEvent {
    AccountEvent::Deposited { money: Money { amount, currency: "EUR".into() }, by: "anna".into() }
}

impl Handle<Open> for Account {
    fn handle(&self, _: &Open, _: &Context) -> Handled<Self> {
        // Two events are stored as a batch.
        Ok([AccountEvent::Created { owner: "anna".into() }, deposited(1)].into())
    }
}

impl Handle<Deposit> for Account {
    fn handle(&self, command: &Deposit, _: &Context) -> Handled<Self> {
        // A deposit of 0 makes only a note.
        let noted = AccountEvent::Noted(format!("{} came in", command.amount));
        if command.amount == 0 { Ok(noted.into()) } else { Ok([deposited(command.amount), noted].into()) }
    }
}

cqrs_tests::program_of_age!(Account, AccountEvent, see);

fn see(seen: &mut Seen, event: &AccountEvent) {
    if let AccountEvent::Deposited { money, .. } = event {
        seen.balance += money.amount;
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    run::<Age>().await;
}
