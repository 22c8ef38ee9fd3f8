//! A client that takes a missing answer for a failure, and the checker's violations for it.

use std::sync::Arc;

use cqrs_core::{
    Backend as _, CommandId, Cqrs, StoreError,
    log::Commit,
    memory::MemoryViews,
    port::{AppendError, EventStore, Expected},
};
use cqrs_nats::{Nats, NatsEvents, NatsSubscription};
use cqrs_tests::{
    domain::{Account, deposit, key, open},
    history::{Call, Entry, Kind, Outcome, Request, Stored, check},
    own_server,
    proxy::Proxy,
};
use tokio::time::Instant;

use crate::workload::outcome;

/// A store that loses one answer, right after the second append has reached the server.
struct LosesAnAnswer {
    events: NatsEvents,
    /// The same log on a connection without faults.
    witness: NatsEvents,
    proxy: Arc<Proxy>,
    /// Whether it reports the lost answer as a failure.
    naive: bool,
}

impl LosesAnAnswer {
    async fn is_stored(&self, commit: &Commit, expected: Expected) -> bool {
        matches!(self.witness.next_after(&commit.aggregate, expected.sequence()).await, Ok(Some(_)))
    }

    /// The append is stored when this returns, and its sender has no answer.
    async fn append_without_answer(&self, commit: &Commit, expected: Expected) -> AppendError {
        self.proxy.stall_answers();
        let stored = async {
            while !self.is_stored(commit, expected).await {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            answer = self.events.append(commit, expected) => panic!("an answer came: {answer:?}"),
            () = stored => {}
        }
        self.proxy.reset();
        self.proxy.pass();
        let error = StoreError::Unavailable { what: "no answer in time".into(), source: None };
        if self.naive { AppendError::Failed(error) } else { AppendError::Unknown(error) }
    }
}

#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl EventStore for LosesAnAnswer {
    type Subscription = NatsSubscription;

    cqrs_tests::pass_on! { to events: all but append }

    async fn append(&self, commit: &Commit, expected: Expected) -> Result<u64, AppendError> {
        // The first commit of an account passes, and so does everything after the lost answer.
        if expected == Expected::NoStream || commit.first_version != 2 {
            return self.events.append(commit, expected).await;
        }
        if self.is_stored(commit, expected).await {
            return self.events.append(commit, expected).await;
        }
        Err(self.append_without_answer(commit, expected).await)
    }
}

/// The observations of a caller that deposits once, and again under another id if the answer is a failure; and the log
/// after that.
async fn deposit_once(naive: bool) -> (Vec<Entry>, Vec<Stored>) {
    let server = own_server().await;
    let proxy = Arc::new(Proxy::start(server.port()).await.unwrap());
    let events =
        async |url: &str| Nats::connect(url).await.unwrap().context("naive").await.unwrap().split().0;
    let (witness, behind) = (events(server.url()).await, events(&proxy.url()).await);
    let store = LosesAnAnswer { events: behind, witness: witness.clone(), proxy, naive };
    let bank = Cqrs::builder((store, MemoryViews::default())).aggregate::<Account>().start().await.unwrap();
    let (account, start) = ("1".to_owned(), Instant::now());
    bank.execute(open(account.clone(), 0)).await.unwrap();
    let mut history = Vec::new();
    for attempt in ["first", "second"] {
        let id = CommandId::derived([attempt]);
        let begun = start.elapsed();
        let answer = bank.execute(deposit(account.clone(), 5)).id(id).await;
        let call = Call { start: begun, end: start.elapsed(), outcome: outcome(answer) };
        let done = matches!(call.outcome, Outcome::Done { .. });
        let request = Request::Deposit(5);
        history.push(Entry { id, account: account.clone(), request, calls: vec![call] });
        if done {
            break;
        }
    }
    let key = key(account);
    let log = witness.read(&key, 0, 100).await.unwrap().commits;
    server.stop().await;
    (history, log.iter().map(Stored::from).collect())
}

/// The opening does not matter, and is not in the history.
fn kinds(history: &[Entry], log: &[Stored]) -> Vec<Kind> {
    let violations = check(history, log).into_iter();
    violations.map(|violation| violation.kind).filter(|kind| *kind == Kind::Unwanted).collect()
}

#[tokio::test]
async fn a_client_that_takes_no_answer_for_a_failure_is_caught() {
    let (history, log) = deposit_once(true).await;
    assert!(matches!(history[0].last().outcome, Outcome::Failed(_)), "{history:?}");
    assert_eq!((history.len(), log.len()), (2, 3), "the money is there twice");
    assert_eq!(kinds(&history, &log), [Kind::Unwanted]);
}

#[tokio::test]
async fn the_real_client_finds_its_commit_after_a_lost_answer() {
    let (history, log) = deposit_once(false).await;
    assert!(matches!(history[0].last().outcome, Outcome::Done { .. }), "{history:?}");
    assert_eq!((history.len(), log.len()), (1, 2));
    assert_eq!(kinds(&history, &log), []);
}
