//! The view store in SQLite between processes, and on damaged or foreign files.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    str::FromStr as _,
    time::Duration,
};

use cqrs_core::{
    StoreError,
    port::{SaveError, ViewStore},
};
use cqrs_sql::{
    SqlError, SqliteBackend, SqliteViews,
    sqlx::{self, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions},
};
use cqrs_tests::{
    counting::{COUNTING, count, counted},
    domain::{bank, open as open_account},
    eventually, with_causes,
};

/// The task of another process, and its folder.
const TASK: &str = "CQRS_SQLITE_TASK";

async fn open(folder: &Path) -> SqliteViews {
    let views = SqliteViews::open(folder.join("views.db"), "orders").await.expect("the views");
    views.open(&COUNTING).await.expect("the view");
    views
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// This program again, as the other process.
struct Other(Child);

impl Other {
    fn start(task: &str, folder: &Path) -> Self {
        let mut command = Command::new(env::current_exe().expect("this program"));
        command
            .args(["--exact", "sqlite::the_other_process"])
            .env(TASK, format!("{task}:{}", folder.display()));
        Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("another process"))
    }

    fn kill(mut self) {
        self.0.kill().expect("a kill");
        self.0.wait().expect("its end");
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
    let (task, folder) = task.split_once(':').expect("a task and a folder");
    let folder = PathBuf::from(folder);
    match task {
        "count" => {
            let views = open(&folder).await;
            loop {
                match count(&views).await {
                    Ok(number) => {
                        fs::write(folder.join("confirmed"), number.to_string()).expect("a file");
                    }
                    // Another process was faster.
                    Err(SaveError::Conflict) => {}
                    Err(_) => break,
                }
            }
        }
        "lock" => {
            let mut connection = connect(&folder).await;
            sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.expect("a lock");
            fs::write(folder.join("locked"), "").expect("a file");
            std::future::pending::<()>().await;
        }
        _ => panic!("no such task: {task}"),
    }
}

async fn connect(folder: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(folder.join("views.db"));
    SqliteConnection::connect_with(&options).await.expect("a connection")
}

fn confirmed(folder: &Path) -> u64 {
    fs::read_to_string(folder.join("confirmed")).ok().and_then(|text| text.parse().ok()).unwrap_or_default()
}

#[tokio::test]
async fn a_killed_process_keeps_each_save_whole_and_once() {
    let folder = folder();
    let views = open(folder.path()).await;
    for _ in 0..5 {
        let before = counted(&views).await;
        let other = Other::start("count", folder.path());
        eventually("some saves", async || confirmed(folder.path()) > before + 20).await;
        other.kill();
        let number = counted(&views).await;
        assert!(number >= confirmed(folder.path()), "{number}");
        count(&views).await.expect("a save after it");
        assert_eq!(counted(&views).await, number + 1);
    }
}

#[tokio::test]
async fn a_save_of_another_process_wakes_those_who_wait() {
    let folder = folder();
    let views = open(folder.path()).await;
    let other = Other::start("count", folder.path());
    views.reached(&COUNTING, 10).await.expect("a wait");
    other.kill();
    assert!(counted(&views).await >= 10);
}

#[tokio::test]
async fn two_processes_that_count_get_in_nobodys_way() {
    let folder = folder();
    let views = open(folder.path()).await;
    let other = Other::start("count", folder.path());
    let mut own = 0;
    eventually("both have counted", async || {
        match count(&views).await {
            Ok(_) => own += 1,
            Err(SaveError::Conflict) => {}
            Err(error) => panic!("{error:?}"),
        }
        own > 20 && confirmed(folder.path()) > 20
    })
    .await;
    other.kill();
    counted(&views).await;
}

#[tokio::test]
async fn a_save_behind_anothers_lock_says_that_it_may_succeed_later() {
    let folder = folder();
    let views = open(folder.path()).await;
    count(&views).await.expect("a save");
    let other = Other::start("lock", folder.path());
    eventually("the lock", async || folder.path().join("locked").exists()).await;
    let saving = count(&views).await;
    assert!(
        matches!(&saving, Err(SaveError::Failed(error @ StoreError::Unavailable { .. })) if error.is_transient()),
        "{saving:?}"
    );
    // Readers do not block it.
    assert_eq!(counted(&views).await, 1);
    other.kill();
    assert_eq!(count(&views).await.expect("a save after it"), 2);
}

#[tokio::test]
async fn a_view_that_another_process_removed_is_nowhere() {
    let folder = folder();
    let (one, other) = (open(folder.path()).await, open(folder.path()).await);
    count(&one).await.expect("a save");
    other.reached(&COUNTING, 1).await.expect("a wait");
    one.remove(&COUNTING).await.expect("a removal");
    let early = tokio::time::timeout(Duration::from_millis(200), other.reached(&COUNTING, 1)).await;
    assert!(early.is_err(), "a removed view is nowhere");
    let answer = count(&other).await;
    assert!(matches!(answer, Err(SaveError::Failed(StoreError::Refused { .. }))), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_saves_are_whole_or_absent() {
    let folder = folder();
    let views = open(folder.path()).await;
    for micros in (0..200).map(|step| step * 10) {
        let _ = tokio::time::timeout(Duration::from_micros(micros), count(&views)).await;
        counted(&views).await;
    }
    count(&views).await.expect("a save after them");
    println!("{} of 201 saves were stored", counted(&views).await);
}

/// Folders that nobody can write, not even root: the one is missing, the other is a file.
#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "").expect("a file");
    for (unwritable, why) in
        [(folder.path().join("no/such/folder"), "No such file"), (file.clone(), "Not a directory")]
    {
        let database = unwritable.join("orders.db");
        for error in [
            SqliteViews::open(&database, "orders").await.map(drop).expect_err("no views"),
            SqliteBackend::open(&database, "orders").await.map(drop).expect_err("no events"),
        ] {
            let expected = format!(
                "the folder {} cannot be written, so there is no place for orders.db: create the folder, give the user \
                 of this program the right to write there, or name a file in another folder",
                unwritable.display()
            );
            assert_eq!(error.to_string(), expected);
            assert!(with_causes(&error).contains(why), "{}", with_causes(&error));
        }
    }

    // The folder of the locks beside a database file.
    let database = folder.path().join("orders.db");
    fs::write(folder.path().join("orders.db-turns"), "").expect("a file");
    let bank = bank(SqliteBackend::open(&database, "orders").await.expect("a backend")).await;
    bank.execute(open_account("1", 1)).await.expect("a command needs no lock");
    let error = bank.caught_up().await.expect_err("it cannot lock");
    let expected = format!("the folder {}-turns cannot be written: give the user", database.display());
    assert!(error.to_string().contains(&expected), "{error}");
    bank.stop().await;
}

#[tokio::test]
async fn a_database_that_cannot_be_used_says_why() {
    let folder = folder();
    open(folder.path()).await;
    let file = folder.path().join("views.db").display().to_string();
    let error = SqliteViews::open(format!("sqlite:{file}?mode=ro"), "invoices").await.expect_err("no views");
    assert!(matches!(error, SqlError::ReadOnly { .. }), "{error:?}");
    let error = SqliteViews::open(format!("sqlite:{file}-missing?mode=rw"), "orders").await;
    assert!(matches!(error, Err(SqlError::File { .. })), "{error:?}");
    let error = SqliteViews::open(folder.path(), "orders").await.expect_err("a folder");
    assert!(matches!(error, SqlError::File { .. }), "{error:?}");
    assert!(error.to_string().contains("is it a file"), "{error}");
    let error = SqliteViews::open(format!("sqlite:{file}?mode=nonsense"), "orders").await;
    assert!(matches!(error, Err(SqlError::Address { .. })), "{error:?}");
    let text = folder.path().join("text");
    fs::write(&text, "this is a text, and no database, whatever its name may be; ".repeat(100))
        .expect("a file");
    let error = SqliteViews::open(&text, "orders").await;
    assert!(matches!(error, Err(SqlError::NotADatabase { .. })), "{error:?}");
}

#[tokio::test]
async fn a_full_disk_stops_saves_and_nothing_else() {
    let folder = folder();
    let file = folder.path().join("views.db");
    let url = format!("sqlite:{}", file.display());
    let options = SqliteConnectOptions::from_str(&url).expect("a URL").create_if_missing(true);
    let views =
        SqliteViews::open_with(options.pragma("max_page_count", "20"), "orders").await.expect("the views");
    views.open(&COUNTING).await.expect("the view");
    count(&views).await.expect("a small save");

    let known = views.checkpoint(&COUNTING).await.expect("the checkpoint");
    let checkpoint = known.checkpoint.expect("a checkpoint");
    let large = cqrs_core::port::Write {
        key: "large".into(),
        document: Some(format!("{:?}", "x".repeat(200_000)).into()),
        revision: 0,
    };
    let save = cqrs_core::port::Save {
        writes: &[large],
        notes: &[],
        checkpoint: &checkpoint,
        revision: known.revision,
    };
    let answer = views.save(&COUNTING, save).await;
    assert!(
        matches!(&answer, Err(SaveError::Failed(error)) if error.is_transient()),
        "it succeeds once there is room: {answer:?}"
    );
    assert_eq!(views.get(&COUNTING, "large").await.expect("a read"), None);
    assert_eq!(count(&views).await.expect("a small save"), 2);
    assert_eq!(counted(&views).await, 2);
}

#[tokio::test]
async fn a_database_in_memory_outlives_a_connection_that_is_closed() {
    let views = SqliteViews::in_memory("shop").await.expect("the views");
    views.open(&COUNTING).await.expect("the view");
    // Like the pool does with a connection on which a call was dropped.
    views.pool().acquire().await.expect("a connection").close().await.expect("its end");
    assert_eq!(views.checkpoint(&COUNTING).await.expect("the checkpoint").checkpoint, None);
}
