//! The contract for event stores: listing the aggregates of a type.

use std::collections::HashSet;

use crate::{
    base::id::AggregateKey,
    contract::{
        HOSTILE,
        event_store::{append_chain, commit, key},
    },
    port::{
        event_store::{EventStore, Expected},
        listing::{AggregatePage, ListedUpTo, Listing},
    },
};

async fn page<S: EventStore>(
    store: &S,
    aggregate: &'static str,
    after: Option<&ListedUpTo>,
    max: usize,
) -> AggregatePage {
    let page = store.aggregates(Listing { aggregate, after, max }).await.expect("a page");
    assert!(page.keys.len() <= max, "a page has at most as many aggregates as were asked for");
    page
}

/// All pages after a place; each but the last has an aggregate.
async fn all_after<S: EventStore>(
    store: &S,
    aggregate: &'static str,
    mut after: Option<ListedUpTo>,
    max: usize,
) -> Vec<AggregateKey> {
    let mut all = Vec::new();
    loop {
        let AggregatePage { keys, next } = page(store, aggregate, after.as_ref(), max).await;
        assert!(next.is_none() || !keys.is_empty(), "a listing makes progress");
        all.extend(keys);
        assert!(all.len() <= 1_000, "a listing ends");
        match next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

fn sorted(mut keys: Vec<AggregateKey>) -> Vec<AggregateKey> {
    keys.sort();
    keys
}

/// A type without aggregates has an empty listing, also if the log has others.
pub async fn no_aggregate_is_listed_at_first<S: EventStore>(store: &S) {
    assert_eq!(page(store, "thing", None, 10).await, AggregatePage { keys: Vec::new(), next: None });
    append_chain(store, &key("other", "1"), 1).await;
    assert_eq!(page(store, "thing", None, 10).await, AggregatePage { keys: Vec::new(), next: None });
}

/// A listing has each aggregate of its type exactly once, with any id and any number of commits. It has no aggregate of
/// another type, even if one type's name is a prefix of the other's. The order is the same for every page size.
pub async fn every_aggregate_is_listed_once<S: EventStore>(store: &S) {
    for (id, commits) in HOSTILE.iter().zip([1, 2, 5].iter().cycle()) {
        for name in ["thing", "things", "thing-a"] {
            append_chain(store, &key(name, id), if name == "thing" { *commits } else { 1 }).await;
        }
    }
    append_chain(store, &key("things", "only a things"), 1).await;
    let all = all_after(store, "thing", None, 1_000).await;
    assert_eq!(sorted(all.clone()), sorted(HOSTILE.iter().map(|id| key("thing", id)).collect()));
    for max in [1, 2, 7, HOSTILE.len(), HOSTILE.len() + 1] {
        assert_eq!(all_after(store, "thing", None, max).await, all, "pages of {max}");
    }
    assert_eq!(all_after(store, "things", None, 5).await.len(), HOSTILE.len() + 1);
    assert_eq!(all_after(store, "thin", None, 5).await, []);
}

/// Aggregates that are added between two pages, before the place and behind it, hide none that was there, and none is
/// listed twice.
pub async fn aggregates_that_are_added_meanwhile_hide_none<S: EventStore>(store: &S) {
    let there: Vec<_> = (0..12).map(|number| key("thing", &format!("m{number}"))).collect();
    for aggregate in &there {
        append_chain(store, aggregate, 1).await;
    }
    let mut added = HOSTILE.iter().map(|id| key("thing", id));
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let AggregatePage { keys, next } = page(store, "thing", after.as_ref(), 2).await;
        listed.extend(keys);
        assert!(listed.len() <= 1_000, "a listing ends");
        let Some(next) = next else { break };
        after = Some(next);
        for aggregate in added.by_ref().take(4) {
            append_chain(store, &aggregate, 1).await;
        }
        // A further commit of one that was there changes nothing.
        let last = store.last(&there[0]).await.expect("a read").expect("a commit");
        let again = commit(&there[0], last.commit.first_version + 1, 1);
        store.append(&again, Expected::Exact(last.sequence)).await.expect("an append in order");
    }
    let once: HashSet<_> = listed.iter().collect();
    assert_eq!(once.len(), listed.len(), "one was listed twice: {listed:?}");
    for aggregate in &there {
        assert!(once.contains(aggregate), "{aggregate} is missing: {listed:?}");
    }
    let all = all_after(store, "thing", None, 1_000).await;
    assert!(all.iter().filter(|key| once.contains(key)).eq(&listed), "the order has changed");
}

/// The key of a place says where the listing goes on, also one that has no commits. The count changes nothing.
pub async fn a_listing_goes_on_from_its_key<S: EventStore>(store: &S) {
    for number in 0..9 {
        append_chain(store, &key("thing", &format!("{number}")), 1).await;
    }
    let all = all_after(store, "thing", None, 100).await;
    for (at, last) in all.iter().enumerate() {
        for count in [0, 1, at as u64 + 1, at as u64 + 2, 9, 10, u64::MAX] {
            let place = ListedUpTo { key: last.clone(), count };
            let rest = all_after(store, "thing", Some(place), 4).await;
            assert_eq!(rest, all[at + 1..], "after {last}, counted as {count}");
        }
    }
    let nowhere = ListedUpTo { key: key("thing", "4.5"), count: 3 };
    let rest = all_after(store, "thing", Some(nowhere), 100).await;
    assert!(all.ends_with(&rest) && rest.len() < all.len(), "{rest:?}");
}
