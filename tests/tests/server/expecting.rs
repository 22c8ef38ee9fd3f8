//! Commands that expect a version, on NATS.

use cqrs_tests::{
    TestContext,
    domain::bank,
    expecting::{one_of_many, what_the_caller_saw},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_takes_effect_only_on_the_version_that_it_expects() {
    let context = TestContext::new("expecting").await;
    let (one, other) = (bank(context.backend().await).await, bank(context.backend().await).await);
    what_the_caller_saw(&one, &other, "a").await;
    one_of_many([&one, &other], "b").await;
}
