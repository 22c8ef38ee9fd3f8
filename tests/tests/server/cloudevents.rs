//! Stored messages are CloudEvents by the official SDK, and messages that the SDK writes can be read.

use cloudevents::{Event, EventBuilder as _, EventBuilderV10};
use cqrs_core::{Cqrs, Metadata, log::StoredCommit, port::EventStore as _};
use cqrs_nats::encode_token;
use cqrs_tests::{
    TestContext,
    domain::{Account, Open, deposit, key, withdraw},
    oracle::{self, Written},
};
use uuid::Uuid;

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The ids of accounts: usual ones, and ones with unusual characters.
const IDS: [&str; 6] = ["1", "", "日本 \"é\" 100 %", "a.b*>", "a\r\nce-id: b", "\u{1f600}"];

#[tokio::test]
async fn every_message_is_what_the_sdk_sees_in_it() {
    let context = TestContext::new("cloudevents").await;
    let backend = context.backend().await;
    let bank = Cqrs::builder(backend.clone()).aggregate::<Account>().start().await.unwrap();
    let mut metadata = Metadata::default();
    metadata.insert("user", "Zoë \"100 %\"\r\nce-id: none").unwrap();
    metadata.insert("empty", "").unwrap();
    metadata.insert("traceparent", TRACEPARENT).unwrap();
    for id in IDS {
        let open = |amount| Open { account: id.into(), owner: "日本 \u{1f600}\n".into(), amount };
        // One event for one account, two for the next.
        let amount = if id.len().is_multiple_of(2) { 0 } else { 9_007_199_254_740_993 };
        bank.execute(open(amount)).metadata(metadata.clone()).await.unwrap();
        let deposits = (1..=3).map(|amount| {
            let deposit = deposit(id, amount);
            bank.execute(deposit).caused_by(cqrs_core::CommandId(Uuid::nil())).into_future()
        });
        // Together they share a commit.
        for deposited in futures_util::future::join_all(deposits).await {
            deposited.unwrap();
        }
        bank.execute(withdraw(id, 1)).await.unwrap();
    }
    let commits = oracle::judge_all(&context, &["account"]).await;
    assert!(commits.iter().any(|stored| stored.commit.events.len() > 1), "there are batches");
    assert!(commits.iter().any(|stored| stored.commit.events.len() == 1), "there are single events");
    let is_caused = |stored: &StoredCommit| stored.commit.events[0].origin.causation_id.is_some();
    assert!(commits.iter().any(is_caused), "some have a cause");
    let events: usize = commits.iter().map(|stored| stored.commit.events.len()).sum();
    assert!(events >= IDS.len() * 5, "{events}");
}

/// An event of an account as the SDK builds it, with numbers as numbers where it has them.
fn event(account: &str, version: i64, event_type: &str, data: Option<serde_json::Value>) -> Event {
    let event = EventBuilderV10::new()
        .id(Uuid::new_v4().to_string())
        .source("/elsewhere")
        .ty(event_type)
        .time("2026-01-02T03:04:05.678+01:00")
        .subject(format!("account/{account}"))
        .extension("aggregateversion", version)
        .extension("schemaversion", 1)
        .extension("command", "by_hand")
        .extension("commandid", Uuid::new_v4().to_string())
        .extension("commandhash", "00000000000000ff")
        .extension("correlationid", Uuid::new_v4().to_string())
        .extension("traceparent", TRACEPARENT)
        .extension("urgent", true);
    match data {
        Some(data) => event.data("application/json", data),
        None => event,
    }
    .build()
    .unwrap()
}

fn opened(account: &str) -> Event {
    event(account, 1, "account.opened", Some(serde_json::json!({ "owner": "Zoë \u{1f600}" })))
}

fn deposited(account: &str, version: i64, amount: u64) -> Event {
    event(account, version, "account.deposited", Some(serde_json::json!({ "amount": amount })))
}

#[tokio::test]
async fn what_the_sdk_writes_in_any_mode_is_read() {
    let context = TestContext::new("cloudevents").await;
    let backend = context.backend().await;
    let jetstream = async_nats::jetstream::new(context.nats.client().clone());
    let publish = async |account: &str, written: Written| {
        let subject = format!("{}.event.account.{}", context.name, encode_token(account));
        let published = jetstream.publish_with_headers(subject, written.headers, written.payload.into());
        published.await.unwrap().await.unwrap().sequence
    };
    let bank = Cqrs::builder(backend.clone()).aggregate::<Account>().start().await.unwrap();
    for account in IDS {
        publish(account, Written::binary(opened(account))).await;
        publish(account, Written::structured(deposited(account, 2, 5))).await;
        publish(account, Written::batch(&[deposited(account, 3, 6), deposited(account, 4, 7)])).await;
        // It is an account like any other.
        let receipt = bank.execute(withdraw(account, 18)).await.unwrap();
        assert_eq!(receipt.version, 5, "{account:?}");
        let key = key(account);
        let commits = backend.events.read(&key, 0, 10).await.unwrap().commits;
        for stored in &commits[..3] {
            let event = &stored.commit.events[0];
            assert_eq!(event.origin.metadata.traceparent(), Some(TRACEPARENT));
            assert_eq!(event.origin.metadata.get("urgent"), Some("true"));
            assert_eq!(event.origin.time.to_string(), "2026-01-02T02:04:05.678Z");
            assert_eq!(event.origin.fingerprint, 255);
            assert_eq!(&*stored.commit.source, "/elsewhere");
        }
    }
}

#[tokio::test]
async fn events_without_data_are_read_in_every_mode() {
    let context = TestContext::new("cloudevents").await;
    let backend = context.backend().await;
    let jetstream = async_nats::jetstream::new(context.nats.client().clone());
    let subject = format!("{}.event.account.1", context.name);
    let empty = |version| event("1", version, "account.closed", None);
    for written in
        [Written::binary(empty(1)), Written::structured(empty(2)), Written::batch(&[empty(3), empty(4)])]
    {
        let published =
            jetstream.publish_with_headers(subject.clone(), written.headers, written.payload.into());
        published.await.unwrap().await.unwrap();
    }
    let key = key("1");
    let commits = backend.events.read(&key, 0, 10).await.unwrap().commits;
    let events = || commits.iter().flat_map(|stored| &stored.commit.events);
    assert_eq!(events().count(), 4);
    assert!(events().all(|event| event.data.is_empty() && event.event_type == "account.closed"));
}
