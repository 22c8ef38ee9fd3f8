//! Resources that the server side can run out of or lose while a service runs. Each has its own error that says what to
//! do, on a real server of the test's own; and the service continues when the cause is gone.

use std::time::Duration;

use async_nats::jetstream::{self, stream::Config};
use cqrs_core::{
    CommandError, Cqrs, Error, Receipt, StoreError, View as _, operate::ProjectorState, port::ViewStore as _,
};
use cqrs_nats::{Connect, ConnectError, Nats, NatsBackend, Topology, TopologyError};
use cqrs_nats_server::LocalServer;
use cqrs_tests::{
    cluster::Cluster,
    configured_server,
    domain::{Account, AccountRejection, Bank, Open, RichAccounts, Statement, deposit, statement},
    eventually, old_server_binary,
    ports::Port,
    server_binary, with_causes,
};
use futures_util::StreamExt as _;

type Outcome = Result<Receipt, CommandError<AccountRejection>>;

async fn bank(backend: NatsBackend) -> Bank {
    let builder = Cqrs::builder(backend).append_patience(Duration::from_secs(1));
    builder.aggregate::<Account>().view::<Statement>().start().await.unwrap()
}

fn open(account: impl Into<String>) -> Open {
    Open { account: account.into(), owner: "x".repeat(1_000), amount: 1 }
}

/// The error of the store, for a command that certainly had no effect.
fn refusal(outcome: Outcome) -> StoreError {
    match outcome {
        Err(CommandError::Failed(Error::Store(error))) => error,
        other => panic!("{other:?}"),
    }
}

/// Opens accounts until the store refuses one: their number, and the error.
async fn fill(bank: &Bank) -> (u64, StoreError) {
    for number in 0..10_000 {
        match bank.execute(open(number.to_string())).await {
            Ok(_) => {}
            refused => return (number, refusal(refused)),
        }
    }
    panic!("the store is never full");
}

fn shows(error: &dyn std::error::Error, parts: &[&str]) {
    let text = with_causes(error);
    assert!(parts.iter().all(|part| text.contains(part)), "{text}");
}

/// Changes the limits of a stream.
async fn limit(nats: &Nats, stream: &str, change: impl Fn(&mut Config)) {
    let jetstream = jetstream::new(nats.client().clone());
    let mut config = jetstream.get_stream(stream).await.unwrap().cached_info().config.clone();
    change(&mut config);
    jetstream.update_stream(config).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_too_old() {
    for version in ["2.10.26", "2.11.11", "2.12.1"] {
        let server = LocalServer::builder(old_server_binary(version).await).start().await.unwrap();
        let error = Nats::connect(server.url()).await.unwrap_err();
        assert!(matches!(error, ConnectError::TooOld { .. }), "{error:?}");
        shows(&error, &[&format!("has version {version}"), "at least 2.12.2", "upgrade"]);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_stream_at_its_limits_stores_nothing_and_goes_on_when_they_are_raised() {
    let server = configured_server("").await;
    let nats = Nats::connect(server.url()).await.unwrap();
    for (context, messages, bytes) in [("messages", 5, -1), ("bytes", -1, 20_000)] {
        let bank = bank(nats.context(context).await.unwrap()).await;
        limit(&nats, &context.to_uppercase(), |config| {
            (config.max_messages, config.max_bytes) = (messages, bytes);
        })
        .await;
        let (stored, error) = fill(&bank).await;
        assert!(stored > 1 && matches!(error, StoreError::Full { .. }), "{error:?}");
        shows(&error, &["the store has no room", "raise the stream's max_bytes or max_msgs", context]);
        let next = stored.to_string();
        let nothing = bank.execute(deposit(&next, 1)).await;
        assert!(matches!(nothing, Err(CommandError::NotFound(_))), "nothing of it is stored: {nothing:?}");
        limit(&nats, &context.to_uppercase(), |config| {
            (config.max_messages, config.max_bytes) = (-1, -1);
        })
        .await;
        bank.execute(open(&next)).await.unwrap();
        bank.stop().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn an_account_that_has_used_up_what_it_may() {
    let server = configured_server(
        "accounts {
            SMALL { jetstream { max_file: 100KB }, users: [ { user: small, password: p } ] }
            FEW { jetstream { max_streams: 2 }, users: [ { user: few, password: p } ] }
        }",
    )
    .await;
    let connect = async |user| Connect::to(server.url()).user(user, "p").connect().await.unwrap();

    let bank = bank(connect("small").await.context("small").await.unwrap()).await;
    let (stored, error) = fill(&bank).await;
    assert!(stored > 1 && matches!(error, StoreError::Full { .. }), "{error:?}");
    shows(&error, &["the store has no room", "raise the account's max_file or max_mem"]);
    // Commands that store nothing are carried out.
    let again = bank.execute(open("0")).await;
    assert!(matches!(again, Err(CommandError::AlreadyExists(_))), "{again:?}");
    bank.stop().await;

    let nats = connect("few").await;
    let _one = nats.context("one").await.unwrap();
    let two = nats.context("two").await.unwrap();
    let error = nats.context("three").await.unwrap_err();
    assert!(matches!(error, TopologyError::Full { .. }), "{error:?}");
    shows(&error, &["no room for stream THREE", "raise the account's max_streams"]);
    let bank = Cqrs::builder(two).aggregate::<Account>().view::<Statement>().start().await;
    let error = bank.err().unwrap();
    assert!(matches!(error, Error::Store(StoreError::Full { .. })), "{error:?}");
    shows(&error, &["bucket two__views", "raise the account's max_streams"]);
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_may_use_no_more_of_its_disk() {
    let server = configured_server("jetstream { max_file_store: 200KB }").await;
    let bank = bank(Nats::connect(server.url()).await.unwrap().context("server").await.unwrap()).await;
    let (stored, error) = fill(&bank).await;
    assert!(stored > 1 && matches!(error, StoreError::Full { .. }), "{error:?}");
    shows(&error, &["the store has no room", "raise max_file_store or max_memory_store of the server"]);
    bank.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_view_without_room_waits_until_there_is_some() {
    let server = configured_server("").await;
    let nats = Nats::connect(server.url()).await.unwrap();
    let bank = bank(nats.context("views").await.unwrap()).await;
    let bucket = "KV_views__statement-v1";
    limit(&nats, bucket, |config| config.max_bytes = 2_000).await;
    let mut last = None;
    for number in 0..20 {
        last = Some(bank.execute(open(number.to_string())).await.unwrap());
    }
    let waits = |reason: &str| {
        ["the store has no room: writing bucket views__statement-v1", "max_bytes"]
            .iter()
            .all(|part| reason.contains(part))
    };
    eventually(
        "the projector says why it waits",
        async || matches!(&bank.projectors()[0].state, ProjectorState::Retrying { reason } if waits(reason)),
    )
    .await;
    limit(&nats, bucket, |config| config.max_bytes = -1).await;
    let rich = bank.query(RichAccounts { at_least: 1 }).after(&last.unwrap());
    assert_eq!(rich.patience(Duration::from_mins(1)).await.unwrap().len(), 20);
    bank.stop().await;
    server.stop().await;
}

/// A script that runs the server, and lets no file of it grow beyond a quarter of a megabyte.
#[cfg(unix)]
fn small_disk(folder: &std::path::Path, binary: &std::path::Path) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt as _;

    let script = folder.join("nats-server-on-a-small-disk");
    // The unit is 512 bytes or 1,024, by the shell.
    let text = format!("#!/bin/sh\nulimit -f 256 && exec '{}' \"$@\"\n", binary.display());
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script
}

/// For the server a limit on the size of its files is like a full disk: writing fails. It then answers no publish to
/// the stream any more, and all other requests as usual.
#[cfg(unix)]
#[tokio::test]
async fn a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (binary, data) = (server_binary().await, folder.path().join("data"));
    let port = Port::reserve();
    let build = |binary| LocalServer::builder(binary).data(&data).port(port.number());
    let small = build(small_disk(folder.path(), &binary)).start().await.unwrap();
    let url = small.url().to_owned();
    let bank = bank(Nats::connect(&url).await.unwrap().context("disk").await.unwrap()).await;
    let mut stored = 0;
    let error = loop {
        match bank.execute(open(stored.to_string())).await {
            Ok(_) => stored += 1,
            Err(CommandError::Failed(error)) => break error,
            Err(error) => panic!("{error:?}"),
        }
    };
    let Error::Unknown { source, .. } = &error else { panic!("{error:?}") };
    assert!(stored > 1 && matches!(**source, StoreError::Stalled { .. }), "{error:?}");
    shows(&error, &["send it again", "stream DISK answers, and stores nothing", "/healthz", "restart it"]);
    let again = bank.execute(open("0")).await;
    assert!(matches!(again, Err(CommandError::AlreadyExists(_))), "what is stored can be read: {again:?}");

    small.kill().await;
    let large = build(binary).start().await.unwrap();
    eventually("the command succeeds, once", async || {
        let outcome = bank.execute(open(stored.to_string())).await;
        outcome.is_ok_and(|receipt| receipt.version == 2)
    })
    .await;
    let receipt = bank.execute(deposit(stored.to_string(), 1)).await.unwrap();
    let seen = bank.query(statement(stored.to_string())).after(&receipt).patience(Duration::from_mins(1));
    assert_eq!(seen.await.unwrap(), Some(Statement { balance: 2, versions: vec![1, 2, 3] }));
    bank.stop().await;
    large.stop().await;
}

async fn delete(nats: &Nats, stream: &str) {
    jetstream::new(nats.client().clone()).delete_stream(stream).await.unwrap();
}

#[tokio::test]
async fn a_stream_that_is_deleted_under_a_running_service() {
    let server = configured_server("").await;
    let nats = Nats::connect(server.url()).await.unwrap();
    let bank = bank(nats.context("gone").await.unwrap()).await;
    let receipt = bank.execute(open("1")).await.unwrap();
    bank.query(statement("1")).after(&receipt).await.unwrap();
    delete(&nats, "GONE").await;
    // The first knows its state and appends, the second has to read first.
    for account in ["1", "2"] {
        let error = refusal(bank.execute(deposit(account, 1)).await);
        assert!(matches!(error, StoreError::Missing { .. }), "{error:?}");
        shows(&error, &["there is no stream GONE", "was it deleted?", "start the service again"]);
    }
    eventually("the projector says what is missing", async || {
        matches!(&bank.projectors()[0].state,
            ProjectorState::Retrying { reason } if reason.contains("the store is not there") && reason.contains("GONE"))
    })
    .await;
    // It exists again, and is empty: the state of the old one is not valid any more.
    nats.context("gone").await.unwrap();
    bank.execute(open("2")).await.unwrap();
    delete(&nats, "KV_gone__statement-v1").await;
    let error = bank.query(statement("1")).await.unwrap_err();
    assert!(matches!(error, Error::Store(StoreError::Missing { .. })), "{error:?}");
    shows(&error, &["KV_gone__statement-v1", "was it deleted?"]);
    bank.stop().await;
    server.stop().await;
}

/// One server of three has no quorum.
#[tokio::test]
async fn a_cluster_without_a_majority() {
    let mut cluster = Cluster::start(3).await;
    let nats = Nats::connect(&cluster.url()).await.unwrap();
    let backend = nats.open(Topology::new("lone").replicas(3)).await.unwrap();
    let bank = bank(backend).await;
    bank.execute(open("1")).await.unwrap();
    for node in [0, 1] {
        cluster.kill(node).await;
    }
    let mut source = None;
    eventually("the cluster knows that it has no leader", async || {
        let Err(CommandError::Failed(error)) = bank.execute(deposit("1", 1)).await else { return false };
        let found = match error {
            Error::Store(found) => found,
            Error::Unknown { source, .. } => *source,
            other => panic!("{other:?}"),
        };
        let known = matches!(found, StoreError::NoLeader { .. });
        source = Some(found);
        known
    })
    .await;
    shows(&source.unwrap(), &["the store has no leader", "more than half of the cluster's servers must run"]);
    for node in [0, 1] {
        cluster.restart(node).await;
    }
    eventually("the stream has a leader", async || cluster.is_healthy("LONE").await).await;
    eventually("the service goes on", async || bank.execute(deposit("1", 1)).await.is_ok()).await;
    bank.stop().await;
}

/// A replica may lag, so it cannot answer: the leader is asked, and without a leader there is no answer.
#[tokio::test]
async fn what_a_replica_has_without_its_leader_is_no_answer() {
    let mut cluster = Cluster::start(3).await;
    let url = format!("nats://127.0.0.1:{}", cluster.ports()[2]);
    let nats = Nats::connect(&url).await.unwrap();
    let backend = nats.open(Topology::new("alone").replicas(3)).await.unwrap();
    let views = backend.views.clone();
    let bank = bank(backend).await;
    let receipt = bank.execute(open("1")).await.unwrap();
    bank.query(statement("1")).after(&receipt).await.unwrap();
    let (view, sequence) = (Statement::projection(), receipt.position.sequence);
    views.reached(&view, sequence).await.unwrap();
    bank.stop().await;

    // Other users of the account receive requests about the bucket.
    let other = Nats::connect(&url).await.unwrap();
    let mut asked = other.client().subscribe("$JS.API.*.GET.KV_alone__statement-v1").await.unwrap();
    let mut leader = other.client().subscribe("$JS.API.STREAM.MSG.GET.KV_alone__statement-v1").await.unwrap();
    other.client().request("$JS.API.INFO", "".into()).await.unwrap();
    assert!(views.get(&view, "1").await.unwrap().is_some());
    let first = async {
        tokio::select! { one = asked.next() => one, other = leader.next() => other }
    };
    let first = tokio::time::timeout(Duration::from_secs(30), first).await.unwrap().unwrap();
    assert!(first.subject.starts_with("$JS.API.STREAM.MSG.GET."), "{}", first.subject);

    for node in [0, 1] {
        cluster.kill(node).await;
    }
    // The last server may have been the leader, and then takes a while to notice that it is not any more.
    eventually("nothing is answered without a leader", async || {
        views.get(&view, "1").await.is_err() && views.reached(&view, sequence).await.is_err()
    })
    .await;
}

/// The folder in which the server keeps the consumers of a stream.
fn consumers_of(folder: &std::path::Path, stream: &str) -> Option<std::path::PathBuf> {
    let mut folders = std::fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    folders.find_map(|path| {
        if path.ends_with(format!("{stream}/obs")) { Some(path) } else { consumers_of(&path, stream) }
    })
}

/// The server refuses the consumer for a reason that passes.
#[tokio::test]
async fn a_consumer_that_the_server_cannot_make_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = LocalServer::builder(server_binary().await).data(folder.path()).start().await.unwrap();
    let nats = Nats::connect(server.url()).await.unwrap();
    let backend = nats.context("race").await.unwrap();
    let consumers = consumers_of(folder.path(), "RACE").expect("a folder");
    std::fs::remove_dir_all(&consumers).unwrap();
    std::fs::write(&consumers, "not a folder").unwrap();
    let bank = bank(backend).await;
    let receipt = bank.execute(open("1")).await.unwrap();
    let mut state = ProjectorState::Starting;
    eventually("the projector says what the server says", async || {
        state = bank.projectors()[0].state.clone();
        matches!(state, ProjectorState::Retrying { .. } | ProjectorState::Halted { .. })
    })
    .await;
    let ProjectorState::Retrying { reason } = &state else { panic!("{state:?}") };
    assert!(reason.contains("preparing consumer statement-v1"), "{reason}");
    std::fs::remove_file(&consumers).unwrap();
    std::fs::create_dir(&consumers).unwrap();
    let seen = bank.query(statement("1")).after(&receipt).patience(Duration::from_mins(1));
    assert_eq!(seen.await.unwrap().unwrap().versions, [1, 2]);
    bank.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn jetstream_that_is_switched_off_under_a_running_service() {
    let accounts = |jetstream: &str| {
        format!(
            "accounts {{
                A {{ {jetstream} users: [ {{ user: a, password: p }} ] }}
                B {{ jetstream: enabled, users: [ {{ user: b, password: p }} ] }}
            }}"
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let port = Port::reserve();
    let start = async |config: String| {
        let builder = LocalServer::builder(server_binary().await).data(folder.path()).port(port.number());
        builder.config(config).start().await.unwrap()
    };
    let on = start(accounts("jetstream: enabled,")).await;
    let nats = Connect::to(on.url()).user("a", "p").connect().await.unwrap();
    let bank = bank(nats.context("off").await.unwrap()).await;
    bank.execute(open("1")).await.unwrap();
    on.kill().await;
    let off = start(accounts("")).await;
    for account in ["1", "2"] {
        // The first attempts may still have reached the old server.
        let mut error = None;
        eventually("the service has the new server", async || {
            match bank.execute(deposit(account, 1)).await {
                Err(CommandError::Failed(Error::Store(found))) => {
                    let disabled = matches!(found, StoreError::Disabled { .. });
                    error = Some(found);
                    disabled
                }
                other => panic!("{other:?}"),
            }
        })
        .await;
        shows(&error.unwrap(), &["the store is switched off", "enable JetStream for the account"]);
    }
    off.kill().await;
    let on = start(accounts("jetstream: enabled,")).await;
    eventually("the service goes on", async || bank.execute(deposit("1", 1)).await.is_ok()).await;
    bank.stop().await;
    on.stop().await;
}
