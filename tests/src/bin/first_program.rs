//! The first program of `tests/server/ages.rs`: it records deposits in version 1, as JSON.

use cqrs_core::{Aggregate, Apply, Context, Event, Handle, Handled};
use cqrs_tests::ages::{Balance, Seen, run};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(prefix = "account")]
enum AccountEvent {
    Opened { owner: String },
    Deposited { amount: u64 },
}

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

impl Handle<Open> for Account {
    fn handle(&self, _: &Open, _: &Context) -> Handled<Self> {
        // Two events are stored as a batch.
        Ok([AccountEvent::Opened { owner: "anna".into() }, AccountEvent::Deposited { amount: 1 }].into())
    }
}

impl Handle<Deposit> for Account {
    fn handle(&self, command: &Deposit, _: &Context) -> Handled<Self> {
        Ok(AccountEvent::Deposited { amount: command.amount }.into())
    }
}

cqrs_tests::program_of_age!(Account, AccountEvent, see);

fn see(seen: &mut Seen, event: &AccountEvent) {
    if let AccountEvent::Deposited { amount } = event {
        // Only `statement` may set such an account aside; no other program has this rule.
        assert!(*amount != 13, "no thirteen");
        seen.balance += amount;
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    run::<Age>().await;
}
