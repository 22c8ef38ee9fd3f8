//! The guarantees of a projection, on memory and on a real NATS server alike: events that cannot be applied, rebuilds,
//! changed versions, removed documents.

use std::time::Duration;

use cqrs_core::{
    Backend, Cqrs, Envelope, Error, EventId, OnFailure, Project, Query, Receipt, View,
    operate::ProjectorState,
    port::{Checkpoint, EventStore as _, ProjectionId, Save, ViewStore as _, Write},
};
use cqrs_tests::{
    domain::{Account, AccountEvent, Deposit, Open, Statement, key, statement},
    eventually,
};
use serde::{Deserialize, Serialize};

cqrs_tests::on_backends! { "projections", memory nats sliced: {
    what_cannot_be_applied_is_set_aside_with_what_follows_it
    a_dead_letter_can_be_given_up
    a_query_after_a_receipt_says_what_was_set_aside
    a_view_may_halt_instead
    too_many_dead_letters_halt_and_lose_nothing
    a_document_that_is_not_wanted_is_removed
    a_view_is_built_anew_beside_the_one_that_answers
    a_build_that_was_interrupted_goes_on
    a_changed_version_is_built_when_the_user_says_so
    a_log_that_lost_its_end_and_grew_again_is_refused
    what_a_projector_does_can_be_seen
    a_projector_that_stands_still_is_seen_to_fall_behind
    who_has_no_projectors_asks_and_looks_at_those_of_others
} }

/// The versions of the applied events; the rules panic at 13.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Picky {
    versions: Vec<u64>,
}

fn pick(versions: &mut Vec<u64>, event: &Envelope<AccountEvent>) {
    assert!(event.data != AccountEvent::Deposited { amount: 13 }, "no thirteen");
    versions.push(event.version);
}

impl View for Picky {
    const NAME: &'static str = "picky";
    type Of = Account;
}

impl Project<AccountEvent> for Picky {
    fn project(&mut self, event: &Envelope<AccountEvent>) {
        pick(&mut self.versions, event);
    }
}

#[derive(Query)]
#[query(view = Picky, answer = Option<Picky>)]
struct GetPicky {
    #[query(key)]
    account: String,
}

type Bank<V> = Cqrs<(Account,), (V,)>;

async fn bank<B: Backend, V: View>(backend: B) -> Bank<V> {
    Cqrs::builder(backend).aggregate::<Account>().view::<V>().start().await.unwrap()
}

async fn open<V: View>(bank: &Bank<V>, account: &str) -> Receipt {
    bank.execute(Open { account: account.into(), owner: "anna".into(), amount: 0 }).await.unwrap()
}

async fn deposit<V: View>(bank: &Bank<V>, account: &str, amount: u64) -> Receipt {
    bank.execute(Deposit { account: account.into(), amount }).await.unwrap()
}

async fn picked(bank: &Bank<Picky>, account: &str, after: &Receipt) -> Vec<u64> {
    let found = bank.query(GetPicky { account: account.into() }).after(after).await.unwrap();
    found.unwrap_or_default().versions
}

/// A projector reports a save after it, when a query that waits for the save may have been answered.
async fn counts(bank: &Bank<Picky>, dead_letters: usize) {
    eventually("the projector counts its dead letters", async || {
        bank.projectors()[0].dead_letters == dead_letters
    })
    .await;
}

async fn what_cannot_be_applied_is_set_aside_with_what_follows_it<B: Backend>(backend: B) {
    let bank = bank::<_, Picky>(backend).await;
    open(&bank, "a").await;
    open(&bank, "b").await;
    deposit(&bank, "a", 13).await;
    deposit(&bank, "a", 1).await;
    let seen = deposit(&bank, "b", 5).await;
    assert_eq!(picked(&bank, "b", &seen).await, [1, 2]);
    assert_eq!(picked(&bank, "a", &seen).await, [1], "nobody asked after what is missing");

    let dead = bank.dead_letters("picky").await.unwrap();
    let letters = dead.list().await.unwrap();
    let shown: Vec<_> = letters.iter().map(|letter| (letter.version.unwrap(), letter.behind)).collect();
    assert_eq!(shown, [(2, false), (3, true)]);
    assert!(letters[0].reason.contains("no thirteen"), "{}", letters[0].reason);
    assert_eq!(letters[0].event_type.as_deref(), Some("account.deposited"));
    let stored = dead.event(&letters[0]).await.unwrap().unwrap().unwrap();
    assert_eq!(stored.commit.events[0].data, r#"{"amount":13}"#);
    counts(&bank, 2).await;
    assert_eq!(bank.progress().await.unwrap()[0].dead_letters, 2);

    let again = dead.retry(&key("a")).await.unwrap();
    let stopped_at = again.stopped_at.unwrap();
    assert_eq!((again.applied, stopped_at.attempts, stopped_at.version), (0, 1, Some(2)));
    assert_eq!(picked(&bank, "a", &seen).await, [1], "order is kept: nothing behind it was applied");

    dead.edit(letters[0].position, r#"{"amount":12}"#).await.unwrap().unwrap();
    let again = dead.retry(&key("a")).await.unwrap();
    assert_eq!((again.applied, again.stopped_at), (2, None));
    assert_eq!(dead.list().await.unwrap(), []);
    assert_eq!(bank.progress().await.unwrap()[0].dead_letters, 0);
    let seen = deposit(&bank, "a", 2).await;
    assert_eq!(picked(&bank, "a", &seen).await, [1, 2, 3, 4], "the projector has noticed");
    counts(&bank, 0).await;
    let error = bank.dead_letters("picki").await.map(drop).unwrap_err();
    assert_eq!(error.to_string(), r#"there is no projection "picki" in this service, it has picky"#);
}

async fn a_dead_letter_can_be_given_up<B: Backend>(backend: B) {
    let bank = bank::<_, Picky>(backend).await;
    open(&bank, "a").await;
    deposit(&bank, "a", 13).await;
    let behind = deposit(&bank, "a", 1).await;
    bank.seen("picky", &behind).await.unwrap_err();
    let dead = bank.dead_letters("picky").await.unwrap();
    let dropped = dead.drop_first(&key("a")).await.unwrap().unwrap();
    assert_eq!(dropped.version, Some(2));
    assert_eq!(dead.drop_first(&key("b")).await.unwrap(), None);
    assert_eq!(dead.retry(&key("a")).await.unwrap().applied, 1);
    let seen = deposit(&bank, "a", 2).await;
    assert_eq!(picked(&bank, "a", &seen).await, [1, 3, 4]);
}

async fn a_query_after_a_receipt_says_what_was_set_aside<B: Backend + Clone>(backend: B) {
    let bank = bank::<_, Picky>(backend.clone()).await;
    let opened = open(&bank, "a").await;
    let other = open(&bank, "b").await;
    bank.caught_up().await.unwrap();
    let poison = deposit(&bank, "a", 13).await;
    let behind = deposit(&bank, "a", 1).await;
    // Another instance that runs no projectors gets the same answer.
    let builder = Cqrs::builder(backend).aggregate::<Account>().view::<Picky>();
    let looking: Bank<Picky> = builder.without_projectors().start().await.unwrap();
    for bank in [&bank, &looking] {
        for receipt in [&poison, &behind] {
            let asked = bank.query(GetPicky { account: "a".into() }).after(receipt).await;
            for error in [asked.unwrap_err(), bank.seen("picky", receipt).await.unwrap_err()] {
                let Error::SetAside { view, aggregate, position, reason, dead_letters } = error else {
                    panic!("{error:?}")
                };
                assert_eq!((view.as_str(), aggregate, position), ("picky-v1", key("a"), poison.position));
                assert!(reason.contains("no thirteen"), "{reason}");
                assert_eq!(dead_letters, if receipt == &poison { 1 } else { 2 });
            }
        }
        let error = bank.caught_up().await.unwrap_err();
        assert!(matches!(&error, Error::SetAside { dead_letters: 2, .. }), "{error:?}");
        // The events before it are there, and other aggregates are not affected.
        assert_eq!(picked(bank, "a", &opened).await, [1]);
        assert_eq!(picked(bank, "b", &other).await, [1]);
    }
    let dead = bank.dead_letters("picky").await.unwrap();
    dead.edit(poison.position, r#"{"amount":12}"#).await.unwrap().unwrap();
    dead.retry(&key("a")).await.unwrap();
    for bank in [&bank, &looking] {
        assert_eq!(picked(bank, "a", &behind).await, [1, 2, 3]);
        bank.caught_up().await.unwrap();
    }
}

/// The same, and it halts: no query is answered without the event of 13.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Strict {
    versions: Vec<u64>,
}

impl View for Strict {
    const NAME: &'static str = "strict";
    const ON_FAILURE: OnFailure = OnFailure::Halt;
    type Of = Account;
}

impl Project<AccountEvent> for Strict {
    fn project(&mut self, event: &Envelope<AccountEvent>) {
        pick(&mut self.versions, event);
    }
}

async fn a_view_may_halt_instead<B: Backend>(backend: B) {
    let bank = bank::<_, Strict>(backend).await;
    let opened = open(&bank, "a").await;
    bank.seen("strict", &opened).await.unwrap();
    let receipt = deposit(&bank, "a", 13).await;
    let error = bank.seen("strict", &receipt).await.unwrap_err();
    let Error::ProjectionHalted { reason, .. } = error else { panic!("{error:?}") };
    let expected = "strict-v1 failed at event account.deposited of account/a at sequence ";
    assert!(
        reason.starts_with(expected) && reason.ends_with(": the rules panicked: no thirteen"),
        "{reason}"
    );
    bank.seen("strict", &opened).await.expect("it still has what it had seen before");
    assert_eq!(bank.dead_letters("strict").await.unwrap().list().await.unwrap(), []);
}

async fn too_many_dead_letters_halt_and_lose_nothing<B: Backend>(backend: B) {
    let bank = bank::<_, Picky>(backend).await;
    // One after the other: events that share a commit share a letter.
    let account = async |account: u32| {
        let account = account.to_string();
        open(&bank, &account).await;
        deposit(&bank, &account, 13).await;
        for _ in 0..25 {
            deposit(&bank, &account, 1).await;
        }
    };
    futures_util::future::join_all((0..40).map(account)).await;
    let last = open(&bank, "last").await;
    let error = bank.seen("picky", &last).await.unwrap_err();
    let Error::ProjectionHalted { reason, .. } = error else { panic!("{error:?}") };
    assert!(reason.contains("has 1000 dead letters and no room for more"), "{reason}");
    let dead = bank.dead_letters("picky").await.unwrap();
    let parked = dead.list().await.unwrap().len();
    assert!((1..=1_000).contains(&parked), "{parked}");
    let first = dead.list().await.unwrap().swap_remove(0);
    dead.edit(first.position, r#"{"amount":12}"#).await.unwrap();
    let applied = dead.retry(&first.aggregate).await.unwrap().applied;
    let account = first.aggregate.id().to_owned();
    let versions = bank.query(GetPicky { account }).await.unwrap().unwrap().versions;
    assert_eq!(versions, (1..=applied as u64 + 1).collect::<Vec<_>>());
    assert_eq!(dead.list().await.unwrap().len(), parked - applied);
}

/// The accounts with an odd number of events: the others are not kept.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Odd {
    events: u64,
}

impl View for Odd {
    const NAME: &'static str = "odd";
    type Of = Account;

    fn is_kept(&self) -> bool {
        self.events % 2 == 1
    }
}

impl Project<AccountEvent> for Odd {
    fn project(&mut self, event: &Envelope<AccountEvent>) {
        self.events = event.version;
    }
}

#[derive(Query)]
#[query(view = Odd, answer = Option<Odd>)]
struct GetOdd {
    #[query(key)]
    account: String,
}

async fn a_document_that_is_not_wanted_is_removed<B: Backend>(backend: B) {
    let bank = bank::<_, Odd>(backend).await;
    let mut receipt = open(&bank, "a").await;
    for version in 1..=4 {
        let odd = bank.query(GetOdd { account: "a".into() }).after(&receipt).await.unwrap();
        assert_eq!(odd.map(|odd| odd.events), (version % 2 == 1).then_some(version));
        receipt = deposit(&bank, "a", 1).await;
    }
    open(&bank, "b").await;
    let receipt = deposit(&bank, "b", 1).await;
    assert_eq!(bank.query(GetOdd { account: "b".into() }).after(&receipt).await.unwrap(), None);
}

/// Writes a wrong value into a view's document, like a mistake in its rules would.
async fn spoil<B: Backend>(backend: B, id: &ProjectionId, account: &str) {
    let (_, views) = backend.split();
    loop {
        let saved = views.checkpoint(id).await.unwrap();
        let document = views.load(id, &[account.to_owned()]).await.unwrap().remove(0);
        let wrong = Statement { balance: -1, versions: Vec::new() };
        let content = serde_json::to_vec(&wrong).unwrap().into();
        let write = Write { key: account.into(), document: Some(content), revision: document.revision };
        let checkpoint = saved.checkpoint.unwrap();
        let save = Save { writes: &[write], notes: &[], checkpoint: &checkpoint, revision: saved.revision };
        if views.save(id, save).await.is_ok() {
            return;
        }
    }
}

async fn a_view_is_built_anew_beside_the_one_that_answers<B: Backend + Clone>(backend: B) {
    let first = ProjectionId::new("statement", 1);
    let bank = bank::<_, Statement>(backend.clone()).await;
    let mut receipt = open(&bank, "spoilt").await;
    for account in 0..50 {
        receipt = open(&bank, &account.to_string()).await;
        deposit(&bank, &account.to_string(), 1).await;
    }
    bank.query(statement("0")).after(&receipt).await.unwrap();
    spoil(backend.clone(), &first, "spoilt").await;
    assert_eq!(bank.query(statement("spoilt")).await.unwrap().unwrap().balance, -1);

    let writer = {
        let bank = bank.clone();
        tokio::spawn(async move {
            let mut last = None;
            for _ in 0..200 {
                last = Some(deposit(&bank, "0", 1).await);
            }
            last.unwrap()
        })
    };
    // A reader that queries all the time never sees an account go back in time, or missing.
    let reader = {
        let bank = bank.clone();
        tokio::spawn(async move {
            let mut seen = 0;
            while seen < 202 {
                let statement =
                    bank.query(statement("0")).await.unwrap().expect("the account was there before");
                assert!(statement.versions.len() >= seen, "{} after {seen}", statement.versions.len());
                seen = statement.versions.len();
                let other = bank.query(self::statement("49")).await.unwrap().expect("it was there before");
                assert!(!other.versions.is_empty());
                tokio::task::yield_now().await;
            }
        })
    };
    let mut rebuild = bank.rebuild("statement").await.unwrap();
    rebuild.finished().await.unwrap();
    assert!(rebuild.is_finished());
    let second = ProjectionId { build: 2, ..first };
    assert_eq!(bank.active_build("statement").await.unwrap(), Some(second.clone()));
    assert_eq!(bank.query(statement("spoilt")).await.unwrap().unwrap().balance, 0);
    let last = writer.await.unwrap();
    let seen = bank.query(statement("0")).after(&last).await.unwrap().unwrap();
    assert_eq!(seen.versions, (1..=202).collect::<Vec<_>>());
    reader.await.unwrap();

    // Another instance finds the new build, and the old one exists until it is removed.
    let other = self::bank::<_, Statement>(backend.clone()).await;
    assert_eq!(other.active_build("statement").await.unwrap(), Some(second));
    assert_eq!(other.query(statement("spoilt")).await.unwrap().unwrap().balance, 0);
    let (_, views) = backend.split();
    assert!(views.get(&first, "spoilt").await.unwrap().is_some());
    assert_eq!(bank.remove_old_builds("statement").await.unwrap(), std::slice::from_ref(&first));
    views.open(&first).await.unwrap();
    assert_eq!(views.get(&first, "spoilt").await.unwrap(), None);
}

async fn a_build_that_was_interrupted_goes_on<B: Backend + Clone>(backend: B) {
    let bank = bank::<_, Statement>(backend.clone()).await;
    let receipt = open(&bank, "a").await;
    bank.query(statement("a")).after(&receipt).await.unwrap();
    // It has begun, and all instances stop before it has applied anything.
    let beginning = bank.rebuild("statement");
    let (rebuild, _) = tokio::join!(beginning, bank.stop());
    drop(rebuild);
    drop(bank);
    let bank = self::bank::<_, Statement>(backend).await;
    let second = ProjectionId { build: 2, ..ProjectionId::new("statement", 1) };
    eventually("the second build answers", async || {
        bank.active_build("statement").await.unwrap() == Some(second.clone())
    })
    .await;
    let receipt = deposit(&bank, "a", 1).await;
    assert_eq!(bank.query(statement("a")).after(&receipt).await.unwrap().unwrap().versions, [1, 2]);
}

/// The statement with other rules and another shape.
#[derive(Debug, Default, Serialize, Deserialize)]
struct StatementInCents {
    cents: u64,
}

impl View for StatementInCents {
    const NAME: &'static str = "statement";
    const VERSION: u32 = 2;
    type Of = Account;
}

impl Project<AccountEvent> for StatementInCents {
    fn project(&mut self, event: &Envelope<AccountEvent>) {
        if let AccountEvent::Deposited { amount } = event.data {
            self.cents += amount * 100;
        }
    }
}

#[derive(Query)]
#[query(view = StatementInCents, answer = Option<StatementInCents>)]
struct GetStatementInCents {
    #[query(key)]
    account: String,
}

async fn a_changed_version_is_built_when_the_user_says_so<B: Backend + Clone>(backend: B) {
    let old = bank::<_, Statement>(backend.clone()).await;
    open(&old, "a").await;
    let receipt = deposit(&old, "a", 7).await;
    assert_eq!(old.query(statement("a")).after(&receipt).await.unwrap().unwrap().balance, 7);

    let builder = || Cqrs::builder(backend.clone()).aggregate::<Account>().view::<StatementInCents>();
    let error = builder().start().await.map(drop).unwrap_err();
    assert!(matches!(&error, Error::Config(reason) if reason.contains("build_changed_views")), "{error}");

    let new = builder().build_changed_views().start().await.unwrap();
    let receipt = deposit(&new, "a", 1).await;
    let cents = new.query(GetStatementInCents { account: "a".into() }).after(&receipt).await.unwrap();
    assert_eq!(cents.unwrap().cents, 800);
    assert_eq!(
        old.query(statement("a")).after(&receipt).await.unwrap().unwrap().balance,
        8,
        "the old program goes on"
    );
    old.stop().await;
    let removed = new.remove_old_builds("statement").await.unwrap();
    assert_eq!(removed, [ProjectionId::new("statement", 1)]);
    // It is the version that exists now.
    builder().start().await.unwrap();
}

async fn a_log_that_lost_its_end_and_grew_again_is_refused<B: Backend + Clone>(backend: B) {
    let first = bank::<_, Statement>(backend.clone()).await;
    let receipt = open(&first, "a").await;
    first.seen("statement", &receipt).await.unwrap();
    first.stop().await;
    // The checkpoint of a view that has seen another event at the same position.
    let (_, views) = backend.clone().split();
    let id = ProjectionId::new("statement", 1);
    let saved = views.checkpoint(&id).await.unwrap();
    let checkpoint = saved.checkpoint.unwrap();
    assert_eq!(checkpoint.sequence, receipt.position.sequence);
    let other = Checkpoint { event: Some(EventId(uuid::Uuid::from_u128(7))), ..checkpoint };
    let save = Save { writes: &[], notes: &[], checkpoint: &other, revision: saved.revision };
    views.save(&id, save).await.unwrap();

    let second = bank::<_, Statement>(backend).await;
    let receipt = deposit(&second, "a", 1).await;
    let error = second.seen("statement", &receipt).await.unwrap_err();
    let Error::ProjectionHalted { reason, .. } = error else { panic!("{error:?}") };
    assert!(reason.contains("was built from log"), "{reason}");
}

async fn what_a_projector_does_can_be_seen<B: Backend>(backend: B) {
    let bank = bank::<_, Statement>(backend).await;
    open(&bank, "a").await;
    let receipt = deposit(&bank, "a", 1).await;
    bank.seen("statement", &receipt).await.unwrap();
    eventually("the projector tells where it is", async || {
        bank.projectors()[0].sequence == receipt.position.sequence
    })
    .await;
    let status = bank.projectors().swap_remove(0);
    assert_eq!(status.state, ProjectorState::Running);
    assert_eq!((status.pending, status.remaining()), (0, Some(Duration::ZERO)));
    assert!(status.rate > 0);
    let last = status.last_event.unwrap();
    assert_eq!(status.lag(last), Duration::ZERO);
    bank.stop().await;
    assert_eq!(bank.projectors()[0].state, ProjectorState::Stopped);
}

/// The times of the account's events, by version.
async fn times<B: Backend>(events: &B::Events, account: &str) -> Vec<jiff::Timestamp> {
    let page = events.read(&key(account), 0, 100).await.unwrap();
    page.commits.iter().flat_map(|stored| &stored.commit.events).map(|event| event.origin.time).collect()
}

async fn a_projector_that_stands_still_is_seen_to_fall_behind<B: Backend + Clone>(backend: B) {
    let (events, _) = backend.clone().split();
    let bank = bank::<_, Strict>(backend).await;
    open(&bank, "a").await;
    let before = deposit(&bank, "a", 1).await;
    bank.seen(Strict::NAME, &before).await.unwrap();
    let refused = deposit(&bank, "a", 13).await;
    let error = bank.seen(Strict::NAME, &refused).await.unwrap_err();
    assert!(matches!(error, Error::ProjectionHalted { .. }), "{error:?}");
    for _ in 0..4 {
        deposit(&bank, "a", 1).await;
    }
    let status = bank.progress().await.unwrap().swap_remove(0);
    assert!(matches!(status.state, ProjectorState::Halted { .. }), "{status:?}");
    assert_eq!((status.sequence, status.pending), (refused.position.sequence - 1, 5));
    let waits_since = times::<B>(&events, "a").await[2];
    assert_eq!(status.pending_since, Some(waits_since));
    assert_eq!(status.lag(waits_since + Duration::from_mins(1)), Duration::from_mins(1));
}

async fn who_has_no_projectors_asks_and_looks_at_those_of_others<B: Backend + Clone>(backend: B) {
    let builder = Cqrs::builder(backend.clone()).aggregate::<Account>().view::<Statement>();
    let looking: Bank<Statement> = builder.without_projectors().start().await.unwrap();
    open(&looking, "a").await;
    let receipt = deposit(&looking, "a", 1).await;
    let status = looking.progress().await.unwrap().swap_remove(0);
    assert_eq!((&status.state, status.sequence, status.pending), (&ProjectorState::Elsewhere, 0, 2));
    assert_eq!(status.active, Some(false), "no process runs it");
    let early = looking.query(statement("a")).after(&receipt).patience(Duration::from_millis(50)).await;
    assert!(matches!(early, Err(Error::ViewBehind { .. })), "{early:?}");

    let projecting = bank::<_, Statement>(backend).await;
    assert_eq!(looking.query(statement("a")).after(&receipt).await.unwrap().unwrap().versions, [1, 2]);
    let status = looking.progress().await.unwrap().swap_remove(0);
    assert_eq!((status.sequence, status.pending), (receipt.position.sequence, 0));
    assert_eq!((status.remaining(), status.active), (Some(Duration::ZERO), Some(true)));
    projecting.stop().await;
    deposit(&projecting, "a", 1).await;
    let status = looking.progress().await.unwrap().swap_remove(0);
    assert_eq!((status.pending, status.active), (1, Some(false)), "its process has ended");
}
