//! A storm over one SQLite file: several services, processes that are killed while they append, and an operator who
//! locks the file for longer than an append waits, empties its journal, and adds connections.

use std::{
    collections::BTreeMap,
    env,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use cqrs_sql::{
    SqliteBackend,
    sqlx::{self, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions},
};
use cqrs_tests::{
    domain::{deposit, open},
    history::{check, story},
};
use tokio::time::{Instant, sleep};

use crate::{
    MACHINE, number,
    random::{self, Random},
    summary,
    workload::{Workload, start, whole_log},
};

/// The file of the other process, and the account that it appends to.
const TASK: &str = "CQRS_STORM_FILE";

/// The beginning of the accounts of other processes.
const OTHER: &str = "other-";

const SERVICES: usize = 4;

/// The services of this process, which do not share connections.
#[tokio::test(flavor = "multi_thread")]
async fn one_file_in_a_storm() {
    let _machine = MACHINE.lock().await;
    let seed = number("STORM_SEED").unwrap_or_else(random::seed);
    let length = number("STORM_SECONDS").map_or(Duration::from_secs(45), Duration::from_secs);
    eprintln!("storm over a file for {length:?}: STORM_SEED={seed}");
    let mut random = Random::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bank.db");
    let mut services = Vec::new();
    for service in 0..SERVICES {
        services.push(start(SqliteBackend::open(&file, "bank").await.unwrap(), service).await);
    }
    let workload = Workload::start(&services, random.fork());
    let counts = rage(&file, length, random.fork()).await;
    let history = workload.stop().await;
    let events = SqliteBackend::open(&file, "bank").await.unwrap().events;
    let (others, log) = whole_log(&events)
        .await
        .into_iter()
        .partition::<Vec<_>, _>(|stored| stored.account.starts_with(OTHER));
    let violations = check(&history, &log);
    eprintln!("{}", summary(&history, log.len()));
    eprintln!("  faults: {counts:?}; commits of other processes: {}", others.len());
    for violation in violations.iter().take(5) {
        eprintln!("{violation}\n{}", story(&violation.account, &history, &log));
    }
    assert!(violations.is_empty(), "STORM_SEED={seed}: {} violations, {:?}", violations.len(), violations[0]);
    assert!(
        !log.is_empty() && !others.is_empty() && counts.values().all(|count| *count > 0),
        "there was a storm"
    );
    let mut versions = BTreeMap::new();
    for stored in &others {
        let next = versions.entry(&stored.account).or_insert(1);
        assert_eq!(stored.first_version, *next, "{}", stored.account);
        *next += stored.events.len() as u64;
    }
    for service in services {
        service.stop().await;
    }
}

/// Until the time is over; returns how often each fault was.
async fn rage(file: &Path, length: Duration, mut random: Random) -> BTreeMap<&'static str, usize> {
    let (end, mut counts, mut others) = (Instant::now() + length, BTreeMap::new(), Vec::<Child>::new());
    let options = SqliteConnectOptions::new().filename(file).busy_timeout(Duration::from_secs(30));
    let faults = ["killed", "locked", "locked long", "checkpointed"];
    let mut next = 0;
    while Instant::now() < end || next < faults.len() {
        // Each once, and then any.
        let fault = faults.get(next).copied().unwrap_or_else(|| faults[random.index(faults.len())]);
        next += 1;
        others.push(other(file, &format!("{OTHER}{next}")));
        match fault {
            "killed" => {
                sleep(random.between(500, 3_000)).await;
                for mut other in others.drain(..) {
                    other.kill().unwrap();
                    other.wait().unwrap();
                }
            }
            "checkpointed" => operate(&options, &["PRAGMA wal_checkpoint(TRUNCATE)"], Duration::ZERO).await,
            locked => {
                // An append waits for 5 seconds.
                let long =
                    if locked == "locked" { random.between(50, 2_000) } else { random.between(5_500, 7_000) };
                operate(&options, &["BEGIN IMMEDIATE", "COMMIT"], long).await;
            }
        }
        *counts.entry(fault).or_default() += 1;
        sleep(random.between(0, 500)).await;
    }
    for mut other in others {
        other.kill().unwrap();
        other.wait().unwrap();
    }
    counts
}

/// What an operator does, with a pause after the first statement. Under load it may not come about.
async fn operate(options: &SqliteConnectOptions, statements: &[&'static str], pause: Duration) {
    let Ok(mut operator) = SqliteConnection::connect_with(options).await else { return };
    for statement in statements {
        if sqlx::query(*statement).execute(&mut operator).await.is_err() {
            return;
        }
        sleep(pause).await;
    }
    let _ = operator.close().await;
}

fn other(file: &Path, account: &str) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "in_a_file::the_other_process"])
        .env(TASK, format!("{account}:{}", file.display()));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Not a test of its own: the process that is killed. It ends when its standard input closes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_process() {
    let Ok(task) = env::var(TASK) else { return };
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    let (account, file) = task.split_once(':').unwrap();
    let service = start(SqliteBackend::open(file, "bank").await.unwrap(), 0).await;
    let _ = service.execute(open(account, 1)).await;
    loop {
        let _ = service.execute(deposit(account, 1)).await;
    }
}
