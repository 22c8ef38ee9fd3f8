//! A context whose log has slices, on a real server: the whole of a service, with the permissions that it needs and no
//! others, and the number of slices, which cannot be changed.

use std::{collections::BTreeSet, time::Duration};

use cqrs_core::{
    Cqrs, Effects, Envelope, Policy, React, Start, View as _,
    operate::ProjectorState,
    port::{EventStore as _, ProjectionId},
};
use cqrs_nats::{Topology, TopologyError, encode_token};
use cqrs_tests::{
    TestContext, backends,
    domain::{Account, AccountEvent, RichAccounts, Statement, bank, deposit, key, open, statement, withdraw},
    eventually,
};
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};

use crate::permissions::{connect, server};

/// After a withdrawal, a deposit of 100 a moment later.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Later;

impl Policy for Later {
    const NAME: &'static str = "later";
    const START: Start = Start::Beginning;
    type Of = Account;
}

impl React<AccountEvent> for Later {
    fn react(&mut self, event: &Envelope<AccountEvent>, effects: &mut Effects) {
        if let AccountEvent::Withdrawn { .. } = event.data {
            effects.at("later", event.time + Duration::from_millis(100), deposit(event.subject(), 100));
        }
    }
}

/// The subjects of a stream.
async fn subjects(client: &async_nats::Client, stream: &str) -> BTreeSet<String> {
    let stream = async_nats::jetstream::new(client.clone()).get_stream(stream).await.unwrap();
    let subjects = stream.info_with_subjects(">").await.unwrap();
    subjects.map_ok(|(subject, _)| subject).try_collect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_lives_on_slices_with_the_permissions_that_it_needs() {
    let topology = Topology::new("shop").slices(8).notices();
    let first = Statement::projection();
    let permissions = topology.permissions("_INBOX.shop").projection(&first);
    let permissions = permissions.projection(&ProjectionId { build: 2, ..first.clone() }).removal(&first);
    let permissions = permissions.projection(&ProjectionId::new(Later::NAME, 1));
    let permissions = permissions.snapshots().deadlines().notices().to_string();
    let permissions = permissions.trim_start_matches("permissions: {").trim_end_matches('}');
    let server = server(&[("shop", permissions)]).await;
    let backend = connect(&server, "shop").await.unwrap().open(topology).await.unwrap();
    let builder = Cqrs::builder(backend).aggregate::<Account>().view::<Statement>();
    let bank = builder.policy::<Later>().start().await.unwrap();

    let mut notices = bank.notices::<Account, _>().await.unwrap();
    let accounts: Vec<String> = (0..24).map(|number| format!("a.{number}")).collect();
    for account in &accounts {
        bank.execute(open(account, 10)).await.unwrap();
        for _ in 0..2 {
            let notice = tokio::time::timeout(Duration::from_secs(30), notices.next()).await;
            assert_eq!(notice.expect("a notice").unwrap().subject(), account);
        }
    }
    let receipt = bank.execute(withdraw("a.0", 5)).await.unwrap();
    let balance = async || bank.query(statement("a.0")).after(&receipt).await.unwrap().unwrap().balance;
    eventually("the deadline comes", async || balance().await == 105).await;
    bank.rebuild(Statement::NAME).await.unwrap().finished().await.unwrap();
    let old = async || !bank.remove_old_builds(Statement::NAME).await.unwrap().is_empty();
    eventually("the old build is removed", old).await;
    assert_eq!(balance().await, 105);
    assert_eq!(bank.query(RichAccounts { at_least: 0 }).await.unwrap().len(), accounts.len());
    assert!(bank.trace(receipt.correlation_id).await.unwrap().is_complete);
    assert_eq!(bank.dead_letters(Statement::NAME).await.unwrap().list().await.unwrap(), []);
    for status in bank.progress().await.unwrap() {
        assert_eq!((&status.state, status.pending), (&ProjectorState::Running, 0), "{status:?}");
    }
    bank.stop().await;

    let root = connect(&server, "root").await.unwrap();
    let mut slices = BTreeSet::new();
    let stored = subjects(root.client(), "SHOP").await;
    assert_eq!(stored.len(), accounts.len());
    for subject in stored {
        let tokens: Vec<&str> = subject.split('.').collect();
        assert_eq!(
            (tokens.len(), &tokens[..2], tokens[3]),
            (5, &["shop", "event"][..], "account"),
            "{subject}"
        );
        slices.insert(tokens[2].parse::<u16>().unwrap());
    }
    assert_eq!(slices, (0..8).collect());
    server.stop().await;
}

#[tokio::test]
async fn the_number_of_slices_cannot_be_changed() {
    let context = TestContext::new("slices").await;
    let of = |slices| Topology::new(&*context.name).slices(slices);
    let refused = async |slices| match context.nats.open(of(slices)).await {
        Err(TopologyError::Slices { stream, found, wanted }) => {
            assert_eq!((stream, &wanted), (context.stream(), &slices.to_string()));
            let text =
                TopologyError::Slices { stream: context.stream(), found: found.clone(), wanted }.to_string();
            assert!(text.contains(&format!("was created with cqrs.slices {found}")), "{text}");
            assert!(
                text.contains("cannot be changed") && text.contains(&format!("wants {slices}")),
                "{text}"
            );
            found
        }
        other => panic!("{other:?}"),
    };
    let jetstream = async_nats::jetstream::new(context.nats.client().clone());
    let config = async || jetstream.get_stream(context.stream()).await.unwrap().cached_info().config.clone();

    context.nats.open(of(1)).await.unwrap();
    assert_eq!(config().await.metadata["cqrs.slices"], "1");
    assert_eq!(refused(8).await, "1");
    // A stream that does not say it has one.
    let mut silent = config().await;
    silent.metadata.remove("cqrs.slices");
    jetstream.update_stream(silent).await.unwrap();
    assert_eq!(refused(8).await, "1");
    context.nats.open(of(1)).await.unwrap();
    context.backend().await;

    jetstream.delete_stream(context.stream()).await.unwrap();
    let bank = bank(context.nats.open(of(8)).await.unwrap()).await;
    bank.execute(open("1", 1)).await.unwrap();
    bank.stop().await;
    for other in [1, 2, 16, 1_024] {
        assert_eq!(refused(other).await, "8");
    }
    context.nats.open(of(8)).await.unwrap();
    // A key that is lost: the server still refuses what is written without a slice.
    let whole = config().await;
    let mut changed = whole.clone();
    changed.metadata.remove("cqrs.slices");
    jetstream.update_stream(changed.clone()).await.unwrap();
    assert_eq!(refused(8).await, "1");
    let error = context.nats.open(of(1)).await.unwrap_err();
    assert!(
        matches!(&error, TopologyError::Drift { .. }) && error.to_string().contains("subjects is"),
        "{error}"
    );
    for broken in ["", "08", "8 ", "eight"] {
        changed.metadata.insert("cqrs.slices".to_owned(), broken.to_owned());
        jetstream.update_stream(changed.clone()).await.unwrap();
        assert_eq!(refused(8).await, broken);
    }
    jetstream.update_stream(whole).await.unwrap();
    context.nats.open(of(8)).await.unwrap();
}

/// Otherwise an aggregate would have a second place in the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_in_a_wrong_slice_is_of_no_aggregate() {
    let (context, backend) = backends::sliced("wrong-slice").await;
    let (events, bank) = (backend.events.clone(), bank(backend).await);
    bank.execute(open("1", 1)).await.unwrap();
    let client = context.nats.client();
    let jetstream = async_nats::jetstream::new(client.clone());
    let own = subjects(client, &context.stream()).await.into_iter().next().unwrap();
    let message = jetstream.get_stream(context.stream()).await.unwrap().get_raw_message(1).await.unwrap();
    let slice: u16 = own.split('.').nth(2).unwrap().parse().unwrap();
    // The commit itself, at each other place that is alike.
    let others = (0..10).filter(|other| *other != slice).map(|other| other.to_string());
    let places: Vec<String> = others.chain([format!("0{slice}"), "account".to_owned()]).collect();
    for place in &places {
        let subject = format!("{}.event.{place}.account.{}", context.name, encode_token("1"));
        let sent = jetstream.publish_with_headers(subject, message.headers.clone(), message.payload.clone());
        sent.await.unwrap().await.unwrap();
    }
    // Without a slice it is not stored.
    let without = jetstream.publish(format!("{}.event.account.1", context.name), "no commit".into()).await;
    assert!(without.unwrap().await.is_err());

    let later = bank.execute(deposit("1", 1)).await.unwrap();
    let seen = bank.query(statement("1")).after(&later).await.unwrap().unwrap();
    assert_eq!((seen.versions, seen.balance), (vec![1, 2, 3], 2));
    assert_eq!(events.read(&key("1"), 0, 100).await.unwrap().commits.len(), 2);
    let letters = bank.dead_letters(Statement::NAME).await.unwrap().list().await.unwrap();
    assert_eq!(letters.len(), places.len());
    for (letter, sequence) in letters.iter().zip(2..) {
        assert_eq!(letter.aggregate.to_string(), format!("/at {sequence}"));
        assert!(letter.reason.contains("names no aggregate"), "{}", letter.reason);
    }
    bank.stop().await;
}

/// The public log has slices of its own.
#[tokio::test]
async fn a_public_log_can_have_slices() {
    let context = TestContext::new("public-slices").await;
    let of = |slices| Topology::new(&*context.name).public().slices(slices);
    context.nats.open_log(of(4)).await.unwrap();
    let stream = of(4).stream().to_owned();
    let jetstream = async_nats::jetstream::new(context.nats.client().clone());
    let config = jetstream.get_stream(stream).await.unwrap().cached_info().config.clone();
    assert_eq!(config.subjects, [format!("{}.public.*.*.*", context.name)]);
    assert!(matches!(context.nats.public_log(&context.name).await, Err(TopologyError::Slices { .. })));
    context.backend().await;
}

#[tokio::test]
async fn a_number_that_cannot_be_is_refused() {
    let context = TestContext::new("slice-count").await;
    let error = context.nats.open(Topology::new(&*context.name).slices(12)).await.unwrap_err();
    assert!(matches!(error, TopologyError::SliceCount { slices: 12 }), "{error:?}");
    let jetstream = async_nats::jetstream::new(context.nats.client().clone());
    assert!(jetstream.get_stream(context.stream()).await.is_err(), "nothing was created");
}
