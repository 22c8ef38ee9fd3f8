//! The deadlines of a policy: they pass while no service runs, not once they are disarmed, and are lost to no failure.

use std::time::Duration;

use cqrs_core::{
    Backend, Cqrs,
    memory::{MemoryEvents, MemoryViews},
    port::{Deadline, Deadlines},
};
use cqrs_tests::{
    domain::{Account, deposit, open},
    eventually,
    flaky::Flaky,
};
use jiff::Timestamp;

use crate::policies::{AFTER_A_STOP, ALL_OVER, Generous, TokioClock, bank, told, until_told, world};

cqrs_tests::on_backends! { "deadlines", memory nats sliced: {
    a_deadline_passes_while_no_service_runs
    a_deadline_that_is_disarmed_does_not_pass
    deadlines_that_cannot_be_sent_hold_up_no_others
} }

async fn a_deadline_passes_while_no_service_runs<B>(backend: B)
where
    B: Backend<Events: Deadlines> + Clone,
{
    let (events, _) = backend.clone().split();
    let first = bank(backend.clone()).await;
    first.execute(open("1", 77)).await.unwrap();
    // Its own gift, and then nothing more until the deadline.
    until_told(&events, "1", &["opened null", "deposited 77", "deposited 5"]).await;
    eventually("the deadline is armed", async || first.caught_up().await.is_ok()).await;
    first.stop().await;
    drop(first);
    tokio::time::sleep(AFTER_A_STOP).await;
    assert_eq!(told(&events, "1").await.len(), 3);
    let second = bank(backend).await;
    until_told(&events, "1", &["opened null", "deposited 77", "deposited 5", "withdrawn 1"]).await;
    second.stop().await;
}

async fn a_deadline_that_is_disarmed_does_not_pass<B>(backend: B)
where
    B: Backend<Events: Deadlines> + Clone,
{
    let (events, _) = backend.clone().split();
    let bank = bank(backend).await;
    bank.execute(open("disarmed", 7)).await.unwrap();
    bank.execute(deposit("disarmed", 9)).await.unwrap();
    // Armed later, it is due later: the disarmed one would have passed before.
    bank.execute(open("armed", 7)).await.unwrap();
    until_told(&events, "armed", &["opened null", "deposited 7", "deposited 5", "withdrawn 1"]).await;
    assert!(!told(&events, "disarmed").await.contains(&"withdrawn 1".to_owned()));
}

/// The payload of a policy's deadline.
fn payload(command: &str, account: &str) -> String {
    let id = uuid::Uuid::new_v4();
    serde_json::json!({
        "command": command, "aggregate": "account", "aggregate_id": account, "id": id, "correlation_id": id,
        "causation_id": id, "metadata": {}, "body": { "account": account, "amount": 1 },
    })
    .to_string()
}

async fn arm(events: &impl Deadlines, id: &str, payload: String) {
    let (id, arming) = (id.to_owned(), uuid::Uuid::new_v4());
    let deadline = Deadline { id, at: Timestamp::UNIX_EPOCH, payload: payload.into(), order: 1, arming };
    events.arm(&deadline).await.unwrap();
}

/// More than a store delivers at once: commands that the program does not know, and payloads that it cannot read.
async fn deadlines_that_cannot_be_sent_hold_up_no_others<B>(backend: B)
where
    B: Backend<Events: Deadlines> + Clone,
{
    let (events, _) = backend.clone().split();
    events.prepare().await.unwrap();
    for number in 0..550 {
        arm(&events, &format!("unknown/{number}"), payload("close", "1")).await;
        arm(&events, &format!("unread/{number}"), "{}".to_owned()).await;
    }
    let bank = bank(backend).await;
    bank.execute(open("1", 7)).await.unwrap();
    until_told(&events, "1", &["opened null", "deposited 7", "deposited 5", "withdrawn 1"]).await;
}

/// The store stores nothing for a while when a deadline's command is sent.
#[tokio::test(start_paused = true)]
async fn a_deadline_survives_a_failure_that_passes() {
    let events = Flaky::works(MemoryEvents::default());
    let bank = Cqrs::builder((events.clone(), MemoryViews::default())).aggregate::<Account>();
    let bank = bank.policy::<Generous>().clock(TokioClock::new()).append_patience(Duration::ZERO);
    let bank = bank.start().await.unwrap();
    bank.execute(open("1", 7)).await.unwrap();
    let before = ["opened null", "deposited 7", "deposited 5"];
    until_told(&events, "1", &before).await;
    events.be_busy_for(Some("1"));
    tokio::time::sleep(ALL_OVER).await;
    assert!(events.failures() > 3, "it has failed some times");
    assert_eq!(told(&events, "1").await, before);
    events.be_busy_for(None);
    tokio::time::sleep(ALL_OVER).await;
    until_told(&events, "1", &["opened null", "deposited 7", "deposited 5", "withdrawn 1"]).await;
}

/// A deadline is not lost to a program that does not know its command: one that does receives it.
#[tokio::test(start_paused = true)]
async fn a_deadline_waits_for_a_program_that_knows_its_command() {
    let (events, views, clock) = (MemoryEvents::default(), MemoryViews::default(), TokioClock::new());
    arm(&events, "known later", payload("withdraw", "1")).await;
    let older = Cqrs::builder((events.clone(), views.clone())).policy::<Generous>().clock(clock.clone());
    let older = older.start().await.unwrap();
    tokio::time::sleep(Duration::from_hours(1)).await;
    older.stop().await;
    let newer = world(events.clone(), views, &clock).await;
    newer.execute(open("1", 0)).await.unwrap();
    until_told(&events, "1", &["opened null", "deposited 5"]).await;
    tokio::time::sleep(ALL_OVER).await;
    assert_eq!(told(&events, "1").await, ["opened null", "deposited 5", "withdrawn 1"]);
}
