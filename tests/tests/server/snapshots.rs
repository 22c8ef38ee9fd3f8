//! Snapshots: what they save, and that no result depends on them.

use bytes::Bytes;
use cqrs_core::{
    Aggregate, AggregateKey, Apply, Backend, Command, CommandError, CommandId, Context, Cqrs, Error, Event,
    Events, Handle, Handled, Receipt, StoreError,
    memory::{Memory, MemoryViews},
    port::{EventStore, SnapshotPart},
};
use cqrs_nats::{Connect, NatsBackend};
use cqrs_tests::{
    TestContext, configured_server, eventually,
    watched::{Snapshots, Watched},
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(name = "meter.read")]
struct Read(u64);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it shows {0}")]
struct Shows(u64);

/// The sum of the numbers, under another name in each release.
macro_rules! release {
    ($($release:ident { $($field:ident: $ty:ty),* } snapshot($($snapshot:tt)*) shows $sum:ident;)*) => {
        $(mod $release {
            use super::*;

            #[derive(Debug, Default, Clone, Serialize, Deserialize, Aggregate)]
            #[aggregate(name = "meter", id = String, event = Read, rejection = Shows, snapshot($($snapshot)*))]
            pub(super) struct Meter { $($field: $ty),* }

            impl Apply<Read> for Meter {
                fn apply(&mut self, event: &Read) {
                    self.$sum += event.0;
                }
            }

            #[derive(Debug, Clone, Serialize, Deserialize, Command)]
            #[command(aggregate = Meter, name = "add", upsert)]
            pub(super) struct Add(#[command(id)] pub(super) String, pub(super) u64);

            impl Handle<Add> for Meter {
                fn handle(&self, command: &Add, _: &Context) -> Handled<Self> {
                    Ok(Read(command.1).into())
                }
            }

            /// Is always rejected, with the number that the meter shows.
            #[derive(Debug, Clone, Serialize, Deserialize, Command)]
            #[command(aggregate = Meter, name = "look", upsert)]
            pub(super) struct Look(#[command(id)] pub(super) String);

            impl Handle<Look> for Meter {
                fn handle(&self, _: &Look, _: &Context) -> Handled<Self> {
                    Err(Shows(self.$sum))
                }
            }

            /// Begins with this number, but not with none.
            #[derive(Debug, Clone, Serialize, Deserialize, Command)]
            #[command(aggregate = Meter, name = "install", create)]
            pub(super) struct Install(#[command(id)] pub(super) String, pub(super) u64);

            impl Handle<Install> for Meter {
                fn handle(&self, command: &Install, _: &Context) -> Handled<Self> {
                    if command.1 == 0 { Err(Shows(self.$sum)) } else { Ok(Read(command.1).into()) }
                }
            }

            pub(super) type Service = Cqrs<(Meter,), ()>;

            pub(super) async fn start<S: EventStore + Clone>(store: &S) -> Service {
                let views = MemoryViews::default();
                Cqrs::builder((store.clone(), views)).aggregate::<Meter>().start().await.unwrap()
            }

            pub(super) async fn look(service: &Service, meter: &str) -> u64 {
                match service.execute(Look(meter.to_owned())).await.unwrap_err() {
                    CommandError::Rejected(Shows(sum)) => sum,
                    error => panic!("{error}"),
                }
            }
        })*
    };
}

release! {
    first { sum: u64 } snapshot(every = 10) shows sum;
    renamed { total: u64 } snapshot(every = 10) shows total;
    bumped { sum: u64 } snapshot(every = 10, version = 2) shows sum;
}

use first::{Add, Install, Service, look, start};

/// The sum after the numbers up to `last`.
fn sum(last: u64) -> u64 {
    (1..=last).sum()
}

fn id(number: u64) -> CommandId {
    CommandId::derived(["meter", &number.to_string()])
}

/// Adds the numbers from `from` to `to` to meter 1, each under its own id, and waits for every due snapshot, before the
/// next one could overtake it.
async fn add<S: EventStore>(store: &Watched<S>, service: &Service, from: u64, to: u64) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    for number in from..=to {
        let before = store.saved();
        let receipt = service.execute(Add("1".into(), number)).id(id(number)).await.unwrap();
        if receipt.version.is_multiple_of(10) {
            saved(store, before + 1).await;
        }
        receipts.push(receipt);
    }
    receipts
}

async fn saved<S>(store: &Watched<S>, count: u64) {
    eventually("the snapshots are saved", async || store.saved() == count).await;
}

fn watched<B: Backend>(backend: B) -> Watched<B::Events> {
    Watched::new(backend.split().0)
}

cqrs_tests::on_backends! { "snapshots" of super::watched, memory nats: {
    a_restart_reads_the_snapshot_and_the_rest
    what_the_last_commit_tells_is_not_read_again
    repeats_are_recognised_after_a_snapshot
    two_services_share_the_snapshots
    a_release_with_another_state_replays_and_saves_its_own
    a_damaged_snapshot_is_replaced
    what_creates_an_aggregate_reads_it_only_if_it_is_there
} }

async fn a_restart_reads_the_snapshot_and_the_rest<S: EventStore + Clone>(store: Watched<S>) {
    let service = start(&store).await;
    add(&store, &service, 1, 57).await;
    assert_eq!(store.commits_read(), 0, "a new aggregate");
    let restarted = start(&store).await;
    assert_eq!(look(&restarted, "1").await, sum(57));
    assert_eq!(store.commits_read(), 8, "the snapshot's own commit and the seven since");
    let receipt = restarted.execute(Add("1".into(), 58)).await.unwrap();
    assert_eq!((receipt.version, store.commits_read()), (58, 0));
}

/// A snapshot at the end of the log, an aggregate of one commit, and one without commits: one round trip each.
async fn what_the_last_commit_tells_is_not_read_again<S: EventStore + Clone>(store: Watched<S>) {
    add(&store, &start(&store).await, 1, 20).await;
    start(&store).await.execute(Add("2".into(), 7)).await.unwrap();
    store.most_reads();
    let restarted = start(&store).await;
    let states = (look(&restarted, "1").await, look(&restarted, "2").await, look(&restarted, "3").await);
    assert_eq!((states, store.most_reads()), ((sum(20), 7, 0), [0, 0]));
    let receipts =
        (add(&store, &restarted, 21, 21).await, restarted.execute(Add("2".into(), 8)).await.unwrap());
    assert_eq!((receipts.0[0].version, receipts.1.version), (21, 2));
}

async fn repeats_are_recognised_after_a_snapshot<S: EventStore + Clone>(store: Watched<S>) {
    let receipts = add(&store, &start(&store).await, 1, 23).await;
    let restarted = start(&store).await;
    for (number, first) in (1..).zip(receipts) {
        let again = restarted.execute(Add("1".into(), number)).id(id(number)).await.unwrap();
        assert!(again.repeat && !first.repeat);
        let place = |receipt: &Receipt| (receipt.version, receipt.events, receipt.position);
        assert_eq!(place(&again), place(&first));
        let other = restarted.execute(Add("1".into(), 0)).id(id(number)).await.unwrap_err();
        assert!(matches!(other, CommandError::Failed(Error::AnotherCommand { .. })), "{other}");
    }
    assert_eq!(store.commits_read(), 4, "they were in the snapshot");
    assert_eq!(look(&restarted, "1").await, sum(23));
}

async fn two_services_share_the_snapshots<S: EventStore + Clone>(store: Watched<S>) {
    let one = start(&store).await;
    add(&store, &one, 1, 25).await;
    let other = start(&store).await;
    add(&store, &other, 26, 45).await;
    assert_eq!(store.commits_read(), 6, "the other began with the snapshot");
    assert_eq!(add(&store, &one, 46, 46).await[0].version, 46, "the one has caught up");
    assert_eq!((look(&one, "1").await, look(&other, "1").await), (sum(46), sum(46)));
}

async fn a_release_with_another_state_replays_and_saves_its_own<S: EventStore + Clone>(store: Watched<S>) {
    add(&store, &start(&store).await, 1, 25).await;
    let renamed = renamed::start(&store).await;
    assert_eq!(renamed::look(&renamed, "1").await, sum(25));
    assert_eq!(store.commits_read(), 25, "a field has another name");
    saved(&store, 3).await;
    assert_eq!(renamed::look(&renamed::start(&store).await, "1").await, sum(25));
    assert_eq!(store.commits_read(), 0, "its own snapshot");
    assert_eq!(look(&start(&store).await, "1").await, sum(25));
    assert_eq!(store.commits_read(), 25, "back to the first release");
    saved(&store, 4).await;
    assert_eq!(bumped::look(&bumped::start(&store).await, "1").await, sum(25));
    assert_eq!(store.commits_read(), 25, "the version says that it means something else");
}

async fn a_damaged_snapshot_is_replaced<S: EventStore + Clone>(store: Watched<S>) {
    add(&store, &start(&store).await, 1, 12).await;
    let key = AggregateKey::new("meter", "1").unwrap();
    let good = store.load_snapshot(&key, SnapshotPart::State).await.unwrap().unwrap();
    for bad in [good.slice(..good.len() - 1), Bytes::from_static(b"{}"), [&good[..], b"\0"].concat().into()] {
        let before = store.saved();
        store.save_snapshot(&key, SnapshotPart::State, bad).await.unwrap();
        assert_eq!(look(&start(&store).await, "1").await, sum(12));
        assert_eq!(store.commits_read(), 12);
        saved(&store, before + 2).await;
    }
    assert_eq!(look(&start(&store).await, "1").await, sum(12));
    assert_eq!(store.commits_read(), 0, "a good one is there again, of all twelve");
}

async fn what_creates_an_aggregate_reads_it_only_if_it_is_there<S: EventStore + Clone>(store: Watched<S>) {
    let service = start(&store).await;
    let first = service.execute(Install("1".into(), 7)).id(id(1)).await.unwrap();
    let refused = service.execute(Install("2".into(), 0)).await.unwrap_err();
    assert!(matches!(refused, CommandError::Rejected(Shows(0))), "{refused}");
    assert_eq!((store.most_reads(), store.asked()), ([0, 0], 0));
    add(&store, &service, 2, 12).await;

    // Services without it in memory: each tries to create it in vain, and then loads it.
    let again = start(&store).await.execute(Install("1".into(), 7)).id(id(1)).await.unwrap();
    assert!(again.repeat && again.position == first.position, "{again:?}");
    for number in [0, 8] {
        let error = start(&store).await.execute(Install("1".into(), number)).await.unwrap_err();
        assert!(matches!(error, CommandError::AlreadyExists(_)), "{number}: {error}");
        assert_eq!(store.most_reads()[0], 0, "{number}: from its snapshot");
    }
    let another = start(&store).await.execute(Install("1".into(), 9)).id(id(1)).await.unwrap_err();
    assert!(matches!(another, CommandError::Failed(Error::AnotherCommand { .. })), "{another}");
    assert_eq!(look(&start(&store).await, "1").await, sum(12) + 6, "7 and not 1, then 2 to 12");
}

#[tokio::test]
async fn what_fails_around_snapshots_fails_no_command() {
    for fate in [Snapshots::Unavailable, Snapshots::Refused, Snapshots::Stuck] {
        let store = watched(Memory::default()).with(fate);
        let service = start(&store).await;
        // More saves than there are permits.
        let mut tasks = tokio::task::JoinSet::new();
        for meter in 0..50_u64 {
            let service = service.clone();
            tasks.spawn(async move {
                for number in 1..=20 {
                    service.execute(Add(meter.to_string(), number)).await.unwrap();
                }
            });
        }
        tasks.join_all().await;
        let restarted = start(&store).await;
        for meter in 0..50_u64 {
            assert_eq!(look(&restarted, &meter.to_string()).await, 210, "{fate:?}");
        }
        assert_eq!((store.saved(), store.asked()), (0, 100), "{fate:?}");
    }
}

#[derive(Debug, Default, Clone, Aggregate)]
#[aggregate(id = String, event = Read, rejection = Shows)]
struct Plain;

impl Apply<Read> for Plain {
    fn apply(&mut self, _: &Read) {}
}

#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Plain, upsert)]
struct Note(#[command(id)] String);

impl Handle<Note> for Plain {
    fn handle(&self, command: &Note, _: &Context) -> Handled<Self> {
        Ok(if command.0.is_empty() { Events::none() } else { Read(1).into() })
    }
}

#[tokio::test]
async fn aggregates_without_snapshots_ask_for_none() {
    let store = watched(Memory::default());
    let start = || Cqrs::builder((store.clone(), MemoryViews::default())).aggregate::<Plain>().start();
    for _ in 0..2 {
        start().await.unwrap().execute(Note("1".into())).await.unwrap();
    }
    assert_eq!((store.asked(), store.saved(), store.commits_read()), (0, 0, 1));
}

/// A note on each of 50 aggregates at once.
async fn note_all(service: &Cqrs<(Plain,), ()>) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..50 {
        let service = service.clone();
        tasks.spawn(async move { service.execute(Note(number.to_string())).await.unwrap() });
    }
    tasks.join_all().await;
}

#[tokio::test]
async fn long_aggregates_that_are_not_in_memory_are_read_few_at_a_time() {
    let store = watched(Memory::default());
    let start = |number| {
        let builder = Cqrs::builder((store.clone(), MemoryViews::default())).aggregate::<Plain>();
        builder.cold_loads(number).start()
    };
    let one = start(1).await.unwrap();
    note_all(&one).await;
    assert_eq!(store.most_reads(), [50, 0], "new ones need no turn");
    for _ in 0..9 {
        note_all(&one).await;
    }
    for (limit, most) in [(1, 1), (3, 3), (20, 20)] {
        note_all(&start(limit).await.unwrap()).await;
        assert_eq!(store.most_reads(), [50, most]);
    }
}

/// If commits are close together, a cold load becomes one read.
#[tokio::test]
async fn a_usual_aggregate_is_read_at_once_when_its_neighbours_were_close_together() {
    let store = watched(Memory::default());
    let start = || Cqrs::builder((store.clone(), MemoryViews::default())).aggregate::<Plain>().start();
    let writer = start().await.unwrap();
    for number in 0..8 {
        for _ in 0..30 {
            writer.execute(Note(number.to_string())).await.unwrap();
        }
    }
    let reader = start().await.unwrap();
    store.most_reads();
    reader.execute(Note("0".into())).await.unwrap();
    assert_eq!(store.most_reads(), [1, 1], "nothing is known of where commits lie");
    for number in 1..7 {
        reader.execute(Note(number.to_string())).await.unwrap();
    }
    store.most_reads();
    reader.execute(Note("7".into())).await.unwrap();
    assert_eq!(store.most_reads(), [1, 0], "the first page had all");
}

/// A service on NATS with a store that counts calls.
async fn on_nats(context: &TestContext) -> (Watched<cqrs_nats::NatsEvents>, Service) {
    let NatsBackend { events, .. } = context.backend().await;
    let store = Watched::new(events);
    let service = start(&store).await;
    (store, service)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bucket_is_one_for_every_client_and_may_be_deleted() {
    let context = TestContext::new("bucket").await;
    let jetstream = async_nats::jetstream::new(context.nats.client().clone());
    let bucket = format!("{}__snapshots", context.name);
    let (store, service) = on_nats(&context).await;
    add(&store, &service, 1, 9).await;
    assert_eq!(look(&start(&store).await, "1").await, 45);
    assert!(jetstream.get_key_value(&bucket).await.is_err(), "nothing was saved yet");
    add(&store, &service, 10, 10).await;
    let values = jetstream.get_key_value(&bucket).await.unwrap();
    let key = AggregateKey::new("meter", "1").unwrap();
    assert_eq!(
        values.get("meter.1").await.unwrap(),
        store.load_snapshot(&key, SnapshotPart::State).await.unwrap()
    );
    assert_eq!(values.status().await.unwrap().history(), 1);

    values.delete("meter.1").await.unwrap();
    store.commits_read();
    assert_eq!(look(&start(&store).await, "1").await, 55);
    assert_eq!(store.commits_read(), 10, "replayed");
    saved(&store, 2).await;
    jetstream.delete_key_value(&bucket).await.unwrap();
    assert_eq!(look(&start(&store).await, "1").await, 55);
    saved(&store, 3).await;
    assert!(values.get("meter.1").await.unwrap().is_some(), "the bucket is there again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_created_again_has_no_old_snapshots() {
    let context = TestContext::new("recreated").await;
    let (store, service) = on_nats(&context).await;
    add(&store, &service, 1, 20).await;
    let jetstream = async_nats::jetstream::new(context.nats.client().clone());
    jetstream.delete_stream(context.stream()).await.unwrap();

    let (store, service) = on_nats(&context).await;
    let key = AggregateKey::new("meter", "1").unwrap();
    assert_eq!(store.load_snapshot(&key, SnapshotPart::State).await.unwrap(), None);
    assert_eq!(look(&service, "1").await, 0);
    let receipts = add(&store, &service, 1, 11).await;
    assert!(receipts.iter().all(|receipt| !receipt.repeat), "nothing of the old log is remembered");
    assert_eq!(look(&start(&store).await, "1").await, 66);
    assert_eq!(store.commits_read(), 2, "the new log's own snapshot");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_permit_snapshots_is_not_asked_again() {
    let users = r#"authorization { users = [
        { user: anna, password: p, permissions: { publish: { deny: "$JS.API.DIRECT.GET.KV_quiet__snapshots.>" } } }
    ] }"#;
    let server = configured_server(users).await;
    let nats = Connect::to(server.url()).user("anna", "p").connect().await.unwrap();
    let store = watched(nats.context("quiet").await.unwrap());
    let key = AggregateKey::new("meter", "1").unwrap();
    let error = store.load_snapshot(&key, SnapshotPart::State).await.unwrap_err();
    assert!(matches!(error, StoreError::NotPermitted { .. }), "{error:?}");
    assert_eq!(store.load_snapshot(&key, SnapshotPart::State).await.unwrap(), None, "it is not asked again");
    add(&store, &start(&store).await, 1, 11).await;
    assert_eq!(look(&start(&store).await, "1").await, sum(11));
    assert_eq!(store.commits_read(), 11, "replayed");
    saved(&store, 2).await;
    server.stop().await;
}
