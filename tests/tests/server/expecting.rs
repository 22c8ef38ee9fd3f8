//! Commands that expect a version of their aggregate. Two services share the log, so that what one of them has in memory is
//! not always the present state.

use cqrs_core::{
    Backend, CommandError, CommandId, Receipt,
    by_name::{CommandMessage, RouteError, Router},
    memory::Memory,
};
use cqrs_tests::domain::{AccountRejection, Touch, bank, deposit, open, withdraw};

cqrs_tests::on_backends! { "expecting", memory nats sliced embedded: {
    nothing_is_stored_on_another_version_than_the_caller_saw
    of_many_callers_that_saw_the_same_version_one_goes_through
} }

type Answer = Result<Receipt, CommandError<AccountRejection>>;

/// The versions of a command that found another one than it expects: the expected one, and that which it found.
fn changed(answer: Answer) -> (u64, u64) {
    match answer {
        Err(CommandError::Changed { aggregate, expected, found }) => {
            assert_eq!(aggregate.name(), "account");
            (expected, found)
        }
        other => panic!("expected another version: {other:?}"),
    }
}

async fn nothing_is_stored_on_another_version_than_the_caller_saw<B: Backend + Clone>(backend: B) {
    let (one, other) = (bank(backend.clone()).await, bank(backend).await);
    let account = "a";
    let id = |name: &str| CommandId::derived(["expecting", name]);

    // The account does not exist. The expected version is compared first, for commands that create and that update.
    assert_eq!(changed(one.execute(open(account, 10)).expecting(2).await), (2, 0));
    assert_eq!(changed(one.execute(deposit(account, 1)).expecting(2).await), (2, 0));
    let missing = one.execute(deposit(account, 1)).expecting(0).await;
    assert!(matches!(missing, Err(CommandError::NotFound(_))), "{missing:?}");
    let first = async || one.execute(open(account, 10)).id(id("open")).expecting(0).await;
    assert_eq!(first().await.expect("it is new").version, 2);

    // Nothing is stored, and the other service has not read the account before.
    assert_eq!(changed(other.execute(deposit(account, 1)).expecting(1).await), (1, 2));
    assert_eq!(changed(other.execute(deposit(account, 1)).expecting(3).await), (3, 2));
    assert_eq!(changed(other.execute(open(account, 1)).expecting(0).await), (0, 2));
    let again = other.execute(open(account, 1)).expecting(2).await;
    assert!(matches!(again, Err(CommandError::AlreadyExists(_))), "{again:?}");

    // A repeat gets its first receipt, here and there, although its own events have changed the version.
    for service in [&one, &other] {
        let repeat = service.execute(open(account, 10)).id(id("open")).expecting(0).await.expect("a repeat");
        assert_eq!((repeat.version, repeat.repeat), (2, true));
        let now = service.execute(open(account, 10)).id(id("open")).expecting(2).await.expect("a repeat");
        assert_eq!((now.version, now.repeat), (2, true), "what is expected is no part of the command");
    }

    // Each service has an old state in memory: a refusal on it is not final, and neither is what goes through on it.
    assert_eq!(one.execute(deposit(account, 5)).expecting(2).await.expect("it has 2").version, 3);
    assert_eq!(changed(other.execute(withdraw(account, 1)).expecting(2).await), (2, 3));
    assert_eq!(
        other.execute(withdraw(account, 1)).id(id("3")).expecting(3).await.expect("it has 3").version,
        4
    );
    let repeat = one.execute(withdraw(account, 1)).id(id("3")).expecting(3).await.expect("a repeat");
    assert_eq!((repeat.version, repeat.repeat), (4, true));
    assert_eq!(one.execute(deposit(account, 5)).expecting(4).await.expect("it has 4").version, 5);

    // The rules are asked on the expected version only, and a command without events has an expectation, too.
    let rejected = other.execute(withdraw(account, 1_000)).expecting(5).await;
    assert!(matches!(rejected, Err(CommandError::Rejected(_))), "{rejected:?}");
    assert_eq!(changed(other.execute(withdraw(account, 1_000)).expecting(4).await), (4, 5));
    let touch = || Touch { account: account.to_owned() };
    assert_eq!(changed(one.execute(touch()).expecting(4).await), (4, 5));
    assert_eq!(one.execute(touch()).expecting(5).await.expect("it has 5").events, 0);
    assert_eq!(one.execute(touch()).await.expect("nothing to do").version, 5);
}

async fn of_many_callers_that_saw_the_same_version_one_goes_through<B: Backend + Clone>(backend: B) {
    let services = [bank(backend.clone()).await, bank(backend).await];
    let account = "a";
    let mut seen = services[0].execute(open(account, 0)).await.expect("it is new").version;
    for _ in 0..5 {
        let calls = (0..40)
            .map(|number| tokio::spawn(services[number % 2].execute(deposit(account, 1)).expecting(seen)));
        let mut through = 0;
        for call in calls.collect::<Vec<_>>() {
            match call.await.expect("no panic") {
                Ok(receipt) => {
                    assert_eq!(receipt.version, seen + 1);
                    through += 1;
                }
                answer => assert_eq!(changed(answer), (seen, seen + 1)),
            }
        }
        assert_eq!(through, 1);
        seen += 1;
    }
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
