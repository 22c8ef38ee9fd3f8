//! Permissions that a service lacks, and those that it needs: the server reports a denied subject only as an event of
//! the connection, and the call must end with an error that names it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cqrs_core::{
    CommandError, Cqrs, Error, StoreError, View as _,
    operate::ProjectorState,
    port::{Deadline, Deadlines as _, DueQueue as _, SystemClock},
};
use cqrs_nats::{Connect, ConnectError, Nats, NatsBackend, Topology, TopologyError};
use cqrs_nats_server::LocalServer;
use cqrs_tests::{
    configured_server,
    domain::{Account, Bank, Statement, Touch, open, statement},
    eventually,
    proxy::Proxy,
};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use uuid::Uuid;

/// A server with a user with all permissions, and users with all permissions but the denied ones.
pub(crate) async fn server(users: &[(&str, &str)]) -> LocalServer {
    let user = |(user, permissions): &(&str, &str)| {
        format!("{{ user: {user}, password: p, permissions: {{ {permissions} }} }}")
    };
    let users = users.iter().map(user).collect::<Vec<_>>().join("\n");
    let root = "{ user: root, password: p }";
    let config = format!("accounts {{ A {{ jetstream: enabled, users: [ {root}\n{users} ] }} }}");
    configured_server(config).await
}

pub(crate) async fn connect(server: &LocalServer, user: &str) -> Result<Nats, ConnectError> {
    Connect::to(server.url()).user(user, "p").connect().await
}

async fn start(backend: NatsBackend) -> Result<Bank, Error> {
    Cqrs::builder(backend).aggregate::<Account>().view::<Statement>().start().await
}

fn lacks(error: &StoreError, wanted: &str) {
    let StoreError::NotPermitted { permission, .. } = error else { panic!("{error:?}") };
    assert_eq!(permission, wanted);
}

#[tokio::test]
async fn what_a_service_may_not_do_at_its_start() {
    let server = server(&[
        ("deaf", r#"subscribe: { deny: ["_INBOX.>"] }"#),
        ("silent", r#"publish: { deny: ["$JS.API.INFO"] }"#),
        ("blind", r#"publish: { deny: ["$JS.API.STREAM.INFO.>"] }"#),
        ("idle", r#"publish: { deny: ["$JS.API.STREAM.CREATE.*"] }"#),
        ("viewless", r#"publish: { deny: ["$JS.API.STREAM.CREATE.KV_shop__statement-v1"] }"#),
    ])
    .await;
    let error = connect(&server, "deaf").await.unwrap_err();
    let ConnectError::NotPermitted { permission, .. } = &error else { panic!("{error:?}") };
    assert!(permission.starts_with("subscribe to _INBOX."), "{error}");
    let error = connect(&server, "silent").await.unwrap_err();
    assert!(error.to_string().contains("needs the permission to publish to $JS.API.INFO"), "{error}");

    for (user, subject) in [("blind", "$JS.API.STREAM.INFO.SHOP"), ("idle", "$JS.API.STREAM.CREATE.SHOP")] {
        let error = connect(&server, user).await.unwrap().context("shop").await.unwrap_err();
        let TopologyError::NotPermitted { permission, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*permission, format!("publish to {subject}"));
    }
    let backend = connect(&server, "viewless").await.unwrap().context("shop").await.unwrap();
    let bank = start(backend).await.unwrap();
    let wanted = "needs the permission to publish to $JS.API.STREAM.CREATE.KV_shop__statement-v1";
    eventually("the projector says why it does not work", async || {
        matches!(&bank.projectors()[0].state,
            ProjectorState::Halted { reason } | ProjectorState::Retrying { reason } if reason.contains(wanted))
    })
    .await;
    bank.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn what_a_running_service_may_not_do() {
    let server = server(&[
        ("mute", r#"publish: { deny: ["shop.event.account.closed"] }"#),
        ("reader", r#"publish: { deny: ["$JS.API.DIRECT.GET.SHOP"] }"#),
        ("follower", r#"publish: { deny: ["$JS.API.STREAM.MSG.GET.SHOP"] }"#),
    ])
    .await;
    let root = start(connect(&server, "root").await.unwrap().context("shop").await.unwrap()).await.unwrap();
    let receipt = root.execute(open("1", 1)).await.unwrap();
    root.query(statement("1")).after(&receipt).await.unwrap();
    root.stop().await;

    let as_user = async |user| {
        let backend = connect(&server, user).await.unwrap().context("shop").await.unwrap();
        Cqrs::builder(backend).aggregate::<Account>().start().await.unwrap()
    };
    let mute = as_user("mute").await;
    let (refused, done) = tokio::join!(mute.execute(open("closed", 1)), mute.execute(open("open", 1)));
    done.unwrap();
    let Err(CommandError::Failed(Error::Store(error))) = refused else { panic!("{refused:?}") };
    lacks(&error, "publish to shop.event.account.closed");
    assert!(error.to_string().starts_with("appending to account/closed in stream SHOP needs"), "{error}");

    let touch = |account: &str| Touch { account: account.into() };
    for (user, subject) in
        [("reader", "$JS.API.DIRECT.GET.SHOP"), ("follower", "$JS.API.STREAM.MSG.GET.SHOP")]
    {
        let bank = as_user(user).await;
        let mut outcome = bank.execute(open("1", 1)).await.map(drop);
        if matches!(outcome, Err(CommandError::AlreadyExists(_))) {
            // The state was known; this reads from the leader.
            outcome = bank.execute(touch("1")).await.map(drop);
        }
        let Err(CommandError::Failed(Error::Store(error))) = outcome else { panic!("{user}: {outcome:?}") };
        lacks(&error, &format!("publish to {subject}"));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_projector_that_may_not_do_its_work_halts_and_says_why() {
    let denied = [
        ("asker", "$JS.API.CONSUMER.INFO.SHOP.statement-v1"),
        ("maker", "$JS.API.CONSUMER.CREATE.SHOP.statement-v1"),
        ("taker", "$JS.API.CONSUMER.MSG.NEXT.SHOP.statement-v1"),
        ("writer", "$KV.shop__statement-v1.d.writer"),
        ("loader", "$JS.API.DIRECT.GET.KV_shop__statement-v1"),
        ("checker", "$JS.API.STREAM.MSG.GET.KV_shop__statement-v1"),
    ];
    let users: Vec<_> = denied
        .iter()
        .map(|(user, subject)| (*user, format!(r#"publish: {{ deny: ["{subject}"] }}"#)))
        .collect();
    let users: Vec<_> = users.iter().map(|(user, permissions)| (*user, permissions.as_str())).collect();
    let server = server(&users).await;
    for (user, subject) in denied {
        let backend = connect(&server, user).await.unwrap().context("shop").await.unwrap();
        let bank = start(backend).await.unwrap();
        bank.execute(open(user, 1)).await.unwrap();
        let wanted = format!("needs the permission to publish to {subject}");
        eventually(&format!("the projector of {user} halts"), async || {
            matches!(&bank.projectors()[0].state,
                ProjectorState::Halted { reason } if reason.contains(&wanted))
        })
        .await;
        bank.stop().await;
    }
    server.stop().await;
}

/// The permissions of a service with the view of this test.
fn permissions(user: &str) -> String {
    let permissions = Topology::new("shop").permissions(&format!("_INBOX.{user}"));
    let permissions = permissions.projection(&Statement::projection()).snapshots().to_string();
    permissions.trim_start_matches("permissions: {").trim_end_matches('}').to_owned()
}

/// Two services of one context, each with the permissions of a service: neither receives the answers of the other, also
/// not with a subscription to all inboxes. A user with all permissions receives them.
#[tokio::test]
async fn nobody_reads_the_answers_of_others() {
    let users = ["one", "other"].map(|user| (user, permissions(user)));
    let users: Vec<_> = users.iter().map(|(user, permissions)| (*user, permissions.as_str())).collect();
    let server = server(&users).await;
    let one = connect(&server, "one").await.unwrap();
    let (heard, mut listeners) = (Arc::new(AtomicU64::new(0)), Vec::new());
    let other = connect(&server, "other").await.unwrap();
    let root = connect(&server, "root").await.unwrap();
    for (nats, counts) in [(&other, true), (&root, false)] {
        for subject in ["_INBOX.>", "_INBOX.one.>", "_INBOX.*.*.*", ">"] {
            let mut messages = nats.client().subscribe(subject).await.unwrap();
            let (heard, all) = (Arc::clone(&heard), Arc::new(AtomicU64::new(0)));
            listeners.push((subject, counts, Arc::clone(&all)));
            tokio::spawn(async move {
                while messages.next().await.is_some() {
                    all.fetch_add(1, Ordering::Relaxed);
                    heard.fetch_add(u64::from(counts), Ordering::Relaxed);
                }
            });
        }
    }
    // After the subscriptions.
    for nats in [&other, &root] {
        let _ = nats.context("shop").await.unwrap();
    }
    let bank = start(one.context("shop").await.unwrap()).await.unwrap();
    let receipt = bank.execute(open("1", 1)).await.unwrap();
    bank.query(statement("1")).after(&receipt).await.unwrap();
    bank.stop().await;
    eventually("who may hear everything does", async || {
        listeners
            .iter()
            .filter(|(_, counts, _)| !counts)
            .all(|(_, _, heard)| heard.load(Ordering::Relaxed) > 0)
    })
    .await;
    // All earlier answers have arrived by now.
    let _ = other.context("shop").await.unwrap();
    assert_eq!(heard.load(Ordering::Relaxed), 0, "{listeners:?}");
    server.stop().await;
}

#[tokio::test]
async fn who_may_not_listen_to_notices_is_told() {
    let server = server(&[("listener", r#"subscribe: { deny: ["shop.notice.>"] }"#)]).await;
    let topology = Topology::new("shop").notices();
    let backend = connect(&server, "listener").await.unwrap().open(topology).await.unwrap();
    let bank = Cqrs::builder(backend).aggregate::<Account>().start().await.unwrap();
    let Err(Error::Store(error)) = bank.notices::<Account, _>().await else { panic!("it listens") };
    lacks(&error, "subscribe to shop.notice.account.*");
    server.stop().await;
}

#[tokio::test]
async fn who_may_not_ask_for_due_deadlines_is_told() {
    let denied = ["$JS.API.CONSUMER.MSG.NEXT.SHOP__DEADLINES.due", "$JS.ACK.SHOP__DEADLINES.>"];
    let deny = |subject: &str| format!(r#"publish: {{ deny: ["{subject}"] }}"#);
    let server = server(&[("asker", &deny(denied[0])), ("taker", &deny(denied[1]))]).await;
    let root = connect(&server, "root").await.unwrap().context("shop").await.unwrap().events;
    root.prepare().await.unwrap();
    let arm = async |id: &str| {
        let (id, payload) = (id.to_owned(), "now".into());
        let deadline = Deadline { id, at: Timestamp::UNIX_EPOCH, payload, order: 1, arming: Uuid::new_v4() };
        root.arm(&deadline).await.unwrap();
    };
    arm("1").await;
    let events = async |user| connect(&server, user).await.unwrap().context("shop").await.unwrap().events;
    let mut queue = events("asker").await.due(Arc::new(SystemClock)).await.unwrap();
    lacks(&queue.next().await.err().unwrap(), &format!("publish to {}", denied[0]));

    let mut queue = events("taker").await.due(Arc::new(SystemClock)).await.unwrap();
    queue.next().await.unwrap().done().await.unwrap();
    let error = loop {
        match queue.next().await {
            // It is redelivered, because it is not acknowledged.
            Ok(due) => due.done().await.unwrap(),
            Err(error) => break error,
        }
    };
    let StoreError::NotPermitted { permission, .. } = &error else { panic!("{error:?}") };
    assert!(permission.starts_with("publish to $JS.ACK.SHOP__DEADLINES.due."), "{permission}");
    server.stop().await;
}

/// The client drops events when many arrive at once, also those about the connection itself.
#[tokio::test]
async fn a_flood_of_refusals_does_not_hide_that_the_connection_is_back() {
    let server = server(&[("noisy", r#"publish: { deny: ["noise.>"] }"#)]).await;
    let proxy = Proxy::start(server.port()).await.unwrap();
    let nats = Connect::to(proxy.url()).user("noisy", "p").connect().await.unwrap();
    let bank = start(nats.context("flood").await.unwrap()).await.unwrap();
    bank.execute(open("0", 1)).await.unwrap();
    for round in 1..=5 {
        for _ in 0..2_000 {
            nats.client().publish("noise.1", "".into()).await.unwrap();
        }
        proxy.reset();
        let receipt = bank.execute(open(round.to_string(), 1)).await.unwrap();
        let query = bank.query(statement(round.to_string())).after(&receipt);
        assert!(query.patience(Duration::from_mins(1)).await.unwrap().is_some());
    }
    bank.stop().await;
    server.stop().await;
}
