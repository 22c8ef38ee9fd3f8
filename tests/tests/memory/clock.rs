//! A clock that the test and the service share.

use std::{sync::Arc, time::Duration};

use cqrs_core::{Cqrs, Effects, Envelope, Policy, React, Start, memory::Memory, testing::ManualClock};
use cqrs_tests::{
    domain::{Account, AccountEvent, Statement, deposit, open, statement},
    eventually,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Pays 100 into an account, as many seconds after it was opened as its first deposit says.
#[derive(Default, Serialize, Deserialize)]
struct Later;

impl Policy for Later {
    const NAME: &'static str = "later";
    const START: Start = Start::Beginning;
    type Of = Account;
}

impl React<AccountEvent> for Later {
    fn react(&mut self, event: &Envelope<AccountEvent>, effects: &mut Effects) {
        match event.data {
            AccountEvent::Deposited { amount } if event.version == 2 => {
                effects.at("later", event.time + Duration::from_secs(amount), deposit(event.subject(), 100));
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn deadlines_in_memory_are_due_when_the_shared_clock_shows_their_time() {
    let begin: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
    let clock = Arc::new(ManualClock::new(begin));
    let builder = Cqrs::builder(Memory::default()).clock(Arc::clone(&clock)).aggregate::<Account>();
    let bank = builder.view::<Statement>().policy::<Later>().start().await.unwrap();
    for (account, seconds) in [("soon", 60), ("late", 3_600)] {
        bank.execute(open(account, seconds)).await.unwrap();
    }
    // The policy has saved both deadlines when its progress is at the end.
    bank.caught_up().await.unwrap();
    let versions = async |account| bank.query(statement(account)).await.unwrap().unwrap().versions;

    clock.advance(Duration::from_mins(1));
    eventually("the first deadline is due", async || versions("soon").await == [1, 2, 3]).await;
    assert_eq!(versions("late").await, [1, 2], "an hour has not passed");

    clock.set("2026-01-01T13:00:00Z".parse().unwrap());
    eventually("the second deadline is due", async || versions("late").await == [1, 2, 3]).await;
    bank.stop().await;
}
