//! A trace finds all of a business transaction, over policies, deadlines, refusals and handlers, on memory and on a
//! real NATS server alike.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use cqrs_core::{
    Backend, Clock as _, CommandId, CorrelationId, Cqrs, Effects, Envelope, EventHandler, HandlerError,
    Metadata, On, Policy, React, Refusal, Start,
    operate::Trace,
    port::{EventStore as _, SystemClock},
};
use cqrs_tests::{
    TestContext,
    domain::{Account, AccountEvent, Open, deposit, key, withdraw},
    eventually,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

cqrs_tests::on_backends! { "traces", memory nats sliced: {
    a_transaction_is_traced_through_all_that_follows_from_it
    a_transaction_without_a_time_in_its_id_is_traced_too
    a_transaction_whose_id_was_made_by_a_wrong_clock_is_traced_too
    commands_that_shared_an_append_are_told_apart
} }

/// Anna gets 5 for a new account and loses 1 a moment later; then the account `bank` has to pay 100, which it does not
/// have; and then the account `consolation` gets 1.
#[derive(Default, Serialize, Deserialize)]
struct Chain;

impl Policy for Chain {
    const NAME: &'static str = "chain";
    const START: Start = Start::Beginning;
    type Of = Account;

    fn refused(&mut self, _: &Refusal, effects: &mut Effects) {
        effects.send(deposit("consolation", 1));
    }
}

impl React<AccountEvent> for Chain {
    fn react(&mut self, event: &Envelope<AccountEvent>, effects: &mut Effects) {
        let account = event.subject().to_owned();
        match &event.data {
            AccountEvent::Opened { owner } if owner == "anna" => effects.send(deposit(account, 5)),
            AccountEvent::Deposited { amount: 5 } => {
                let soon = event.time + Duration::from_millis(50);
                effects.at("soon", soon, withdraw(account, 1));
            }
            AccountEvent::Withdrawn { .. } => effects.send(withdraw("bank", 100)),
            _ => {}
        }
    }
}

type Bank = Cqrs<(Account,), ()>;

/// After each deposit of 1 the handler sends a command: a deposit of 2 to the account `thanks`.
struct Thankful(Arc<OnceLock<Bank>>);

impl EventHandler for Thankful {
    const NAME: &'static str = "thankful";
    const START: Start = Start::Beginning;
    type Of = Account;
}

impl On<AccountEvent> for Thankful {
    async fn on(&self, event: &Envelope<AccountEvent>) -> Result<(), HandlerError> {
        if let (AccountEvent::Deposited { amount: 1 }, Some(bank)) = (&event.data, self.0.get()) {
            let id = CommandId::derived(["thankful", &event.id.to_string()]);
            bank.execute(deposit("thanks", 2)).id(id).following(event).await?;
        }
        Ok(())
    }
}

fn open(account: &str, owner: &str, amount: u64) -> Open {
    Open { account: account.into(), owner: owner.into(), amount }
}

/// A trace as text, without times and positions.
fn words(trace: &Trace) -> Vec<String> {
    let text = trace.to_string();
    text.lines().map(|line| line.split(", ").next().unwrap().to_owned()).collect()
}

async fn bank<B: Backend>(backend: B) -> Bank {
    let place = Arc::new(OnceLock::new());
    let builder = Cqrs::builder(backend).aggregate::<Account>().policy::<Chain>();
    let bank = builder.event_handler(Thankful(Arc::clone(&place))).start().await.unwrap();
    for account in ["bank", "consolation", "thanks"] {
        bank.execute(open(account, "ben", 0)).await.unwrap();
    }
    assert!(place.set(bank.clone()).is_ok());
    bank
}

const ALL: [&str; 10] = [
    "open on account/1",
    "  account.opened",
    "    deposit on account/1",
    "      account.deposited",
    "        withdraw on account/1",
    "          account.withdrawn",
    "            deposit on account/consolation",
    "              account.deposited",
    "                deposit on account/thanks",
    "                  account.deposited",
];

async fn a_transaction_is_traced_through_all_that_follows_from_it<B>(backend: B)
where
    B: Backend + Clone,
{
    let (events, _) = backend.clone().split();
    let bank = bank(backend).await;
    let mut metadata = Metadata::default();
    metadata.insert("traceparent", TRACEPARENT).unwrap();
    let receipt = bank.execute(open("1", "anna", 0)).metadata(metadata.clone()).await.unwrap();
    eventually("all has followed", async || words(&bank.trace(receipt.correlation_id).await.unwrap()) == ALL)
        .await;
    // The distributed trace has been passed on in each step.
    let thanks = key("thanks");
    let commits = events.read(&thanks, 0, 10).await.unwrap().commits;
    assert_eq!(commits[1].commit.events[0].origin.metadata, metadata);
    // The transactions of an aggregate are found by its id.
    let all = bank.transactions_of(&thanks).await.unwrap();
    assert_eq!(all[1..], [receipt.correlation_id]);
    bank.stop().await;
}

async fn a_transaction_without_a_time_in_its_id_is_traced_too<B>(backend: B)
where
    B: Backend + Clone,
{
    let bank = bank(backend).await;
    let id = CommandId::derived(["row", "7"]);
    bank.execute(open("1", "anna", 0)).id(id).await.unwrap();
    let trace = async || words(&bank.trace(id.into()).await.unwrap());
    eventually("all has followed", async || trace().await == ALL).await;
    let other = bank.trace(CorrelationId(Uuid::nil())).await.unwrap();
    assert_eq!((other.commands, other.is_complete), (Vec::new(), true));
    bank.stop().await;
}

async fn a_transaction_whose_id_was_made_by_a_wrong_clock_is_traced_too<B>(backend: B)
where
    B: Backend + Clone,
{
    let bank = bank(backend).await;
    let now = u64::try_from(SystemClock.now().as_second()).unwrap();
    for (account, time) in [("ahead", now + 3_600), ("behind", now - 3_600), ("far ahead", now + 400_000_000)]
    {
        let id = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, time, 0));
        bank.execute(open(account, "ben", 0)).id(CommandId(id)).await.unwrap();
        let trace = bank.trace(CorrelationId(id)).await.unwrap();
        assert_eq!(words(&trace), [format!("open on account/{account}").as_str(), "  account.opened"]);
        assert!(trace.is_complete);
        // The given time decides where the search begins, and not whether the trace is complete.
        let later = Timestamp::from_second(i64::try_from(now + 7_200).unwrap()).unwrap();
        let trace = bank.trace_since(CorrelationId(id), later).await.unwrap();
        assert_eq!(trace.is_complete, !trace.commands.is_empty());
    }
    bank.stop().await;
}

/// A message that names the transaction, and is otherwise unreadable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_of_which_something_cannot_be_read_is_not_complete() {
    let context = TestContext::new("traces").await;
    let bank = bank(context.backend().await).await;
    let receipt = bank.execute(open("1", "ben", 0)).await.unwrap();
    assert!(bank.trace(receipt.correlation_id).await.unwrap().is_complete);
    for name in ["ce-correlationid", "CE-CorrelationID"] {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(name, receipt.correlation_id.to_string());
        let subject = format!("{}.event.account.damaged", context.name);
        let jetstream = async_nats::jetstream::new(context.nats.client().clone());
        jetstream.publish_with_headers(subject, headers, "{}".into()).await.unwrap().await.unwrap();
    }
    let trace = bank.trace(receipt.correlation_id).await.unwrap();
    assert_eq!((trace.commands.len(), trace.is_complete), (1, false));
    bank.stop().await;
}

async fn commands_that_shared_an_append_are_told_apart<B>(backend: B)
where
    B: Backend + Clone,
{
    let bank = bank(backend).await;
    bank.execute(open("1", "ben", 0)).await.unwrap();
    let deposits = (10..30).map(|amount| bank.execute(deposit("1", amount)).into_future());
    let receipts = futures_util::future::join_all(deposits).await;
    for receipt in receipts.into_iter().map(Result::unwrap) {
        let trace = bank.trace(receipt.correlation_id).await.unwrap();
        let [command] = trace.commands.as_slice() else { panic!("{trace:?}") };
        assert_eq!((command.id, command.events.len()), (receipt.command_id, 1));
        assert_eq!(command.events[0].version, receipt.version);
        assert_eq!(command.events[0].position, receipt.position);
    }
    bank.stop().await;
}
