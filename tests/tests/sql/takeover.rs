//! A build becomes active in place of another while several instances answer queries, on every view store: no reader
//! sees an older state, whichever instance it queries, and an interrupted switch is continued or withdrawn.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use cqrs_core::{
    Backend, CommandError, Error, View as _,
    memory::Memory,
    operate::ProjectorState,
    port::{ProjectionId, Save, ViewStore},
};
use cqrs_nats::NatsEvents;
use cqrs_sql::SqliteViews;
use cqrs_tests::{
    TestContext,
    domain::{Bank, Open, Statement, bank, deposit, statement},
    eventually,
    postgres::TestDatabase,
};
use tokio::time::sleep;

macro_rules! on_every_store {
    ($($case:ident)+) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let backend = super::Memory::default();
                super::$case([backend.clone(), backend]).await;
            })+
        }
        mod kv {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let context = super::TestContext::new("takeover").await;
                super::$case([context.backend().await, context.backend().await]).await;
            })+
        }
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let context = super::TestContext::new("takeover").await;
                let folder = tempfile::tempdir().unwrap();
                let file = folder.path().join("views.db");
                let views = async || super::SqliteViews::open(&file, "takeover").await.unwrap();
                super::$case(super::beside(&context, [views().await, views().await]).await).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let context = super::TestContext::new("takeover").await;
                let database = super::TestDatabase::new("takeover").await;
                let views = [database.views().await, database.views().await];
                super::$case(super::beside(&context, views).await).await;
            })+
        }
    };
}

on_every_store! {
    who_asks_two_instances_never_goes_back_in_time
    a_switch_that_was_interrupted_goes_on
    a_build_is_given_up_in_all_instances
    a_seal_that_leads_to_nothing_is_taken_back
}

async fn beside<V: ViewStore>(context: &TestContext, views: [V; 2]) -> [(NatsEvents, V); 2] {
    let [one, other] = views;
    [(context.backend().await.events, one), (context.backend().await.events, other)]
}

const FIRST: ProjectionId = ProjectionId::new(Statement::NAME, 1);
const SECOND: ProjectionId = ProjectionId { build: 2, ..FIRST };

async fn open(bank: &Bank) {
    let opened = bank.execute(Open { account: "1".into(), owner: "anna".into(), amount: 0 }).await.unwrap();
    bank.seen(Statement::NAME, &opened).await.unwrap();
}

/// The number of events in the statement, as an instance answers.
async fn asked(bank: &Bank) -> usize {
    bank.query(statement("1")).await.unwrap().unwrap().versions.len()
}

/// Makes a deposit and waits until this instance's view has it, all in order.
async fn deposit_and_see(bank: &Bank) {
    let receipt = bank.execute(deposit("1", 1)).await.unwrap();
    let query = bank.query(statement("1")).after(&receipt);
    let seen = query.patience(Duration::from_mins(1)).await.unwrap().unwrap();
    assert!(seen.versions.len() as u64 >= receipt.version);
    assert_eq!(seen.versions, (1..=seen.versions.len() as u64).collect::<Vec<_>>());
}

async fn until_answers(bank: &Bank, id: &ProjectionId) {
    eventually("the build answers", async || {
        bank.active_build(Statement::NAME).await.unwrap().as_ref() == Some(id)
    })
    .await;
}

async fn who_asks_two_instances_never_goes_back_in_time<B: Backend>([one, other]: [B; 2]) {
    let banks = [bank(one).await, bank(other).await];
    open(&banks[0]).await;
    let over = Arc::new(AtomicBool::new(false));
    let writers = banks.each_ref().map(|bank| {
        let (bank, over) = (bank.clone(), Arc::clone(&over));
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                // The other writer may be faster each time.
                match bank.execute(deposit("1", 1)).await {
                    Ok(_) | Err(CommandError::Failed(Error::Conflict { .. })) => {}
                    Err(error) => panic!("{error:?}"),
                }
                // The statement grows with each event, and so does the time to write it.
                sleep(Duration::from_millis(1)).await;
            }
        })
    });
    let reader = {
        let (banks, over) = (banks.clone(), Arc::clone(&over));
        tokio::spawn(async move {
            let (mut seen, mut back) = (0, Vec::new());
            for bank in banks.iter().cycle() {
                let now = asked(bank).await;
                if now < seen {
                    back.push((seen, now));
                }
                seen = now;
                if over.load(Ordering::Relaxed) {
                    break;
                }
            }
            back
        })
    };
    for build in 2..4 {
        let id = ProjectionId { build, ..FIRST };
        banks[build as usize % 2].rebuild(Statement::NAME).await.unwrap().finished().await.unwrap();
        for bank in &banks {
            until_answers(bank, &id).await;
        }
    }
    over.store(true, Ordering::Relaxed);
    assert_eq!(reader.await.unwrap(), [], "what was seen, and what came after it");
    for (bank, writer) in banks.iter().zip(writers) {
        writer.await.unwrap();
        deposit_and_see(bank).await;
        bank.stop().await;
    }
}

/// Seals the first build for the first attempt, like an instance does right before a switch.
async fn seal(views: &impl ViewStore) {
    loop {
        let saved = views.checkpoint(&FIRST).await.unwrap();
        let sealed = cqrs_core::port::Checkpoint { sealed: Some(1), ..saved.checkpoint.unwrap() };
        let save = Save { writes: &[], notes: &[], checkpoint: &sealed, revision: saved.revision };
        if views.save(&FIRST, save).await.is_ok() {
            return;
        }
    }
}

async fn a_switch_that_was_interrupted_goes_on<B: Backend>([one, other]: [B; 2]) {
    let first = bank(one).await;
    open(&first).await;
    deposit_and_see(&first).await;
    first.stop().await;
    // An instance that dies when it has sealed the active build leaves this behind.
    let (events, views) = other.split();
    let noted = views.about(Statement::NAME).await.unwrap();
    let note = r#"{"versions":{"1":{"active":1,"building":2,"last":2,"switching":1,"attempts":1}}}"#;
    views.set_about(Statement::NAME, Bytes::from_static(note.as_bytes()), noted.revision).await.unwrap();
    seal(&views).await;
    first.execute(deposit("1", 1)).await.unwrap();

    let second = bank((events, views)).await;
    assert_eq!(asked(&second).await, 2, "the sealed build answers, and stands still");
    deposit_and_see(&second).await;
    until_answers(&second, &SECOND).await;
    assert_eq!(asked(&second).await, 4);
    second.stop().await;
}

async fn a_seal_that_leads_to_nothing_is_taken_back<B: Backend>([one, other]: [B; 2]) {
    let first = bank(one).await;
    open(&first).await;
    let (_, views) = other.split();
    seal(&views).await;
    // The projector finds the seal with the next event at the latest.
    deposit_and_see(&first).await;
    assert_eq!(views.checkpoint(&FIRST).await.unwrap().checkpoint.unwrap().sealed, None);
    first.stop().await;
}

async fn a_build_is_given_up_in_all_instances<B: Backend + Clone>([one, other]: [B; 2]) {
    let (_, views) = other.clone().split();
    let banks = [bank(one).await, bank(other).await];
    open(&banks[0]).await;
    assert_eq!(banks[0].abandon_rebuild(Statement::NAME).await.unwrap(), None);
    let mut rebuild = banks[0].rebuild(Statement::NAME).await.unwrap();
    let builds =
        |bank: &Bank| bank.projectors().into_iter().map(|status| status.projection.build).collect::<Vec<_>>();
    eventually("the other one builds it as well", async || builds(&banks[1]) == [1, 2]).await;
    assert_eq!(banks[1].abandon_rebuild(Statement::NAME).await.unwrap(), Some(SECOND));
    let error = rebuild.finished().await.unwrap_err();
    assert!(matches!(error, Error::RebuildAbandoned { .. }), "{error:?}");
    for bank in &banks {
        eventually("nobody builds it", async || builds(bank) == [1]).await;
        deposit_and_see(bank).await;
        assert_eq!(bank.active_build(Statement::NAME).await.unwrap(), Some(FIRST));
        eventually("it runs", async || bank.projectors()[0].state == ProjectorState::Running).await;
    }
    eventually("nothing is left of it", async || {
        views.open(&SECOND).await.unwrap();
        views.checkpoint(&SECOND).await.is_ok_and(|saved| saved.checkpoint.is_none())
    })
    .await;
    // The next attempt has another number.
    let third = ProjectionId { build: 3, ..FIRST };
    banks[0].rebuild(Statement::NAME).await.unwrap().finished().await.unwrap();
    for bank in &banks {
        until_answers(bank, &third).await;
        deposit_and_see(bank).await;
        bank.stop().await;
    }
}
