//! Commands that are sent again long after their first time: how many there may be, and logs that have become others.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use cqrs_core::{
    AggregateKey, CommandError, StoreError,
    log::{Commit, StoredCommit},
    memory::MemoryEvents,
    port::{AppendError, EventStore, Expected, Page, SnapshotPart},
};
use cqrs_tests::{
    long_ago::{self, fill, id, with_snapshots, without_snapshots},
    pass_on,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_a_million_commands_has_one_effect() {
    with_snapshots(&MemoryEvents::default(), 1_000_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_are_not_needed() {
    without_snapshots(&MemoryEvents::default(), 100_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_commands_are_remembered_as_well() {
    for many in [1, 2, 127, 128, 129, 8_191, 8_192, 8_193] {
        with_snapshots(&MemoryEvents::default(), many).await;
        without_snapshots(&MemoryEvents::default(), many).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_commands_are_kept_beside_the_snapshots() {
    long_ago::kept_beside_the_snapshots(&MemoryEvents::default()).await;
}

/// The log is restored from an older copy, and other commands follow: the parts beside the snapshots have commands that the
/// log has lost, and lack those that it has now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_history_has_other_commands() {
    use with_snapshots::{count, key, start};
    let store = MemoryEvents::default();
    let counters = start(&store).await;
    let first = count(&counters, id(0)).await.unwrap();
    assert_eq!((first.version, first.repeat), (1, false));
    let fingerprint = store.last(&key()).await.unwrap().unwrap().commit.events[0].origin.fingerprint;
    fill(&store, &key(), fingerprint, 1..40_000).await;
    count(&start(&store).await, id(40_000)).await.unwrap();
    let parts = [SnapshotPart::State, SnapshotPart::Commands(0), SnapshotPart::Commands(1)];
    let kept = async || {
        let mut all = Vec::new();
        for part in parts {
            all.extend(store.load_snapshot(&key(), part).await.unwrap());
        }
        all
    };
    cqrs_tests::eventually("all parts are kept", async || kept().await.len() == 3).await;
    let old = kept().await;
    // In the first two segments of the new history are other commands.
    store.put_back(20);
    let left = store.last(&key()).await.unwrap().unwrap().commit.last_version();
    fill(&store, &key(), fingerprint, 100_000..140_000).await;
    let mut version = left + 40_000;
    for counters in [counters, start(&store).await] {
        for number in [100_000, 110_000, 120_000, 139_999] {
            let receipt = count(&counters, id(number)).await.unwrap();
            assert!(receipt.repeat && receipt.version == left + 1 + number - 100_000, "{receipt:?}");
        }
        assert!(count(&counters, id(left - 1)).await.unwrap().repeat, "it is in both histories");
        // What the log has lost takes effect again.
        for lost in [left, 10_000, 20_000, 39_999] {
            let receipt = count(&counters, id(lost)).await.unwrap();
            assert_eq!(receipt.repeat, receipt.version <= version, "{receipt:?}");
            version = version.max(receipt.version);
        }
    }
    assert_eq!(version, left + 40_004);
    // A late write of a process that did not know of the new history yet.
    let are_new = async || kept().await.iter().zip(&old).all(|(new, old)| new != old);
    cqrs_tests::eventually("the parts are of the new history", are_new).await;
    for (part, old) in parts.into_iter().zip(old).skip(1) {
        store.save_snapshot(&key(), part, old).await.unwrap();
    }
    let counters = start(&store).await;
    for number in [100_000, 107_000, 108_000, 115_000] {
        assert!(count(&counters, id(number)).await.unwrap().repeat, "{number}");
    }
    assert!(count(&counters, id(10_000)).await.unwrap().repeat, "it was carried out again above");
}

/// A log that does not show one of its commits.
#[derive(Clone)]
struct Damaged {
    inner: MemoryEvents,
    hidden: Arc<AtomicU64>,
}

impl EventStore for Damaged {
    type Subscription = <MemoryEvents as EventStore>::Subscription;

    pass_on! {
        to inner: source name era capabilities backlog last last_confirmed last_before commit_at
            has_subscriber forget log search aggregates subscribe load_snapshot save_snapshot
    }

    async fn append(&self, commit: &Commit, expected: Expected) -> Result<u64, AppendError> {
        self.inner.append(commit, expected).await
    }

    async fn next_after(
        &self,
        aggregate: &AggregateKey,
        after: u64,
    ) -> Result<Option<StoredCommit>, StoreError> {
        let after = after + u64::from(after + 1 == self.hidden.load(Relaxed));
        self.inner.next_after(aggregate, after).await
    }

    async fn read(&self, aggregate: &AggregateKey, after: u64, max: usize) -> Result<Page, StoreError> {
        let mut page = self.inner.read(aggregate, after, max).await?;
        page.commits.retain(|stored| stored.sequence != self.hidden.load(Relaxed));
        Ok(page)
    }
}

/// The damaged commit may have any command. So a command that may be in it fails, and the others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_part_of_the_log_stops_only_what_may_be_in_it() {
    use with_snapshots::{Count, count, key, start};
    let store = Damaged { inner: MemoryEvents::default(), hidden: Arc::default() };
    count(&start(&store).await, id(0)).await.unwrap();
    let fingerprint = store.last(&key()).await.unwrap().unwrap().commit.events[0].origin.fingerprint;
    fill(&store, &key(), fingerprint, 1..40_000).await;
    count(&start(&store).await, id(40_000)).await.unwrap();
    let kept = async |part| store.load_snapshot(&key(), part).await.unwrap().is_some();
    let all = async || kept(SnapshotPart::State).await && kept(SnapshotPart::Commands(1)).await;
    cqrs_tests::eventually("all is kept", all).await;
    cqrs_tests::eventually("all is kept", async || kept(SnapshotPart::Commands(0)).await).await;
    // Commit 100 has the commands 6,273 to 6,336, in the first segment.
    store.hidden.store(100, Relaxed);
    let counters = start(&store).await;
    assert!(!count(&counters, id(50_000)).await.unwrap().repeat, "it is in no segment");
    for number in [2, 6_272, 6_337, 20_000] {
        assert_eq!(
            count(&counters, id(number)).await.unwrap().version,
            number + 1,
            "it is in another commit"
        );
    }
    let error = count(&counters, id(6_300)).await.unwrap_err();
    assert!(error.to_string().contains("at sequence 100"), "{error}");
    // The segment is lost as well: now it is unknown which commands were in it.
    store.save_snapshot(&key(), SnapshotPart::Commands(0), "lost".into()).await.unwrap();
    let counters = start(&store).await;
    let (known, unknown) = tokio::join!(count(&counters, id(39_990)), count(&counters, id(50_001)));
    assert!(known.unwrap().repeat && matches!(unknown, Err(CommandError::Failed(_))));
    assert!(!counters.execute(Count { counter: 1, by: 1 }).await.unwrap().repeat, "a new id is in no log");
}

/// New commands are told by what is in memory, whichever ids they have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_command_on_a_long_aggregate_reads_nothing() {
    use without_snapshots::{Count, count, key, start};
    let store = cqrs_tests::watched::Watched::new(MemoryEvents::default());
    let counters = start(&store).await;
    count(&counters, id(0)).await.unwrap();
    let fingerprint = store.last(&key()).await.unwrap().unwrap().commit.events[0].origin.fingerprint;
    fill(&store, &key(), fingerprint, 1..20_000).await;
    assert!(count(&counters, id(9)).await.unwrap().repeat);
    let _ = store.commits_read();
    for number in 0..200 {
        counters.execute(Count { counter: 1, by: 1 }).await.unwrap();
        assert!(!count(&counters, id(30_000 + number)).await.unwrap().repeat);
    }
    assert_eq!(store.commits_read(), 0);
}
