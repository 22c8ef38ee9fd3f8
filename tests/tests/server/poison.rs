//! One event, one document or one commit cannot stop a projection, on any store of its results.

use std::collections::HashMap;

use cqrs_core::{
    Aggregate, AggregateKey, Apply, Backend, Command, Context, Cqrs, Effects, Envelope, Error, Event,
    EventId, Handle, Handled, Policy, Project, Query, React, Receipt, Start, View,
    log::Commit,
    memory::{MemoryEvents, MemoryViews},
    operate::Fault,
    port::{EventStore as _, Expected, Save, ViewStore as _, Write},
};
use cqrs_tests::{
    domain::{Account, AccountEvent, Deposit, Open, key},
    watched::Watched,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

cqrs_tests::on_backends! { "poison", memory nats sqlite: {
    a_document_that_cannot_be_written_is_the_fault_of_its_event
    a_document_that_cannot_be_read_is_the_fault_of_the_event_that_changes_it
    a_commit_may_change_more_documents_than_one_write_takes
    a_commit_that_is_set_aside_is_one_dead_letter
    a_version_gap_concerns_its_aggregate
    a_version_gap_is_noticed_after_a_restart
} }

async fn service<B: Backend, V: View>(backend: B) -> Cqrs<(Account, Ship), (V,)> {
    Cqrs::builder(backend).aggregate::<Account>().aggregate::<Ship>().view::<V>().start().await.unwrap()
}

async fn open<V: View>(cqrs: &Cqrs<(Account, Ship), (V,)>, account: &str, amount: u64) -> Receipt {
    cqrs.execute(Open { account: account.into(), owner: "anna".into(), amount }).await.unwrap()
}

async fn deposit<V: View>(cqrs: &Cqrs<(Account, Ship), (V,)>, account: &str, amount: u64) -> Receipt {
    cqrs.execute(Deposit { account: account.into(), amount }).await.unwrap()
}

/// A document for each case that serde writes and cannot read back, by the amount of the deposit.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Fragile {
    versions: Vec<u64>,
    pairs: HashMap<(u8, u8), u64>,
    number: f64,
    nest: Nest,
    fails: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Nest {
    inner: Vec<Nest>,
}

impl View for Fragile {
    const NAME: &'static str = "fragile";
    type Of = Account;

    fn is_kept(&self) -> bool {
        assert!(!self.fails, "nobody knows whether it is kept");
        true
    }
}

impl Project<AccountEvent> for Fragile {
    fn project(&mut self, event: &Envelope<AccountEvent>) {
        self.versions.push(event.version);
        let AccountEvent::Deposited { amount } = event.data else { return };
        match amount {
            13 => drop(self.pairs.insert((1, 2), 3)),
            14 => self.number = f64::NAN,
            15 => {
                let nested = |inner: Nest, _| Nest { inner: vec![inner] };
                self.nest = (0..100).fold(Nest::default(), nested);
            }
            16 => self.fails = true,
            _ => {}
        }
    }
}

#[derive(Query)]
#[query(view = Fragile, answer = Option<Fragile>)]
struct GetFragile {
    #[query(key)]
    account: String,
}

async fn fragile(
    cqrs: &Cqrs<(Account, Ship), (Fragile,)>,
    account: &str,
    after: &Receipt,
) -> Result<Vec<u64>, Error> {
    let found = cqrs.query(GetFragile { account: account.into() }).after(after).await?;
    Ok(found.map(|found| found.versions).unwrap_or_default())
}

const POISONS: [(u64, &str); 4] = [
    (13, "cannot be written: it has no JSON: key must be a string in field `pairs`"),
    (
        14,
        "cannot be written: it could not be read back: invalid type: null, expected f64 in field `number`, and JSON \
         has neither NaN nor infinite numbers",
    ),
    (15, "cannot be written: it could not be read back: recursion limit exceeded in field `nest.inner[0]"),
    (16, "the rules panicked: nobody knows whether it is kept"),
];

async fn a_document_that_cannot_be_written_is_the_fault_of_its_event<B: Backend + Clone>(backend: B) {
    let cqrs = service::<_, Fragile>(backend.clone()).await;
    open(&cqrs, "good", 1).await;
    for (amount, expected) in POISONS {
        let receipt = open(&cqrs, &amount.to_string(), amount).await;
        let error = cqrs.seen("fragile", &receipt).await.unwrap_err();
        let Error::SetAside { reason, .. } = &error else { panic!("{amount}: {error:?}") };
        let named = format!("document \"{amount}\" of view fragile-v1 ");
        let begin = if expected.starts_with("cannot") { named + expected } else { expected.to_owned() };
        assert!(reason.starts_with(&begin) && !reason.contains("cannot be read"), "{reason}");
    }
    let good = deposit(&cqrs, "good", 1).await;
    assert_eq!(fragile(&cqrs, "good", &good).await.unwrap(), [1, 2, 3], "others go on");
    cqrs.stop().await;
    drop(cqrs);

    let cqrs = service::<_, Fragile>(backend).await;
    let good = deposit(&cqrs, "good", 1).await;
    assert_eq!(fragile(&cqrs, "good", &good).await.unwrap(), [1, 2, 3, 4], "after a restart");
    cqrs.rebuild("fragile").await.unwrap().finished().await.unwrap();
    assert_eq!(fragile(&cqrs, "good", &good).await.unwrap(), [1, 2, 3, 4], "built anew, many at once");
    let letters = cqrs.dead_letters("fragile").await.unwrap().list().await.unwrap();
    for ((amount, reason), letter) in POISONS.iter().zip(&letters) {
        assert_eq!((letter.aggregate.id(), letter.version), (amount.to_string().as_str(), Some(2)));
        assert!(letter.reason.contains(reason) && letter.fault == Fault::Event, "{amount}: {letter:?}");
    }
    assert_eq!(letters.len(), POISONS.len());
    let document = cqrs.query(GetFragile { account: "14".into() }).await.unwrap().unwrap();
    assert_eq!(document.versions, [1], "as if the event had not been");
}

async fn a_document_that_cannot_be_read_is_the_fault_of_the_event_that_changes_it<B: Backend + Clone>(
    backend: B,
) {
    let cqrs = service::<_, Fragile>(backend.clone()).await;
    open(&cqrs, "good", 1).await;
    let receipt = open(&cqrs, "a", 1).await;
    cqrs.seen("fragile", &receipt).await.unwrap();
    cqrs.stop().await;
    drop(cqrs);
    let (id, (_, views)) = (Fragile::projection(), backend.clone().split());
    let saved = views.checkpoint(&id).await.unwrap();
    let revision = views.load(&id, &["a".to_owned()]).await.unwrap()[0].revision;
    let write = Write { key: "a".into(), document: Some("[true]".into()), revision };
    let checkpoint = saved.checkpoint.unwrap();
    let save = Save { writes: &[write], notes: &[], checkpoint: &checkpoint, revision: saved.revision };
    views.save(&id, save).await.unwrap();

    let cqrs = service::<_, Fragile>(backend).await;
    let late = deposit(&cqrs, "a", 1).await;
    let good = deposit(&cqrs, "good", 1).await;
    assert_eq!(fragile(&cqrs, "good", &good).await.unwrap(), [1, 2, 3], "others go on");
    let error = fragile(&cqrs, "a", &late).await.unwrap_err();
    let Error::SetAside { reason, .. } = error else { panic!("{error:?}") };
    assert!(reason.contains(r#"document "a" of view fragile-v1 cannot be read: "#), "{reason}");
    cqrs.rebuild("fragile").await.unwrap().finished().await.unwrap();
    assert_eq!(fragile(&cqrs, "a", &late).await.unwrap(), [1, 2, 3], "from the log alone");
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(prefix = "ship")]
enum ShipEvent {
    Loaded { number: u64 },
}

#[derive(Debug, thiserror::Error)]
enum Never {}

#[derive(Debug, Default, Clone, Aggregate)]
#[aggregate(id = String, event = ShipEvent, rejection = Never)]
struct Ship;

impl Apply<ShipEvent> for Ship {
    fn apply(&mut self, _: &ShipEvent) {}
}

#[derive(Debug, Serialize, Deserialize, Command)]
#[command(aggregate = Ship, upsert)]
struct Load {
    #[command(id)]
    ship: String,
    numbers: Vec<u64>,
}

impl Handle<Load> for Ship {
    fn handle(&self, command: &Load, _: &Context) -> Handled<Self> {
        Ok(command.numbers.iter().map(|number| ShipEvent::Loaded { number: *number }).collect())
    }
}

/// A document for each number; the rules panic at 13.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Crate {
    times: u64,
}

impl View for Crate {
    const NAME: &'static str = "crate";
    type Of = Ship;
}

impl Project<ShipEvent> for Crate {
    fn key(event: &Envelope<ShipEvent>) -> Option<String> {
        let ShipEvent::Loaded { number } = event.data;
        assert!(number != 13, "no thirteen");
        Some(number.to_string())
    }

    fn project(&mut self, _: &Envelope<ShipEvent>) {
        self.times += 1;
    }
}

#[derive(Query)]
#[query(view = Crate, answer = Option<Crate>)]
struct GetCrate {
    #[query(key)]
    number: String,
}

async fn load(
    cqrs: &Cqrs<(Account, Ship), (Crate,)>,
    ship: &str,
    numbers: impl IntoIterator<Item = u64>,
) -> Receipt {
    cqrs.execute(Load { ship: ship.into(), numbers: numbers.into_iter().collect() }).await.unwrap()
}

async fn times(cqrs: &Cqrs<(Account, Ship), (Crate,)>, number: u64) -> u64 {
    let found = cqrs.query(GetCrate { number: number.to_string() }).await.unwrap();
    found.map_or(0, |found| found.times)
}

async fn a_commit_may_change_more_documents_than_one_write_takes<B: Backend + Clone>(backend: B) {
    let (_, views) = backend.clone().split();
    let cqrs = service::<_, Crate>(backend).await;
    let large = load(&cqrs, "large", 1_000..1_510).await;
    let small = load(&cqrs, "small", [1]).await;
    cqrs.seen("crate", &small).await.expect("others go on");
    assert_eq!(times(&cqrs, 1).await, 1);
    let dead = cqrs.dead_letters("crate").await.unwrap();
    let letters = dead.list().await.unwrap();
    if views.max_writes() < 510 {
        let [letter] = letters.as_slice() else { panic!("one letter, not {letters:?}") };
        assert_eq!((letter.events, letter.version, letter.fault), (510, Some(1), Fault::Event));
        assert!(letter.reason.contains("510"), "{}", letter.reason);
        // One by one they fit.
        assert_eq!(dead.retry(&letter.aggregate).await.unwrap().applied, 510);
    }
    cqrs.seen("crate", &large).await.unwrap();
    assert_eq!([times(&cqrs, 1_000).await, times(&cqrs, 1_509).await], [1, 1]);
}

async fn a_commit_that_is_set_aside_is_one_dead_letter<B: Backend>(backend: B) {
    let cqrs = service::<_, Crate>(backend).await;
    let large = load(&cqrs, "large", [7, 13].into_iter().chain(1_000..1_505)).await;
    let behind = load(&cqrs, "large", [8, 9]).await;
    let small = load(&cqrs, "small", [1]).await;
    cqrs.seen("crate", &small).await.expect("others go on");
    assert_eq!([times(&cqrs, 7).await, times(&cqrs, 1_000).await], [1, 0], "up to the thirteen");
    let dead = cqrs.dead_letters("crate").await.unwrap();
    let shown = async || {
        let letters = dead.list().await.unwrap();
        letters.iter().map(|letter| (letter.version, letter.events, letter.behind)).collect::<Vec<_>>()
    };
    assert_eq!(shown().await, [(Some(2), 506, false), (Some(508), 2, true)]);
    let ship = AggregateKey::new("ship", "large").unwrap();

    // An event in the middle has its own letter once it is edited.
    let (at, edited) = (large.position.sequence, r#"{"number":2000}"#);
    let changed =
        dead.edit(cqrs_core::log::Position { sequence: at, index: 3 }, edited).await.unwrap().unwrap();
    assert_eq!((changed.version, changed.events, changed.behind), (Some(4), 1, true));
    let split = [(Some(2), 2, false), (Some(4), 1, true), (Some(5), 503, true), (Some(508), 2, true)];
    assert_eq!(shown().await, split);
    let error = cqrs.caught_up().await.unwrap_err();
    assert!(matches!(error, Error::SetAside { dead_letters: 4, .. }), "{error:?}");

    // The event with 13 is dropped, and no other.
    let dropped = dead.drop_first(&ship).await.unwrap().unwrap();
    assert_eq!((dropped.version, dropped.events), (Some(2), 1));
    assert_eq!(shown().await[0], (Some(3), 1, true));
    assert_eq!(dead.retry(&ship).await.unwrap().applied, 1 + 1 + 503 + 2);
    assert_eq!(shown().await, []);
    cqrs.seen("crate", &behind).await.unwrap();
    let counts = [times(&cqrs, 1_000).await, times(&cqrs, 1_001).await, times(&cqrs, 2_000).await];
    assert_eq!(counts, [1, 0, 1]);
    assert_eq!([times(&cqrs, 1_504).await, times(&cqrs, 9).await], [1, 1]);
    cqrs.caught_up().await.unwrap();
}

/// Appends a deposit with a version that does not follow, like a writer on another log, or a disk that has lost a
/// message.
async fn damage<B: Backend>(backend: B, id: &str, version: u64) {
    let (events, _) = backend.split();
    let last = events.last(&key(id)).await.unwrap().unwrap();
    let mut event = last.commit.events[last.commit.events.len() - 1].clone();
    event.id = EventId(Uuid::new_v4());
    let mut origin = (*event.origin).clone();
    origin.command_id = cqrs_core::CommandId(Uuid::new_v4());
    event.origin = origin.into();
    let commit = Commit { first_version: version, events: event.into(), ..last.commit };
    events.append(&commit, Expected::Exact(last.sequence)).await.unwrap();
}

async fn gaps(cqrs: &Cqrs<(Account, Ship), (Fragile,)>) -> Vec<(String, Option<u64>, Fault)> {
    let letters = cqrs.dead_letters("fragile").await.unwrap().list().await.unwrap();
    letters
        .into_iter()
        .map(|letter| (letter.aggregate.id().to_owned(), letter.version, letter.fault))
        .collect()
}

async fn a_version_gap_concerns_its_aggregate<B: Backend + Clone>(backend: B) {
    let cqrs = service::<_, Fragile>(backend.clone()).await;
    open(&cqrs, "a", 1).await;
    open(&cqrs, "b", 1).await;
    cqrs.caught_up().await.unwrap();
    damage(backend.clone(), "a", 7).await;
    damage(backend.clone(), "a", 8).await;
    // The same content as before once more.
    damage(backend.clone(), "b", 2).await;
    let good = open(&cqrs, "good", 1).await;
    assert_eq!(fragile(&cqrs, "good", &good).await.unwrap(), [1, 2], "others go on");
    let all = [("a", 7, Fault::Gap), ("a", 8, Fault::Event), ("b", 2, Fault::Gap)];
    let all = all.map(|(id, version, fault)| (id.to_owned(), Some(version), fault));
    assert_eq!(gaps(&cqrs).await, all);
    cqrs.stop().await;
    drop(cqrs);

    let cqrs = service::<_, Fragile>(backend).await;
    let good = deposit(&cqrs, "good", 1).await;
    assert_eq!(fragile(&cqrs, "good", &good).await.unwrap(), [1, 2, 3]);
    assert_eq!(gaps(&cqrs).await, all, "a restart changes nothing");
    let dead = cqrs.dead_letters("fragile").await.unwrap();
    let again = dead.retry(&key("a")).await.unwrap();
    let stopped = again.stopped_at.unwrap();
    assert!(again.applied == 0 && stopped.fault == Fault::Gap, "the log is as it was: {stopped:?}");
    assert!(stopped.reason.contains("should have version 3"), "{}", stopped.reason);
    // An operator decides that the view does not need the missing event.
    dead.edit(stopped.position, r#"{"amount":5}"#).await.unwrap();
    assert_eq!(dead.retry(&key("a")).await.unwrap().applied, 2);
    let found = cqrs.query(GetFragile { account: "a".into() }).await.unwrap().unwrap();
    assert_eq!(found.versions, [1, 2, 7, 8]);
}

async fn a_version_gap_is_noticed_after_a_restart<B: Backend + Clone>(backend: B) {
    let cqrs = service::<_, Fragile>(backend.clone()).await;
    for id in ["a", "b", "good"] {
        open(&cqrs, id, 1).await;
    }
    cqrs.caught_up().await.unwrap();
    cqrs.stop().await;
    drop(cqrs);
    damage(backend.clone(), "a", 7).await;
    damage(backend.clone(), "b", 2).await;
    // With no remembered versions.
    let cqrs = service::<_, Fragile>(backend).await;
    let good = deposit(&cqrs, "good", 1).await;
    assert_eq!(fragile(&cqrs, "good", &good).await.unwrap(), [1, 2, 3], "others go on");
    let all = [("a", 7), ("b", 2)].map(|(id, version)| (id.to_owned(), Some(version), Fault::Gap));
    assert_eq!(gaps(&cqrs).await, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_are_asked_for_only_where_they_are_not_known() {
    let (events, views) = (Watched::new(MemoryEvents::default()), MemoryViews::default());
    let backend = || (events.clone(), views.clone());
    let writer = Cqrs::builder(backend()).aggregate::<Account>().aggregate::<Ship>();
    let writer: Cqrs<(Account, Ship), (Fragile,)> =
        writer.view::<Fragile>().without_projectors().start().await.unwrap();
    for id in 0..50 {
        open(&writer, &id.to_string(), 1).await;
        deposit(&writer, &id.to_string(), 1).await;
    }
    let cqrs = service::<_, Fragile>(backend()).await;
    cqrs.caught_up().await.unwrap();
    deposit(&cqrs, "1", 1).await;
    cqrs.caught_up().await.unwrap();
    assert_eq!(events.looks_before(), 0, "who begins at the beginning knows all versions");
    cqrs.stop().await;
    for id in 0..50 {
        deposit(&writer, &id.to_string(), 1).await;
    }
    let cqrs = service::<_, Fragile>(backend()).await;
    cqrs.caught_up().await.unwrap();
    open(&cqrs, "new", 1).await;
    deposit(&cqrs, "1", 1).await;
    cqrs.caught_up().await.unwrap();
    assert_eq!(events.looks_before(), 1, "one request for those of a batch, and none after that");
}

/// A policy whose state cannot be written after 14.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Moody {
    mood: f64,
}

impl Policy for Moody {
    const NAME: &'static str = "moody";
    const START: Start = Start::Beginning;
    type Of = Account;
}

impl React<AccountEvent> for Moody {
    fn react(&mut self, event: &Envelope<AccountEvent>, effects: &mut Effects) {
        match event.data {
            AccountEvent::Deposited { amount: 14 } => self.mood = f64::NAN,
            AccountEvent::Deposited { amount: 1 } => {
                effects.send(Deposit { account: event.subject().to_owned(), amount: 2 });
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_cannot_be_written_or_read_is_the_fault_of_its_event() {
    let events = MemoryEvents::default();
    let views = events.capabilities().progress_store().unwrap().clone();
    let backend = || (events.clone(), MemoryViews::default());
    let start =
        async || Cqrs::builder(backend()).aggregate::<Account>().policy::<Moody>().start().await.unwrap();
    let open = |account: &str, amount| Open { account: account.into(), owner: "anna".into(), amount };
    let letters = async |cqrs: &Cqrs<(Account,), ()>| {
        let letters = cqrs.dead_letters("moody").await.unwrap().list().await.unwrap();
        letters
            .into_iter()
            .map(|letter| (letter.aggregate.id().to_owned(), letter.version))
            .collect::<Vec<_>>()
    };
    let cqrs = start().await;
    cqrs.execute(open("bad", 14)).await.unwrap();
    let receipt = cqrs.execute(open("good", 1)).await.unwrap();
    cqrs.seen("moody", &receipt).await.unwrap();
    assert_eq!(letters(&cqrs).await, [("bad".to_owned(), Some(2))]);
    cqrs.stop().await;
    let id = cqrs_core::port::ProjectionId::new("moody", 1);
    let saved = views.checkpoint(&id).await.unwrap();
    let revision = views.load(&id, &["good".to_owned()]).await.unwrap()[0].revision;
    let write = Write { key: "good".into(), document: Some("[true]".into()), revision };
    let checkpoint = saved.checkpoint.unwrap();
    let save = Save { writes: &[write], notes: &[], checkpoint: &checkpoint, revision: saved.revision };
    views.save(&id, save).await.unwrap();

    let cqrs = start().await;
    let unread = cqrs.execute(Deposit { account: "good".into(), amount: 5 }).await.unwrap();
    let other = cqrs.execute(open("other", 1)).await.unwrap();
    cqrs.seen("moody", &other).await.expect("others go on");
    let error = cqrs.seen("moody", &unread).await.unwrap_err();
    assert!(
        matches!(&error, Error::SetAside { reason, .. } if reason.contains("cannot be read")),
        "{error:?}"
    );
}
