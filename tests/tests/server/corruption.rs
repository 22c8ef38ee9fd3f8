//! A server's files that are damaged while it is down: a lost message is never mistaken for one that never existed.
//!
//! The server silently skips a message whose checksum is wrong. If its index is lost as well, it forgets all messages
//! after the damage in the same file, and assigns their sequences again.
//!
//! Not with the feature `testcontainers`: the server is its own, so a container changes nothing.
#![cfg(not(feature = "testcontainers"))]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use cqrs_core::{
    CommandError, Cqrs, Error, StoreError, memory::MemoryViews, operate::ProjectorState,
    port::EventStore as _,
};
use cqrs_nats::{Nats, NatsBackend, NatsEvents};
use cqrs_nats_server::LocalServer;
use cqrs_tests::{
    domain::{Account, Statement, deposit, key, open, statement},
    eventually,
    ports::Port,
    server_binary,
};
use tempfile::TempDir;

/// The deposits, one after the other: they lead to versions 2 to 14. The last snapshot is of version 10.
const AMOUNTS: std::ops::Range<u64> = 7_001..7_014;

struct Damaged {
    data: TempDir,
    port: Port,
    server: Option<LocalServer>,
}

impl Damaged {
    async fn new() -> Self {
        let mut damaged = Self { data: tempfile::tempdir().unwrap(), port: Port::reserve(), server: None };
        damaged.start().await;
        damaged
    }

    async fn start(&mut self) {
        let builder =
            LocalServer::builder(server_binary().await).data(self.data.path()).port(self.port.number());
        self.server = Some(builder.start().await.unwrap());
    }

    async fn stop(&mut self) {
        self.server.take().unwrap().stop().await;
    }

    async fn backend(&self) -> NatsBackend {
        let url = format!("nats://127.0.0.1:{}", self.port.number());
        Nats::connect(&url).await.unwrap().context("damaged").await.unwrap()
    }

    fn stream(&self) -> PathBuf {
        self.data.path().join("jetstream/$G/streams/DAMAGED/msgs")
    }

    /// Flips one bit of the payload of the payment that led to this version.
    fn flip_a_bit(&self, version: u64) {
        let payload = format!("{{\"amount\":{}}}", AMOUNTS.start + version - 2);
        let blocks =
            files(&self.stream()).into_iter().filter(|file| file.extension().is_some_and(|e| e == "blk"));
        let mut flipped = 0;
        for block in blocks {
            let mut bytes = fs::read(&block).unwrap();
            let found = bytes.windows(payload.len()).position(|window| window == payload.as_bytes());
            if let Some(at) = found {
                bytes[at + payload.len() - 2] ^= 1;
                fs::write(&block, bytes).unwrap();
                flipped += 1;
            }
        }
        assert_eq!(flipped, 1, "one message is damaged");
    }

    fn lose_the_index(&self) {
        let index = self.stream().join("index.db");
        assert!(index.exists(), "the server keeps its index there");
        fs::remove_file(index).unwrap();
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

type Bank = Cqrs<(Account,), (Statement,)>;

async fn bank<V: cqrs_core::port::ViewStore>(events: NatsEvents, views: V) -> Bank {
    let builder = Cqrs::builder((events, views)).aggregate::<Account>().view::<Statement>();
    builder.append_patience(Duration::from_secs(10)).start().await.unwrap()
}

/// An account with all payments, and another before and after it.
async fn fill(bank: &Bank) {
    for account in ["before", "damaged"] {
        bank.execute(open(account, 0)).await.unwrap();
    }
    for amount in AMOUNTS {
        bank.execute(deposit("damaged", amount)).await.unwrap();
    }
    let last = bank.execute(open("after", 0)).await.unwrap();
    bank.seen("statement", &last).await.unwrap();
}

/// A server with a full log, which was stopped.
async fn full() -> Damaged {
    let mut server = Damaged::new().await;
    let NatsBackend { events, views } = server.backend().await;
    let bank = bank(events, views).await;
    fill(&bank).await;
    bank.stop().await;
    server.stop().await;
    server
}

/// The last version in the log.
async fn versions(events: &NatsEvents, account: &str) -> Result<u64, StoreError> {
    let key = key(account);
    let commits = events.read(&key, 0, 1_000).await?.commits;
    Ok(commits.last().map_or(0, |stored| stored.commit.last_version()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_is_a_gap_and_never_a_shorter_history() {
    let mut server = full().await;
    server.flip_a_bit(12);
    server.start().await;
    let events = server.backend().await.events;
    let cold = bank(events, MemoryViews::default()).await;
    let error = cold.execute(deposit("damaged", 1)).await.unwrap_err();
    let CommandError::Failed(Error::Store(StoreError::Gap { aggregate, expected: 12, .. })) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(aggregate.id(), "damaged", "{error}");
    for account in ["before", "after"] {
        let receipt = cold.execute(deposit(account, 1)).await.unwrap();
        assert_eq!(receipt.version, 2, "others go on");
    }
    // A view that is built from that log reports it, and holds the events before the damage.
    eventually("the view names the damage", async || {
        let halted = matches!(&cold.projectors()[0].state,
            ProjectorState::Halted { reason } if reason.contains("damaged"));
        let letters = cold.dead_letters("statement").await.unwrap().list().await.unwrap();
        halted || letters.iter().any(|letter| letter.aggregate.id() == "damaged")
    })
    .await;
    if let Some(seen) = cold.query(statement("damaged")).await.unwrap() {
        assert!(seen.versions.len() < 12, "{seen:?}");
        assert_eq!(seen.versions, (1..=seen.versions.len() as u64).collect::<Vec<_>>());
    }
    cold.stop().await;
    server.stop().await;
}

/// No version shows that the last event is missing. The server still compares its sequence, so no other event is stored
/// in its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_stored_in_the_place_of_a_damaged_last_event() {
    let mut server = full().await;
    server.flip_a_bit(14);
    server.start().await;
    let events = server.backend().await.events;
    let cold = bank(events.clone(), MemoryViews::default()).await;
    let answer = cold.execute(deposit("damaged", 1)).await;
    assert!(matches!(answer, Err(CommandError::Failed(_))), "{answer:?}");
    assert_eq!(versions(&events, "damaged").await.unwrap(), 13);
    assert_eq!(cold.execute(deposit("before", 1)).await.unwrap().version, 2, "others go on");
    cold.stop().await;
    server.stop().await;
}

/// No commit after the damage is left, and their sequences are assigned again. The log alone does not show that; the
/// views know how far it went.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_lost_its_end_with_its_index_halts_the_views() {
    let mut server = Damaged::new().await;
    let NatsBackend { events, views } = server.backend().await;
    let live = bank(events.clone(), views).await;
    fill(&live).await;
    let before = events.log(&["account"]).await.unwrap();
    server.stop().await;
    server.flip_a_bit(6);
    server.lose_the_index();
    server.start().await;

    let NatsBackend { events, views } = server.backend().await;
    let after = events.log(&["account"]).await.unwrap();
    assert!(after.last_sequence < before.last_sequence && after.id == before.id, "{before:?}, {after:?}");
    let next = bank(events.clone(), views).await;
    // Sequences that the views have applied are assigned again.
    while events.log(&["account"]).await.unwrap().last_sequence <= before.last_sequence + 1 {
        next.execute(deposit("before", 1)).await.unwrap();
    }
    for bank in [&live, &next] {
        eventually("the view has halted", async || {
            matches!(&bank.projectors()[0].state,
                ProjectorState::Halted { reason } if reason.contains("restore the log"))
        })
        .await;
        let seen = bank.query(statement("damaged")).await.unwrap().unwrap();
        assert_eq!(seen.versions, (1..=14).collect::<Vec<_>>(), "the view stands where it was");
    }
    // From now on, each answer of the service that was running all the time is about the present log, or an error.
    for account in ["before", "damaged", "after"] {
        let version = versions(&events, account).await.unwrap();
        if let Ok(receipt) = live.execute(deposit(account, 1)).await {
            assert_eq!(receipt.version, version + 1, "{account}");
            assert_eq!(versions(&events, account).await.unwrap(), version + 1, "{account}");
        }
    }
    live.stop().await;
    next.stop().await;
    server.stop().await;
}
