//! Failures outside the service, on a real server: each has its own error that says what to do, and nothing is lost.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::stream::{Config, DiscardPolicy, Source};
use cqrs_core::{
    Backend as _, CommandError, CommandId, Cqrs, Error, Metadata, StoreError, View as _,
    model::{InvalidMetadata, MAX_METADATA_BYTES},
    operate::ProjectorState,
    port::{AppendError, EventStore as _, Expected, ViewStore as _},
};
use cqrs_nats::{Connect, ConnectError, Nats, Topology, TopologyError};
use cqrs_nats_server::LocalServer;
use cqrs_tests::{
    TestContext, configured_server,
    domain::{Account, Open, Statement, Touch, bank, deposit, key, open, statement},
    eventually,
    ports::Port,
    server_binary, with_causes,
};

#[tokio::test]
async fn a_server_that_is_not_there() {
    let error = Nats::connect("nats://anna:s3cret@127.0.0.1:1").await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("nats://127.0.0.1:1") && !text.contains("s3cret"), "{text}");
    let text = with_causes(&error);
    assert_eq!(text.matches("Connection refused").count(), 1, "the client says it in two errors: {text}");
}

#[tokio::test]
async fn an_address_that_is_none() {
    let error = Nats::connect("nats://[oops").await.unwrap_err();
    assert!(matches!(error, ConnectError::Address { .. }), "{error:?}");
}

#[tokio::test]
async fn credentials_that_are_not_accepted() {
    let users = "authorization { users = [ { user: anna, password: right } ] }";
    let server = configured_server(users).await;
    let error = Connect::to(server.url()).user("anna", "wrong").connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Unauthorized { .. }), "{error:?}");
    let text = with_causes(&error);
    assert_eq!(
        text.matches("nats: authorization violation").count(),
        1,
        "the client says it in three errors: {text}"
    );
    Connect::to(server.url()).user("anna", "right").connect().await.unwrap();
    let error = Connect::to(server.url()).credentials("missing.creds").connect().await.unwrap_err();
    assert_eq!(error.to_string(), "the credentials file missing.creds cannot be read");
    server.stop().await;
}

#[tokio::test]
async fn credentials_in_an_address_are_sent_and_never_shown() {
    let start =
        async |authorization: &str| configured_server(format!("authorization {{ {authorization} }}")).await;
    let server = start(r#"users = [ { user: "a@b", password: "s3,c/r@e:t%" } ]"#).await;
    let url = |identity: &str| server.url().replace("://", &format!("://{identity}@"));
    Nats::connect(&url("a%40b:s3%2Cc%2Fr%40e%3At%25")).await.unwrap();
    for wrong in ["a%40b:s3%2Cwr0ng", "s3%2Cwr0ng", "a:s3,wr0ng", "a:1,s3wr0ng", "a%40b:1/s3wr0ng"] {
        let connect = Connect::to(url(wrong));
        let shown = format!("{connect:?}");
        let error = connect.connect().await.unwrap_err();
        let said = format!("{shown} {} {error:?}", with_causes(&error));
        assert!(!said.contains("s3") && !said.contains("wr0ng"), "{wrong}: {said}");
    }
    // Explicit settings override those in the address.
    Connect::to(url("a%40b:wrong")).user("a@b", "s3,c/r@e:t%").connect().await.unwrap();
    server.stop().await;

    let server = start(r#"token: "t0/ken""#).await;
    let url = |identity: &str| server.url().replace("://", &format!("://{identity}@"));
    Nats::connect(&url("t0%2Fken")).await.unwrap();
    let error = Nats::connect(&url("other")).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unauthorized { .. }), "{error:?}");
    server.stop().await;
}

#[tokio::test]
async fn an_account_without_jetstream() {
    let accounts = "
        accounts {
            WITH { jetstream: enabled, users: [ { user: with, password: p } ] }
            WITHOUT { users: [ { user: without, password: p } ] }
        }
    ";
    let server = configured_server(accounts).await;
    let error = Connect::to(server.url()).user("without", "p").connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::NoJetStream { .. }), "{error:?}");
    Connect::to(server.url()).user("with", "p").connect().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn tls_that_the_server_does_not_speak() {
    let context = TestContext::new("tls").await;
    let url = cqrs_tests::server().await.url().to_owned();
    let error = Connect::to(url).require_tls().connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. } | ConnectError::Unreachable { .. }), "{error:?}");
    drop(context);
}

#[tokio::test]
async fn a_stream_that_would_lose_events() {
    let context = TestContext::new("drift").await;
    let jetstream = async_nats::jetstream::new(context.nats.client().clone());
    let config = Config {
        name: context.stream(),
        subjects: vec![format!("{}.event.>", context.name)],
        discard: DiscardPolicy::Old,
        max_age: Duration::from_hours(1),
        allow_direct: true,
        deny_delete: true,
        ..Config::default()
    };
    jetstream.create_stream(config).await.unwrap();
    let error = context.nats.context(&context.name).await.unwrap_err();
    let TopologyError::Drift { differences, .. } = &error else { panic!("{error:?}") };
    let settings: Vec<_> = differences.iter().map(|difference| difference.setting.as_str()).collect();
    assert_eq!(settings, ["discard", "max_age", "deny_purge"], "{error}");
    let error = context.nats.context("Not.A.Name").await.unwrap_err();
    assert!(matches!(error, TopologyError::Name { what: "context", .. }), "{error:?}");
}

#[tokio::test]
async fn a_context_that_is_there_is_opened_as_it_is() {
    let context = TestContext::new("again").await;
    bank(context.backend().await).await.execute(open("1", 1)).await.unwrap();
    let again = bank(context.backend().await).await;
    assert!(matches!(again.execute(open("1", 1)).await, Err(CommandError::AlreadyExists(_))));
    let topology = Topology::new(&*context.name).in_memory();
    let error = context.nats.open(topology).await.unwrap_err();
    assert!(error.to_string().contains(r#"storage is "file" and must be "memory""#), "{error}");
}

#[tokio::test]
async fn a_commit_that_is_too_large() {
    let context = TestContext::new("large").await;
    let bank = bank(context.backend().await).await;
    let large = Open { owner: "x".repeat(2 << 20), ..open("1", 0) };
    let error = bank.execute(large).await.unwrap_err();
    let CommandError::Failed(Error::Store(StoreError::TooLarge { bytes, limit, .. })) = error else {
        panic!("{error:?}")
    };
    assert!(bytes > limit && limit == context.nats.client().max_payload());
    bank.execute(open("1", 1)).await.unwrap();
}

/// Whether the command is alone or shares an append.
#[tokio::test]
async fn metadata_that_is_too_large() {
    let context = TestContext::new("large").await;
    let bank = bank(context.backend().await).await;
    bank.execute(open("1", 0)).await.unwrap();
    let with = |bytes| {
        let mut metadata = Metadata::default();
        // Each of these takes two bytes in JSON.
        metadata.insert("note", "\n".repeat(bytes - "note".len())).unwrap();
        bank.execute(deposit("1", 1)).metadata(metadata)
    };
    for bytes in [MAX_METADATA_BYTES + 1, 70_000] {
        let error = with(bytes).await.unwrap_err();
        let CommandError::Failed(Error::InvalidMetadata(InvalidMetadata::TooLarge { bytes: is, limit })) =
            error
        else {
            panic!("{error:?}")
        };
        assert_eq!((is, limit), (bytes, MAX_METADATA_BYTES));
    }
    assert_eq!(with(MAX_METADATA_BYTES).await.unwrap().version, 2);
}

/// The limit is the server's, with the largest headers that a message can have.
#[tokio::test]
async fn a_message_at_the_limit_is_stored() {
    let context = TestContext::new("large").await;
    let backend = context.backend().await;
    bank(backend.clone()).await.execute(open("1", 0)).await.unwrap();
    let (events, _) = backend.split();
    let first = events.last(&key("1")).await.unwrap().unwrap();
    let mut commit = first.commit;
    commit.first_version += 1;
    let mut of = async |bytes: usize| {
        let origin = Arc::make_mut(&mut commit.events[0].origin);
        origin.command_id = CommandId::derived(["another"]);
        origin.metadata.insert("note", "x".repeat(bytes)).unwrap();
        events.append(&commit, Expected::after(first.sequence)).await
    };
    let AppendError::Failed(StoreError::TooLarge { what, bytes, limit }) = of(2_000_000).await.unwrap_err()
    else {
        panic!("it was sent")
    };
    assert_eq!((what.as_str(), limit), ("the commit of account/1", context.nats.client().max_payload()));
    let fitting = 2_000_000 - (bytes - limit);
    let error = of(fitting + 1).await.unwrap_err();
    assert!(matches!(error, AppendError::Failed(StoreError::TooLarge { .. })), "{error:?}");
    of(fitting).await.unwrap();
}

#[tokio::test]
async fn a_message_that_is_no_commit_becomes_a_dead_letter_and_nothing_else() {
    let context = TestContext::new("poison").await;
    let bank = bank(context.backend().await).await;
    bank.execute(open("1", 1)).await.unwrap();
    for place in ["account.2", "account.bad=token", "account"] {
        let subject = format!("{}.event.{place}", context.name);
        context.nats.client().publish(subject, "not a commit".into()).await.unwrap();
    }
    context.nats.client().flush().await.unwrap();
    let later = bank.execute(deposit("1", 1)).await.unwrap();
    let seen = bank.query(statement("1")).after(&later).await.unwrap().unwrap();
    assert_eq!(seen.versions, [1, 2, 3], "others go on");
    let letters = bank.dead_letters("statement").await.unwrap().list().await.unwrap();
    let shown: Vec<_> =
        letters.iter().map(|letter| (letter.aggregate.to_string(), &*letter.reason)).collect();
    assert_eq!(shown[0], ("account/2".to_owned(), "attribute specversion is missing"));
    assert_eq!((shown.len(), shown[1].0.as_str()), (2, "/at 3"), "{shown:?}");
    let error = bank.execute(deposit("2", 1)).await.unwrap_err();
    assert!(matches!(error, CommandError::Failed(Error::Store(StoreError::NotACommit { .. }))), "{error:?}");
}

#[tokio::test]
async fn a_stream_that_was_made_anew() {
    let context = TestContext::new("anew").await;
    let first = bank(context.backend().await).await;
    let receipt = first.execute(open("1", 1)).await.unwrap();
    first.query(statement("1")).after(&receipt).await.unwrap();
    first.stop().await;
    let jetstream = async_nats::jetstream::new(context.nats.client().clone());
    jetstream.delete_stream(context.stream()).await.unwrap();
    let writer = Cqrs::builder(context.backend().await).aggregate::<Account>().start().await.unwrap();
    let receipt = writer.execute(open("2", 1)).await.unwrap();
    let backend = context.backend().await;
    // The store has seen this view at a checkpoint with this sequence.
    backend.views.reached(&Statement::projection(), receipt.position.sequence).await.unwrap();
    let second = bank(backend).await;
    let foreign = |reason: &str| reason.contains("was built from log");
    // The old view has a checkpoint with the same sequence, which must never count, whatever the timing.
    for _ in 0..16 {
        let error = second.query(statement("2")).after(&receipt).await.unwrap_err();
        assert!(matches!(&error, Error::ProjectionHalted { reason, .. } if foreign(reason)), "{error}");
    }
}

#[tokio::test]
async fn a_stream_that_is_deleted_under_a_worker_is_waited_for_and_not_mistaken_for_another() {
    let context = TestContext::new("under").await;
    let bank = bank(context.backend().await).await;
    let receipt = bank.execute(open("1", 1)).await.unwrap();
    let before = bank.query(statement("1")).after(&receipt).await.unwrap();
    let jetstream = async_nats::jetstream::new(context.nats.client().clone());
    jetstream.delete_stream(context.stream()).await.unwrap();
    eventually("the projector says that it waits", async || {
        matches!(&bank.projectors()[0].state, ProjectorState::Retrying { reason } if reason.contains("stream"))
    })
    .await;
    assert_eq!(bank.query(statement("1")).await.unwrap(), before, "the view stands where it was");

    // An operator creates it again, and it grows beyond the view's checkpoint.
    let other = self::bank(context.backend().await).await;
    for account in ["2", "3", "4"] {
        other.execute(open(account, 1)).await.unwrap();
    }
    for bank in [&bank, &other] {
        eventually("the log is refused", async || {
            matches!(&bank.projectors()[0].state, ProjectorState::Halted { reason } if reason.contains("was built from log"))
        })
        .await;
        assert_eq!(bank.query(statement("1")).await.unwrap(), before);
        assert_eq!(
            bank.query(statement("2")).await.unwrap(),
            None,
            "nothing of the other log is in the view"
        );
    }
}

#[tokio::test]
async fn a_consumer_that_was_deleted_is_made_again() {
    let context = TestContext::new("consumer").await;
    let bank = bank(context.backend().await).await;
    let receipt = bank.execute(open("1", 1)).await.unwrap();
    bank.query(statement("1")).after(&receipt).await.unwrap();
    let jetstream = async_nats::jetstream::new(context.nats.client().clone());
    let stream = jetstream.get_stream(context.stream()).await.unwrap();
    stream.delete_consumer("statement-v1").await.unwrap();
    let receipt = bank.execute(deposit("1", 5)).await.unwrap();
    let seen = bank.query(statement("1")).after(&receipt).patience(Duration::from_secs(30)).await.unwrap();
    assert_eq!(seen, Some(Statement { balance: 6, versions: vec![1, 2, 3] }));
}

/// A mirror may answer in the stream's name, and lag: here, it lacks the last account. A missing aggregate there is not
/// a refusal.
#[tokio::test]
async fn a_mirror_that_knows_little() {
    let context = TestContext::new("mirror").await;
    let accounts: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    let first = bank(context.backend().await).await;
    for account in &accounts {
        first.execute(open(account, 1)).await.unwrap();
    }
    let jetstream = async_nats::jetstream::new(context.nats.client().clone());
    let origin = Source { name: context.stream(), start_sequence: Some(21), ..Source::default() };
    let mirror = Config {
        name: format!("{}_MIRROR", context.stream()),
        mirror: Some(origin),
        allow_direct: true,
        mirror_direct: true,
        ..Config::default()
    };
    jetstream.create_stream(mirror).await.unwrap();
    first.execute(open("last", 1)).await.unwrap();
    let stream = jetstream.get_stream_no_info(context.stream()).await.unwrap();
    eventually("the mirror answers in the stream's name", async || stream.direct_get(1).await.is_err()).await;

    let cold = bank(context.backend().await).await;
    for account in &accounts {
        let touched = cold.execute(Touch { account: account.clone() }).await.unwrap();
        assert_eq!((touched.version, touched.events), (2, 0), "of {account}");
    }
}

#[tokio::test]
async fn a_server_that_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let port = Port::reserve();
    let builder = |binary| LocalServer::builder(binary).data(folder.path()).port(port.number());
    let server = builder(server_binary().await).start().await.unwrap();
    let url = server.url().to_owned();
    let bank = bank(Nats::connect(&url).await.unwrap().context("restart").await.unwrap()).await;
    bank.execute(open("1", 1)).await.unwrap();
    server.kill().await;
    let waiting = tokio::spawn({
        let bank = bank.clone();
        async move { bank.execute(deposit("1", 5)).await }
    });
    let server = builder(server_binary().await).start().await.unwrap();
    let receipt = waiting.await.unwrap().unwrap();
    assert_eq!(receipt.version, 3);
    let seen = bank.query(statement("1")).after(&receipt).patience(Duration::from_secs(30)).await.unwrap();
    assert_eq!(seen, Some(Statement { balance: 6, versions: vec![1, 2, 3] }));
    bank.stop().await;
    server.stop().await;
}
