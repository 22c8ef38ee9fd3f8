//! Messages whose headers the client cannot parse: it ends the connection when it receives one. Any user who may
//! publish can write them. Each is skipped once, reported, and does not end the connection again.

use std::{sync::atomic::Ordering, time::Duration};

use cqrs_core::{
    CommandError, Cqrs, Error, StoreError, View as _,
    port::{
        Deadline, Deadlines, DueQueue, EventStore, ProjectionId, Search, SnapshotPart, SystemClock, ViewStore,
    },
};
use cqrs_nats::{Nats, NatsBackend};
use cqrs_tests::{
    TestContext,
    domain::{Account, Bank, Idle, Statement, deposit, key, open, statement},
    eventually, raw,
};
use jiff::Timestamp;
use uuid::Uuid;

/// A service with two projections.
async fn service(backend: NatsBackend) -> Bank {
    Cqrs::builder(backend)
        .aggregate::<Account>()
        .view::<Statement>()
        .event_handler(Idle)
        .start()
        .await
        .unwrap()
}

/// Publishes a message with unreadable headers.
async fn poison(context: &TestContext, subject: &str, kind: usize, payload: &[u8]) {
    raw::publish(context.url(), subject, raw::UNREADABLE[kind], payload).await;
}

fn subject_of(context: &TestContext, account: &str) -> String {
    format!("{}.event.account.{account}", context.name)
}

/// How often the connection was established.
fn connects(nats: &Nats) -> u64 {
    nats.client().statistics().connects.load(Ordering::Relaxed)
}

/// The account's versions as the view shows them after a deposit.
async fn deposit_and_see(bank: &Bank, account: &str) {
    let receipt = bank.execute(deposit(account, 1)).await.unwrap();
    let query = bank.query(statement(account)).after(&receipt);
    let seen = query.patience(Duration::from_mins(1)).await.unwrap().unwrap();
    assert_eq!(seen.versions, (1..=receipt.version).collect::<Vec<_>>());
}

/// The dead letters, by position.
async fn set_aside(bank: &Bank, follower: &str) -> Vec<u64> {
    let letters = loop {
        // The connection may be lost at the moment.
        match bank.dead_letters(follower).await.unwrap().list().await {
            Ok(letters) => break letters,
            Err(Error::Store(error)) if error.is_transient() => {}
            Err(error) => panic!("{error:?}"),
        }
    };
    letters.iter().map(|letter| letter.position.sequence).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_the_log_goes_on_across_restarts() {
    let context = TestContext::new("unreadable").await;
    let bank = service(context.backend().await).await;
    bank.execute(open("1", 0)).await.unwrap();
    deposit_and_see(&bank, "1").await;
    let mut poisons = Vec::new();
    for kind in 0..raw::UNREADABLE.len() {
        let account = format!("poison-{kind}");
        poison(&context, &subject_of(&context, &account), kind, b"{}").await;
        poisons.push(bank.execute(open(format!("next-{kind}"), 0)).await.unwrap().position.sequence - 1);
        deposit_and_see(&bank, "1").await;
    }
    for follower in ["statement", "idle"] {
        eventually("they are named", async || set_aside(&bank, follower).await == poisons).await;
    }
    let before = connects(&context.nats);
    assert!(before <= 1 + 2 * poisons.len() as u64, "once for each and each that follows: {before}");
    for _ in 0..3 {
        deposit_and_see(&bank, "1").await;
    }
    assert_eq!(connects(&context.nats), before, "and not again");
    bank.stop().await;

    let nats = Nats::connect(context.url()).await.unwrap();
    let again = service(nats.context(&context.name).await.unwrap()).await;
    deposit_and_see(&again, "1").await;
    assert_eq!((set_aside(&again, "statement").await, connects(&nats)), (poisons, 1));
    again.stop().await;
}

/// The first message that a view gets, with none behind it that would show a gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_alone_in_the_log_is_passed() {
    let context = TestContext::new("alone").await;
    let bank = service(context.backend().await).await;
    poison(&context, &subject_of(&context, "1"), 0, b"{}").await;
    eventually("it is named", async || set_aside(&bank, "statement").await == [1]).await;
    bank.execute(open("2", 0)).await.unwrap();
    deposit_and_see(&bank, "2").await;
    assert_eq!(bank.progress().await.unwrap()[0].pending, 0);
    bank.stop().await;
}

/// The aggregate is damaged and reports that, and no other aggregate is affected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aggregate_with_one_names_it() {
    let context = TestContext::new("damaged").await;
    let events = context.backend().await.events;
    let nats = Nats::connect(context.url()).await.unwrap();
    let bank = async || {
        let backend = nats.context(&context.name).await.unwrap();
        Cqrs::builder(backend).aggregate::<Account>().start().await.unwrap()
    };
    let first: Cqrs<(Account,), ()> = bank().await;
    for account in ["1", "2"] {
        first.execute(open(account, 0)).await.unwrap();
    }
    poison(&context, &subject_of(&context, "1"), 0, b"{}").await;
    for _ in 0..5 {
        // A service without states in memory.
        let bank = bank().await;
        let error = bank.execute(deposit("1", 1)).await.unwrap_err();
        let CommandError::Failed(Error::Store(StoreError::NotACommit { sequence: 3, reason })) = &error
        else {
            panic!("{error:?}")
        };
        assert!(reason.contains("UTF-8"), "{reason}");
        bank.execute(deposit("2", 1)).await.unwrap();
    }
    assert!(connects(&nats) <= 2, "the connection was lost {} times", connects(&nats) - 1);

    for _ in 0..2 {
        let error = events.last(&key("1")).await.unwrap_err();
        assert!(matches!(error, StoreError::NotACommit { sequence: 3, .. }), "{error:?}");
        let error = events.next_after(&key("1"), 1).await.unwrap_err();
        assert!(matches!(error, StoreError::NotACommit { sequence: 3, .. }), "{error:?}");
        let unreadable = events.commit_at(3).await.unwrap().unwrap().unwrap_err();
        assert_eq!((unreadable.sequence, unreadable.aggregate), (3, key("1")));
    }
    assert!(connects(&context.nats) <= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_can_be_searched_counted_and_asked_for_its_end() {
    let context = TestContext::new("searched").await;
    let backend = context.backend().await;
    let events = backend.events.clone();
    let bank = Cqrs::builder(backend).aggregate::<Account>().start().await.unwrap();
    let mut transactions = Vec::new();
    for kind in 0..3 {
        poison(&context, &subject_of(&context, &format!("poison-{kind}")), kind, b"{}").await;
        let receipt = bank.execute(open(format!("{kind}"), 0)).await.unwrap();
        transactions.push((receipt.position.sequence, receipt.correlation_id));
    }
    poison(&context, &subject_of(&context, "last"), 0, b"{}").await;
    // The server has the last message, and may still be storing it.
    eventually("its end is that one", async || events.log(&["account"]).await.unwrap().last_sequence == 7)
        .await;
    let backlog = events.backlog(&["account"], 0).await.unwrap();
    assert_eq!(backlog.commits, 7);
    for (sequence, correlation_id) in transactions {
        let since = Timestamp::UNIX_EPOCH;
        let found = events.search(Search { correlation_id, since, max: 9 }).await.unwrap();
        let found: Vec<_> = found.commits.iter().map(|stored| stored.sequence).collect();
        assert_eq!(found, [sequence]);
    }
}

/// Any user who may publish may also write documents. The next save of the document replaces it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_with_some_are_read() {
    let context = TestContext::new("buckets").await;
    let backend = context.backend().await;
    let views = backend.views.clone();
    let bank = service(backend).await;
    bank.execute(open("1", 0)).await.unwrap();
    deposit_and_see(&bank, "1").await;
    let projection: ProjectionId = Statement::projection();
    let bucket = format!("$KV.{}__{projection}", context.name);
    for kind in 0..2 {
        // The same document, the same checkpoint, and a note that no projection has.
        let document = views.get(&projection, "1").await.unwrap().unwrap();
        poison(&context, &format!("{bucket}.d.1"), kind, &document).await;
        assert_eq!(views.get(&projection, "1").await.unwrap().as_ref(), Some(&document));
        assert_eq!(views.list(&projection).await.unwrap(), [("1".to_owned(), document)]);
        let checkpoint = views.checkpoint(&projection).await.unwrap().checkpoint.unwrap();
        let checkpoint = serde_json::to_vec(&checkpoint).unwrap();
        poison(&context, &format!("{bucket}.checkpoint"), kind, &checkpoint).await;
        deposit_and_see(&bank, "1").await;
        poison(&context, &format!("{bucket}.n.foreign"), kind, b"x").await;
        assert_eq!(views.notes(&projection, "foreign").await.unwrap().len(), 1);
    }
    let before = connects(&context.nats);
    for _ in 0..3 {
        deposit_and_see(&bank, "1").await;
        assert_eq!(views.list(&projection).await.unwrap().len(), 1);
        assert_eq!(views.notes(&projection, "foreign").await.unwrap().len(), 1);
    }
    assert_eq!(connects(&context.nats), before);
    bank.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_none_is_passed_over() {
    let context = TestContext::new("snapshot").await;
    let events = context.backend().await.events;
    let key = key("1");
    events.save_snapshot(&key, SnapshotPart::State, "a snapshot".into()).await.unwrap();
    poison(&context, &format!("$KV.{}__snapshots.account.1", context.name), 0, b"x").await;
    for _ in 0..3 {
        assert_eq!(events.load_snapshot(&key, SnapshotPart::State).await.unwrap(), None);
    }
    assert!(connects(&context.nats) <= 2);
    events.save_snapshot(&key, SnapshotPart::State, "another".into()).await.unwrap();
    assert_eq!(events.load_snapshot(&key, SnapshotPart::State).await.unwrap(), Some("another".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlines_go_on() {
    let context = TestContext::new("overdue").await;
    let events = context.backend().await.events;
    events.prepare().await.unwrap();
    let clock = || std::sync::Arc::new(SystemClock);
    let mut queue = events.due(clock()).await.unwrap();
    for kind in 0..3 {
        for place in ["due", "armed"] {
            poison(&context, &format!("{}.deadline.id-{kind}.{place}", context.name), kind, b"x").await;
        }
        let id = format!("id-{kind}");
        let (at, payload, arming) = (Timestamp::UNIX_EPOCH, "payload".into(), Uuid::new_v4());
        events.arm(&Deadline { id: id.clone(), at, payload, order: 1, arming }).await.unwrap();
        let due = loop {
            match queue.next().await {
                Ok(due) => break due,
                Err(error) => assert!(error.is_transient(), "{error:?}"),
            }
            while let Err(error) = events.due(clock()).await.map(|again| queue = again) {
                assert!(error.is_transient(), "{error:?}");
            }
        };
        assert_eq!((due.id(), &due.payload()[..]), (id.as_str(), &b"payload"[..]));
        due.done().await.unwrap();
    }
    let stream = context.stream() + "__DEADLINES";
    let jetstream = async_nats::jetstream::new(context.nats.client().clone());
    eventually("what cannot be read is removed", async || {
        // Each delivery of it ends the queue, and another queue is opened without it.
        let next = tokio::time::timeout(Duration::from_millis(10), queue.next()).await;
        if next.is_ok_and(|next| next.is_err())
            && let Ok(again) = events.due(clock()).await
        {
            queue = again;
        }
        let found = jetstream.get_stream(&stream).await;
        found.is_ok_and(|found| found.cached_info().state.messages == 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_that_takes_the_place_of_one_that_ended_hears_of_its_stream() {
    let context = TestContext::new("replaced").await;
    let events = context.backend().await.events;
    let key = key("1");
    let before = events.era();
    // A carriage return ends the client that receives it.
    poison(&context, &subject_of(&context, "1"), 2, b"x").await;
    assert!(events.read(&key, 0, 1).await.is_err());
    eventually("another client answers", async || events.log(&["account"]).await.is_ok()).await;
    assert_ne!(events.era(), before, "the log may be another one now");

    let other = async_nats::jetstream::new(async_nats::connect(context.url()).await.unwrap());
    eventually("it hears of the stream", async || {
        let before = events.era();
        let stream = other.get_stream(context.stream()).await.unwrap();
        // An update of the settings that changes nothing.
        other.update_stream(&stream.cached_info().config).await.unwrap();
        let heard = async {
            while events.era() == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(1), heard).await.is_ok()
    })
    .await;
}
