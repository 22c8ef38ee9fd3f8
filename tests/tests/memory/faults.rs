//! Stores that lose requests and answers: nothing is lost, nothing happens twice.
//!
//! The seeds are fixed, and each failure names its own; another range of seeds runs with `FAULT_SEEDS`,
//! such as `FAULT_SEEDS=1000..2000`.

use cqrs_core::{
    CommandError, CommandId, Cqrs, Error, Receipt,
    log::{Commit, Position, StoredCommit},
    memory::{MemoryEvents, MemoryViews},
    port::{EventStore as _, Expected},
};
use cqrs_tests::{
    domain::{Account, Statement, deposit, key, open, statement},
    flaky::Flaky,
};

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("FAULT_SEEDS") else {
        return 0..40;
    };
    let range = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.expect("FAULT_SEEDS looks like 0..100")
}

/// More documents than the flaky view store takes at once.
const ACCOUNTS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Sends a command under one id until the answer is definite, as a caller does.
async fn until_definite<
    F: Future<Output = Result<Receipt, CommandError<E>>>,
    E: std::error::Error + 'static,
>(
    mut send: impl FnMut() -> F,
) -> Receipt {
    loop {
        match send().await {
            Ok(receipt) => return receipt,
            Err(CommandError::Failed(Error::Conflict { .. } | Error::Unknown { .. } | Error::Store(_))) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn places(stored: &StoredCommit) -> impl Iterator<Item = (CommandId, u64, Position)> {
    stored.commit.events.iter().zip(0..).map(|(event, index)| {
        let position = Position { sequence: stored.sequence, index };
        (event.origin.command_id, stored.commit.first_version + u64::from(index), position)
    })
}

// The time is paused except for sleeps, so that pauses cost nothing.
#[tokio::test(start_paused = true)]
async fn every_command_takes_effect_once_whatever_is_lost() {
    let mut failures = 0;
    for seed in seeds() {
        let events = MemoryEvents::default();
        let flaky = Flaky::new(events.clone(), seed);
        let views = Flaky::new(MemoryViews::default(), seed ^ 0xABCD);
        let bank = Cqrs::builder((flaky.clone(), views.clone()))
            .aggregate::<Account>()
            .view::<Statement>()
            .start()
            .await
            .unwrap();
        for account in ACCOUNTS {
            let open = || bank.execute(open(account, 0));
            let id = CommandId::derived(["open", account]);
            until_definite(|| open().id(id).into_future()).await;
        }
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..4_u64 {
            let bank = bank.clone();
            writers.spawn(async move {
                let mut receipts = Vec::new();
                for (number, account) in
                    (0..10_u64).flat_map(|number| ACCOUNTS.map(|account| (number, account)))
                {
                    let id = CommandId::derived([&writer.to_string(), &number.to_string(), account]);
                    let deposit = || bank.execute(deposit(account, 1)).id(id);
                    receipts.push(until_definite(|| deposit().into_future()).await);
                }
                receipts
            });
        }
        let receipts: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
        bank.caught_up().await.unwrap();
        for account in ACCOUNTS {
            let key = key(account);
            let stored = events.read(&key, 0, 1_000).await.unwrap().commits;
            // For each event: its command, and the position that the receipt must name.
            let places: Vec<_> = stored.iter().flat_map(places).collect();
            assert_eq!(places.len(), 41, "seed {seed}: each command is stored once");
            for receipt in receipts.iter().filter(|receipt| receipt.aggregate.id() == account) {
                let its: Vec<_> =
                    places.iter().filter(|(command, ..)| *command == receipt.command_id).collect();
                assert_eq!(
                    its,
                    [&(receipt.command_id, receipt.version, receipt.position)],
                    "seed {seed}: {receipt:?}"
                );
            }
            let seen = bank.query(statement(account)).await.unwrap().unwrap();
            let expected = Statement { balance: 40, versions: (1..=41).collect() };
            assert_eq!(seen, expected, "seed {seed}: each event is projected once, in order");
        }
        bank.stop().await;
        failures += flaky.failures() + views.failures();
    }
    assert!(failures > seeds().end - seeds().start, "the stores did fail: {failures} times");
}

#[tokio::test]
async fn a_gap_in_an_aggregates_versions_is_an_error_that_names_it() {
    let events = MemoryEvents::default();
    let views = MemoryViews::default();
    let bank = Cqrs::builder((events.clone(), views)).aggregate::<Account>().start().await.unwrap();
    bank.execute(open("1", 0)).await.unwrap();
    let key = key("1");
    let first = events.read(&key, 0, 1).await.unwrap().commits.remove(0);
    // A damaged log: the second commit is missing, the third is there.
    let third = Commit { first_version: 3, ..first.commit };
    events.append(&third, Expected::Exact(first.sequence)).await.unwrap();
    let error = bank.execute(deposit("1", 1)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "account/1 should have version 2 at sequence 2, found 3: the log is damaged"
    );
    bank.execute(open("2", 0)).await.unwrap();
}
