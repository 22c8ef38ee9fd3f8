//! Commands that are sent again long after their first time, on NATS.

use cqrs_tests::{TestContext, long_ago};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_many_commands_has_one_effect() {
    let context = TestContext::new("long-ago").await;
    let events = context.backend().await.events;
    long_ago::with_snapshots(&events, 20_000).await;
    long_ago::without_snapshots(&events, 20_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_commands_are_kept_beside_the_snapshots() {
    let context = TestContext::new("long-ago-kept").await;
    long_ago::kept_beside_the_snapshots(&context.backend().await.events).await;
}
