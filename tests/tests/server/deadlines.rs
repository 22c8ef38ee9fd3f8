//! Deadlines on real servers that die and come back: each comes once, on whichever server its time has come.
//!
//! What a worker's death does at each step of arming, disarming and passing is in the crash matrix (`crashes`).
#![cfg(not(feature = "testcontainers"))]

use std::{sync::Arc, time::Duration};

use cqrs_core::{
    Clock as _,
    port::{Deadline, Deadlines as _, DueQueue as _, SystemClock},
};
use cqrs_nats::{Nats, NatsEvents};
use cqrs_nats_server::LocalServer;
use cqrs_tests::{eventually, own_server, ports::Port, server_binary};
use uuid::Uuid;

fn deadline(id: &str, after: Duration) -> Deadline {
    let at = SystemClock.now() + after;
    Deadline { id: id.to_owned(), at, payload: id.to_owned().into(), order: 1, arming: Uuid::new_v4() }
}

/// The ids of those that are due, until this one comes; each is over then.
async fn until(events: &NatsEvents, last: &str) -> Vec<String> {
    let mut ids = Vec::new();
    eventually(last, async || {
        let Ok(mut queue) = events.due(Arc::new(SystemClock)).await else { return false };
        while let Ok(Ok(due)) = tokio::time::timeout(Duration::from_secs(2), queue.next()).await {
            let id = due.id().to_owned();
            if due.done().await.is_ok() {
                ids.push(id);
            }
            if ids.last().is_some_and(|id| id == last) {
                return true;
            }
        }
        false
    })
    .await;
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_survives_its_server_and_comes_once() {
    let folder = tempfile::tempdir().unwrap();
    let port = Port::reserve();
    let build = async || LocalServer::builder(server_binary().await).data(folder.path()).port(port.number());
    let server = build().await.start().await.unwrap();
    let events = Nats::connect(server.url()).await.unwrap().context("deadlines").await.unwrap().events;
    events.prepare().await.unwrap();
    events.arm(&deadline("disarmed", Duration::from_secs(1))).await.unwrap();
    let passes = deadline("passes while there is no server", Duration::from_secs(1));
    events.arm(&passes).await.unwrap();
    events.disarm("disarmed", 2).await.unwrap();
    server.kill().await;
    eventually("its time is over", async || SystemClock.now() > passes.at).await;

    let server = build().await.start().await.unwrap();
    assert_eq!(until(&events, &passes.id).await, [passes.id.as_str()]);
    // Armed again by somebody who was not told that it was, and is over: it is a command that the aggregate knows.
    let later = deadline("later", Duration::from_millis(500));
    events.arm(&later).await.unwrap();
    server.kill().await;
    let server = build().await.start().await.unwrap();
    assert_eq!(until(&events, "later").await, ["later"], "nothing that is over comes again");
    server.stop().await;
}

/// A request to arm a deadline can be repeated late, when the deadline was armed by it and is over: whoever sent it was not
/// told. The server remembers it by its message id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_is_not_armed_again_by_a_late_repeat() {
    let server = own_server().await;
    let events = Nats::connect(server.url()).await.unwrap().context("deadlines").await.unwrap().events;
    events.prepare().await.unwrap();
    let over = deadline("over", Duration::ZERO);
    events.arm(&over).await.unwrap();
    assert_eq!(until(&events, "over").await, ["over"]);
    events.arm(&over).await.unwrap();
    events.arm(&deadline("marker", Duration::ZERO)).await.unwrap();
    assert_eq!(until(&events, "marker").await, ["marker"]);
    server.stop().await;
}
