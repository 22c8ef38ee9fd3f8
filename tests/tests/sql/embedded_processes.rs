//! The event store in SQLite between processes: appends at once, locks, and what a process that is killed leaves behind.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use cqrs_core::{
    StoreError,
    port::{
        AppendError, Deadline, Deadlines as _, DueQueue as _, EventStore as _, Expected, Subscribe,
        Subscription as _, SystemClock,
    },
};
use cqrs_sql::sqlx;
use cqrs_tests::eventually;
use jiff::Timestamp;
use uuid::Uuid;

use crate::embedded::{add, commit, connect, folder, open, versions};

/// The task of another process, and its folder.
const TASK: &str = "CQRS_EMBEDDED_TASK";

/// This program again, as another process.
struct Other {
    child: Child,
    name: String,
    folder: PathBuf,
}

impl Other {
    fn start(task: &str, name: &str, folder: &Path) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["--exact", "embedded_processes::the_other_process"])
            .env(TASK, format!("{task}:{name}:{}", folder.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        Self { child: command.spawn().unwrap(), name: name.to_owned(), folder: folder.to_owned() }
    }

    /// What it has said last.
    fn said(&self) -> String {
        fs::read_to_string(self.folder.join(&self.name)).unwrap_or_default()
    }

    fn number(&self) -> u64 {
        self.said().parse().unwrap_or(0)
    }

    async fn until_it_says(&self, what: &str) {
        eventually(what, async || self.said() == what).await;
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Not a test of its own: the task of [`Other`]. It ends when its standard input closes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_process() {
    let Ok(task) = env::var(TASK) else { return };
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    let [task, name, folder] = task.splitn(3, ':').collect::<Vec<_>>().try_into().unwrap();
    let folder = PathBuf::from(folder);
    let say = |what: String| {
        // Renamed, so that no half of it is read.
        let written = folder.join(format!("{name}.new"));
        fs::write(&written, what).unwrap();
        fs::rename(&written, folder.join(name)).unwrap();
    };
    let events = open(&folder).await;
    match task {
        // Also to an aggregate that all append to.
        "append" => loop {
            let _ = add(&events, "shared").await.unwrap();
            say(add(&events, name).await.unwrap().to_string());
        },
        "follow" => {
            let request = Subscribe { subscriber: "follower", aggregates: &["thing"], after: 0 };
            let mut subscription = events.subscribe(request).await.unwrap();
            assert!(!subscription.is_standby());
            let delivered = subscription.next(1).await.unwrap();
            assert_eq!(delivered.len(), 1);
            say("follows".to_owned());
            // It takes its time.
            std::future::pending::<()>().await;
        }
        "hold" => {
            let due = events.due(Arc::new(SystemClock)).await.unwrap().next().await.unwrap();
            say(format!("holds {}", due.id()));
            std::future::pending::<()>().await;
        }
        "lock" => {
            let mut connection = connect(&folder).await;
            sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.unwrap();
            say("locks".to_owned());
            std::future::pending::<()>().await;
        }
        _ => panic!("no such task: {task}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_append_at_once_lose_and_double_nothing() {
    let folder = folder();
    let events = open(folder.path()).await;
    let others = ["one", "two"].map(|name| Other::start("append", name, folder.path()));
    let (mut own, mut longest) = (0, Duration::ZERO);
    eventually("all have appended", async || {
        let start = Instant::now();
        add(&events, "shared").await.unwrap();
        own = add(&events, "own").await.unwrap();
        longest = longest.max(start.elapsed() / 2);
        own > 50 && others.iter().all(|other| other.number() > 50)
    })
    .await;
    let confirmed = others.each_ref().map(Other::number);
    others.into_iter().for_each(Other::kill);
    println!("own {own}, others {confirmed:?}, longest append about {longest:?}");
    assert_eq!(versions(&events, "own").await, own);
    let mut all = own + versions(&events, "shared").await;
    for (name, confirmed) in ["one", "two"].into_iter().zip(confirmed) {
        let stored = versions(&events, name).await;
        assert!(stored >= confirmed, "{name}: {stored} of {confirmed}");
        all += stored;
    }
    // One order without gaps, as every subscriber sees it.
    let request = Subscribe { subscriber: "checker", aggregates: &["thing"], after: 0 };
    let mut subscription = events.subscribe(request).await.unwrap();
    let mut next = 1;
    while next <= all {
        for delivery in subscription.next(100).await.unwrap() {
            assert_eq!(delivery.unwrap().sequence, next);
            next += 1;
        }
    }
    assert_eq!(events.log(&["thing"]).await.unwrap().last_sequence, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_while_it_appends_leaves_a_whole_log() {
    let folder = folder();
    let events = open(folder.path()).await;
    for round in 0..5 {
        let name = format!("killed-{round}");
        let other = Other::start("append", &name, folder.path());
        eventually("some appends", async || other.number() > 10).await;
        let confirmed = other.number();
        other.kill();
        assert!(versions(&events, &name).await >= confirmed, "what was confirmed is there");
        let shared = versions(&events, "shared").await;
        assert_eq!(add(&events, "shared").await.unwrap(), shared + 1, "and others go on");
    }
    // What a process that was killed had locked is free, and a new one finds the same log.
    assert_eq!(versions(&open(folder.path()).await, "shared").await, versions(&events, "shared").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_behind_anothers_lock_is_not_stored_and_says_so() {
    let folder = folder();
    let events = open(folder.path()).await;
    add(&events, "1").await.unwrap();
    let other = Other::start("lock", "lock", folder.path());
    other.until_it_says("locks").await;
    let answer = events.append(&commit("2", 1), Expected::NoStream).await;
    assert!(matches!(&answer, Err(AppendError::Busy(error)) if error.is_transient()), "{answer:?}");
    assert_eq!(versions(&events, "1").await, 1, "readers are not blocked");
    other.kill();
    assert_eq!(versions(&events, "2").await, 0);
    assert_eq!(add(&events, "2").await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_takes_over_from_one_that_was_killed_and_not_before() {
    let folder = folder();
    let events = open(folder.path()).await;
    add(&events, "1").await.unwrap();
    let other = Other::start("follow", "follow", folder.path());
    other.until_it_says("follows").await;
    let request = Subscribe { subscriber: "follower", aggregates: &["thing"], after: 0 };
    let mut standby = events.subscribe(request).await.unwrap();
    assert!(standby.is_standby());
    // Longer than any lease would last: the other one lives.
    let early = tokio::time::timeout(Duration::from_secs(4), standby.next(1)).await;
    assert!(early.is_err(), "{early:?}");
    other.kill();
    let over = standby.next(1).await;
    assert!(matches!(&over, Err(StoreError::Interrupted { .. })), "{over:?}");
    drop(standby);
    let mut active = events.subscribe(request).await.unwrap();
    assert!(!active.is_standby());
    assert_eq!(active.next(9).await.unwrap().len(), 1, "what was not done comes again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_of_a_process_that_was_killed_comes_to_another_and_not_before() {
    let folder = folder();
    let events = open(folder.path()).await;
    let (at, payload, arming) = (Timestamp::UNIX_EPOCH, "".into(), Uuid::new_v4());
    events.arm(&Deadline { id: "1".into(), at, payload, order: 1, arming }).await.unwrap();
    let other = Other::start("hold", "hold", folder.path());
    other.until_it_says("holds 1").await;
    let mut queue = events.due(Arc::new(SystemClock)).await.unwrap();
    let early = tokio::time::timeout(Duration::from_secs(4), queue.next()).await;
    assert!(early.is_err(), "{early:?}");
    other.kill();
    let due = queue.next().await.unwrap();
    assert_eq!(due.id(), "1");
    due.done().await.unwrap();
    // What a process arms, another hears of, also for an earlier time than it waits for.
    let waiting = tokio::spawn(async move { queue.next().await.unwrap().id().to_owned() });
    let (payload, arming) = ("".into(), Uuid::new_v4());
    let another = open(folder.path()).await;
    another.arm(&Deadline { id: "2".into(), at, payload, order: 1, arming }).await.unwrap();
    assert_eq!(waiting.await.unwrap(), "2");
}
