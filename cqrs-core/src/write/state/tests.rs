//! A load from a snapshot and the rest of the log gives the same state as a load from the whole log.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use proptest::{collection::vec, prelude::*};
use serde::{Deserialize, Serialize};
use tokio::runtime;

use cqrs_derive::{Aggregate, Event};

use super::*;
use crate::{
    base::{
        id::{CommandId, CorrelationId},
        metadata::Metadata,
    },
    log::commit::{Commit, Origin},
    memory::events::MemoryEvents,
    model::{
        aggregate::{Aggregate, Apply},
        snapshot::Snapshots,
    },
    port::{
        any_events::AnyEvents,
        event_store::{EventStore, Expected, SnapshotPart},
    },
    write::{pages::FirstPage, snapshot_warnings::SnapshotWarnings},
};

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(prefix = "basket", crate = crate)]
enum BasketEvent {
    Filled { what: String, pieces: u8 },
    Weighed(f64),
    Emptied,
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize, Aggregate)]
#[aggregate(id = u32, event = BasketEvent, rejection = Never, snapshot(every = 3), crate = crate)]
struct Basket {
    pieces: HashMap<String, u64>,
    weights: Vec<f64>,
    emptied: Option<u32>,
}

#[derive(Debug, thiserror::Error)]
enum Never {}

impl Apply<BasketEvent> for Basket {
    fn apply(&mut self, event: &BasketEvent) {
        match event {
            BasketEvent::Filled { what, pieces } => {
                *self.pieces.entry(what.clone()).or_default() += u64::from(*pieces);
            }
            BasketEvent::Weighed(weight) => self.weights.push(*weight),
            BasketEvent::Emptied => {
                self.pieces.clear();
                self.emptied = Some(self.emptied.unwrap_or(0) + 1);
            }
        }
    }
}

fn events() -> impl Strategy<Value = BasketEvent> {
    prop_oneof![
        4 => ("[a-c]", any::<u8>()).prop_map(|(what, pieces)| BasketEvent::Filled { what, pieces }),
        2 => (-100.0..100.0).prop_map(BasketEvent::Weighed),
        1 => Just(BasketEvent::Emptied),
    ]
}

fn key() -> AggregateKey {
    AggregateKey::new(Basket::NAME, "1").unwrap()
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// Appends `commits`: each is a list of commands, and each command a list of events. `seed` makes the ids, so that two
/// logs differ.
async fn append(store: &MemoryEvents, commits: &[Vec<Vec<BasketEvent>>], seed: u128) {
    let (mut version, mut sequence, mut number) = (1, 0, seed << 64);
    for commands in commits {
        let mut recorded = Vec::new();
        for events in commands {
            number += 1;
            let origin = Arc::new(Origin {
                time: Timestamp::UNIX_EPOCH,
                command: "fill".into(),
                command_id: CommandId(id(number)),
                fingerprint: u64::try_from(number >> 64).unwrap(),
                correlation_id: CorrelationId(id(number)),
                causation_id: None,
                metadata: Metadata::default(),
            });
            for event in events {
                number += 1;
                recorded.push(codec::encode(&mut event.clone(), id(number), &key(), &origin).unwrap());
            }
        }
        let commit = Commit {
            aggregate: key(),
            first_version: version,
            source: "/test".into(),
            events: recorded.into(),
        };
        version = commit.last_version() + 1;
        sequence = store.append(&commit, Expected::after(sequence)).await.unwrap();
    }
}

/// The aggregate after its first commits.
async fn after_commits(store: &MemoryEvents, commits: usize) -> Loaded<Basket> {
    let mut loaded = Loaded::nothing(key());
    for stored in store.read(&key(), 0, commits).await.unwrap().commits {
        loaded.fold(&stored).unwrap();
    }
    loaded
}

async fn save(store: &MemoryEvents, loaded: &Loaded<Basket>) {
    let bytes = Basket::snapshots().unwrap().write(&loaded.head(), &loaded.state).unwrap();
    store.save_snapshot(&key(), SnapshotPart::State, bytes.into()).await.unwrap();
}

async fn load(store: &MemoryEvents) -> Loaded<Basket> {
    let store = &AnyEvents::new(store.clone());
    let mut loaded = Loaded::from_snapshot(key(), store, &SnapshotWarnings::default()).await;
    loaded.catch_up(store).await.unwrap();
    loaded
}

fn assert_same(found: &Loaded<Basket>, expected: &Loaded<Basket>) {
    assert_eq!(found.state, expected.state);
    assert_eq!(found.head(), expected.head());
    assert!(!found.unproved);
}

fn run(test: impl Future<Output = ()>) {
    runtime::Builder::new_current_thread().build().unwrap().block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_snapshot_at_any_commit_and_the_rest_are_the_whole(
        commits in vec(vec(vec(events(), 1..3), 1..4), 1..20),
    ) {
        run(async {
            let store = MemoryEvents::default();
            append(&store, &commits, 1).await;
            let whole = after_commits(&store, commits.len()).await;
            for split in 1..=commits.len() {
                let saved = after_commits(&store, split).await;
                save(&store, &saved).await;
                let found = load(&store).await;
                assert_same(&found, &whole);
                assert_eq!(found.saved, saved.version, "it came from the snapshot");
            }
        });
    }

    #[test]
    fn a_snapshot_of_what_the_log_has_lost_is_not_believed(
        commits in vec(vec(vec(events(), 1..3), 1..4), 1..12),
        left in 0_usize..12,
        others in vec(vec(vec(events(), 1..3), 1..4), 0..12),
    ) {
        run(async {
            let before = MemoryEvents::default();
            append(&before, &commits, 1).await;
            // The log has lost its end, or has another history with other commits at the same sequences.
            for (commits, seed) in [(&commits[..left.min(commits.len() - 1)], 1), (&others[..], 2)] {
                let store = MemoryEvents::default();
                append(&store, commits, seed).await;
                save(&store, &after_commits(&before, usize::MAX).await).await;
                let found = load(&store).await;
                assert_same(&found, &after_commits(&store, usize::MAX).await);
                assert_eq!(found.saved, 0, "it came from the log alone");
            }
        });
    }

    #[test]
    fn whatever_stands_where_a_snapshot_should_the_state_is_right(
        commits in vec(vec(vec(events(), 1..3), 1..4), 1..6),
        bytes in vec(any::<u8>(), 0..100),
    ) {
        run(async {
            let store = MemoryEvents::default();
            append(&store, &commits, 1).await;
            store.save_snapshot(&key(), SnapshotPart::State, bytes.into()).await.unwrap();
            assert_same(&load(&store).await, &after_commits(&store, commits.len()).await);
        });
    }
}

#[test]
fn a_snapshot_of_a_log_with_other_sequences_is_not_believed() {
    run(async {
        let before = MemoryEvents::default();
        append(&before, &vec![vec![vec![BasketEvent::Emptied]]; 5], 1).await;
        let whole = after_commits(&before, 5).await;
        // The same commits in a copied log, with commits of another aggregate in between.
        let store = MemoryEvents::default();
        let mut last = 0;
        for (number, stored) in before.read(&key(), 0, 5).await.unwrap().commits.into_iter().enumerate() {
            if number == 4 {
                let aggregate = AggregateKey::new(Basket::NAME, "2").unwrap();
                let other = Commit { aggregate, first_version: 1, ..stored.commit.clone() };
                store.append(&other, Expected::NoStream).await.unwrap();
            }
            last = store.append(&stored.commit, Expected::after(last)).await.unwrap();
        }
        save(&store, &whole).await;
        let found = load(&store).await;
        assert_eq!((found.saved, found.position.sequence, found.version), (0, 6, 5));
    });
}

#[test]
fn snapshots_are_due_whenever_another_multiple_is_passed() {
    let due = |version, saved| Snapshots::<Basket>::every(10).is_due(version, saved);
    assert!(!due(0, 0) && !due(9, 0) && due(10, 0) && due(57, 0));
    assert!(!due(10, 10) && !due(19, 10) && due(20, 10) && due(20, 19) && !due(29, 20));
    assert!(Snapshots::<Basket>::every(0).is_due(1, 0), "at least one event");
}

#[test]
fn pages_are_large_where_commits_lie_close_together() {
    let commit = |sequence| StoredCommit {
        sequence,
        commit: Commit { aggregate: key(), first_version: 1, source: "".into(), events: Events::none() },
    };
    let next = |after: u64, apart: u64| {
        let commits: Vec<_> = (1..=32).map(|number| commit(after + number * apart)).collect();
        next_page(after, &commits)
    };
    assert_eq!((next(0, 1), next(1_000_000, 1), next(0, 100)), (512, 512, 512));
    assert_eq!((next(0, 1_000), next(5, 8_192), next(0, 16_384), next(0, 1_000_000)), (128, 16, 8, 8));
    assert_eq!(next_page(7, &[]), FIRST_PAGE);
    assert_eq!(next_page(0, &[commit(1_000_000)]), FIRST_PAGE, "nobody knows where others would be");
    assert_eq!(next_page(7, &[commit(1_000_000)]), 8);
}

#[test]
fn the_first_page_grows_while_commits_lie_together_and_shrinks_at_once() {
    let first = FirstPage::new();
    let mut sizes = Vec::new();
    for next in [256, 256, 256, 256, 256, 256, 8, 256, 64, 16] {
        first.learn(next);
        sizes.push(first.size());
    }
    assert_eq!(sizes, [8, 16, 32, 64, 128, 128, 4, 8, 16, 8]);
}
