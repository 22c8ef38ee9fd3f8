//! The log lines of a wait for a server.

use std::time::Duration;

use cqrs_nats::Connect;
use cqrs_nats_server::LocalServer;
use cqrs_tests::{eventually, lines::Lines, ports::Port, server_binary};

#[tokio::test]
async fn a_wait_for_the_server_is_one_warning_with_its_cause() {
    let lines = Lines::collect();
    let port = Port::reserve();
    let url = format!("nats://127.0.0.1:{}", port.number());
    let wait = |patience| Connect::to(&*url).wait_for(patience).connect();
    // Several attempts.
    wait(Duration::from_secs(1)).await.unwrap_err();
    let text = lines.text();
    let warnings: Vec<_> = text.lines().filter(|line| line.contains("WARN")).collect();
    let [warning] = warnings[..] else { panic!("{text}") };
    assert!(warning.contains("waiting for the NATS server") && warning.contains("refused"), "{warning}");

    let waiting = tokio::spawn(wait(Duration::from_mins(1)));
    let waits = |times| lines.text().matches("waiting for the NATS server").count() == times;
    eventually("it waits", async || waits(2)).await;
    let server = LocalServer::builder(server_binary().await).port(port.number()).start().await.unwrap();
    drop(waiting.await.unwrap().unwrap());
    assert!(waits(2), "{}", lines.text());
    assert_eq!(lines.text().matches("the NATS server answers").count(), 1, "{}", lines.text());
    server.stop().await;
    drop(lines);
}
