//! How long a projection waits before it sets an event aside: for the end of an outage, and for a program that knows
//! more.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use cqrs_core::{
    Backend, Cqrs, Envelope, Error, EventHandler, HandlerError, On, OnFailure, Retry, Start,
    operate::{Fault, ProjectorState},
};
use cqrs_tests::{
    TestContext,
    domain::{Account, AccountEvent, deposit, open, places},
    eventually,
};

cqrs_tests::on_backends! { "waiting", memory nats sqlite: {
    an_outage_is_nobodys_fault
    an_outage_that_lasts_too_long_is_one_events_fault
    a_handler_that_halts_says_that_it_failed
    what_the_old_program_does_not_know_is_applied_by_the_next
} }

type Places = Arc<Mutex<Vec<(String, u64)>>>;

/// A mail server. It is unavailable for some accounts.
#[derive(Debug, Clone, Default)]
struct Mail {
    away_for: Arc<Mutex<Vec<String>>>,
    tries: Arc<Mutex<HashMap<String, u32>>>,
    sent: Places,
}

impl Mail {
    fn send(&self, event: &Envelope<AccountEvent>) -> Result<(), HandlerError> {
        let account = event.subject().to_owned();
        if self.away_for.lock().unwrap().contains(&account) {
            *self.tries.lock().unwrap().entry(account.clone()).or_default() += 1;
            Err(io::Error::other("the mail server is away"))?;
        }
        self.sent.lock().unwrap().push((account, event.version));
        Ok(())
    }

    fn tries(&self, account: &str) -> u32 {
        self.tries.lock().unwrap().get(account).copied().unwrap_or_default()
    }

    fn sent(&self) -> Vec<(String, u64)> {
        let mut sent = self.sent.lock().unwrap().clone();
        sent.sort();
        sent
    }
}

macro_rules! mailers {
    ($($name:ident $stored:literal $on_failure:ident $retry:expr;)+) => {
        $(struct $name(Mail);

        impl EventHandler for $name {
            const NAME: &'static str = $stored;
            const START: Start = Start::Beginning;
            const ON_FAILURE: OnFailure = OnFailure::$on_failure;
            const RETRY: Retry = $retry;
            type Of = Account;
        }

        impl On<AccountEvent> for $name {
            async fn on(&self, event: &Envelope<AccountEvent>) -> Result<(), HandlerError> {
                self.0.send(event)
            }
        })+
    };
}

mailers! {
    Mailer "mailer" Park Retry::DEFAULT;
    Strict "strict" Halt Retry::DEFAULT;
    Hasty "hasty" Park Retry { tries: 3, ..Retry::NEVER };
    Halting "halting" Halt Retry::NEVER;
}

async fn an_outage_is_nobodys_fault<B: Backend>(backend: B) {
    let [mail, strict] = [Mail::default(), Mail::default()];
    for mail in [&mail, &strict] {
        mail.away_for.lock().unwrap().push("b".into());
    }
    let builder = Cqrs::builder(backend).aggregate::<Account>().event_handler(Mailer(mail.clone()));
    let cqrs = builder.event_handler(Strict(strict.clone())).start().await.unwrap();
    for account in ["a", "b", "c"] {
        cqrs.execute(open(account, 0)).await.unwrap();
        cqrs.execute(deposit(account, 1)).await.unwrap();
    }
    eventually("it was tried more often than five times", async || {
        mail.tries("b") > 7 && strict.tries("b") > 7
    })
    .await;
    for status in cqrs.projectors() {
        let ProjectorState::Retrying { reason } = &status.state else { panic!("{status:?}") };
        assert!(reason.contains("the mail server is away"), "{reason}");
        assert_eq!(status.dead_letters, 0);
    }
    for mail in [&mail, &strict] {
        mail.away_for.lock().unwrap().clear();
    }
    cqrs.caught_up().await.expect("it goes on by itself, and has set nothing aside");
    let all = places(&[("a", &[1, 2]), ("b", &[1, 2]), ("c", &[1, 2])]);
    assert_eq!([mail.sent(), strict.sent()], [all.clone(), all], "each once");
    let of_b = |mail: &Mail| {
        let sent = mail.sent.lock().unwrap().clone();
        sent.into_iter().filter(|(account, _)| account == "b").map(|(_, version)| version).collect::<Vec<_>>()
    };
    assert_eq!([of_b(&mail), of_b(&strict)], [[1, 2], [1, 2]], "in order");
}

async fn an_outage_that_lasts_too_long_is_one_events_fault<B: Backend>(backend: B) {
    let mail = Mail::default();
    mail.away_for.lock().unwrap().push("b".into());
    let builder = Cqrs::builder(backend).aggregate::<Account>().event_handler(Hasty(mail.clone()));
    let cqrs = builder.start().await.unwrap();
    let receipt = cqrs.execute(open("b", 0)).await.unwrap();
    let error = cqrs.seen("hasty", &receipt).await.unwrap_err();
    assert!(matches!(&error, Error::SetAside { reason, .. } if reason.contains("away")), "{error:?}");
    let letters = cqrs.dead_letters("hasty").await.unwrap().list().await.unwrap();
    assert_eq!((letters.len(), letters[0].fault), (1, Fault::Outage));
    assert_eq!(mail.tries("b"), 3);
    let other = cqrs.execute(open("a", 0)).await.unwrap();
    cqrs.seen("hasty", &other).await.expect("others go on");
}

async fn a_handler_that_halts_says_that_it_failed<B: Backend>(backend: B) {
    let mail = Mail::default();
    mail.away_for.lock().unwrap().push("b".into());
    let builder = Cqrs::builder(backend).aggregate::<Account>().event_handler(Halting(mail));
    let cqrs = builder.start().await.unwrap();
    let receipt = cqrs.execute(open("b", 0)).await.unwrap();
    let error = cqrs.seen("halting", &receipt).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the projector of halting-v1 has halted: halting-v1 failed at event account.opened of account/b at sequence \
             {}: the mail server is away",
            receipt.position.sequence
        )
    );
}

/// Two programs of one context: the next one knows one more event. Each has a view, a handler and a policy.
macro_rules! program {
    ($program:ident, $retry:expr, $($variant:ident)+) => {
        mod $program {
            use cqrs_core::{Aggregate, Apply, Command, Context, Effects, Envelope, Event, EventHandler, Handle, Handled, HandlerError, On, Policy, Project, Query, React, Retry, Start, View};
            use serde::{Deserialize, Serialize};

            use super::{Duration, Places};

            const RETRY: Retry = Retry { unknown: $retry, ..Retry::DEFAULT };

            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
            #[event(prefix = "ship")]
            pub(super) enum ShipEvent {
                $($variant,)+
            }

            #[derive(Debug, thiserror::Error)]
            pub(super) enum Never {}

            #[derive(Debug, Default, Clone, Aggregate)]
            #[aggregate(id = String, event = ShipEvent, rejection = Never, commands(Log))]
            pub(super) struct Ship;

            impl Apply<ShipEvent> for Ship {
                fn apply(&mut self, _: &ShipEvent) {}
            }

            /// Records the last event that the program knows; the policy's log is another ship.
            #[derive(Debug, Serialize, Deserialize, Command)]
            #[command(aggregate = Ship, upsert)]
            pub(super) struct Log {
                #[command(id)]
                pub(super) ship: String,
                pub(super) last: bool,
            }

            impl Handle<Log> for Ship {
                fn handle(&self, command: &Log, _: &Context) -> Handled<Self> {
                    let known = [$(ShipEvent::$variant),+];
                    let event = if command.last { &known[known.len() - 1] } else { &known[0] };
                    Ok(event.clone().into())
                }
            }

            #[derive(Debug, Default, Serialize, Deserialize)]
            pub(super) struct Voyage {
                pub(super) versions: Vec<u64>,
            }

            impl View for Voyage {
                const NAME: &'static str = "voyage";
                const RETRY: Retry = RETRY;
                type Of = Ship;
            }

            impl Project<ShipEvent> for Voyage {
                fn project(&mut self, event: &Envelope<ShipEvent>) {
                    self.versions.push(event.version);
                }
            }

            #[derive(Query)]
            #[query(view = Voyage, answer = Option<Voyage>)]
            pub(super) struct GetVoyage {
                #[query(key)]
                pub(super) ship: String,
            }

            pub(super) struct Mate(pub(super) Places);

            impl EventHandler for Mate {
                const NAME: &'static str = "mate";
                const START: Start = Start::Beginning;
                const RETRY: Retry = RETRY;
                type Of = Ship;
            }

            impl On<ShipEvent> for Mate {
                async fn on(&self, event: &Envelope<ShipEvent>) -> Result<(), HandlerError> {
                    self.0.lock().unwrap().push((event.subject().to_owned(), event.version));
                    Ok(())
                }
            }

            #[derive(Debug, Default, Serialize, Deserialize)]
            pub(super) struct Owner;

            impl Policy for Owner {
                const NAME: &'static str = "owner";
                const START: Start = Start::Beginning;
                const RETRY: Retry = RETRY;
                type Of = Ship;
            }

            impl React<ShipEvent> for Owner {
                fn react(&mut self, event: &Envelope<ShipEvent>, effects: &mut Effects) {
                    if event.subject() != "book" {
                        effects.send(Log { ship: "book".into(), last: false });
                    }
                }
            }
        }
    };
}

program!(old, Duration::from_mins(1), Sailed);
program!(hasty, Duration::from_millis(50), Sailed);
program!(next, Duration::from_mins(1), Sailed Painted);

macro_rules! start {
    ($program:ident, $backend:expr, $mate:expr) => {
        Cqrs::builder($backend)
            .aggregate::<$program::Ship>()
            .view::<$program::Voyage>()
            .event_handler($program::Mate(Arc::clone(&$mate)))
            .policy::<$program::Owner>()
    };
}

const FOLLOWERS: [&str; 3] = ["voyage", "mate", "owner"];

fn of_ship(places: &Places, ship: &str) -> Vec<u64> {
    let places = places.lock().unwrap();
    places.iter().filter(|(id, _)| id == ship).map(|(_, version)| *version).collect()
}

async fn what_the_old_program_does_not_know_is_applied_by_the_next<B>(backend: B)
where
    B: Backend + Clone,
{
    let [of_old, of_next] = [Places::default(), Places::default()];
    let old = start!(hasty, backend.clone(), of_old).start().await.unwrap();
    // The next program only records here.
    let recording = start!(next, backend.clone(), of_next).without_projectors().start().await.unwrap();
    old.execute(hasty::Log { ship: "a".into(), last: true }).await.unwrap();
    recording.execute(next::Log { ship: "a".into(), last: true }).await.unwrap();
    let behind = old.execute(hasty::Log { ship: "b".into(), last: true }).await.unwrap();
    let seen = recording.execute(next::Log { ship: "a".into(), last: false }).await.unwrap();
    for follower in FOLLOWERS {
        old.seen(follower, &behind).await.expect("others go on");
        let error = old.seen(follower, &seen).await.unwrap_err();
        assert!(matches!(&error, Error::SetAside { dead_letters: 2, .. }), "{follower}: {error:?}");
        let letters = old.dead_letters(follower).await.unwrap().list().await.unwrap();
        assert_eq!((letters[0].fault, letters[0].version), (Fault::Unknown, Some(2)), "{follower}");
        assert!(letters[0].reason.contains("ship.painted"), "{}", letters[0].reason);
        let again = old.dead_letters(follower).await.unwrap().retry(&letters[0].aggregate).await.unwrap();
        assert_eq!((again.applied, again.stopped_at.map(|letter| letter.fault)), (0, Some(Fault::Unknown)));
    }
    old.stop().await;

    let next = start!(next, backend, of_next).start().await.unwrap();
    for follower in FOLLOWERS {
        eventually("it is applied without anybody's help", async || next.seen(follower, &seen).await.is_ok())
            .await;
        assert_eq!(next.dead_letters(follower).await.unwrap().list().await.unwrap(), [], "{follower}");
    }
    let voyage = next.query(next::GetVoyage { ship: "a".into() }).after(&seen).await.unwrap().unwrap();
    assert_eq!(voyage.versions, [1, 2, 3]);
    assert_eq!((of_ship(&of_old, "a"), of_ship(&of_next, "a")), (vec![1], vec![2, 3]));
    // The policy has written into its log once for each event of both ships.
    eventually("all of it is in the book", async || {
        let book = next.query(next::GetVoyage { ship: "book".into() }).await.unwrap();
        book.is_some_and(|book| book.versions == [1, 2, 3, 4])
    })
    .await;
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_of_the_next_program_takes_the_turn_of_the_old_one() {
    let context = TestContext::new("waiting").await;
    let [of_old, of_next] = [Places::default(), Places::default()];
    let old = start!(old, context.backend().await, of_old).start().await.unwrap();
    let first = old.execute(old::Log { ship: "a".into(), last: true }).await.unwrap();
    for follower in FOLLOWERS {
        old.seen(follower, &first).await.unwrap();
    }
    let next = start!(next, context.backend().await, of_next).start().await.unwrap();
    // The old program is active in all projections when the first new event arrives.
    let painted = next.execute(next::Log { ship: "a".into(), last: true }).await.unwrap();
    for follower in FOLLOWERS {
        eventually("the next program goes on", async || next.seen(follower, &painted).await.is_ok()).await;
        let letters = next.dead_letters(follower).await.unwrap().list().await.unwrap();
        assert_eq!(letters, [], "nothing was set aside meanwhile");
    }
    assert_eq!((of_ship(&of_old, "a"), of_ship(&of_next, "a")), (vec![1], vec![2]));
    old.stop().await;
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stands_by_applies_what_the_one_before_it_did_not_know() {
    let context = TestContext::new("waiting").await;
    let [of_old, of_next] = [Places::default(), Places::default()];
    let old = start!(hasty, context.backend().await, of_old).start().await.unwrap();
    let recording =
        start!(next, context.backend().await, of_next).without_projectors().start().await.unwrap();
    let painted = recording.execute(next::Log { ship: "a".into(), last: true }).await.unwrap();
    for follower in FOLLOWERS {
        let error = old.seen(follower, &painted).await.unwrap_err();
        assert!(matches!(&error, Error::SetAside { dead_letters: 1, .. }), "{follower}: {error:?}");
    }
    // The old one stays active.
    let next = start!(next, context.backend().await, of_next).start().await.unwrap();
    for follower in FOLLOWERS {
        eventually("it is applied", async || next.seen(follower, &painted).await.is_ok()).await;
    }
    let later = next.execute(next::Log { ship: "a".into(), last: false }).await.unwrap();
    for follower in FOLLOWERS {
        eventually("the old one goes on behind it", async || old.seen(follower, &later).await.is_ok()).await;
    }
    old.stop().await;
    next.stop().await;
}
