//! A view of a long log is rebuilt in SQLite: by a process that is killed during the build, beside a build that answers
//! all the time.
//!
//! `REBUILD_EVENTS=1000000` makes the log that long. The measurements are printed with `--nocapture`.
#![cfg(not(feature = "testcontainers"))]

use std::{
    collections::BTreeMap,
    env,
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use cqrs_core::{
    Clock as _, CommandId, Cqrs, Envelope, EventId, Metadata, Project, Query, View,
    log::{Commit, JSON, Origin, RecordedEvent},
    port::{AppendError, EventStore as _, Expected, ProjectionId, SystemClock, ViewStore as _},
};
use cqrs_nats::{Nats, NatsEvents};
use cqrs_sql::SqliteViews;
use cqrs_tests::{
    TestContext,
    domain::{Account, AccountEvent, key},
    failpoint::{self, Stops},
};
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::{
    process::{Child, Command},
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;

/// The number of accounts, and of events in one commit.
const ACCOUNTS: u64 = 500;
const IN_ONE_COMMIT: u64 = 20;

/// How many accounts are filled at the same time.
const AT_ONCE: usize = 64;

/// The arguments of the other process: the server, the context, and the file.
const OTHER: &str = "CQRS_REBUILD";

fn events() -> u64 {
    let events = env::var("REBUILD_EVENTS").map_or(40_000, |text| text.parse().expect("a number of events"));
    let step = ACCOUNTS * IN_ONE_COMMIT;
    (events / step).max(2) * step
}

/// The view of an account.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Balance {
    events: u64,
    amount: u64,
}

impl View for Balance {
    const NAME: &'static str = "balance";
    type Of = Account;
}

impl Project<AccountEvent> for Balance {
    fn project(&mut self, event: &Envelope<AccountEvent>) {
        self.events += 1;
        if let AccountEvent::Deposited { amount } = event.data {
            self.amount += amount;
        }
    }
}

#[derive(Query)]
#[query(view = Balance, answer = Option<Balance>)]
struct GetBalance {
    #[query(key)]
    account: String,
}

type Bank = Cqrs<(Account,), (Balance,)>;

async fn bank(events: NatsEvents, views: SqliteViews) -> Bank {
    Cqrs::builder((events, Stops::new(views))).aggregate::<Account>().view::<Balance>().start().await.unwrap()
}

/// The amount of the deposit with that version; the first version opens the account.
fn amount(account: u64, version: u64) -> u64 {
    if version == 1 { 0 } else { (account + version) % 7 }
}

fn expected(account: u64, events: u64) -> Balance {
    Balance { events, amount: (1..=events).map(|version| amount(account, version)).sum() }
}

/// Appends an account's events, commit after commit.
async fn fill_account(events: &NatsEvents, account: u64, number: u64) {
    let mut last = 0;
    for first_version in (0..number / IN_ONE_COMMIT).map(|commit| commit * IN_ONE_COMMIT + 1) {
        let origin = Arc::new(Origin {
            command: "fill".into(),
            time: SystemClock.now(),
            command_id: CommandId::new(),
            fingerprint: 0,
            correlation_id: CommandId::new().into(),
            causation_id: None,
            metadata: Metadata::default(),
        });
        let event = |version| {
            let (kind, data) = match version {
                1 => ("account.opened", r#"{"owner":"anna"}"#.to_owned()),
                _ => ("account.deposited", format!(r#"{{"amount":{}}}"#, amount(account, version))),
            };
            RecordedEvent {
                id: EventId(SystemClock.new_id()),
                origin: Arc::clone(&origin),
                event_type: kind.into(),
                schema_version: 1,
                content_type: JSON.into(),
                data: data.into(),
            }
        };
        let commit = Commit {
            aggregate: key(account.to_string()),
            first_version,
            source: events.source().into(),
            events: (first_version..first_version + IN_ONE_COMMIT).map(event).collect(),
        };
        last = append(events, &commit, last).await;
    }
}

/// Appends until the answer is definite; no other program writes to the account.
async fn append(events: &NatsEvents, commit: &Commit, last: u64) -> u64 {
    loop {
        match events.append(commit, Expected::after(last)).await {
            Ok(appended) => return appended,
            Err(AppendError::Busy(_) | AppendError::Unknown(_)) => {}
            // An attempt without an answer was stored.
            Err(AppendError::Conflict) => {
                return events.next_after(&commit.aggregate, last).await.unwrap().unwrap().sequence;
            }
            Err(AppendError::Failed(error)) => panic!("{error}"),
        }
    }
}

/// Not a test of its own: the process that rebuilds the view, until it dies at its failpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_process() {
    let Ok(told) = env::var(OTHER) else { return };
    let told: Vec<_> = told.split('|').collect();
    let [url, context, file] = told.as_slice() else { panic!("{told:?}") };
    let events = Nats::connect(url).await.unwrap().context(context).await.unwrap().events;
    let bank = bank(events, SqliteViews::open(file, context).await.unwrap()).await;
    let mut rebuild = bank.rebuild("balance").await.unwrap();
    let told = rebuild.clone();
    let _teller = AbortOnDropHandle::new(tokio::spawn(async move { tell(|| told.progress()).await }));
    rebuild.finished().await.unwrap();
    bank.stop().await;
}

/// Prints the progress of a build now and then.
async fn tell(progress: impl Fn() -> cqrs_core::operate::ProjectorStatus) {
    loop {
        let status = progress();
        let left = status.remaining().map_or("?".to_owned(), |left| format!("{left:?}"));
        println!(
            "  {}: {} commits behind, {}/s, {left} left",
            status.projection, status.pending, status.rate
        );
        sleep(Duration::from_millis(500)).await;
    }
}

fn other_process(url: &str, context: &str, file: &Path, armed: &str) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "rebuild::the_other_process", "--nocapture"])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command.env(OTHER, format!("{url}|{context}|{}", file.display())).env(failpoint::VARIABLE, armed);
    command.spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_log_is_built_anew_through_a_crash_and_no_reader_notices() {
    let (number, context, folder) =
        (events(), TestContext::new("rebuild").await, tempfile::tempdir().unwrap());
    let file = folder.path().join("views.db");
    let (events, of_each) = (context.backend().await.events, number / ACCOUNTS);

    let since = Instant::now();
    let filling = (0..ACCOUNTS).map(|account| fill_account(&events, account, of_each));
    stream::iter(filling).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
    print("filled the log", number, since);

    let views = SqliteViews::open(&file, &context.name).await.unwrap();
    let since = Instant::now();
    let bank = bank(events.clone(), views.clone()).await;
    bank.caught_up().await.unwrap();
    print("built the view", number, since);

    let (asked, wrong) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let reader = {
        let (bank, asked, wrong) = (bank.clone(), Arc::clone(&asked), Arc::clone(&wrong));
        let expected: Vec<_> = (0..ACCOUNTS).map(|account| expected(account, of_each)).collect();
        AbortOnDropHandle::new(tokio::spawn(async move {
            for (account, expected) in expected.iter().enumerate().cycle() {
                let answer = bank.query(GetBalance { account: account.to_string() }).await.unwrap();
                let is_right = answer.as_ref() == Some(expected);
                wrong.fetch_add(u64::from(!is_right), Ordering::Relaxed);
                asked.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(1)).await;
            }
        }))
    };

    // The process that begins dies during the build; if this one had done the work, there would be another build.
    let since = Instant::now();
    let last = events.log(&["account"]).await.unwrap().last_sequence;
    let half = (number / 4_096 / 2).max(1);
    let (id, reached) = loop {
        let build = bank.active_build("balance").await.unwrap().unwrap().build + 1;
        let id = ProjectionId { build, ..ProjectionId::new("balance", 1) };
        let armed = format!("die after-save {id} {half}");
        let status = other_process(context.url(), &context.name, &file, &armed).wait().await.unwrap();
        if !status.success() {
            let saved = views.checkpoint(&id).await.unwrap().checkpoint.expect("it had begun").sequence;
            break (id, saved);
        }
    };
    assert!(reached < last, "it died in the middle: at {reached} of {last}");
    println!("killed at {reached} of {last} commits after {:.1?}", since.elapsed());

    let mut at = reached;
    let mut told = Instant::now();
    while bank.active_build("balance").await.unwrap().as_ref() != Some(&id) {
        let saved = views.checkpoint(&id).await.unwrap().checkpoint.expect("what was there stays").sequence;
        assert!(saved >= at, "it goes on where it was: at {saved} after {at}");
        at = saved;
        if told.elapsed() > Duration::from_secs(2) {
            println!("  {id}: at {at} of {last} commits");
            told = Instant::now();
        }
        sleep(Duration::from_millis(5)).await;
    }
    print("built it anew, with the crash", number, since);
    let until = asked.load(Ordering::Relaxed) + ACCOUNTS;
    cqrs_tests::eventually("each account was asked about again", async || {
        assert!(!reader.is_finished(), "the reader goes on");
        asked.load(Ordering::Relaxed) >= until
    })
    .await;
    println!("{} queries, {} wrong answers", asked.load(Ordering::Relaxed), wrong.load(Ordering::Relaxed));
    assert_eq!(wrong.load(Ordering::Relaxed), 0, "of {} answers", asked.load(Ordering::Relaxed));

    let all = views.list(&id).await.unwrap().into_iter();
    let all: BTreeMap<u64, Balance> = all
        .map(|(key, document)| (key.parse().unwrap(), serde_json::from_slice(&document).unwrap()))
        .collect();
    let expected = (0..ACCOUNTS).map(|account| (account, expected(account, of_each))).collect();
    assert_eq!(all, expected, "the view is the fold of the log");
    bank.stop().await;
}

fn print(what: &str, events: u64, since: Instant) {
    let took = since.elapsed();
    let rate = u128::from(events) * 1_000 / took.as_millis().max(1);
    println!("{what}: {events} events in {took:.1?}, {rate}/s");
}
