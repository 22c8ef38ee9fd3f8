//! Connecting to a server that comes later, and over a client of the application.

use std::{future::ready, time::Duration};

use async_nats::ConnectOptions;
use cqrs_core::{CommandError, Error, StoreError};
use cqrs_nats::{ClientEvents, Connect, ConnectError, Nats};
use cqrs_nats_server::LocalServer;
use cqrs_tests::{
    configured_server,
    domain::{bank, open, statement},
    own_server,
    ports::Port,
    proxy::Proxy,
    server_binary, with_causes,
};

#[tokio::test]
async fn a_server_that_comes_later_is_waited_for() {
    let port = Port::reserve();
    let connect = || Connect::to(format!("nats://127.0.0.1:{}", port.number()));
    let waiting = tokio::spawn(connect().wait_for(Duration::from_mins(1)).connect());
    // The first attempt fails, as each one does now.
    let error = connect().wait_for(Duration::from_millis(1)).connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    assert!(with_causes(&error).contains("refused"), "the last cause is there: {}", with_causes(&error));
    assert!(!waiting.is_finished());

    let server = LocalServer::builder(server_binary().await).port(port.number()).start().await.unwrap();
    let bank = bank(waiting.await.unwrap().unwrap().context("late").await.unwrap()).await;
    bank.execute(open("1", 1)).await.unwrap();
    bank.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn what_a_wait_does_not_change_is_told_at_once() {
    let server = configured_server("authorization { user: anna, password: right }").await;
    let connect = |url: &str| Connect::to(url).user("anna", "wrong").wait_for(Duration::MAX).connect();
    let error = connect(server.url()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unauthorized { .. }), "{error:?}");
    let error = connect("nats://").await.unwrap_err();
    assert!(matches!(error, ConnectError::Address { .. }), "{error:?}");
    server.stop().await;
}

/// A client of the application with its events.
async fn own_client(url: &str, options: ConnectOptions) -> (async_nats::Client, ClientEvents) {
    let events = ClientEvents::default();
    let heard = events.clone();
    let options = options.event_callback(move |event| {
        heard.note(&event);
        ready(())
    });
    (options.connect(url).await.unwrap(), events)
}

#[tokio::test]
async fn a_service_runs_over_a_client_of_the_application() {
    let permissions = r#"publish: { deny: ["shop.event.account.closed"] }"#;
    let user = format!("{{ user: shop, password: p, permissions: {{ {permissions} }} }}");
    let server =
        configured_server(format!("accounts {{ A {{ jetstream: enabled, users: [ {user} ] }} }}")).await;
    let proxy = Proxy::start(server.port()).await.unwrap();
    // Without the client's events each call would wait for its timeout, or until the client is connected again.
    let options =
        ConnectOptions::with_user_and_password("shop".into(), "p".into()).custom_inbox_prefix("in.shop");
    let (client, events) = own_client(&proxy.url(), options).await;
    let bank = bank(Nats::from_client(client, events).await.unwrap().context("shop").await.unwrap()).await;
    let receipt = bank.execute(open("1", 1)).await.unwrap();
    assert!(bank.query(statement("1")).after(&receipt).await.unwrap().is_some());

    let refused = bank.execute(open("closed", 1)).await.unwrap_err();
    let CommandError::Failed(Error::Store(StoreError::NotPermitted { permission, .. })) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(permission, "publish to shop.event.account.closed");

    for round in 2..=4 {
        proxy.reset();
        let receipt = bank.execute(open(round.to_string(), 1)).await.unwrap();
        let query = bank.query(statement(round.to_string())).after(&receipt);
        assert!(query.patience(Duration::from_mins(1)).await.unwrap().is_some());
    }
    bank.stop().await;
    server.stop().await;
}

/// As with a client of the framework: the refusal is known at once by the inbox's prefix.
#[tokio::test]
async fn a_client_that_may_not_receive_answers_is_told_so() {
    let user = r#"{ user: deaf, password: p, permissions: { subscribe: { deny: ["in.>"] } } }"#;
    let server =
        configured_server(format!("accounts {{ A {{ jetstream: enabled, users: [ {user} ] }} }}")).await;
    let options =
        ConnectOptions::with_user_and_password("deaf".into(), "p".into()).custom_inbox_prefix("in.deaf");
    let (client, events) = own_client(server.url(), options).await;
    let error = Nats::from_client(client, events).await.unwrap_err();
    let ConnectError::NotPermitted { permission, .. } = error else { panic!("{error:?}") };
    assert_eq!(permission, "subscribe to in.deaf.>");
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_cannot_be_used_is_refused() {
    let server = own_server().await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let error = Nats::from_client(client, ClientEvents::default()).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoEvents), "{error:?}");

    let (client, events) = own_client(server.url(), ConnectOptions::new()).await;
    let error = Nats::from_client(client, events).domain("nowhere").await.unwrap_err();
    assert!(matches!(&error, ConnectError::NoDomain { domain, .. } if domain == "nowhere"), "{error:?}");
    server.stop().await;

    let nobody = Port::reserve();
    let url = format!("nats://127.0.0.1:{}", nobody.number());
    let (client, events) = own_client(&url, ConnectOptions::new().retry_on_initial_connect()).await;
    let error = Nats::from_client(client, events).await.unwrap_err();
    assert!(matches!(error, ConnectError::NotConnected), "{error:?}");
}

/// The framework does not replace such a client: its calls fail, and none hangs.
#[tokio::test]
async fn when_the_applications_client_ends_the_calls_fail() {
    let server = own_server().await;
    let (client, events) = own_client(server.url(), ConnectOptions::new()).await;
    let nats = Nats::from_client(client.clone(), events).await.unwrap();
    let bank = bank(nats.context("ended").await.unwrap()).await;
    bank.execute(open("1", 1)).await.unwrap();
    client.drain().await.unwrap();
    let failed = loop {
        match bank.execute(open("2", 1)).await {
            Err(CommandError::Failed(Error::Store(error))) => break error,
            Err(CommandError::Failed(Error::Unknown { source, .. })) => break *source,
            // It was sent before the client had ended, or its answer did not come any more.
            Ok(_) | Err(CommandError::AlreadyExists(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    };
    assert!(matches!(failed, StoreError::Unavailable { .. }), "{failed:?}");
    bank.stop().await;
    server.stop().await;
}
