//! Permissions that a service lacks, and those that it needs: the server only mentions a refused subject
//! beside the call, and the call must end with an error that names it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use cqrs_core::{CommandError, Cqrs, Effects, Envelope, Error, Policy, ProjectorState, React, StoreError};
use cqrs_nats::{Connect, ConnectError, LocalServer, Nats, NatsBackend, Topology, TopologyError};
use cqrs_tests::{
    domain::{Account, AccountEvent, Deposit, GetStatement, Open, RichAccounts, Statement, Touch, Withdraw},
    eventually,
    proxy::Proxy,
    server_binary,
};
use serde::{Deserialize, Serialize};

type Bank = Cqrs<NatsBackend, (Account,), (Statement,)>;

/// A server with an all-powerful user, and users who may do everything but what is denied to them.
async fn server(users: &[(&str, &str)]) -> LocalServer {
    let user = |(user, permissions): &(&str, &str)| {
        format!("{{ user: {user}, password: p, permissions: {{ {permissions} }} }}")
    };
    let users = users.iter().map(user).collect::<Vec<_>>().join("\n");
    let root = "{ user: root, password: p }";
    let config = format!("accounts {{ A {{ jetstream: enabled, users: [ {root}\n{users} ] }} }}");
    LocalServer::builder(server_binary().await).config(config).start().await.unwrap()
}

async fn connect(server: &LocalServer, user: &str) -> Result<Nats, ConnectError> {
    Connect::to(server.url()).user(user, "p").connect().await
}

async fn start(backend: NatsBackend) -> Result<Bank, Error> {
    Cqrs::builder(backend).aggregate::<Account>().view::<Statement>().start().await
}

fn open(account: &str) -> Open {
    Open { account: account.into(), owner: "anna".into(), amount: 1 }
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
        ("viewless", r#"publish: { deny: ["$JS.API.STREAM.CREATE.KV_shop_statement-v1"] }"#),
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
    let Err(Error::Store(error)) = start(backend).await else { panic!("it starts") };
    lacks(&error, "publish to $JS.API.STREAM.CREATE.KV_shop_statement-v1");
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
    let receipt = root.execute(open("1")).await.unwrap();
    root.query(GetStatement { account: "1".into() }).after(&receipt).await.unwrap();
    root.stop().await;

    let as_user = async |user| {
        let backend = connect(&server, user).await.unwrap().context("shop").await.unwrap();
        Cqrs::builder(backend).aggregate::<Account>().start().await.unwrap()
    };
    let mute = as_user("mute").await;
    let (refused, done) = tokio::join!(mute.execute(open("closed")), mute.execute(open("open")));
    done.unwrap();
    let Err(CommandError::Failed(Error::Store(error))) = refused else { panic!("{refused:?}") };
    lacks(&error, "publish to shop.event.account.closed");
    assert!(error.to_string().starts_with("appending to account/closed in stream SHOP needs"), "{error}");

    let touch = |account: &str| Touch { account: account.into() };
    for (user, subject) in
        [("reader", "$JS.API.DIRECT.GET.SHOP"), ("follower", "$JS.API.STREAM.MSG.GET.SHOP")]
    {
        let bank = as_user(user).await;
        let mut outcome = bank.execute(open("1")).await.map(drop);
        if matches!(outcome, Err(CommandError::AlreadyExists(_))) {
            // The state was known; this asks the leader.
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
        ("writer", "$KV.shop_statement-v1.d.writer"),
        ("loader", "$JS.API.DIRECT.GET.KV_shop_statement-v1"),
        ("checker", "$JS.API.STREAM.MSG.GET.KV_shop_statement-v1"),
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
        bank.execute(open(user)).await.unwrap();
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

/// What the guide to commands says that a service's user needs, for the context and the view of this test.
fn documented() -> String {
    let guide = include_str!("../../cqrs-nats/docs/commands.md");
    let (_, from) = guide.split_once("permissions: {").unwrap();
    let (permissions, _) = from.split_once("\n```").unwrap();
    let permissions = permissions.rsplit_once('}').unwrap().0;
    let permissions = permissions.replace("orders", "shop").replace("ORDERS", "SHOP");
    // The policy needs its own lines like those of the view.
    let of = |line: &str, name| line.replace("order-summary", name);
    let lines = permissions.lines().flat_map(|line| {
        let own = line.contains("order-summary").then(|| of(line, "reminder"));
        [of(line, "statement")].into_iter().chain(own)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Who pays in one has a thousand seconds before two are paid in for him, and who withdraws has none.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Reminder;

impl Policy for Reminder {
    const NAME: &'static str = "reminder";
    type Of = Account;
}

impl React<AccountEvent> for Reminder {
    fn react(&mut self, event: &Envelope<AccountEvent>, effects: &mut Effects) {
        let account = event.subject().to_owned();
        match event.data {
            AccountEvent::Deposited { amount: 1 } => {
                let time = event.time + Duration::from_secs(1_000);
                effects.at("later", time, Deposit { account, amount: 2 });
            }
            AccountEvent::Withdrawn { .. } => {
                effects.disarm("later");
                effects.at("now", event.time, Deposit { account, amount: 3 });
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn the_documented_permissions_are_all_that_a_service_needs() {
    let server = server(&[("service", &documented())]).await;
    let instance = async || {
        let backend = connect(&server, "service").await.unwrap().context("shop").await.unwrap();
        start(backend).await.unwrap()
    };
    let patience = Duration::from_mins(1);
    for start in 1..=2 {
        let (bank, standby) = (instance().await, instance().await);
        for number in 0..3 {
            bank.execute(open(&format!("{start}-{number}"))).await.unwrap();
        }
        let deposit = Deposit { account: format!("{start}-0"), amount: 1 };
        let conflict = tokio::join!(bank.execute(deposit.clone()), standby.execute(deposit));
        let (one, other) = (conflict.0.unwrap(), conflict.1.unwrap());
        let receipt = if one.version > other.version { one } else { other };
        let query = GetStatement { account: format!("{start}-0") };
        let seen = standby.query(query).after(&receipt).patience(patience).await.unwrap().unwrap();
        assert_eq!(seen.versions, [1, 2, 3, 4]);
        assert_eq!(bank.query(RichAccounts { at_least: 1 }).await.unwrap().len(), 3 * start);
        bank.stop().await;
        standby.stop().await;
    }
    assert_no_violation(&server);
    server.stop().await;
}

#[tokio::test]
async fn the_documented_permissions_are_enough_for_policies_and_notices() {
    let server = server(&[("service", &documented())]).await;
    let topology = Topology::new("shop").notices();
    let backend = connect(&server, "service").await.unwrap().open(topology).await.unwrap();
    let bank = Cqrs::builder(backend).aggregate::<Account>().policy::<Reminder>().start().await.unwrap();
    let mut notices = bank.notices::<Account, _>().await.unwrap();
    bank.execute(open("1")).await.unwrap();
    bank.execute(Withdraw { account: "1".into(), amount: 1 }).await.unwrap();
    let mut heard = Vec::new();
    while heard.last() != Some(&AccountEvent::Deposited { amount: 3 }) {
        let next = tokio::time::timeout(Duration::from_secs(30), notices.next()).await;
        heard.push(next.expect("a notice in time").unwrap().data);
    }
    assert_eq!(heard.len(), 4, "{heard:?}");
    bank.caught_up().await.unwrap();
    bank.stop().await;
    assert_no_violation(&server);
    server.stop().await;
}

fn assert_no_violation(server: &LocalServer) {
    let log = std::fs::read_to_string(server.folder().join("log")).unwrap();
    assert!(!log.contains("Violation"), "{log}");
}

/// The client drops events when many come at once, also those about the connection itself.
#[tokio::test]
async fn a_flood_of_refusals_does_not_hide_that_the_connection_is_back() {
    let server = server(&[("noisy", r#"publish: { deny: ["noise.>"] }"#)]).await;
    let proxy = Proxy::start(server.port()).await.unwrap();
    let nats = Connect::to(proxy.url()).user("noisy", "p").connect().await.unwrap();
    let bank = start(nats.context("flood").await.unwrap()).await.unwrap();
    bank.execute(open("0")).await.unwrap();
    for round in 1..=5 {
        for _ in 0..2_000 {
            nats.client().publish("noise.1", "".into()).await.unwrap();
        }
        proxy.reset();
        let receipt = bank.execute(open(&round.to_string())).await.unwrap();
        let query = bank.query(GetStatement { account: round.to_string() }).after(&receipt);
        assert!(query.patience(Duration::from_mins(1)).await.unwrap().is_some());
    }
    bank.stop().await;
    server.stop().await;
}
