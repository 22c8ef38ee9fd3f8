//! The contract for event stores.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    base::{
        content_type::JSON,
        id::{AggregateKey, CausationId, CommandId, CorrelationId, EventId},
        metadata::Metadata,
        store_error::StoreError,
    },
    contract::{HOSTILE, opened, soon},
    log::commit::{Commit, Origin, RecordedEvent, StoredCommit},
    port::{
        clock::{Clock as _, SystemClock},
        event_store::{AppendError, EventStore, Expected, Search, SnapshotPart},
        subscription::{Subscribe, Subscription},
    },
};

pub(crate) fn key(name: &'static str, id: &str) -> AggregateKey {
    AggregateKey::new(name, id).expect("an id within the limit")
}

/// A commit of `events` events whose ids are new; the last one belongs to another command.
pub(crate) fn commit(aggregate: &AggregateKey, first_version: u64, events: usize) -> Commit {
    let origins = [origin(first_version), origin(first_version.wrapping_add(1))];
    let event = |index| RecordedEvent {
        id: EventId(Uuid::new_v4()),
        origin: Arc::clone(&origins[usize::from(index > 0 && index + 1 == events)]),
        event_type: "thing.happened".into(),
        schema_version: 3,
        content_type: JSON.into(),
        data: Bytes::from(format!(r#"{{"index":{index},"text":"日本 {index}"}}"#)),
    };
    Commit {
        aggregate: aggregate.clone(),
        first_version,
        source: "/contract".into(),
        events: (0..events).map(event).collect(),
    }
}

fn origin(number: u64) -> Arc<Origin> {
    let mut metadata = Metadata::default();
    metadata.insert("user", "Zoë \"100 %\"\r\n").expect("a legal name");
    Arc::new(Origin {
        time: Timestamp::new(1_767_225_600, 123_456_789).expect("a time"),
        command: "happen".into(),
        command_id: CommandId(Uuid::new_v4()),
        fingerprint: u64::MAX - number,
        correlation_id: CorrelationId(Uuid::new_v4()),
        causation_id: number.is_multiple_of(2).then(|| CausationId(Uuid::new_v4())),
        metadata,
    })
}

/// Appends `count` commits of one event each and returns them as they must be read.
pub(crate) async fn append_chain<S: EventStore>(
    store: &S,
    aggregate: &AggregateKey,
    count: u64,
) -> Vec<StoredCommit> {
    let mut stored = Vec::new();
    let mut last = 0;
    for version in 1..=count {
        let commit = commit(aggregate, version, 1);
        let appended = store.append(&commit, Expected::after(last)).await.expect("an append in order");
        assert!(appended > last, "sequences grow");
        last = appended;
        stored.push(StoredCommit { sequence: last, commit });
    }
    stored
}

async fn read_all<S: EventStore>(store: &S, aggregate: &AggregateKey) -> Vec<StoredCommit> {
    let page = store.read(aggregate, 0, 1_000).await.expect("a read");
    assert!(!page.more);
    page.commits
}

/// An empty store answers, and has nothing.
pub async fn nothing_is_there_at_first<S: EventStore>(store: &S) {
    let aggregate = key("thing", "1");
    assert_eq!(read_all(store, &aggregate).await, []);
    assert_eq!(store.next_after(&aggregate, 0).await.expect("a read"), None);
    assert_eq!(store.last(&aggregate).await.expect("a read"), None);
    assert_eq!(store.log(&["thing"]).await.expect("the log").last_sequence, 0);
}

/// Every field of a commit survives, for one event and for several.
pub async fn what_is_appended_is_read_back<S: EventStore>(store: &S) {
    let aggregate = key("thing", "read back");
    let first = commit(&aggregate, 1, 1);
    let second = commit(&aggregate, 2, 3);
    let at = store.append(&first, Expected::NoStream).await.expect("the first append");
    let then = store.append(&second, Expected::Exact(at)).await.expect("the second append");
    assert_eq!(
        read_all(store, &aggregate).await,
        [StoredCommit { sequence: at, commit: first }, StoredCommit { sequence: then, commit: second }]
    );
}

/// An append with a wrong expected sequence stores nothing: one that is too low, too high, or of no commit.
pub async fn an_append_with_another_expectation_stores_nothing<S: EventStore>(store: &S) {
    let aggregate = key("thing", "expected");
    let conflict = |answer| assert!(matches!(answer, Err(AppendError::Conflict)), "{answer:?}");
    conflict(store.append(&commit(&aggregate, 1, 1), Expected::Exact(7)).await);
    let stored = append_chain(store, &aggregate, 2).await;
    conflict(store.append(&commit(&aggregate, 3, 1), Expected::NoStream).await);
    conflict(store.append(&commit(&aggregate, 3, 1), Expected::Exact(stored[0].sequence)).await);
    conflict(store.append(&commit(&aggregate, 3, 1), Expected::Exact(stored[1].sequence + 1)).await);
    assert_eq!(read_all(store, &aggregate).await, stored);
}

/// Of many appends with the same expectation exactly one is stored.
pub async fn of_appends_at_once_one_is_stored<S: EventStore>(store: &S) {
    let aggregate = key("thing", "race");
    let mut expected = Expected::NoStream;
    for version in 1..=10 {
        let commits: Vec<_> = (0..8).map(|_| commit(&aggregate, version, 1)).collect();
        let mut stored = Vec::new();
        for answer in join_all(commits.iter().map(|commit| store.append(commit, expected))).await {
            match answer {
                Ok(appended) => stored.push(appended),
                Err(AppendError::Conflict | AppendError::Busy(_)) => {}
                Err(error) => panic!("neither stored nor refused: {error:?}"),
            }
        }
        assert_eq!(stored.len(), 1, "version {version} was stored {} times", stored.len());
        expected = Expected::Exact(stored[0]);
    }
    assert_eq!(read_all(store, &aggregate).await.len(), 10);
}

/// A caller sends an append again when the answer is lost.
pub async fn the_same_append_again_is_not_stored_twice<S: EventStore>(store: &S) {
    let aggregate = key("thing", "again");
    let commit = commit(&aggregate, 1, 2);
    let first = store.append(&commit, Expected::NoStream).await.expect("the append");
    loop {
        match store.append(&commit, Expected::NoStream).await {
            Err(AppendError::Conflict) => break,
            Err(AppendError::Busy(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(read_all(store, &aggregate).await, [StoredCommit { sequence: first, commit }]);
}

/// A page says whether there is more, and the next one continues after it.
pub async fn long_aggregates_are_read_in_pages<S: EventStore>(store: &S) {
    let aggregate = key("thing", "long");
    let other = key("thing", "longer");
    let stored = append_chain(store, &aggregate, 5).await;
    append_chain(store, &other, 3).await;
    let mut read = Vec::new();
    let mut pages = 0;
    loop {
        let after = read.last().map_or(0, |stored: &StoredCommit| stored.sequence);
        let page = store.read(&aggregate, after, 2).await.expect("a page");
        assert!(page.commits.len() <= 2);
        pages += 1;
        read.extend(page.commits);
        if !page.more {
            break;
        }
        assert!(pages < 5, "the pages do not end");
    }
    assert_eq!(read, stored);
}

/// The read after an unclear answer: the first commit after a sequence.
pub async fn the_next_commit_after_a_place_is_found<S: EventStore>(store: &S) {
    let aggregate = key("thing", "next");
    let stored = append_chain(store, &aggregate, 3).await;
    append_chain(store, &key("thing", "next to it"), 1).await;
    let mut after = 0;
    for expected in stored {
        let found = store.next_after(&aggregate, after).await.expect("a read").expect("a commit");
        assert_eq!(found, expected);
        after = found.sequence;
    }
    assert_eq!(store.next_after(&aggregate, after).await.expect("a read"), None);
}

/// The read that a snapshot is compared with.
pub async fn the_last_commit_is_found<S: EventStore>(store: &S) {
    let aggregate = key("thing", "last");
    let mut last = 0;
    for version in [1, 3, 5] {
        let commit = commit(&aggregate, version, 2);
        last = store.append(&commit, Expected::after(last)).await.expect("an append");
        append_chain(store, &key("thing", &format!("after {version}")), 1).await;
        let confirmed = store.last_confirmed(&aggregate).await.expect("a read");
        assert_eq!(confirmed, Some(StoredCommit { sequence: last, commit: commit.clone() }), "at once");
        assert_eq!(last_from(store, &aggregate, last).await, StoredCommit { sequence: last, commit });
    }
    assert_eq!(store.last(&key("other", "last")).await.expect("a read"), None);
    assert_eq!(store.last_confirmed(&key("other", "last")).await.expect("a read"), None);
}

/// The aggregate's last commit, once that has a sequence of at least `sequence`: a replica may lag.
async fn last_from<S: EventStore>(store: &S, aggregate: &AggregateKey, sequence: u64) -> StoredCommit {
    let found = async {
        loop {
            match store.last(aggregate).await.expect("a read") {
                Some(found) if found.sequence >= sequence => return found,
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    soon("the last commit", found).await
}

/// Ids with separators, wildcards and the like are ids like any other.
pub async fn no_id_reaches_another<S: EventStore>(store: &S) {
    let mut stored = Vec::new();
    for id in HOSTILE {
        let aggregate = key("thing", id);
        stored.push((aggregate.clone(), append_chain(store, &aggregate, 2).await));
    }
    for (aggregate, stored) in stored {
        assert_eq!(read_all(store, &aggregate).await, stored, "{aggregate:?}");
        let last = stored.last().expect("two");
        assert_eq!(last_from(store, &aggregate, last.sequence).await, *last, "{aggregate:?}");
        let none = key("other", aggregate.id());
        assert_eq!(read_all(store, &none).await, [], "{none:?}");
        assert_eq!(store.last(&none).await.expect("a read"), None, "{none:?}");
    }
}

/// The log's end is returned by aggregate type, and its id does not change.
pub async fn a_log_knows_its_end_by_aggregate_type<S: EventStore>(store: &S) {
    let things = append_chain(store, &key("thing", "end"), 2).await;
    let others = append_chain(store, &key("other", "end"), 1).await;
    let (thing, other) = (things[1].sequence, others[0].sequence);
    let log = store.log(&["thing"]).await.expect("the log");
    assert_eq!(log.last_sequence, thing);
    assert_eq!(store.log(&["thing", "other"]).await.expect("the log").last_sequence, other);
    assert_eq!(store.log(&["nothing"]).await.expect("the log").last_sequence, 0);
    assert_eq!(store.log(&["other"]).await.expect("the log").id, log.id);
}

/// The commits after a sequence are counted by aggregate type, with the time of the first one.
pub async fn what_comes_after_a_place_is_counted<S: EventStore>(store: &S) {
    let things = append_chain(store, &key("thing", "1"), 2).await;
    let others = append_chain(store, &key("other", "1"), 3).await;
    let more = append_chain(store, &key("thing", "2"), 2).await;
    let since = |stored: &StoredCommit| Some(stored.commit.events[0].origin.time);
    let counted = async |aggregates: &[&'static str], after: u64| {
        let backlog = store.backlog(aggregates, after).await.expect("a count");
        (backlog.commits, backlog.since)
    };
    assert_eq!(counted(&["thing"], 0).await, (4, since(&things[0])));
    assert_eq!(counted(&["thing"], things[0].sequence).await, (3, since(&things[1])));
    assert_eq!(counted(&["thing"], others[2].sequence).await, (2, since(&more[0])));
    assert_eq!(counted(&["thing", "other"], things[1].sequence).await, (5, since(&others[0])));
    assert_eq!(counted(&["other"], others[2].sequence).await, (0, None));
    assert_eq!(counted(&["nothing"], 0).await, (0, None));
}

/// All commits of a business transaction are found, wherever they are, and no others; at most `max` at once.
pub async fn a_business_transaction_is_found<S: EventStore>(store: &S) {
    let transaction = CorrelationId(Uuid::new_v4());
    let mut stored = Vec::new();
    for (name, id, events, mine) in [
        ("thing", "a", 1, None),
        ("thing", "b", 1, Some(0)),
        ("other", "b", 3, Some(2)),
        ("thing", "c", 4, None),
    ] {
        let mut commit = commit(&key(name, id), 1, events);
        if let Some(index) = mine {
            Arc::make_mut(&mut commit.events[index].origin).correlation_id = transaction;
        }
        let sequence = store.append(&commit, Expected::NoStream).await.expect("an append");
        stored.extend(mine.map(|_| StoredCommit { sequence, commit }));
    }
    let search = async |since, max| {
        let search = Search { correlation_id: transaction, since, max };
        let searching = async {
            loop {
                let found = store.search(search).await.expect("a search");
                // A lagging replica may not show the last ones for a while.
                if found.confirmed || found.commits.len() == max.min(2) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon("the transaction", searching).await
    };
    let an_hour_ago = SystemClock.now() - Duration::from_secs(3_600);
    for since in [Timestamp::UNIX_EPOCH, an_hour_ago] {
        let found = search(since, 2).await;
        assert_eq!((found.commits, found.more), (stored.clone(), false));
    }
    let found = search(an_hour_ago, 1).await;
    assert_eq!((&found.commits[..], found.more), (&stored[..1], true));
    let none = Search { correlation_id: CorrelationId(Uuid::new_v4()), since: an_hour_ago, max: 9 };
    assert_eq!(store.search(none).await.expect("a search").commits, []);
}

/// `commit_at` returns the commit at each sequence of the log, and nothing for a sequence that the log has not reached.
pub async fn what_stands_at_a_place_is_found<S: EventStore>(store: &S) {
    assert_eq!(store.commit_at(1).await.expect("a read"), None);
    let stored = append_chain(store, &key("thing", "1"), 2).await;
    for stored in stored {
        assert_eq!(store.commit_at(stored.sequence).await.expect("a read"), Some(Ok(stored)));
    }
}

/// Numbers at the end of their range, which no log reaches but any writer can send, are answered like any others.
pub async fn numbers_that_no_log_reaches_harm_nothing<S: EventStore>(store: &S) {
    let aggregate = key("thing", "end");
    // Whether such a version is stored, and what is then read of it, is up to the store.
    let stored = store.append(&commit(&aggregate, u64::MAX, 2), Expected::NoStream).await;
    assert!(matches!(stored, Ok(_) | Err(AppendError::Failed(_))), "{stored:?}");
    let _ = store.read(&aggregate, 0, 10).await;
    let _ = store.last(&aggregate).await;
    let _ = store.next_after(&aggregate, 0).await;
    if let Ok(sequence) = stored {
        let found = store.commit_at(sequence).await.expect("a read");
        assert!(found.is_some(), "it is there, whatever it is");
        let request = Subscribe { subscriber: "ends", aggregates: &["thing"], after: 0 };
        let mut subscription = opened("a subscription", || store.subscribe(request)).await;
        let first = soon("it is delivered, whatever it is", subscription.next(1)).await;
        assert_eq!(first.expect("deliveries").len(), 1);
    }
    assert_eq!(store.read(&aggregate, u64::MAX, 10).await.expect("a read").commits, []);
    assert_eq!(store.next_after(&aggregate, u64::MAX).await.expect("a read"), None);
    assert_eq!(store.commit_at(u64::MAX).await.expect("a read"), None);
    assert_eq!(store.backlog(&["thing"], u64::MAX).await.expect("a count").commits, 0);
    let appended = append_chain(store, &key("thing", "other"), 1).await;
    assert_eq!(read_all(store, &key("thing", "other")).await, appended);
}

/// More metadata than the store accepts is refused with a definite error that says so.
pub async fn metadata_is_stored_or_refused_by_its_size<S: EventStore>(store: &S) {
    let aggregate = key("thing", "much");
    let mut stored = Vec::new();
    for bytes in [1_000, 60_000, 65_000, 70_000, 600_000] {
        let last = stored.last().map_or(0, |last: &StoredCommit| last.sequence);
        let mut commit = commit(&aggregate, 1 + stored.len() as u64, 1);
        let metadata = &mut Arc::make_mut(&mut commit.events[0].origin).metadata;
        metadata.insert("much", "x".repeat(bytes)).expect("a legal name");
        match store.append(&commit, Expected::after(last)).await {
            Ok(sequence) => stored.push(StoredCommit { sequence, commit }),
            Err(AppendError::Failed(StoreError::TooLarge { bytes, limit, .. })) => assert!(bytes > limit),
            Err(error) => panic!("{bytes} bytes of metadata: {error:?}"),
        }
    }
    assert!(!stored.is_empty());
    assert_eq!(read_all(store, &aggregate).await, stored);
}

/// The last commit of each aggregate before a sequence, in the order of the request.
pub async fn what_stands_before_a_place_is_found<S: EventStore>(store: &S) {
    let [one, other, none] = ["one", "other", "none"].map(|id| key("thing", id));
    let all = [other.clone(), none.clone(), one.clone()];
    assert_eq!(store.last_before(&all, 1).await.expect("a read"), [None, None, None]);
    let first = append_chain(store, &one, 3).await;
    let second = append_chain(store, &other, 2).await;
    let before = |sequence, stored: &[StoredCommit]| {
        stored.iter().rfind(|stored| stored.sequence < sequence).cloned().map(Ok)
    };
    for sequence in 0..=second[1].sequence + 5 {
        let expected = [before(sequence, &second), None, before(sequence, &first)];
        assert_eq!(store.last_before(&all, sequence).await.expect("a read"), expected, "before {sequence}");
    }
    assert_eq!(store.last_before(&[], 5).await.expect("a read"), []);
    // With unusual ids, and more aggregates than one request takes.
    let mut many: Vec<_> = HOSTILE.iter().map(|id| key("thing", id)).collect();
    many.extend((0..100).map(|id| key("thing", &format!("more-{id}"))));
    let mut ends = Vec::new();
    for aggregate in &many {
        ends.push(append_chain(store, aggregate, 1).await.pop().map(Ok));
    }
    let last = store.log(&["thing"]).await.expect("the log").last_sequence;
    assert_eq!(store.last_before(&many, last + 1).await.expect("a read"), ends);
}

async fn snapshot<S: EventStore>(store: &S, aggregate: &AggregateKey) -> Option<Bytes> {
    store.load_snapshot(aggregate, SnapshotPart::State).await.expect("a read")
}

/// There is no snapshot until one is saved.
pub async fn no_snapshot_is_there_at_first<S: EventStore>(store: &S) {
    assert_eq!(snapshot(store, &key("thing", "1")).await, None);
    append_chain(store, &key("thing", "1"), 2).await;
    assert_eq!(snapshot(store, &key("thing", "1")).await, None);
}

/// The snapshot that was saved last is returned, byte for byte; or `None` by a store that keeps no snapshots.
pub async fn the_last_snapshot_is_kept_if_any_is<S: EventStore>(store: &S) {
    let aggregate = key("thing", "kept");
    append_chain(store, &aggregate, 2).await;
    let large = Bytes::from((0..=u8::MAX).cycle().take(512 * 1024).collect::<Vec<_>>());
    for saved in [Bytes::from_static(b"\0first\r\n\xFF"), large, Bytes::from_static(b"last")] {
        store.save_snapshot(&aggregate, SnapshotPart::State, saved.clone()).await.expect("a save");
        let Some(first) = snapshot(store, &aggregate).await else { return };
        if first != saved {
            // A lagging replica may show an older one for a while.
            soon("the last snapshot", async {
                while snapshot(store, &aggregate).await.as_ref() != Some(&saved) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
        }
    }
    assert_eq!(read_all(store, &aggregate).await.len(), 2, "the log has nothing of it");
    let log = store.log(&["thing"]).await.expect("the log");
    assert_eq!(Some(log.last_sequence), read_all(store, &aggregate).await.last().map(|last| last.sequence));
}

/// Snapshots of ids with separators, wildcards and the like are snapshots like any other.
pub async fn no_id_reaches_the_snapshot_of_another<S: EventStore>(store: &S) {
    let text = |id: &str| Bytes::from(format!("snapshot of {id:?}"));
    for id in HOSTILE {
        store.save_snapshot(&key("thing", id), SnapshotPart::State, text(id)).await.expect("a save");
    }
    for id in HOSTILE {
        let found = snapshot(store, &key("thing", id)).await;
        assert!(found.is_none() || found == Some(text(id)), "{id:?}: {found:?}");
        assert_eq!(snapshot(store, &key("other", id)).await, None, "{id:?}");
    }
}
