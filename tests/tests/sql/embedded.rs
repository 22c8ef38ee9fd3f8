//! The event store in SQLite on files that are full, damaged, foreign or gone, and with a history that has changed. What
//! several processes do to one file is in `embedded_processes`.

use std::{fs, path::Path, str::FromStr as _, sync::Arc};

use cqrs_core::{
    AggregateKey, CommandId, CorrelationId, EventId, Metadata, StoreError,
    log::{Commit, JSON, Origin, RecordedEvent},
    port::{AppendError, EventStore as _, Expected, Subscribe, Subscription as _},
};
use cqrs_sql::{
    SqlError, SqliteBackend, SqliteEvents,
    sqlx::{self, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions},
};
use cqrs_tests::long_ago;
use jiff::Timestamp;
use uuid::Uuid;

pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

pub(crate) async fn open(folder: &Path) -> SqliteEvents {
    SqliteBackend::open(folder.join("orders.db"), "orders").await.unwrap().events
}

pub(crate) fn key(id: &str) -> AggregateKey {
    AggregateKey::new("thing", id).unwrap()
}

/// A commit of one event for each of these commands.
fn commit_of(id: &str, first_version: u64, commands: &[CommandId]) -> Commit {
    let event = |command: &CommandId| RecordedEvent {
        id: EventId(Uuid::new_v4()),
        origin: Arc::new(Origin {
            time: Timestamp::UNIX_EPOCH,
            command: "happen".into(),
            command_id: *command,
            fingerprint: 0,
            correlation_id: CorrelationId(command.0),
            causation_id: None,
            metadata: Metadata::default(),
        }),
        event_type: "thing.happened".into(),
        schema_version: 1,
        content_type: JSON.into(),
        data: r#"{"text":"日本"}"#.into(),
    };
    Commit {
        aggregate: key(id),
        first_version,
        source: "/orders".into(),
        events: commands.iter().map(event).collect(),
    }
}

pub(crate) fn commit(id: &str, version: u64) -> Commit {
    commit_of(id, version, &[CommandId(Uuid::new_v4())])
}

/// Appends behind the aggregate's last commit, again and again until no other process is faster. Returns the version.
pub(crate) async fn add(events: &SqliteEvents, id: &str) -> Result<u64, AppendError> {
    loop {
        let last = events.last(&key(id)).await.map_err(AppendError::Failed)?;
        let (version, sequence) = last.map_or((0, 0), |last| (last.commit.last_version(), last.sequence));
        match events.append(&commit(id, version + 1), Expected::after(sequence)).await {
            Ok(appended) => {
                assert!(appended > sequence);
                return Ok(version + 1);
            }
            Err(AppendError::Conflict | AppendError::Busy(StoreError::Unavailable { .. })) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The versions of an aggregate in the log, which must have no gap.
pub(crate) async fn versions(events: &SqliteEvents, id: &str) -> u64 {
    let (mut after, mut version) = (0, 0);
    loop {
        let page = events.read(&key(id), after, 1_000).await.unwrap();
        for stored in page.commits {
            assert!(stored.sequence > after, "in order");
            assert_eq!(stored.commit.first_version, version + 1, "{id}: each once, and none is missing");
            (after, version) = (stored.sequence, stored.commit.last_version());
        }
        if !page.more {
            return version;
        }
    }
}

pub(crate) async fn connect(folder: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(folder.join("orders.db"));
    SqliteConnection::connect_with(&options).await.unwrap()
}

async fn run(folder: &Path, sql: &'static str) {
    let mut connection = connect(folder).await;
    sqlx::query(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_an_append_and_keeps_the_log() {
    let folder = folder();
    let url = format!("sqlite:{}", folder.path().join("orders.db").display());
    let options = SqliteConnectOptions::from_str(&url).unwrap().create_if_missing(true);
    let events =
        SqliteBackend::open_with(options.pragma("max_page_count", "60"), "orders").await.unwrap().events;
    add(&events, "1").await.unwrap();
    let mut large = commit("1", 2);
    large.events[0].data = format!("{:?}", "x".repeat(400_000)).into();
    let answer = events.append(&large, Expected::Exact(1)).await;
    assert!(
        matches!(&answer, Err(AppendError::Busy(error @ StoreError::Stalled { .. })) if error.is_transient()),
        "it is not stored, and succeeds once there is room: {answer:?}"
    );
    assert_eq!(versions(&events, "1").await, 1);
    // Beside it, an append that fits is stored.
    let small = commit("2", 1);
    let (large, small) =
        tokio::join!(events.append(&large, Expected::Exact(1)), events.append(&small, Expected::NoStream));
    assert!(matches!(large, Err(AppendError::Busy(StoreError::Stalled { .. }))), "{large:?}");
    assert_eq!(small.unwrap(), 2);
}

#[tokio::test]
async fn a_commit_that_is_too_large_is_refused_with_the_limit() {
    let folder = folder();
    let events = open(folder.path()).await;
    let of = |bytes: usize| {
        let mut commit = commit("1", 1);
        commit.events[0].data = format!("{:?}", "x".repeat(bytes)).into();
        commit
    };
    let answer = events.append(&of(8 << 20), Expected::NoStream).await;
    assert!(
        matches!(&answer, Err(AppendError::Failed(StoreError::TooLarge { bytes, limit, .. })) if bytes > limit),
        "{answer:?}"
    );
    let nearly = of((8 << 20) - 1_000);
    events.append(&nearly, Expected::NoStream).await.unwrap();
    assert_eq!(events.last(&key("1")).await.unwrap().unwrap().commit, nearly);
}

/// A service goes on with a file that has no name any more, unless it looks: what it stores there would be lost.
#[cfg(unix)]
#[tokio::test]
async fn a_file_that_is_removed_under_the_service_takes_no_append() {
    let folder = folder();
    let events = open(folder.path()).await;
    add(&events, "1").await.unwrap();
    let era = events.era();
    for file in ["orders.db", "orders.db-wal", "orders.db-shm"] {
        fs::remove_file(folder.path().join(file)).unwrap();
    }
    let answer = events.append(&commit("1", 2), Expected::Exact(1)).await;
    assert!(matches!(answer, Err(AppendError::Busy(StoreError::Missing { .. }))), "{answer:?}");
    let read = events.read(&key("1"), 0, 1).await;
    assert!(matches!(read, Err(StoreError::Missing { .. })), "{read:?}");
    assert!(!folder.path().join("orders.db").exists(), "an empty file in its place would look like a log");
    assert_ne!(events.era(), era);
}

#[tokio::test]
async fn a_file_that_cannot_be_used_says_why() {
    let folder = folder();
    let events = open(folder.path()).await;
    add(&events, "1").await.unwrap();
    let open = async |file: &str| SqliteBackend::open(file, "orders").await.map(drop);
    let file = folder.path().join("orders.db").display().to_string();

    // It can be read, and not opened, since opening may create tables; and no append is possible.
    let read_only = SqliteBackend::open(format!("sqlite:{file}?mode=ro"), "orders").await.unwrap().events;
    let answer = read_only.append(&commit("2", 1), Expected::NoStream).await;
    assert!(matches!(answer, Err(AppendError::Failed(StoreError::Refused { .. }))), "{answer:?}");
    assert_eq!(versions(&read_only, "1").await, 1);
    let other = SqliteBackend::open(format!("sqlite:{file}?mode=ro"), "invoices").await;
    assert!(matches!(other, Err(SqlError::ReadOnly { .. })), "{other:?}");

    let error = open("no/such/folder/orders.db").await;
    assert!(matches!(error, Err(SqlError::Folder { .. })), "{error:?}");
    let error = open("sqlite::memory:").await;
    assert!(matches!(error, Err(SqlError::Unfit { .. })), "{error:?}");
    let text = folder.path().join("text");
    fs::write(&text, "this is a text, and no database, whatever its name may be; ".repeat(100)).unwrap();
    let error = open(text.to_str().unwrap()).await;
    assert!(matches!(error, Err(SqlError::NotADatabase { .. })), "{error:?}");

    run(folder.path(), r#"UPDATE "orders.log" SET layout = 3"#).await;
    let error = open(&file).await;
    assert!(matches!(error, Err(SqlError::LogLayout { found: 3, known: 2, .. })), "{error:?}");
}

#[tokio::test]
async fn damaged_pages_are_an_error_and_damaged_rows_are_unreadable_commits() {
    let folder = folder();
    let events = open(folder.path()).await;
    for id in ["1", "2", "3", "4"] {
        add(&events, id).await.unwrap();
    }
    run(folder.path(), r#"UPDATE "orders.events" SET command_id = 'none' WHERE sequence = 1"#).await;
    run(folder.path(), r#"DELETE FROM "orders.events" WHERE sequence = 2"#).await;
    run(folder.path(), r#"UPDATE "orders.commits" SET id = hex(zeroblob(100)) WHERE sequence = 3"#).await;
    let request = Subscribe { subscriber: "reader", aggregates: &["thing"], after: 0 };
    let mut subscription = events.subscribe(request).await.unwrap();
    let delivered = subscription.next(9).await.unwrap();
    let reasons: Vec<_> = delivered[..3].iter().map(|delivery| delivery.as_ref().unwrap_err()).collect();
    assert_eq!(reasons.iter().map(|unreadable| unreadable.sequence).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((&reasons[0].aggregate, &reasons[1].aggregate), (&key("1"), &key("2")));
    assert_eq!((reasons[2].aggregate.name(), reasons[2].aggregate.id()), ("", "3"));
    assert_eq!(delivered[3].as_ref().unwrap().sequence, 4);
    let read = events.read(&key("1"), 0, 9).await;
    assert!(matches!(read, Err(StoreError::NotACommit { sequence: 1, .. })), "{read:?}");
    drop((subscription, events));

    // The last pages, of whatever table they are.
    run(folder.path(), "PRAGMA wal_checkpoint(TRUNCATE)").await;
    let file = folder.path().join("orders.db");
    let mut bytes = fs::read(&file).unwrap();
    let from = 4_096;
    bytes[from..].fill(0xA5);
    fs::write(&file, bytes).unwrap();
    let error = SqliteBackend::open(&file, "orders").await;
    assert!(matches!(error, Err(SqlError::NotADatabase { .. })), "{error:?}");
}

#[tokio::test]
async fn another_context_in_the_same_file_is_another_log() {
    let folder = folder();
    let file = folder.path().join("orders.db");
    let orders = SqliteBackend::open(&file, "orders").await.unwrap();
    let invoices = SqliteBackend::open(&file, "invoices").await.unwrap();
    let public = orders.public_log().await.unwrap();
    add(&orders.events, "1").await.unwrap();
    for other in [&invoices.events, &public] {
        assert_eq!(other.log(&["thing"]).await.unwrap().last_sequence, 0);
        assert_ne!(other.name(), orders.events.name());
        assert_ne!(other.log(&[]).await.unwrap().id, orders.events.log(&[]).await.unwrap().id);
    }
    assert_eq!((public.source(), invoices.events.source()), ("/orders", "/invoices"));
    let again = SqliteBackend::open(&file, "orders").await.unwrap().events;
    assert_eq!(again.name(), orders.events.name());
    assert_eq!(versions(&again, "1").await, 1);
}

/// A batch of large commits comes in parts, and each commit once.
#[tokio::test]
async fn large_commits_are_read_in_parts() {
    let folder = folder();
    let events = open(folder.path()).await;
    let mut last = 0;
    for version in 1..=5 {
        let mut large = commit("1", version);
        large.events[0].data = format!("{:?}", "x".repeat(5 << 20)).into();
        last = events.append(&large, Expected::after(last)).await.unwrap();
    }
    let page = events.read(&key("1"), 0, 9).await.unwrap();
    assert_eq!((page.commits.len(), page.more), (2, true));
    assert_eq!(versions(&events, "1").await, 5);
    let request = Subscribe { subscriber: "reader", aggregates: &["thing"], after: 0 };
    let mut subscription = events.subscribe(request).await.unwrap();
    let (mut parts, mut sequences) = (0, Vec::new());
    while sequences.len() < 5 {
        let part = subscription.next(9).await.unwrap();
        assert_eq!(subscription.pending(), (5 - sequences.len() - part.len()) as u64);
        sequences.extend(part.into_iter().map(|delivery| delivery.unwrap().sequence));
        parts += 1;
    }
    assert_eq!((parts, sequences), (3, vec![1, 2, 3, 4, 5]));
}

/// An append whose caller knows another history under the same sequence, as after a restore that nobody has noticed:
/// it is not stored, whether the era or the version shows it.
#[tokio::test]
async fn an_append_that_does_not_follow_the_history_is_not_stored() {
    let folder = folder();
    let events = open(folder.path()).await;
    add(&events, "1").await.unwrap();
    add(&events, "2").await.unwrap();
    for version in [1, 3] {
        let answer = events.append(&commit("1", version), Expected::Exact(1)).await;
        assert!(matches!(answer, Err(AppendError::Conflict)), "{answer:?}");
    }
    // A log that lost its end and has another commit in that place.
    let era = events.era();
    run(folder.path(), r#"UPDATE "orders.events" SET event_id = command_id WHERE sequence = 2"#).await;
    let answer = events.append(&commit("1", 2), Expected::Exact(1)).await;
    assert!(matches!(&answer, Err(AppendError::Busy(StoreError::Unavailable { .. }))), "{answer:?}");
    assert_ne!(events.era(), era);
    assert_eq!(events.last(&key("1")).await.unwrap().unwrap().sequence, 1);
    events.append(&commit("1", 2), Expected::Exact(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_of_long_ago_has_one_effect() {
    let folder = folder();
    let events = open(folder.path()).await;
    long_ago::with_snapshots(&events, 20_000).await;
    long_ago::without_snapshots(&events, 20_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_commands_are_kept_beside_the_snapshots() {
    let folder = folder();
    long_ago::kept_beside_the_snapshots(&open(folder.path()).await).await;
}
