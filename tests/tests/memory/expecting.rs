//! Commands that expect a version.

use cqrs_core::{
    by_name::{CommandMessage, RouteError, Router},
    memory::{Memory, MemoryEvents, MemoryViews},
};
use cqrs_tests::{
    domain::{Bank, bank},
    expecting::{one_of_many, what_the_caller_saw},
};

async fn two() -> (Bank, Bank) {
    let events = MemoryEvents::default();
    let open = || bank((events.clone(), MemoryViews::default()));
    (open().await, open().await)
}

#[tokio::test]
async fn nothing_is_stored_on_another_version_than_the_caller_saw() {
    let (one, other) = two().await;
    what_the_caller_saw(&one, &other, "a").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_callers_that_saw_the_same_version_one_goes_through() {
    let (one, other) = two().await;
    one_of_many([&one, &other], "a").await;
}

#[tokio::test]
async fn a_message_expects_a_version_too() {
    let router = Router::new(bank(Memory::default()).await);
    let send = async |name: &str, body: &'static str, expecting| {
        let body = body.as_bytes().into();
        router.execute(name, CommandMessage { body, expecting, ..CommandMessage::default() }).await
    };
    let opened = send("open", r#"{"account":"a","owner":"anna","amount":5}"#, Some(0)).await.unwrap();
    let deposit = r#"{"account":"a","amount":1}"#;
    assert_eq!(send("deposit", deposit, Some(opened.version)).await.unwrap().version, 3);
    let refused = send("deposit", deposit, Some(opened.version)).await.unwrap_err();
    assert!(matches!(refused, RouteError::Rejected(_)), "{refused:?}");
    let text = "account/a has changed: it has version 3, and version 2 was expected";
    assert_eq!(refused.to_string(), text);
    assert_eq!(send("deposit", deposit, None).await.unwrap().version, 4);
}
