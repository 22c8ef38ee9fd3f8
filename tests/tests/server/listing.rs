//! Listing the aggregates of a type: every one once, page by page, in any process.

use cqrs_core::{AggregateKey, Backend, futures::Versioned, model::ForeignId, port::ListedUpTo};
use cqrs_tests::{
    TestContext,
    domain::{Account, bank, deposit, key, open},
};

cqrs_tests::on_backends! { "listing", memory nats sliced embedded: { every_account_is_listed_page_by_page } }

async fn every_account_is_listed_page_by_page<B: Backend + Clone>(backend: B) {
    let (one, other) = (bank(backend.clone()).await, bank(backend).await);
    assert_eq!(one.aggregates::<Account, _>().await.unwrap().keys, []);
    let ids = ["", "a.b", "*", "é", "1", "10", "2"];
    for id in ids {
        one.execute(open(id, 1)).await.unwrap();
        one.execute(deposit(id, 1)).await.unwrap();
    }
    let all = one.aggregates::<Account, _>().await.unwrap();
    assert_eq!((all.keys.len(), &all.next), (ids.len(), &None));
    for id in ids {
        assert!(all.keys.contains(&key(id)), "{id:?}");
    }
    // The service that asks for the next page need not be the one that asked for the page before.
    for max in [0, 1, 3, ids.len() - 1, ids.len()] {
        let (mut paged, mut next, mut banks) =
            (Vec::new(), None::<ListedUpTo>, [&one, &other].into_iter().cycle());
        loop {
            let listing = banks.next().unwrap().aggregates::<Account, _>().max(max);
            let page = match next {
                // It survives as text.
                Some(next) => {
                    let text = serde_json::to_string(&next).unwrap();
                    listing.after(serde_json::from_str(&text).unwrap()).await.unwrap()
                }
                None => listing.await.unwrap(),
            };
            assert!(page.keys.len() <= max.max(1), "pages of {max}");
            paged.extend(page.keys);
            next = page.next;
            assert_eq!(next.as_ref().map_or(paged.len() as u64, |next| next.count), paged.len() as u64);
            if next.is_none() {
                break;
            }
        }
        assert_eq!(paged, all.keys, "pages of {max}");
    }
    // What is listed can be read.
    for key in &all.keys {
        let id: Result<String, ForeignId> = key.id_of::<Account>();
        let Versioned { version, .. } = other.aggregate::<Account, _>(&id.unwrap()).await.unwrap().unwrap();
        assert!(version >= 2);
    }
}

/// Stores a small message, which nobody decodes, for each of these accounts.
async fn fill(context: &TestContext, ids: impl Iterator<Item = String>) {
    let client = context.nats.client();
    let jetstream = async_nats::jetstream::new(client.clone());
    let subjects: Vec<_> = ids.map(|id| format!("{}.event.account.{id}", context.name)).collect();
    for part in subjects.chunks(1_000) {
        let (last, others) = part.split_last().unwrap();
        for subject in others {
            client.publish(subject.clone(), "".into()).await.unwrap();
        }
        // The server has stored the others when it acknowledges the last one.
        jetstream.publish(last.clone(), "".into()).await.unwrap().await.unwrap();
    }
}

/// An answer of a server has 100,000 subjects at most. A listing goes on in the next one, also if aggregates were added
/// before its place, and if nothing says where its place is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_goes_over_several_answers_of_the_server() {
    const ALL: usize = 120_000;
    let id = |number: usize| format!("m{number:06}");
    let context = TestContext::new("listing").await;
    let bank = bank(context.backend().await).await;
    fill(&context, (0..ALL).map(id)).await;
    let first = bank.aggregates::<Account, _>().max(110_000).await.unwrap();
    let next = first.next.unwrap();
    assert_eq!((first.keys.len(), next.count, next.key), (100_000, 100_000, key(id(99_999))));
    // In the order they come before all that were listed.
    fill(&context, (0..1_000).map(|number| format!("a{number}"))).await;
    let place = |number: usize, count| ListedUpTo { key: key(id(number - 1)), count };
    for (number, count) in [
        (100_000, 100_000),
        (100_000, 0),
        (118_000, 0),
        (118_000, 118_000),
        (99_000, 100_001),
        (500, 200_000),
    ] {
        let (mut listed, mut next) = (Vec::new(), Some(place(number, count)));
        while let Some(place) = next {
            let page = bank.aggregates::<Account, _>().after(place).await.unwrap();
            listed.extend(page.keys);
            next = page.next;
        }
        assert!(
            listed.iter().map(AggregateKey::id).eq((number..ALL).map(id)),
            "{number}, counted as {count}"
        );
    }
}
