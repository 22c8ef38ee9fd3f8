//! Deadlines on real servers that die and restart: each is delivered once, on whichever server is running at its time.
//!
//! The crash matrix (`crashes`) tests a worker's death at each step of arming, disarming and delivery.
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

/// The ids of the due deadlines, until this one is delivered; each is ended.
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
    // A caller without an answer arms again a deadline that has ended: its command is one that the aggregate knows.
    let later = deadline("later", Duration::from_millis(500));
    events.arm(&later).await.unwrap();
    server.kill().await;
    let server = build().await.start().await.unwrap();
    assert_eq!(until(&events, "later").await, ["later"], "nothing that is over comes again");
    server.stop().await;
}

/// A request to arm a deadline can be repeated late, after the deadline was armed by it and has ended, if its sender
/// got no answer. The server knows it by its message id.
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
