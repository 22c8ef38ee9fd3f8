//! A context in another JetStream domain, which the service reaches through a leaf node.
//!
//! The server of the leaf node has a JetStream too, in a domain of its own: nothing may be stored there.
#![cfg(not(feature = "testcontainers"))]

use std::time::Duration;

use cqrs_core::{
    CommandError, Cqrs, Effects, Envelope, Error, Policy, React, Start, StoreError, View as _,
    operate::ProjectorState, port::ProjectionId,
};
use cqrs_nats::{Connect, ConnectError, Nats, NatsBackend, Topology};
use cqrs_tests::{
    domain::{Account, AccountEvent, RichAccounts, Statement, bank, deposit, open, statement, withdraw},
    eventually,
    leaf::{HUB, Leaf, edge_alone, hub_at},
    ports::Port,
    unique_context,
};
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

/// Two servers for all cases of the contracts. They end with the process.
async fn leaf() -> &'static Leaf {
    static LEAF: OnceCell<Leaf> = OnceCell::const_new();
    LEAF.get_or_init(|| Leaf::start("", "$G")).await
}

/// A context in the hub's domain. The leaf node may still be connecting.
async fn backend() -> (NatsBackend, Nats) {
    let connect = Connect::to(leaf().await.edge.url()).domain(HUB);
    let nats = connect.wait_for(Duration::from_mins(1)).connect().await.expect("the hub's domain");
    let backend = nats.open(Topology::new(unique_context("domain")).notices()).await.expect("a context");
    (backend, nats)
}

cqrs_core::event_store_contract!(async {
    let (backend, nats) = backend().await;
    (backend.events, nats)
});

cqrs_core::view_store_contract!(async {
    let (backend, nats) = backend().await;
    (backend.views, nats)
});

cqrs_core::deadlines_contract!(async {
    let (backend, nats) = backend().await;
    (backend.events, nats)
});

cqrs_core::notices_contract!(async {
    let (backend, nats) = backend().await;
    (backend.events, nats)
});

/// A deposit of 1 arms a deadline for a deposit of 100.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Later;

impl Policy for Later {
    const NAME: &'static str = "later";
    const START: Start = Start::Beginning;
    type Of = Account;
}

impl React<AccountEvent> for Later {
    fn react(&mut self, event: &Envelope<AccountEvent>, effects: &mut Effects) {
        if event.data == (AccountEvent::Deposited { amount: 1 }) {
            effects.at("later", event.time, deposit(event.subject(), 100));
        }
    }
}

/// The streams in the JetStream of a server, which a user named root may see.
async fn streams(url: &str) -> Vec<String> {
    let options = async_nats::ConnectOptions::with_user_and_password("root".into(), "p".into());
    async_nats::jetstream::new(options.connect(url).await.unwrap())
        .stream_names()
        .try_collect()
        .await
        .unwrap()
}

/// All that a service does, by a user with the permissions of the domain: nothing is denied, and all of it is stored in
/// the hub.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_lives_in_the_domain_with_the_permissions_for_it() {
    let topology = Topology::new("shop").notices();
    let permissions = topology.permissions_in_domain(HUB, "_INBOX.shop").projection(&Statement::projection());
    let second = ProjectionId { build: 2, ..Statement::projection() };
    let permissions = permissions.projection(&second).removal(&Statement::projection());
    let permissions = permissions.projection(&ProjectionId::new(Later::NAME, 1));
    let permissions = permissions.snapshots().deadlines().notices();
    let account = format!(
        "accounts {{ SHOP {{ jetstream: enabled, users: [ {{ user: shop, password: p, {permissions} }}
        {{ user: root, password: p }} ] }} }}"
    );
    let servers = Leaf::start(&account, "SHOP").await;
    let connect = Connect::to(servers.edge.url()).user("shop", "p").domain(HUB);
    let nats = connect.wait_for(Duration::from_mins(1)).connect().await.unwrap();
    let backend = nats.open(topology).await.unwrap();
    let builder = Cqrs::builder(backend).aggregate::<Account>().view::<Statement>();
    let bank = builder.policy::<Later>().start().await.unwrap();

    let mut notices = bank.notices::<Account, _>().await.unwrap();
    bank.execute(open("1", 1)).await.unwrap();
    assert!(notices.next().await.is_some());
    // More than enough for a snapshot.
    for _ in 0..6 {
        bank.execute(deposit("1", 10)).await.unwrap();
    }
    let receipt = bank.execute(withdraw("1", 5)).await.unwrap();
    let balance = async || bank.query(statement("1")).after(&receipt).await.unwrap().unwrap().balance;
    eventually("the deadline comes", async || balance().await == 156).await;
    assert_eq!(bank.query(RichAccounts { at_least: 0 }).await.unwrap(), ["1"]);
    bank.rebuild(Statement::NAME).await.unwrap().finished().await.unwrap();
    let old = async || !bank.remove_old_builds(Statement::NAME).await.unwrap().is_empty();
    eventually("the old build is removed", old).await;
    assert_eq!(balance().await, 156);
    assert!(bank.trace(receipt.correlation_id).await.unwrap().is_complete);
    assert_eq!(bank.dead_letters(Statement::NAME).await.unwrap().list().await.unwrap(), []);
    for status in bank.progress().await.unwrap() {
        assert_eq!((&status.state, status.pending), (&ProjectorState::Running, 0), "{status:?}");
    }
    eventually("the snapshot is saved", async || {
        streams(servers.hub.url()).await.contains(&"KV_shop__snapshots".to_owned())
    })
    .await;
    bank.stop().await;

    let mut stored = streams(servers.hub.url()).await;
    stored.sort_unstable();
    let buckets = ["KV_shop__later-v1", "KV_shop__snapshots", "KV_shop__statement-v1-b2", "KV_shop__views"];
    assert_eq!(stored, [&buckets[..], &["SHOP", "SHOP__DEADLINES"]].concat());
    assert_eq!(streams(servers.edge.url()).await, [""; 0], "nothing is stored at the leaf node");
    let log = std::fs::read_to_string(servers.edge.folder().join("log")).unwrap();
    let denied: Vec<_> =
        log.lines().filter(|line| line.contains("Violation") && line.contains("shop")).collect();
    assert_eq!(denied, [""; 0]);
}

#[tokio::test]
async fn a_domain_that_is_not_there_is_named_or_waited_for() {
    let port = Port::reserve();
    let edge = edge_alone(&port, "", "$G").await;
    let connect = || Connect::to(edge.url()).domain(HUB);
    let error = connect().connect().await.unwrap_err();
    assert!(matches!(&error, ConnectError::NoDomain { domain, .. } if domain == HUB), "{error:?}");
    assert!(error.to_string().contains(r#"the domain "hub" answers"#), "{error}");

    let waiting = tokio::spawn(connect().wait_for(Duration::from_mins(1)).connect());
    let hub = hub_at(&port, None).await;
    let nats = waiting.await.unwrap().unwrap();
    let _backend = nats.context("late").await.unwrap();
    assert_eq!(streams(hub.url()).await, ["LATE"]);

    // The server's own domain is one like any other.
    let own = Connect::to(edge.url()).domain("edge").connect().await.unwrap();
    let _backend = own.context("near").await.unwrap();
    assert_eq!(streams(edge.url()).await, ["NEAR"]);
    for name in ["", "a.b", "*", "a b"] {
        let error = Connect::to(edge.url()).domain(name).connect().await.unwrap_err();
        assert!(matches!(&error, ConnectError::Domain { domain } if domain == name), "{name:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_leaf_node_that_is_cut_off_stores_nothing_until_it_is_back() {
    let (port, data) = (Port::reserve(), tempfile::tempdir().unwrap());
    let edge = edge_alone(&port, "", "$G").await;
    let hub = hub_at(&port, Some(data.path())).await;
    let connect = Connect::to(edge.url()).domain(HUB).wait_for(Duration::from_mins(1));
    let backend = connect.connect().await.unwrap().context("shop").await.unwrap();
    let bank = bank(backend.clone()).await;
    bank.execute(open("1", 1)).await.unwrap();
    let hasty =
        Cqrs::builder(backend).aggregate::<Account>().append_patience(Duration::ZERO).start().await.unwrap();

    hub.kill().await;
    let cause = match hasty.execute(open("2", 1)).await.unwrap_err() {
        CommandError::Failed(Error::Store(cause)) => cause,
        CommandError::Failed(Error::Unknown { source, .. }) => *source,
        error => panic!("{error:?}"),
    };
    assert!(matches!(cause, StoreError::Unavailable { .. }), "{cause:?}");
    let waiting = tokio::spawn({
        let bank = bank.clone();
        async move { bank.execute(open("3", 1)).await }
    });
    let hub = hub_at(&port, Some(data.path())).await;
    let receipt = waiting.await.unwrap().unwrap();
    let query = bank.query(statement("3")).after(&receipt);
    assert!(query.patience(Duration::from_mins(1)).await.unwrap().is_some());
    bank.stop().await;
    hub.stop().await;
}
