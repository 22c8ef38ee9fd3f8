//! Commands that are sent again after any number of others on their aggregate: they have no second effect and get their
//! first receipts, on every event store.

use std::{fmt::Debug, sync::Arc};

use cqrs_core::{
    Aggregate, AggregateKey, Apply, Command, CommandError, CommandId, Context, Cqrs, Error, Event, EventId,
    Handle, Handled, Receipt,
    log::{Commit, JSON, Origin, RecordedEvent},
    memory::MemoryViews,
    port::{EventStore, Expected, SnapshotPart},
};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use uuid::{Builder, Uuid};

use crate::{
    eventually,
    watched::{Snapshots, Watched},
};

/// How many commands share a commit in [`fill`].
const TOGETHER: u64 = 64;

/// Something was counted.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(name = "counter.counted")]
pub struct Counted(u64);

/// No command is refused.
#[derive(Debug, thiserror::Error)]
pub enum Never {}

/// An aggregate that counts, with or without snapshots.
macro_rules! counter {
    ($module:ident $name:literal $($snapshot:tt)*) => {
        #[doc = concat!("The aggregate ", $name, ".")]
        pub mod $module {
            use super::*;

            /// The sum, and how often something was counted.
            #[derive(Debug, Default, Clone, Serialize, Deserialize, Aggregate)]
            #[aggregate(name = $name, id = u32, event = Counted, rejection = Never, commands(Count), $($snapshot)*)]
            pub struct Counter {
                sum: u64,
            }

            impl Apply<Counted> for Counter {
                fn apply(&mut self, event: &Counted) {
                    self.sum += event.0;
                }
            }

            /// Counts.
            #[derive(Debug, Clone, Serialize, Deserialize, Command)]
            #[command(aggregate = Counter, upsert)]
            pub struct Count {
                /// Where.
                #[command(id)]
                pub counter: u32,
                /// How many.
                pub by: u64,
            }

            impl Handle<Count> for Counter {
                fn handle(&self, command: &Count, _: &Context) -> Handled<Self> {
                    Ok(Counted(command.by).into())
                }
            }

            /// A service of counters.
            pub type Counters = Cqrs<(Counter,), ()>;

            /// Starts a service.
            ///
            /// # Panics
            ///
            /// When it does not start.
            ///
            /// # Cancel safety
            ///
            /// Dropping it stops what was started.
            pub async fn start<S: EventStore + Clone>(store: &S) -> Counters {
                let builder = Cqrs::builder((store.clone(), MemoryViews::default())).aggregate::<Counter>();
                builder.start().await.expect("the service starts")
            }

            /// Counts one under an id.
            ///
            /// # Errors
            ///
            /// As of the command.
            ///
            /// # Cancel safety
            ///
            /// It can be called again.
            pub async fn count(counters: &Counters, id: CommandId) -> Result<Receipt, CommandError<Never>> {
                counters.execute(Count { counter: 1, by: 1 }).id(id).await
            }

            /// The aggregate of all tests.
            ///
            /// # Panics
            ///
            /// Never: the id is short.
            pub fn key() -> AggregateKey {
                AggregateKey::new($name, "1").expect("a short id")
            }
        }
    };
}

counter! { with_snapshots "saved-counter" snapshot(every = 1_000) }
counter! { without_snapshots "counter" }

/// The id of the command with this number: one in two has a time.
pub fn id(number: u64) -> CommandId {
    let derived = CommandId::derived(["count", &number.to_string()]);
    if number.is_multiple_of(2) {
        return derived;
    }
    let mut random = [0; 10];
    random.copy_from_slice(&derived.0.as_bytes()[6..]);
    CommandId(Builder::from_unix_timestamp_millis(1_700_000_000_000 + number, &random).into_uuid())
}

/// An id that ends like another and is another.
pub fn like(id: CommandId) -> CommandId {
    CommandId(Uuid::from_u128(id.0.as_u128() ^ (1 << 100)))
}

/// Appends the commands with these numbers, 64 in each commit, as a group commit does. They must follow what the log has.
///
/// # Panics
///
/// When an append fails.
///
/// # Cancel safety
///
/// A dropped call has appended some of them.
pub async fn fill<S: EventStore>(
    store: &S,
    key: &AggregateKey,
    fingerprint: u64,
    numbers: std::ops::Range<u64>,
) {
    let last = store.last(key).await.expect("a read");
    let mut expected = last.as_ref().map_or(0, |last| last.sequence);
    let mut version = last.map_or(0, |last| last.commit.last_version());
    let mut begin = numbers.start;
    while begin < numbers.end {
        let end = (begin + TOGETHER).min(numbers.end);
        let commit = Commit {
            aggregate: key.clone(),
            first_version: version + 1,
            source: store.source().into(),
            events: (begin..end).map(|number| counted(id(number), fingerprint)).collect(),
        };
        expected = store.append(&commit, Expected::after(expected)).await.expect("an append");
        (version, begin) = (commit.last_version(), end);
    }
}

fn counted(command_id: CommandId, fingerprint: u64) -> RecordedEvent {
    let origin = Origin {
        time: "2026-01-01T00:00:00Z".parse().expect("a time"),
        command: "count".into(),
        command_id,
        fingerprint,
        correlation_id: command_id.into(),
        causation_id: None,
        metadata: cqrs_core::Metadata::default(),
    };
    RecordedEvent {
        id: EventId(Uuid::new_v4()),
        origin: Arc::new(origin),
        event_type: "counter.counted".into(),
        schema_version: 1,
        content_type: JSON.into(),
        data: "1".into(),
    }
}

/// The hash of `Count { by: 1 }`, from the first command in the log.
async fn first<S: EventStore>(store: &S, key: &AggregateKey) -> u64 {
    let last = store.last(key).await.expect("a read").expect("a commit");
    last.commit.events[0].origin.fingerprint
}

fn assert_first(receipt: &Receipt, number: u64) {
    assert!(receipt.repeat && receipt.events == 1 && receipt.version == number + 1, "{number}: {receipt:?}");
}

fn assert_new<E: Debug>(receipt: Result<Receipt, E>) -> u64 {
    let receipt = receipt.expect("a receipt");
    assert!(!receipt.repeat, "{receipt:?}");
    receipt.version
}

/// Numbers around the places where what is remembered changes, out of `many`.
fn probes(many: u64) -> Vec<u64> {
    let around = [0, 64, 128, 1_000, 8_192, 8_256, 16_384, many / 2]
        .into_iter()
        .chain([8_192, 128, 2].map(|before| many.saturating_sub(before)));
    let mut all: Vec<_> = around.flat_map(|number| number.saturating_sub(1)..=number + 1).collect();
    all.sort_unstable();
    all.retain(|number| *number < many);
    all.dedup();
    all
}

macro_rules! cases {
    ($module:ident) => {
        /// Each of `many` commands has one effect, and its repeat the first receipt.
        ///
        /// # Panics
        ///
        /// When it is not so.
        ///
        /// # Cancel safety
        ///
        /// It is a test.
        pub async fn $module<S: EventStore + Clone>(store: &S, many: u64) {
            use $module::{Count, count, key, start};
            assert_eq!(assert_new(count(&start(store).await, id(0)).await), 1);
            let fingerprint = first(store, &key()).await;
            fill(store, &key(), fingerprint, 1..many).await;
            let mut version = many;
            // Two processes, one after the other: neither knows more than the store.
            for process in 0..2 {
                let counters = start(store).await;
                version += 1;
                assert_eq!(assert_new(count(&counters, id(many + 1_000 + process)).await), version);
                for number in probes(many) {
                    assert_first(&count(&counters, id(number)).await.expect("a receipt"), number);
                    let other = counters.execute(Count { counter: 1, by: 2 }).id(id(number)).await;
                    assert!(
                        matches!(other, Err(CommandError::Failed(Error::AnotherCommand { .. }))),
                        "{other:?}"
                    );
                }
                // Repeats and new ones in the same commits.
                let old = probes(many).into_iter().map(|number| (Some(number), id(number)));
                let new = (0..32).map(|number| (None, id(many + 2_000 + 100 * process + number)));
                let calls = old.chain(new).map(|(number, id)| {
                    let call = tokio::spawn(counters.execute(Count { counter: 1, by: 1 }).id(id));
                    async move { (number, call.await.expect("no panic").expect("a receipt")) }
                });
                let mut versions = Vec::new();
                for (number, receipt) in join_all(calls).await {
                    match number {
                        Some(number) => assert_first(&receipt, number),
                        None => versions.push(assert_new::<Error>(Ok(receipt))),
                    }
                }
                versions.sort_unstable();
                assert_eq!(versions, (version + 1..=version + 32).collect::<Vec<_>>());
                version += 32;
                // An id that ends like an old one is another.
                let mut alike = vec![0, many / 2, many - 1];
                alike.dedup();
                for number in alike {
                    let like =
                        like(CommandId(Uuid::from_u128(id(number).0.as_u128() ^ u128::from(process) << 90)));
                    version += 1;
                    assert_eq!(assert_new(count(&counters, like).await), version);
                    assert!(count(&counters, like).await.expect("a receipt").repeat);
                }
            }
            let last = store.last_confirmed(&key()).await.expect("a read").expect("a commit");
            assert_eq!(last.commit.last_version(), version, "nothing else took effect");
        }
    };
}

cases! { with_snapshots }
cases! { without_snapshots }

/// Older commands are kept beside the snapshots: a process that has just started need not read them from the log, unless
/// they are lost or damaged.
///
/// # Panics
///
/// When it is not so.
///
/// # Cancel safety
///
/// It is a test.
pub async fn kept_beside_the_snapshots<S: EventStore + Clone>(store: &S) {
    use with_snapshots::{count, key, start};
    let many = 20_000;
    let store = &Watched::new(store.clone());
    count(&start(store).await, id(0)).await.expect("a receipt");
    let fingerprint = first(store, &key()).await;
    fill(store, &key(), fingerprint, 1..many).await;
    count(&start(store).await, id(many)).await.expect("a receipt");
    let kept =
        async |number| store.load_snapshot(&key(), SnapshotPart::Commands(number)).await.ok().flatten();
    let all_are_kept = async || {
        let state = store.load_snapshot(&key(), SnapshotPart::State).await.ok().flatten();
        let parts = [kept(0).await, kept(1).await, state];
        parts.iter().all(|part| part.as_ref().is_some_and(|part| part.len() > 100))
    };
    eventually("all parts are kept", all_are_kept).await;
    assert_eq!(kept(2).await, None);
    let whole = [kept(0).await, kept(1).await];
    let _ = store.commits_read();
    assert_eq!(assert_new(count(&start(store).await, id(many + 1)).await), many + 2);
    assert!(store.commits_read() < 10, "a new command reads no old commits");
    assert_first(&count(&start(store).await, id(12_000)).await.expect("a receipt"), 12_000);
    assert!(store.commits_read() < 10, "an old one reads its own commit");
    for bad in ["", "no such thing"] {
        store.save_snapshot(&key(), SnapshotPart::Commands(0), bad.into()).await.expect("a save");
        eventually("it is not there", async || kept(0).await.is_none_or(|kept| kept == bad)).await;
        let counters = start(store).await;
        assert_first(&count(&counters, id(5_000)).await.expect("a receipt"), 5_000);
        eventually("it is made again", all_are_kept).await;
        assert_eq!([kept(0).await, kept(1).await], whole);
    }
    // Without a place for them each process reads them from the log.
    let refusing = store.clone().with(Snapshots::Refused);
    assert_first(&count(&start(&refusing).await, id(5_001)).await.expect("a receipt"), 5_001);
}
