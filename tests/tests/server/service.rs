//! The guarantees of a service, on memory and on a real NATS server alike.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use cqrs_core::{
    Backend, CommandError, CommandId, CorrelationId, Cqrs, Error, Metadata,
    by_name::{CommandMessage, RouteError, Router},
    intercept::{Call, Interceptor, Next, Outcome, Refused},
    port::{AnyEvents, AnyViews, BoxFuture},
};
use cqrs_tests::domain::{
    Account, AccountRejection, CountOpenings, GetStatement, Openings, RichAccounts, Statement, Touch,
    deposit, key, open, statement, withdraw,
};

type Bank = Cqrs<(Account,), (Statement, Openings)>;

async fn bank<B: Backend>(backend: B) -> Bank {
    Cqrs::builder(backend)
        .aggregate::<Account>()
        .view::<Statement>()
        .view::<Openings>()
        .start()
        .await
        .unwrap()
}

cqrs_tests::on_backends! { "service", memory nats: {
    a_command_reaches_its_view
    a_repeated_command_has_one_effect_and_one_receipt
    the_lifecycle_is_kept
    a_rejection_stores_nothing
    a_command_that_changes_nothing_stores_nothing
    writers_at_once_lose_no_event
    a_refusal_is_about_the_current_state
    a_service_that_starts_again_goes_on
    events_carry_where_they_come_from
    a_view_that_does_not_get_there_is_a_typed_error
    own_handlers_answer_queries
    interceptors_stand_around_every_call
    messages_off_a_wire_are_found_by_name
    hostile_ids_are_ids
} }

async fn a_command_reaches_its_view<B: Backend>(backend: B) {
    let bank = bank(backend).await;
    let opened = bank.execute(open("1", 10)).await.unwrap();
    assert_eq!((opened.version, opened.events, opened.position.index, opened.repeat), (2, 2, 1, false));
    let paid = bank.execute(withdraw("1", 3)).await.unwrap();
    assert!(paid.position > opened.position);
    assert_eq!(paid.version, 3);
    let seen = bank.query(statement("1")).after(&paid).await.unwrap();
    assert_eq!(seen, Some(Statement { balance: 7, versions: vec![1, 2, 3] }));
    assert_eq!(
        bank.query(CountOpenings).after(&paid).await.unwrap(),
        1,
        "also for events it does not project"
    );
    assert_eq!(bank.query(statement("2")).await.unwrap(), None);
    bank.stop().await;
}

async fn a_repeated_command_has_one_effect_and_one_receipt<B: Backend>(backend: B) {
    let bank = bank(backend).await;
    let ids: Vec<_> = (0..3).map(|number| CommandId::derived(["test", &number.to_string()])).collect();
    let first = bank.execute(open("1", 10)).id(ids[0]).await.unwrap();
    let second = bank.execute(withdraw("1", 4)).id(ids[1]).await.unwrap();
    // New commands would now be refused by the lifecycle and by the balance, and these still get the first answers.
    let third = bank.execute(withdraw("1", 6)).id(ids[2]).await.unwrap();
    for (id, amount, receipt) in [(ids[1], 4, &second), (ids[2], 6, &third)] {
        let again = bank.execute(withdraw("1", amount)).id(id).await.unwrap();
        assert!(again.repeat);
        assert_eq!(
            (again.version, again.events, again.position),
            (receipt.version, receipt.events, receipt.position)
        );
    }
    for other in
        [bank.execute(withdraw("1", 5)).id(ids[1]).await, bank.execute(deposit("1", 4)).id(ids[1]).await]
    {
        let error = other.unwrap_err();
        let expected = |id| id == ids[1];
        assert!(
            matches!(&error, CommandError::Failed(Error::AnotherCommand { command, .. }) if expected(*command)),
            "{error:?}"
        );
    }
    let again = bank.execute(open("1", 10)).id(ids[0]).await.unwrap();
    assert_eq!((again.repeat, again.version, again.position), (true, first.version, first.position));
    let seen = bank.query(statement("1")).after(&third).await.unwrap().unwrap();
    assert_eq!(seen.versions, [1, 2, 3, 4]);
}

async fn the_lifecycle_is_kept<B: Backend>(backend: B) {
    let bank = bank(backend).await;
    let missing = bank.execute(deposit("1", 1)).await.unwrap_err();
    assert!(matches!(&missing, CommandError::NotFound(key) if key.id() == "1"), "{missing:?}");
    assert_eq!(missing.to_string(), "account/1 does not exist");
    bank.execute(open("1", 0)).await.unwrap();
    let there = bank.execute(open("1", 0)).await.unwrap_err();
    assert!(matches!(there, CommandError::AlreadyExists(_)), "{there:?}");
}

async fn a_rejection_stores_nothing<B: Backend>(backend: B) {
    let bank = bank(backend).await;
    let opened = bank.execute(open("1", 10)).await.unwrap();
    let error = bank.execute(withdraw("1", 11)).await.unwrap_err();
    assert_eq!(error.rejection(), Some(&AccountRejection::Insufficient { balance: 10, amount: 11 }));
    let next = bank.execute(deposit("1", 1)).await.unwrap();
    assert_eq!(next.version, opened.version + 1);
}

async fn a_command_that_changes_nothing_stores_nothing<B: Backend>(backend: B) {
    let bank = bank(backend).await;
    let nothing = bank.execute(Touch { account: "1".into() }).await.unwrap();
    assert_eq!((nothing.version, nothing.events, nothing.position.sequence), (0, 0, 0));
    let opened = bank.execute(open("1", 10)).await.unwrap();
    let nothing = bank.execute(Touch { account: "1".into() }).await.unwrap();
    assert_eq!((nothing.version, nothing.events, nothing.position), (2, 0, opened.position));
    assert!(bank.query(statement("1")).after(&nothing).await.unwrap().is_some());
}

async fn writers_at_once_lose_no_event<B: Backend>(backend: B) {
    let (events, views) = backend.split();
    let shared = (AnyEvents::new(events), AnyViews::new(views));
    // Two services, like in two processes: they share no memory.
    let banks = [bank(shared.clone()).await, bank(shared).await];
    banks[0].execute(open("1", 0)).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let bank = banks[writer % 2].clone();
        writers.spawn(async move {
            let mut receipts = Vec::new();
            for _ in 0..25 {
                receipts.push(bank.execute(deposit("1", 1)).await.unwrap());
            }
            receipts
        });
    }
    let mut receipts: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    receipts.sort_by_key(|receipt| receipt.version);
    let versions: Vec<_> = receipts.iter().map(|receipt| receipt.version).collect();
    assert_eq!(versions, (2..=201).collect::<Vec<_>>(), "each of 200 commands has a version of its own");
    let seen = banks[0].query(statement("1")).after(receipts.last().unwrap()).await.unwrap().unwrap();
    assert_eq!(seen, Statement { balance: 200, versions: (1..=201).collect() });
}

async fn a_refusal_is_about_the_current_state<B: Backend>(backend: B) {
    let (events, views) = backend.split();
    let shared = (AnyEvents::new(events), AnyViews::new(views));
    let (ours, theirs) = (bank(shared.clone()).await, bank(shared).await);
    ours.execute(open("1", 1)).await.unwrap();
    theirs.execute(deposit("1", 9)).await.unwrap();
    // The state in memory is version 1.
    let paid = ours.execute(withdraw("1", 10)).await.unwrap();
    assert_eq!(paid.version, 4);
    theirs.execute(deposit("1", 1)).await.unwrap();
    let nothing = ours.execute(Touch { account: "1".into() }).await.unwrap();
    assert_eq!(nothing.version, 5);
}

/// One store for several services, like for several runs of one program.
async fn a_service_that_starts_again_goes_on<B: Backend>(backend: B) {
    let (events, views) = backend.split();
    let shared = (AnyEvents::new(events), AnyViews::new(views));
    let mut last = None;
    for run in 0..4_u64 {
        let bank = bank(shared.clone()).await;
        if run == 0 {
            bank.execute(open("1", 0)).await.unwrap();
        }
        for _ in 0..5 {
            last = Some(bank.execute(deposit("1", 1)).await.unwrap());
        }
        if run % 2 == 1 {
            bank.caught_up().await.unwrap();
        }
        bank.stop().await;
    }
    let bank = bank(shared).await;
    let seen = bank.query(statement("1")).after(&last.unwrap()).await.unwrap().unwrap();
    assert_eq!(seen, Statement { balance: 20, versions: (1..=21).collect() });
    assert_eq!(bank.query(CountOpenings).await.unwrap(), 1);
}

async fn events_carry_where_they_come_from<B: Backend>(backend: B) {
    use cqrs_core::{CausationId, port::EventStore as _};
    let (events, views) = backend.split();
    let events = AnyEvents::new(events);
    let bank = bank((events.clone(), views)).await;
    let mut metadata = Metadata::default();
    metadata.insert("user", "Zoë").unwrap();
    let correlation: CorrelationId = "0198c0de-0000-7000-8000-000000000001".parse().unwrap();
    let cause: CausationId = "0198c0de-0000-7000-8000-000000000002".parse().unwrap();
    let call =
        bank.execute(open("1", 10)).correlation(correlation).caused_by(cause).metadata(metadata.clone());
    let receipt = call.await.unwrap();
    assert_eq!(receipt.correlation_id, correlation);
    let page = events.read(&key("1"), 0, 10).await.unwrap();
    let commit = &page.commits[0].commit;
    let origin = &commit.events[0].origin;
    assert_eq!(
        (origin.command_id, origin.correlation_id, origin.causation_id),
        (receipt.command_id, correlation, Some(cause))
    );
    assert_eq!(origin.metadata, metadata);
    assert_eq!(&*commit.source, events.source());
    let types: Vec<_> =
        commit.events.iter().map(|event| (&*event.event_type, event.schema_version)).collect();
    assert_eq!(types, [("account.opened", 1), ("account.deposited", 1)]);
    assert_eq!(commit.events[0].id.0.get_version_num(), 7);
    assert_ne!(commit.events[0].id, commit.events[1].id);
}

async fn a_view_that_does_not_get_there_is_a_typed_error<B: Backend>(backend: B) {
    let bank = bank(backend).await;
    let opened = bank.execute(open("1", 0)).await.unwrap();
    bank.query(statement("1")).after(&opened).await.unwrap();
    bank.stop().await;
    let late = bank.execute(deposit("1", 1)).await.unwrap();
    let error =
        bank.query(statement("1")).after(&late).patience(Duration::from_millis(50)).await.unwrap_err();
    let expected = late.position.sequence;
    assert!(
        matches!(error, Error::ViewBehind { view: "statement", sequence, .. } if sequence == expected),
        "{error:?}"
    );
}

async fn own_handlers_answer_queries<B: Backend>(backend: B) {
    let bank = bank(backend).await;
    for (account, amount) in [("a", 5), ("b", 50), ("c", 500)] {
        bank.execute(open(account, amount)).await.unwrap();
    }
    bank.caught_up().await.unwrap();
    assert_eq!(bank.query(RichAccounts { at_least: 50 }).await.unwrap(), ["b", "c"]);
}

async fn interceptors_stand_around_every_call<B: Backend>(backend: B) {
    struct Log(Arc<Mutex<Vec<String>>>);
    impl Interceptor for Log {
        fn around<'a>(
            &'a self,
            mut call: Call<'a>,
            next: Next<'a>,
        ) -> BoxFuture<'a, Result<Outcome, Refused>> {
            Box::pin(async move {
                let what = format!("{} {:?}", call.name, call.id);
                call.metadata.insert("seen", "yes").unwrap();
                let outcome = next.run(call).await;
                self.0.lock().unwrap().push(format!("{what} {outcome:?}"));
                outcome
            })
        }
    }
    struct NoLargeDeposits;
    impl Interceptor for NoLargeDeposits {
        fn around<'a>(&'a self, call: Call<'a>, next: Next<'a>) -> BoxFuture<'a, Result<Outcome, Refused>> {
            Box::pin(async move {
                assert_eq!(call.metadata.get("seen"), Some("yes"), "the outer one comes first");
                if call.body()?["amount"].as_u64().is_some_and(|amount| amount > 100) {
                    return Err(Refused::new("too much"));
                }
                next.run(call).await
            })
        }
    }
    let log = Arc::new(Mutex::new(Vec::new()));
    let bank = Cqrs::builder(backend)
        .aggregate::<Account>()
        .view::<Statement>()
        .interceptor(Log(Arc::clone(&log)))
        .interceptor(NoLargeDeposits)
        .start()
        .await
        .unwrap();
    let opened = bank.execute(open("1", 10)).await.unwrap();
    let refused = bank.execute(deposit("1", 101)).await.unwrap_err();
    assert!(
        matches!(&refused, CommandError::Failed(Error::Refused(refused)) if refused.reason == "too much")
    );
    bank.execute(withdraw("1", 11)).await.unwrap_err();
    bank.query(statement("1")).after(&opened).await.unwrap();
    assert_eq!(
        *log.lock().unwrap(),
        [
            r#"open Some("1") Ok(Done)"#,
            r#"deposit Some("1") Err(Refused { reason: "too much" })"#,
            r#"withdraw Some("1") Ok(Rejected("the balance is 10, not 11"))"#,
            "get_statement None Ok(Done)",
        ]
    );
}

async fn messages_off_a_wire_are_found_by_name<B: Backend>(backend: B) {
    let bank = bank(backend).await;
    let router = Router::new(bank.clone()).query::<GetStatement, _>();
    let message = |body: &'static str| CommandMessage { body: body.into(), ..CommandMessage::default() };
    let opened =
        router.execute("open", message(r#"{"account":"1","owner":"anna","amount":3}"#)).await.unwrap();
    assert_eq!(opened.version, 2);
    let unknown = router.execute("close", message("{}")).await.unwrap_err();
    assert_eq!(unknown.to_string(), r#""close" is not known here, known are: deposit, open, withdraw"#);
    // Commands that policies may send are not public.
    bank.execute(Touch { account: "1".into() }).await.unwrap();
    let internal = router.execute("touch", message(r#"{"account":"1"}"#)).await.unwrap_err();
    assert!(matches!(internal, RouteError::Unknown { .. }), "{internal}");
    for body in ["", "{}", r#"{"account":"1","amount":3} trailing"#, "\u{0}"] {
        let bad = router.execute("deposit", message(body)).await.unwrap_err();
        assert!(matches!(bad, RouteError::BadBody { name: "deposit", .. }), "{body:?}: {bad:?}");
    }
    let rejected = router.execute("withdraw", message(r#"{"account":"1","amount":4}"#)).await.unwrap_err();
    assert!(matches!(rejected, RouteError::Rejected(_)));
    assert_eq!(rejected.to_string(), "the balance is 3, not 4");
    bank.query(statement("1")).after(&opened).await.unwrap();
    let answer = router.answer("get_statement", br#"{"account":"1"}"#).await.unwrap();
    assert_eq!(answer, r#"{"balance":3,"versions":[1,2]}"#);
}

async fn hostile_ids_are_ids<B: Backend>(backend: B) {
    let bank = bank(backend).await;
    for id in ["", "*", ">", "a.b", "'; drop table", "a\r\nb", "é"] {
        let opened = bank.execute(open(id, 1)).await.unwrap();
        assert_eq!((opened.version, opened.aggregate.id()), (2, id));
        let seen = bank.query(statement(id)).after(&opened).await.unwrap().unwrap();
        assert_eq!(seen.versions, [1, 2], "{id:?}");
    }
    let long = bank.execute(open("x".repeat(129), 1)).await.unwrap_err();
    assert!(matches!(long, CommandError::Failed(Error::InvalidId(_))), "{long:?}");
}
