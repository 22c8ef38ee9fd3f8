//! The contract for stores that announce commits.

use crate::{
    contract::{
        event_store::{commit, key},
        opened, soon,
    },
    log::commit::StoredCommit,
    port::{
        event_store::{AppendError, EventStore, Expected},
        notices::{Notice, Notices},
    },
};

/// The next notice must be this commit.
async fn expect<L: Notice>(listener: &mut L, expected: &StoredCommit) {
    let heard = soon("a notice", listener.next()).await.expect("a notice");
    assert_eq!(heard.as_ref(), Ok(expected));
}

async fn append<S: EventStore>(store: &S, id: &str, version: u64, expected: Expected) -> StoredCommit {
    let commit = commit(&key("thing", id), version, 2);
    let sequence = store.append(&commit, expected).await.expect("an append");
    StoredCommit { sequence, commit }
}

/// Whole, in the order of the log, and once; to each listener.
pub async fn what_is_stored_is_announced_once<S: EventStore + Notices>(store: &S) {
    append(store, "before", 1, Expected::NoStream).await;
    let mut first = opened("a listener", || store.listen(&["thing"])).await;
    let mut second = opened("a listener", || store.listen(&["thing"])).await;
    let one = append(store, "a.b*>", 1, Expected::NoStream).await;
    // The same append again, as after a lost answer.
    let _ = store.append(&one.commit, Expected::NoStream).await;
    let two = append(store, "a.b*>", 3, Expected::Exact(one.sequence)).await;
    for listener in [&mut first, &mut second] {
        expect(listener, &one).await;
        expect(listener, &two).await;
    }
}

/// A refused append is not announced.
pub async fn what_is_refused_is_not_announced<S: EventStore + Notices>(store: &S) {
    let mut listener = opened("a listener", || store.listen(&["thing"])).await;
    let refused = store.append(&commit(&key("thing", "7"), 1, 1), Expected::Exact(99)).await;
    assert!(matches!(refused, Err(AppendError::Conflict)), "{refused:?}");
    let stored = append(store, "7", 1, Expected::NoStream).await;
    expect(&mut listener, &stored).await;
}

/// Each listener gets the aggregate types that it asked for.
pub async fn only_those_who_ask_are_told<S: EventStore + Notices>(store: &S) {
    let mut both = opened("a listener", || store.listen(&["thing", "other"])).await;
    let mut things = opened("a listener", || store.listen(&["thing"])).await;
    let other = commit(&key("other", "1"), 1, 1);
    let sequence = store.append(&other, Expected::NoStream).await.expect("an append");
    let thing = append(store, "1", 1, Expected::NoStream).await;
    expect(&mut things, &thing).await;
    let mut heard = Vec::new();
    for _ in 0..2 {
        heard.push(soon("a notice", both.next()).await.expect("a notice").expect("a commit").sequence);
    }
    heard.sort_unstable();
    assert_eq!(heard, [sequence, thing.sequence]);
}
