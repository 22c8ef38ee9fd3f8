//! The contract for the subscriptions of event stores.

use std::time::Duration;

use crate::{
    contract::{
        LONG,
        event_store::{append_chain, commit, key},
        opened, soon,
    },
    log::commit::StoredCommit,
    port::{
        event_store::{EventStore, Expected},
        subscription::{Subscribe, Subscription},
    },
};

async fn take<S: Subscription>(subscription: &mut S, count: usize) -> Vec<StoredCommit> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let deliveries = soon("the next commit", subscription.next(count)).await.expect("a delivery");
        taken.extend(deliveries.into_iter().map(|delivery| delivery.expect("a commit")));
    }
    assert_eq!(taken.len(), count, "too much was delivered");
    taken
}

/// Stored commits and new ones are delivered in order, without a gap in between.
pub async fn a_subscription_follows_from_the_beginning_into_the_present<S: EventStore>(store: &S) {
    let aggregate = key("thing", "follow");
    let mut stored = append_chain(store, &aggregate, 3).await;
    let request = Subscribe { subscriber: "follower", aggregates: &["thing"], after: 0 };
    let mut subscription = opened("a subscription", || store.subscribe(request)).await;
    assert_eq!(take(&mut subscription, 3).await, stored);
    assert_eq!(subscription.pending(), 0);
    let fourth = commit(&aggregate, 4, 2);
    let sequence = store.append(&fourth, Expected::Exact(stored[2].sequence)).await.expect("an append");
    stored.push(StoredCommit { sequence, commit: fourth });
    assert_eq!(take(&mut subscription, 1).await, stored[3..]);
    subscription.done(sequence).await.expect("an account");
    subscription.leave().await;
}

/// The checkpoint decides where a subscriber of the same name starts, before or after its last position.
pub async fn a_subscription_starts_where_it_is_told<S: EventStore>(store: &S) {
    let stored = append_chain(store, &key("thing", "start"), 6).await;
    for (after, done) in [(0, 6), (3, 6), (1, 4), (5, 6), (2, 2), (0, 0), (0, 0)] {
        let sequence = if after == 0 { 0 } else { stored[after - 1].sequence };
        let request = Subscribe { subscriber: "starter", aggregates: &["thing"], after: sequence };
        let mut subscription = opened("a subscription", || store.subscribe(request)).await;
        assert_eq!(take(&mut subscription, 6 - after).await, stored[after..], "after {after}");
        if done > 0 {
            subscription.done(stored[done - 1].sequence).await.expect("an account");
        }
        subscription.leave().await;
    }
}

/// Commits of other aggregate types are not delivered.
pub async fn a_subscription_has_only_the_aggregates_it_asks_for<S: EventStore>(store: &S) {
    append_chain(store, &key("other", "1"), 2).await;
    let things = append_chain(store, &key("thing", "1"), 2).await;
    append_chain(store, &key("other", "2"), 2).await;
    let thirds = append_chain(store, &key("third", "1"), 1).await;
    let request = Subscribe { subscriber: "chooser", aggregates: &["thing", "third"], after: 0 };
    let mut subscription = opened("a subscription", || store.subscribe(request)).await;
    let expected: Vec<_> = things.into_iter().chain(thirds).collect();
    assert_eq!(take(&mut subscription, 3).await, expected);
}

/// An earlier request of a subscriber of the same name has no effect.
pub async fn a_subscriber_that_asks_for_other_aggregates_gets_them<S: EventStore>(store: &S) {
    let request = |aggregates| Subscribe { subscriber: "changer", aggregates, after: 0 };
    opened("a subscription", || store.subscribe(request(&["thing"]))).await.leave().await;
    append_chain(store, &key("thing", "1"), 1).await;
    let other = append_chain(store, &key("other", "1"), 1).await;
    assert_eq!(soon("the other", turn(store, request(&["other"]))).await, other);
}

/// The first commits that a subscriber gets, once it is active.
async fn turn<S: EventStore>(store: &S, request: Subscribe<'_>) -> Vec<StoredCommit> {
    loop {
        let mut subscription = opened("a subscription", || store.subscribe(request)).await;
        match subscription.next(9).await {
            Ok(deliveries) => {
                subscription.leave().await;
                return deliveries.into_iter().map(|delivery| delivery.expect("a commit")).collect();
            }
            Err(error) if error.is_transient() => drop(subscription),
            Err(error) => panic!("{error}"),
        }
    }
}

/// However long the subscriber takes for its commits: it is alive. Other subscribers of its name are standbys, and get
/// nothing.
pub async fn whoever_reads_keeps_its_turn_until_it_leaves<S: EventStore>(store: &S) {
    let stored = append_chain(store, &key("thing", "1"), 3).await;
    let request = |after| Subscribe { subscriber: "worker", aggregates: &["thing"], after };
    let mut first = opened("a subscription", || store.subscribe(request(0))).await;
    assert_eq!(take(&mut first, 1).await, stored[..1]);
    let second = opened("a subscription", || store.subscribe(request(0))).await;
    assert!(!first.is_standby() && second.is_standby());
    drop(second);
    let other = tokio::time::timeout(LONG, turn(store, request(0))).await;
    assert!(other.is_err(), "{other:?} were handed out to another");
    assert_eq!(take(&mut first, 1).await, stored[1..2], "its turn goes on");
    first.leave().await;
    assert_eq!(soon("its turn", turn(store, request(stored[1].sequence))).await, stored[2..]);
}

/// A store that can tell whether a subscriber is active is never wrong about one that reads or waits, and notices the
/// end of one that leaves.
pub async fn an_active_subscriber_is_known_if_the_store_can_tell<S: EventStore>(store: &S) {
    let is_active = async |is: bool| {
        let asked = async {
            while store.has_subscriber("worker").await.expect("an answer") == Some(!is) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        soon(if is { "the subscriber" } else { "the end of the subscriber" }, asked).await;
    };
    is_active(false).await;
    let request = Subscribe { subscriber: "worker", aggregates: &["thing"], after: 0 };
    let mut subscription = opened("a subscription", || store.subscribe(request)).await;
    is_active(true).await;
    assert_ne!(store.has_subscriber("other").await.expect("an answer"), Some(true));
    let never = |active| assert_ne!(active, Some(false), "it waits, and is active");
    for _ in 0..10 {
        never(store.has_subscriber("worker").await.expect("an answer"));
        tokio::time::sleep(LONG / 25).await;
    }
    let stored = append_chain(store, &key("thing", "1"), 1).await;
    assert_eq!(take(&mut subscription, 1).await, stored);
    never(store.has_subscriber("worker").await.expect("an answer"));
    subscription.leave().await;
    is_active(false).await;
}

/// A forgotten subscriber can subscribe again, and starts where the request says.
pub async fn a_subscriber_can_be_forgotten<S: EventStore>(store: &S) {
    store.forget("nobody").await.expect("nothing to forget");
    let stored = append_chain(store, &key("thing", "forget"), 3).await;
    for after in [0, 2, 1] {
        let sequence = if after == 0 { 0 } else { stored[after - 1].sequence };
        let request = Subscribe { subscriber: "leaver", aggregates: &["thing"], after: sequence };
        let mut subscription = opened("a subscription", || store.subscribe(request)).await;
        assert_eq!(take(&mut subscription, 3 - after).await, stored[after..]);
        subscription.leave().await;
        store.forget("leaver").await.expect("to forget");
    }
}
