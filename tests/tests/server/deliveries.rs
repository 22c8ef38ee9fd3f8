//! Deliveries to another client: a subscription never continues behind a delivery that it did not get.

use std::time::Duration;

use async_nats::{Client, HeaderMap, Subscriber, jetstream};
use cqrs_core::{
    Cqrs, StoreError,
    port::{Delivery, EventStore, Subscribe, Subscription},
};
use cqrs_nats::{Nats, NatsEvents};
use cqrs_tests::{
    TestContext,
    domain::{Account, Open, Statement, deposit, open, statement},
    eventually, server,
    stopped::Process,
};
use futures_util::StreamExt as _;

/// Requests messages of the consumer under the pin of the active reader, so that both get some.
async fn steal(client: &Client, stream: &str, consumer: &str) -> Subscriber {
    let found = jetstream::new(client.clone()).get_stream(stream).await.unwrap();
    let info = found.consumer_info(consumer).await.unwrap();
    let pin = info.priority_groups.first().and_then(|group| group.pinned_client_id.clone()).unwrap();
    let group = &info.config.priority_groups[0];
    let inbox = client.new_inbox();
    let stolen = client.subscribe(inbox.clone()).await.unwrap();
    let request = serde_json::json!({ "batch": 3, "group": group, "id": pin, "expires": 30_000_000_000_u64 });
    let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}");
    client.publish_with_reply(subject, inbox, request.to_string().into()).await.unwrap();
    client.flush().await.unwrap();
    stolen
}

fn is_message(headers: Option<&HeaderMap>) -> bool {
    headers.is_some_and(|headers| headers.get("content-type").is_some())
}

#[tokio::test]
async fn a_subscription_ends_at_a_delivery_that_it_did_not_get() {
    let context = TestContext::new("stolen").await;
    let backend = context.backend().await;
    let events = backend.events.clone();
    let bank = Cqrs::builder(backend).aggregate::<Account>().start().await.unwrap();
    bank.execute(open("1", 0)).await.unwrap();
    let request = |after| Subscribe { subscriber: "reader", aggregates: &["account"], after };
    let mut subscription = events.subscribe(request(0)).await.unwrap();
    assert_eq!(subscription.next(10).await.unwrap().len(), 1);

    let mut stolen = steal(context.nats.client(), &context.stream(), "reader").await;
    for _ in 0..20 {
        bank.execute(deposit("1", 1)).await.unwrap();
    }
    let theirs = stolen.next().await.unwrap();
    assert!(is_message(theirs.headers.as_ref()), "{theirs:?}");
    let mut seen = 1;
    let error = loop {
        match subscription.next(10).await {
            Ok(commits) => {
                for commit in commits.into_iter().map(Result::unwrap) {
                    assert_eq!(commit.sequence, seen + 1, "without a gap");
                    seen = commit.sequence;
                }
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Interrupted { .. }), "{error:?}");
    assert!(seen < 21, "the stolen one was among them");
    drop(subscription);
    let mut again = events.subscribe(request(seen)).await.unwrap();
    while seen < 21 {
        for commit in again.next(10).await.unwrap().into_iter().map(Result::unwrap) {
            assert_eq!(commit.sequence, seen + 1);
            seen = commit.sequence;
        }
    }
}

#[tokio::test]
async fn a_view_is_right_although_deliveries_were_stolen() {
    let context = TestContext::new("theft").await;
    let builder = Cqrs::builder(context.backend().await).aggregate::<Account>().view::<Statement>();
    let bank = builder.start().await.unwrap();
    let statement = || statement("1");
    bank.execute(open("1", 0)).await.unwrap();
    for _ in 0..3 {
        // The reader has a pin as soon as a message was delivered.
        let mut receipt = bank.execute(deposit("1", 1)).await.unwrap();
        bank.query(statement()).after(&receipt).await.unwrap();
        let mut stolen = steal(context.nats.client(), &context.stream(), "statement-v1").await;
        for _ in 0..20 {
            receipt = bank.execute(deposit("1", 1)).await.unwrap();
        }
        assert!(is_message(stolen.next().await.unwrap().headers.as_ref()));
        let seen = bank.query(statement()).after(&receipt).patience(Duration::from_mins(1)).await.unwrap();
        assert_eq!(seen.unwrap().versions, (1..=receipt.version).collect::<Vec<_>>());
    }
    bank.stop().await;
}

/// Another client takes deliveries, and refuses all of them at once, in random order: messages are redelivered again
/// and again, behind later ones.
#[tokio::test]
async fn a_view_is_right_in_a_storm_of_refused_deliveries() {
    let context = TestContext::new("naks").await;
    let builder = Cqrs::builder(context.backend().await).aggregate::<Account>().view::<Statement>();
    let bank = builder.start().await.unwrap();
    bank.execute(open("1", 0)).await.unwrap();
    let mut refused = 0;
    for _ in 0..3 {
        let mut receipt = bank.execute(deposit("1", 1)).await.unwrap();
        bank.seen("statement", &receipt).await.unwrap();
        let mut stolen = steal(context.nats.client(), &context.stream(), "statement-v1").await;
        for _ in 0..20 {
            receipt = bank.execute(deposit("1", 1)).await.unwrap();
        }
        // The consumer acknowledges all messages up to one, so a refused message is redelivered behind later ones.
        let mut taken = vec![stolen.next().await.unwrap()];
        while let Ok(Some(more)) = tokio::time::timeout(Duration::from_millis(50), stolen.next()).await {
            taken.push(more);
        }
        taken.retain(|message| is_message(message.headers.as_ref()));
        for message in taken.iter().rev().cycle().take(50) {
            let reply = message.reply.clone().unwrap();
            context.nats.client().publish(reply, "-NAK".into()).await.unwrap();
            refused += 1;
        }
        let statement = bank.query(statement("1")).after(&receipt);
        let seen = statement.patience(Duration::from_mins(1)).await.unwrap();
        assert_eq!(seen.unwrap().versions, (1..=receipt.version).collect::<Vec<_>>());
    }
    assert!(refused > 50, "{refused}");
    bank.stop().await;
}

/// An instance of its own: another connection, with its own memory of pins.
async fn instance(context: &TestContext) -> NatsEvents {
    let nats = Nats::connect(server().await.url()).await.unwrap();
    nats.context(&context.name).await.unwrap().events
}

fn reader(after: u64) -> Subscribe<'static> {
    Subscribe { subscriber: "reader", aggregates: &["account"], after }
}

fn sequences(deliveries: Vec<Delivery>) -> Vec<u64> {
    deliveries.into_iter().map(|delivery| delivery.unwrap().sequence).collect()
}

/// The consumer's numbers begin again when another subscriber creates it again, so they cannot show the first
/// subscriber that it has missed a delivery.
#[tokio::test]
async fn a_subscription_ends_with_its_consumer() {
    let context = TestContext::new("zombie").await;
    let bank = Cqrs::builder(context.backend().await).aggregate::<Account>().start().await.unwrap();
    let (process, second) = (Process::new(), instance(&context).await);
    bank.execute(open("1", 0)).await.unwrap();
    let (name, url) = (context.name.clone(), context.url().to_owned());
    let begun = process.spawn(async move {
        let first = Nats::connect(&url).await.unwrap().context(&name).await.unwrap().events;
        let mut zombie = first.subscribe(reader(0)).await.unwrap();
        assert_eq!(sequences(zombie.next(10).await.unwrap()), [1]);
        zombie.done(1).await.unwrap();
        (first, zombie)
    });
    let (first, mut zombie) = begun.await.unwrap();

    // It is stopped for longer than `priority_timeout`, and another becomes active.
    let found = jetstream::new(context.nats.client().clone()).get_stream(context.stream()).await.unwrap();
    eventually("it is acknowledged", async || {
        found.consumer_info("reader").await.unwrap().num_ack_pending == 0
    })
    .await;
    let go_on = process.stop();
    eventually("its turn has ended", async || {
        let info = found.consumer_info("reader").await.unwrap();
        info.priority_groups.iter().all(|group| group.pinned_client_id.as_deref().unwrap_or("").is_empty())
    })
    .await;
    found.delete_consumer("reader").await.unwrap();
    let mut other = second.subscribe(reader(1)).await.unwrap();
    bank.execute(deposit("1", 1)).await.unwrap();
    assert_eq!(sequences(other.next(10).await.unwrap()), [2]);
    // It dies before it has saved that.
    drop(other);
    bank.execute(deposit("1", 1)).await.unwrap();
    drop(go_on);
    let error = zombie.next(10).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    drop(zombie);
    // When the dead subscriber's pin has ended, this one starts from the checkpoint.
    let resumed = process.spawn(async move {
        loop {
            match first.subscribe(reader(1)).await.unwrap().next(1).await {
                Ok(deliveries) => break deliveries,
                Err(error) => assert!(error.is_transient(), "{error:?}"),
            }
        }
    });
    assert_eq!(sequences(resumed.await.unwrap()), [2]);
    drop(process);
}

/// How many messages the reader's consumer has sent.
async fn sent(context: &TestContext) -> u64 {
    let found = jetstream::new(context.nats.client().clone()).get_stream(context.stream()).await.unwrap();
    found.consumer_info("reader").await.unwrap().delivered.consumer_sequence
}

/// While the projector is busy, the next messages are read, and then returned in order; messages that were not returned
/// when the subscription ends are delivered to the next one.
#[tokio::test]
async fn what_was_read_ahead_is_lost_to_nobody() {
    let context = TestContext::new("ahead").await;
    let backend = context.backend().await;
    let events = backend.events.clone();
    let bank = Cqrs::builder(backend).aggregate::<Account>().start().await.unwrap();
    bank.execute(open("1", 0)).await.unwrap();
    let mut subscription = events.subscribe(reader(0)).await.unwrap();
    assert_eq!(sequences(subscription.next(1).await.unwrap()), [1]);
    for _ in 0..9 {
        bank.execute(deposit("1", 1)).await.unwrap();
    }
    eventually("it was read ahead", async || sent(&context).await == 10).await;
    assert_eq!(sequences(subscription.next(1).await.unwrap()), [2]);
    assert_eq!(sequences(subscription.next(3).await.unwrap()), [3, 4, 5]);
    assert_eq!(subscription.pending(), 5);
    subscription.done(5).await.unwrap();
    drop(subscription);

    let mut again = events.subscribe(reader(5)).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.extend(sequences(again.next(10).await.unwrap()));
    }
    assert_eq!(seen, [6, 7, 8, 9, 10]);
}

/// A slow view does not fill the memory: what is read ahead is bounded in bytes, too.
#[tokio::test]
async fn few_large_messages_are_read_ahead() {
    const COUNT: u64 = 40;
    let context = TestContext::new("large").await;
    let backend = context.backend().await;
    let events = backend.events.clone();
    let bank = Cqrs::builder(backend).aggregate::<Account>().start().await.unwrap();
    for account in 0..COUNT {
        let (account, owner) = (account.to_string(), "x".repeat(950_000));
        bank.execute(Open { account, owner, amount: 0 }).await.unwrap();
    }
    let mut subscription = events.subscribe(reader(0)).await.unwrap();
    let mut taken = 0;
    while taken < COUNT {
        // 8 MiB and the next message are held, and up to 6 MiB are in flight from the server.
        let expected = (taken + 8).min(COUNT);
        eventually("enough is read ahead", async || sent(&context).await >= expected).await;
        let ahead = sent(&context).await - taken;
        assert!(ahead <= 17, "{ahead} messages were read ahead");
        let deliveries = sequences(subscription.next(1).await.unwrap());
        taken += 1;
        assert_eq!(deliveries, [taken]);
    }
}

/// The last delivery went to another client, and no later delivery shows it.
#[tokio::test]
async fn a_subscription_ends_without_the_last_delivery_although_nothing_happens() {
    let context = TestContext::new("last").await;
    let backend = context.backend().await;
    let events = backend.events.clone();
    let bank = Cqrs::builder(backend).aggregate::<Account>().start().await.unwrap();
    bank.execute(open("1", 0)).await.unwrap();
    let mut subscription = events.subscribe(reader(0)).await.unwrap();
    assert_eq!(sequences(subscription.next(10).await.unwrap()), [1]);
    let mut stolen = steal(context.nats.client(), &context.stream(), "reader").await;
    loop {
        bank.execute(deposit("1", 1)).await.unwrap();
        tokio::select! {
            theirs = stolen.next() => break assert!(is_message(theirs.unwrap().headers.as_ref())),
            ours = subscription.next(1) => drop(ours.unwrap()),
        }
    }
    // Far sooner than the server would redeliver it.
    let noticed = tokio::time::timeout(Duration::from_secs(30), subscription.next(10)).await;
    let error = noticed.expect("it is noticed").unwrap_err();
    assert!(matches!(error, StoreError::Interrupted { .. }), "{error:?}");
}

/// A server that was killed may have forgotten how far it had delivered: events that are in the view are not delivered.
#[tokio::test]
async fn a_consumer_that_is_behind_the_checkpoint_is_made_anew() {
    let context = TestContext::new("behind").await;
    let bank = Cqrs::builder(context.backend().await).aggregate::<Account>().start().await.unwrap();
    bank.execute(open("1", 0)).await.unwrap();
    let (first, second) = (instance(&context).await, instance(&context).await);
    let mut behind = first.subscribe(reader(0)).await.unwrap();
    assert_eq!(sequences(behind.next(1).await.unwrap()), [1]);
    behind.done(1).await.unwrap();
    let found = jetstream::new(context.nats.client().clone()).get_stream(context.stream()).await.unwrap();
    eventually("it is acknowledged", async || {
        found.consumer_info("reader").await.unwrap().num_ack_pending == 0
    })
    .await;
    behind.leave().await;
    for _ in 0..4 {
        bank.execute(deposit("1", 1)).await.unwrap();
    }
    let mut next = second.subscribe(reader(3)).await.unwrap();
    assert_eq!(sequences(next.next(1).await.unwrap()), [4]);
}

/// A message that was delivered to a worker that died is delivered to the next one, also if nothing new happens.
#[tokio::test]
async fn a_worker_that_died_is_followed_although_nothing_happens() {
    let context = TestContext::new("died").await;
    let bank = Cqrs::builder(context.backend().await).aggregate::<Account>().start().await.unwrap();
    let (first, second) = (instance(&context).await, instance(&context).await);
    bank.execute(open("1", 0)).await.unwrap();
    let mut dies = first.subscribe(reader(0)).await.unwrap();
    assert_eq!(sequences(dies.next(10).await.unwrap()), [1]);
    let mut next = second.subscribe(reader(0)).await.unwrap();
    drop(dies);
    let error = next.next(10).await.unwrap_err();
    assert!(matches!(error, StoreError::Interrupted { .. }), "{error:?}");
    drop(next);
    let mut next = second.subscribe(reader(0)).await.unwrap();
    assert_eq!(sequences(next.next(10).await.unwrap()), [1]);
}
