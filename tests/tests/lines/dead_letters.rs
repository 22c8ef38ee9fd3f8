//! What a projection cannot apply is one line for each event, which says by itself of which projection, aggregate and
//! position it is.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use cqrs_core::{
    Cqrs, Envelope, Error, EventHandler, HandlerError, On, OnFailure, Project, Retry, Start, StoreError,
    View,
    memory::{MemoryEvents, MemoryViews},
    port::{ProjectionId, Save, SaveError, ViewStore},
};
use cqrs_tests::{
    TestContext,
    domain::{Account, AccountEvent, Statement, deposit, open},
    lines::Lines,
};
use serde::{Deserialize, Serialize};

use crate::stores::Stores;

const WARNINGS: [&str; 2] = ["WARN", "ERROR"];

fn is_thirteen(event: &Envelope<AccountEvent>) -> bool {
    event.data == AccountEvent::Deposited { amount: 13 }
}

/// Its rules panic at 13.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Picky;

impl View for Picky {
    const NAME: &'static str = "picky";
    type Of = Account;
}

impl Project<AccountEvent> for Picky {
    fn project(&mut self, event: &Envelope<AccountEvent>) {
        assert!(!is_thirteen(event), "no thirteen");
    }
}

/// Fails at 13.
struct Mailer;

/// Fails at 13, and halts.
struct Strict;

macro_rules! fails_at_thirteen {
    ($($name:ident $stored:literal $on_failure:ident;)+) => {
        $(impl EventHandler for $name {
            const NAME: &'static str = $stored;
            const START: Start = Start::Beginning;
            const ON_FAILURE: OnFailure = OnFailure::$on_failure;
            const RETRY: Retry = Retry::NEVER;
            type Of = Account;
        }

        impl On<AccountEvent> for $name {
            async fn on(&self, event: &Envelope<AccountEvent>) -> Result<(), HandlerError> {
                if is_thirteen(event) { Err(HandlerError::permanent("no mail for 13")) } else { Ok(()) }
            }
        })+
    };
}

fails_at_thirteen! {
    Mailer "mailer" Park;
    Strict "strict" Halt;
}

#[tokio::test]
async fn a_dead_letter_is_one_warning_that_needs_no_span() {
    let lines = Lines::collect();
    for stores in Stores::all().await {
        let before = lines.without_spans(&WARNINGS).len();
        let builder = Cqrs::builder(stores.backend.clone()).aggregate::<Account>().view::<Picky>();
        let bank = builder.event_handler(Mailer).event_handler(Strict).start().await.unwrap();
        bank.execute(open("1\n2", 1)).await.unwrap();
        let thirteen = bank.execute(deposit("1\n2", 13)).await.unwrap();
        let behind = bank.execute(deposit("1\n2", 1)).await.unwrap();
        for name in ["picky", "mailer"] {
            let error = bank.seen(name, &behind).await.unwrap_err();
            assert!(matches!(error, Error::SetAside { dead_letters: 2, .. }), "{}: {error:?}", stores.name);
        }
        let error = bank.seen("strict", &thirteen).await.unwrap_err();
        assert!(matches!(error, Error::ProjectionHalted { .. }), "{}: {error:?}", stores.name);

        let sequence = thirteen.position.sequence;
        let set_aside = |projection: &str, reason: &str| {
            format!(
                "WARN cqrs_core::projector::dead_letter: an event is set aside as a dead letter \
                 projection={projection} aggregate=\"account/1\\n2\" event_type=\"account.deposited\" \
                 sequence={sequence} index=0 reason=\"{reason}\""
            )
        };
        let mut found = lines.without_spans(&WARNINGS).split_off(before);
        found.sort();
        let halted = format!(
            "ERROR cqrs_core::projector::projector: the projector has halted projection=strict-v1 reason=\"strict-v1 \
             failed at event account.deposited of account/1\\n2 at sequence {sequence}: no mail for 13\""
        );
        let expected = [
            halted,
            set_aside("mailer-v1", "no mail for 13"),
            set_aside("picky-v1", "the rules panicked: no thirteen"),
        ];
        assert_eq!(found, expected, "on {}", stores.name);
        bank.stop().await;
    }
}

#[tokio::test]
async fn a_message_that_is_no_commit_is_one_warning_too() {
    let lines = Lines::collect();
    let context = TestContext::new("lines").await;
    let builder = Cqrs::builder(context.backend().await).aggregate::<Account>().view::<Statement>();
    let bank = builder.start().await.unwrap();
    let client = context.nats.client();
    client.publish(format!("{}.event.account.7", context.name), "no commit".into()).await.unwrap();
    client.flush().await.unwrap();
    bank.execute(open("1", 1)).await.unwrap();
    assert!(bank.caught_up().await.is_err());
    let warned = lines.without_spans(&WARNINGS);
    let [line] = &warned[..] else { panic!("{warned:?}") };
    let expected = "projection=statement-v1 aggregate=\"account/7\" sequence=1 index=0 reason=\"";
    assert!(line.contains(expected), "{line}");
    bank.stop().await;
}

/// Views whose next saves are stored, and whose answers are lost.
#[derive(Clone, Default)]
struct Deaf {
    inner: MemoryViews,
    left: Arc<AtomicU32>,
    /// Whether such a save is stored.
    stores: bool,
}

#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl ViewStore for Deaf {
    cqrs_tests::pass_on! { to inner: all views but save }

    async fn save(&self, projection: &ProjectionId, save: Save<'_>) -> Result<u64, SaveError> {
        let has_letter = save.notes.iter().any(|note| note.key.starts_with("dead/"));
        let fails =
            has_letter && self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        if !fails {
            return self.inner.save(projection, save).await;
        }
        if self.stores {
            self.inner.save(projection, save).await?;
        }
        Err(StoreError::Unavailable { what: "the test's plan".into(), source: None }.into())
    }
}

#[tokio::test]
async fn a_dead_letter_is_said_once_however_often_it_is_saved() {
    let lines = Lines::collect();
    let said = || lines.text().matches("an event is set aside as a dead letter").count();
    for (round, stores) in [false, true].into_iter().enumerate() {
        let views = Deaf { left: Arc::new(3.into()), stores, ..Deaf::default() };
        let left = Arc::clone(&views.left);
        let builder = Cqrs::builder((MemoryEvents::default(), views)).aggregate::<Account>().view::<Picky>();
        let bank = builder.start().await.unwrap();
        let receipt = bank.execute(open("1", 13)).await.unwrap();
        assert!(matches!(bank.seen("picky", &receipt).await, Err(Error::SetAside { .. })));
        assert_eq!((said(), left.load(Relaxed)), (round + 1, if stores { 2 } else { 0 }), "{}", lines.text());
        bank.stop().await;
    }
}
