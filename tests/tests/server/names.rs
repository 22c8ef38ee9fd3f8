//! Contexts whose names resemble names of another context share nothing.

use std::{collections::BTreeSet, sync::Arc};

use cqrs_core::{
    Cqrs, Envelope, Project, Query, View,
    memory::MemoryViews,
    port::{Deadlines as _, EventStore as _, SystemClock},
};
use cqrs_nats::{Topology, TopologyError};
use cqrs_tests::{
    TestContext,
    domain::{Account, AccountEvent, Open, Statement},
};
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};

/// The owners of accounts, under a name for each context.
macro_rules! owners {
    ($view:ident, $name:literal, $query:ident) => {
        #[derive(Debug, Default, Clone, Serialize, Deserialize)]
        struct $view {
            owner: String,
        }

        impl View for $view {
            const NAME: &'static str = $name;
            type Of = Account;
        }

        impl Project<AccountEvent> for $view {
            fn project(&mut self, event: &Envelope<AccountEvent>) {
                if let AccountEvent::Opened { owner } = &event.data {
                    owner.clone_into(&mut self.owner);
                }
            }
        }

        #[derive(Serialize, Deserialize, Query)]
        #[query(view = $view, answer = Option<$view>)]
        struct $query(#[query(key)] String);
    };
}

owners!(EuSales, "eu_sales", GetEuSales);
owners!(Sales, "sales", GetSales);

fn open(owner: &str) -> Open {
    Open { account: "1".into(), owner: owner.into(), amount: 0 }
}

async fn buckets(context: &TestContext) -> BTreeSet<String> {
    let jetstream = async_nats::jetstream::new(context.nats.client().clone());
    let names: Vec<String> = jetstream.stream_names().try_collect().await.unwrap();
    let ours = format!("KV_{}", context.name);
    names.into_iter().filter(|name| name.starts_with(&ours)).collect()
}

#[tokio::test]
async fn a_view_is_not_another_contexts_whatever_the_two_are_called() {
    let context = TestContext::new("p").await;
    let (name, longer) = (&context.name, format!("{}_eu", context.name));
    let p = context.nats.context(name).await.unwrap();
    let p = Cqrs::builder(p).aggregate::<Account>().view::<EuSales>().start().await.unwrap();
    let p_eu = context.nats.context(&longer).await.unwrap();
    let p_eu = Cqrs::builder(p_eu).aggregate::<Account>().view::<Sales>().start().await.unwrap();

    let receipt = p.execute(open("anna")).await.unwrap();
    p.query(GetEuSales("1".into())).after(&receipt).await.unwrap();
    assert!(p_eu.query(GetSales("1".into())).await.unwrap().is_none(), "it has no account");
    let receipt = p_eu.execute(open("otto")).await.unwrap();
    assert_eq!(p_eu.query(GetSales("1".into())).after(&receipt).await.unwrap().unwrap().owner, "otto");

    // Each removes only its own.
    p_eu.rebuild("sales").await.unwrap().finished().await.unwrap();
    let before = buckets(&context).await;
    p_eu.remove_old_builds("sales").await.unwrap();
    let after = buckets(&context).await;
    let removed: Vec<_> = before.difference(&after).cloned().collect();
    assert_eq!(removed, [format!("KV_{longer}__sales-v1")]);
    assert_eq!(p.query(GetEuSales("1".into())).await.unwrap().unwrap().owner, "anna");
    p.stop().await;
    p_eu.stop().await;
}

#[tokio::test]
async fn a_context_is_not_what_another_one_has_beside_its_events() {
    let context = TestContext::new("suffixes").await;
    let main = context.backend().await.events;
    main.prepare().await.unwrap();
    let public = context.nats.public_log(&context.name).await.unwrap();
    let mut streams = BTreeSet::from([main.name().to_owned(), public.name().to_owned()]);
    public.prepare().await.unwrap();
    for suffix in ["_public", "_deadlines", "_event", "_views", "_snapshots", "_public_deadlines"] {
        let other = context.nats.context(&format!("{}{suffix}", context.name)).await.unwrap().events;
        other.prepare().await.unwrap();
        other.due(Arc::new(SystemClock)).await.unwrap();
        assert!(streams.insert(other.name().to_owned()), "{suffix}");
    }
}

/// A stream that has the name of another context's stream belongs to that context.
#[tokio::test]
async fn a_stream_of_another_context_is_refused() {
    let context = TestContext::new("named").await;
    let (ours, theirs) = (&context.name, format!("{}_other", context.name));
    let theirs = context.nats.context(&theirs).await.unwrap().events;
    let topology = Topology::new(ours).named(theirs.name());
    let error = context.nats.open(topology).await.unwrap_err();
    let TopologyError::Drift { differences, .. } = &error else { panic!("{error:?}") };
    assert!(differences.iter().any(|difference| difference.setting == "subjects"), "{error}");
}

/// Two contexts whose events have the same source are still two followers.
#[tokio::test]
async fn two_contexts_with_one_source_follow_a_log_side_by_side() {
    let context = TestContext::new("followers").await;
    let shop = context.backend().await;
    let log = shop.events.clone();
    let shop = Cqrs::builder(shop).aggregate::<Account>().start().await.unwrap();
    let mut followers = Vec::new();
    for name in ["a", "b"] {
        let topology = Topology::new(format!("{}_{name}", context.name)).source("https://example.com");
        let events = context.nats.open_log(topology).await.unwrap();
        let builder = Cqrs::builder((events, MemoryViews::default())).following(&log).view::<Statement>();
        followers.push(builder.start().await.unwrap());
    }
    shop.execute(open("anna")).await.unwrap();
    for follower in &followers {
        follower.caught_up().await.unwrap();
    }
    let jetstream = async_nats::jetstream::new(context.nats.client().clone());
    let stream = jetstream.get_stream(log.name()).await.unwrap();
    let names: BTreeSet<String> = stream.consumer_names().try_collect().await.unwrap();
    assert_eq!(names.len(), 2, "{names:?}");
    for follower in followers {
        follower.stop().await;
    }
    shop.stop().await;
}
