//! Calls that wait for a projection wait as long as it makes progress, and then return its position.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use cqrs_core::{
    Cqrs, Error, StoreError,
    memory::{Memory, MemoryEvents, MemoryViews},
    port::{
        Batch, ProjectError, Projection, ProjectionId, ProjectionSettings, Reached, Save, SaveError,
        SavedCheckpoint, SavedDocument, ViewStore,
    },
};
use cqrs_tests::domain::{Account, deposit, open};
use tokio::{sync::Notify, time::Instant};

const SLOW: ProjectionId = ProjectionId::new("slow", 1);

/// How many events there are.
const EVENTS: u64 = 6;

/// A projection that is slow for each event, and of which one build makes no more progress after some of them.
#[derive(Default)]
struct Slow {
    views: MemoryViews,
    stuck: Option<(u32, u64)>,
    /// How often its store does not return the position.
    outages: AtomicU32,
    /// Whether its store does not return the checkpoint.
    is_silent: bool,
    /// Signals that the documents of the second build are being removed, and that its projector has noticed.
    removed: Option<Arc<[Notify; 2]>>,
}

impl Projection for Slow {
    type Store = MemoryViews;

    fn store(&self) -> &MemoryViews {
        &self.views
    }

    fn settings(&self) -> ProjectionSettings {
        ProjectionSettings::new(vec!["account"], 1)
    }

    async fn checkpoint(&self, projection: &ProjectionId) -> Result<SavedCheckpoint, StoreError> {
        if self.is_silent {
            pending::<()>().await;
        }
        self.views.checkpoint(projection).await
    }

    async fn project(&self, projection: &ProjectionId, batch: Batch<'_>) -> Result<u64, ProjectError> {
        if let Some([removed, noticed]) = self.removed.as_deref().filter(|_| projection.build == 2) {
            removed.notified().await;
            noticed.notify_one();
            return Err(StoreError::Refused { what: "a save".into(), source: None }.into());
        }
        if self.stuck.is_some_and(|(build, after)| {
            build == projection.build && !batch.events.is_empty() && batch.checkpoint.sequence > after
        }) {
            pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_secs(50) * u32::try_from(batch.events.len()).unwrap()).await;
        let Batch { notes, checkpoint, revision, .. } = batch;
        Ok(self.views.save(projection, Save { writes: &[], notes, checkpoint, revision }).await?)
    }

    async fn reached(&self, projection: &ProjectionId, sequence: u64) -> Result<Reached, StoreError> {
        if self.outages.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Err(StoreError::Unavailable { what: "the test's plan".into(), source: None });
        }
        self.views.reached(projection, sequence).await
    }

    async fn remove(&self, projection: &ProjectionId) -> Result<(), StoreError> {
        if let Some([removed, noticed]) = self.removed.as_deref() {
            removed.notify_one();
            noticed.notified().await;
            // The projector of the other instance must halt before that instance reads which builds there are.
            tokio::task::yield_now().await;
        }
        self.views.remove(projection).await
    }
}

/// A service with some events that its projection has still to apply.
async fn bank(stuck: Option<(u32, u64)>) -> Cqrs<(Account,), ()> {
    bank_with(Slow { stuck, ..Slow::default() }).await
}

async fn bank_with(slow: Slow) -> Cqrs<(Account,), ()> {
    let builder = Cqrs::builder(Memory::default()).aggregate::<Account>().projection(SLOW, slow);
    let bank = builder.start().await.unwrap();
    bank.execute(open("1", 0)).await.unwrap();
    for _ in 1..EVENTS {
        bank.execute(deposit("1", 1)).await.unwrap();
    }
    bank
}

fn behind(error: &Error) -> (&'static str, u64, u64, Duration) {
    let Error::ViewBehind { view, at, sequence, waited } = error else { panic!("{error:?}") };
    (view, *at, *sequence, *waited)
}

#[tokio::test(start_paused = true)]
async fn what_gets_further_is_waited_for() {
    let bank = bank(None).await;
    bank.caught_up().await.unwrap();
    assert_eq!(bank.projectors()[0].sequence, EVENTS);
    bank.rebuild(SLOW.name).await.unwrap().finished().await.unwrap();
    assert_eq!(bank.active_build(SLOW.name).await.unwrap().unwrap().build, 2);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_for_a_while_is_asked_again() {
    let bank = bank_with(Slow { outages: 7.into(), ..Slow::default() }).await;
    bank.caught_up().await.unwrap();
    assert_eq!(bank.projectors()[0].sequence, EVENTS);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_at_all_is_the_reason_why_nothing_is_waited_for() {
    let bank = bank_with(Slow { outages: u32::MAX.into(), stuck: Some((1, 4)), ..Slow::default() }).await;
    let error = bank.caught_up().await.unwrap_err();
    assert_eq!(error.to_string(), "the store did not answer: the test's plan");
}

#[tokio::test(start_paused = true)]
async fn what_stands_still_is_given_up_with_where_it_stands_and_where_it_should_be() {
    let bank = bank(Some((1, 4))).await;
    let error = bank.caught_up().await.unwrap_err();
    assert_eq!(error.to_string(), "slow is at sequence 4 and did not reach 6 within 60s");
    assert_eq!(behind(&error), (SLOW.name, 4, EVENTS, Duration::from_mins(1)));
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_that_stands_still_is_told_and_can_be_given_up() {
    let bank = bank(Some((2, 3))).await;
    bank.caught_up().await.unwrap();
    let mut rebuild = bank.rebuild(SLOW.name).await.unwrap();
    let error = rebuild.finished().await.unwrap_err();
    assert_eq!(behind(&error), (SLOW.name, 3, EVENTS, Duration::from_mins(1)));
    bank.caught_up().await.expect("the build before it answers");
}

#[tokio::test(start_paused = true)]
async fn a_build_that_another_instance_gives_up_is_given_up_also_where_its_projector_halts_first() {
    let (memory, removed) = (Memory::default(), Arc::new([Notify::new(), Notify::new()]));
    let slow = || Slow { removed: Some(Arc::clone(&removed)), ..Slow::default() };
    let builder = Cqrs::builder(memory.clone()).aggregate::<Account>().projection(SLOW, slow());
    let one: Cqrs<(Account,), ()> = builder.start().await.unwrap();
    one.execute(open("1", 0)).await.unwrap();
    let mut rebuild = one.rebuild(SLOW.name).await.unwrap();
    let other = Cqrs::builder(memory.clone()).aggregate::<Account>().projection(SLOW, slow());
    let other: Cqrs<(Account,), ()> = other.without_projectors().start().await.unwrap();
    // By then the projector of the build has received its event, and waits in `project`.
    tokio::time::sleep(Duration::from_secs(100)).await;
    let (finished, abandoned) = tokio::join!(rebuild.finished(), other.abandon_rebuild(SLOW.name));
    assert_eq!(abandoned.unwrap().map(|id| id.build), Some(2));
    let error = finished.unwrap_err();
    assert!(matches!(error, Error::RebuildAbandoned { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn who_asks_how_far_everything_is_waits_no_longer_than_for_what_stands_still() {
    let slow = Slow { is_silent: true, ..Slow::default() };
    let builder = Cqrs::builder(Memory::default()).aggregate::<Account>().projection(SLOW, slow);
    let bank: Cqrs<(Account,), ()> = builder.patience(Duration::from_secs(7)).start().await.unwrap();
    let error = bank.progress().await.unwrap_err();
    assert!(matches!(error, Error::Store(StoreError::Unavailable { .. })), "{error:?}");
    assert!(error.to_string().contains("slow-v1"), "{error}");
}

/// A view store that does not say for a while, or ever, which builds there are.
struct Silent {
    views: MemoryViews,
    error: fn() -> StoreError,
    left: AtomicU32,
}

impl ViewStore for Silent {
    cqrs_tests::pass_on! {
        to views: open checkpoint load notes max_writes place get list page reached remove set_about
    }

    async fn save(&self, projection: &ProjectionId, save: Save<'_>) -> Result<u64, SaveError> {
        self.views.save(projection, save).await
    }

    async fn about(&self, view: &str) -> Result<SavedDocument, StoreError> {
        if self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Err((self.error)());
        }
        self.views.about(view).await
    }
}

fn no_answer() -> StoreError {
    StoreError::Unavailable { what: "the test's plan".into(), source: None }
}

/// How long a service took to start, and whether it did.
async fn starting(error: fn() -> StoreError, times: u32) -> (Duration, Result<(), Error>) {
    let views = Silent { views: MemoryViews::default(), error, left: times.into() };
    let builder = Cqrs::builder((MemoryEvents::default(), views)).projection(SLOW, Slow::default());
    let began = Instant::now();
    let started = builder.start().await.map(drop);
    (began.elapsed(), started)
}

#[tokio::test(start_paused = true)]
async fn a_service_starts_when_a_store_answers_again_and_does_not_wait_for_what_stays() {
    let (_, started) = starting(no_answer, 20).await;
    started.unwrap();
    let (waited, started) = starting(no_answer, u32::MAX).await;
    assert!(matches!(started, Err(Error::Store(StoreError::Unavailable { .. }))), "{started:?}");
    assert!(waited > Duration::from_secs(14) && waited <= Duration::from_secs(15), "{waited:?}");
    let refusal = || StoreError::Refused { what: "the test's plan".into(), source: None };
    let (waited, started) = starting(refusal, 1).await;
    assert!(matches!(started, Err(Error::Store(StoreError::Refused { .. }))), "{started:?}");
    assert_eq!(waited, Duration::ZERO);
}
