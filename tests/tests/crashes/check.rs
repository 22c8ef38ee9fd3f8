//! The events that are put into the log, and the expected final state, computed from the log without the framework's
//! projections.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use cqrs_core::{
    Cqrs,
    log::Position,
    memory::MemoryViews,
    port::{AnyViews, Deadlines, EventStore, ProjectionId, ViewStore},
};
use cqrs_tests::{
    domain::{Account, Statement, deposit, key, open},
    mortal::{Generous, PROJECTIONS, Picky, ROWS, Store, THIRTEEN},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::steps::Step;

/// Each account with its events in the end, sorted.
const ACCOUNTS: [(&str, &[&str]); 5] = [
    ("bank", &["deposited 5", "opened null"]),
    ("consolation", &["deposited 1", "deposited 5", "opened null"]),
    ("disarmed", &["deposited 5", "deposited 70", "deposited 9", "opened null"]),
    ("expires", &["deposited 5", "deposited 50", "deposited 7", "opened null", "withdrawn 1"]),
    ("poison", &["deposited 1", "deposited 13", "deposited 5", "opened null"]),
];

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// Appends the events from which everything follows.
pub(crate) async fn fill(events: &(impl EventStore + Deadlines + Clone)) {
    let service =
        Cqrs::builder((events.clone(), MemoryViews::default())).aggregate::<Account>().start().await;
    let service = service.unwrap();
    for (account, _) in ACCOUNTS {
        let open = open(account, 0);
        service.execute(open).await.unwrap();
    }
    for (account, amount) in [
        ("expires", 50),
        ("expires", 7),
        ("disarmed", 70),
        ("disarmed", 9),
        ("poison", THIRTEEN),
        ("poison", 1),
    ] {
        service.execute(deposit(account, amount)).await.unwrap();
    }
}

/// One event of the log.
struct Told {
    words: String,
    version: u64,
    amount: i64,
    position: Position,
}

/// An account's events as they are in the log.
async fn told(events: &impl EventStore, account: &str) -> Option<Vec<Told>> {
    let key = key(account);
    let page = events.read(&key, 0, 1_000).await.ok()?;
    let mut told = Vec::new();
    for stored in page.commits {
        for (event, index) in stored.commit.events.iter().zip(0..) {
            let data: Value = serde_json::from_slice(&event.data).unwrap();
            let kind = event.event_type.trim_start_matches("account.");
            let amount = data["amount"].as_i64().unwrap_or(0);
            told.push(Told {
                words: format!("{kind} {}", data["amount"]),
                version: stored.commit.first_version + u64::from(index),
                amount: if kind == "withdrawn" { -amount } else { amount },
                position: Position { sequence: stored.sequence, index },
            });
        }
    }
    Some(told)
}

fn sorted(told: &[Told]) -> Vec<&str> {
    let mut words: Vec<_> = told.iter().map(|told| told.words.as_str()).collect();
    words.sort_unstable();
    words
}

fn id(name: &'static str) -> ProjectionId {
    ProjectionId::new(name, 1)
}

/// Waits until nothing more will happen.
pub(crate) async fn until_done<V: Store>(events: &impl EventStore, views: &V, step: Step) {
    let deadline = Instant::now() + PATIENCE;
    while let Some(missing) = missing(events, views).await {
        assert!(Instant::now() < deadline, "{step}: after {PATIENCE:?} still not: {missing}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// The store of a projection that has effects: it is beside the log, wherever the views are.
fn effects(events: &impl EventStore, id: &ProjectionId) -> Option<AnyViews> {
    let has_effects = PROJECTIONS[2..].contains(&id.name);
    has_effects.then(|| events.capabilities().progress_store().cloned()).flatten()
}

/// The work that is left, as far as it is visible.
async fn missing<V: Store>(events: &impl EventStore, views: &V) -> Option<String> {
    for (account, expected) in ACCOUNTS {
        let Some(told) = told(events, account).await else { return Some("an answer of the log".into()) };
        if sorted(&told).len() < expected.len() {
            return Some(format!("{account} has {expected:?} (has {:?})", sorted(&told)));
        }
    }
    let Ok(log) = events.log(&["account"]).await else { return Some("the end of the log".into()) };
    // The table may not be there yet: what has effects goes on while the database is down.
    let rows = V::HAS_ROWS.then_some(ROWS);
    for id in PROJECTIONS.map(id).into_iter().chain(rows) {
        let saved = match effects(events, &id) {
            Some(progress) => progress.checkpoint(&id).await,
            None => views.checkpoint(&id).await,
        };
        let saved = saved.ok().and_then(|saved| saved.checkpoint);
        let sequence = saved.map_or(0, |checkpoint| checkpoint.sequence);
        if sequence < log.last_sequence {
            return Some(format!("{id} is at {}, not {sequence}", log.last_sequence));
        }
    }
    let policy = id(PROJECTIONS[2]);
    let progress = effects(events, &policy).expect("a place beside the log");
    match progress.notes(&policy, "pending/").await {
        Ok(pending) if pending.is_empty() => None,
        pending => Some(format!("everything that the policy wants is done: {pending:?}")),
    }
}

/// Checks the final state against the log.
pub(crate) async fn check<V: Store>(events: &impl EventStore, views: &V, handled: &Path, step: Step) {
    let mut logs = BTreeMap::new();
    for (account, expected) in ACCOUNTS {
        let told = loop {
            // A busy server may not answer in time.
            if let Some(told) = told(events, account).await {
                break told;
            }
        };
        assert_eq!(sorted(&told), expected, "{step}: each command of {account} took effect once");
        let versions: Vec<_> = told.iter().map(|told| told.version).collect();
        assert_eq!(versions, (1..=expected.len() as u64).collect::<Vec<_>>(), "{step}: {account}");
        logs.insert(account.to_owned(), told);
    }
    let of_all =
        |of: fn(&[Told]) -> _| logs.iter().map(|(account, told)| (account.clone(), of(told))).collect();
    let statements: BTreeMap<_, Statement> = of_all(|told| Statement {
        balance: told.iter().map(|told| told.amount).sum(),
        versions: told.iter().map(|told| told.version).collect(),
    });
    assert_eq!(documents(views, PROJECTIONS[0]).await, statements, "{step}: the view is the fold of the log");

    let applied = |told: &[Told]| told.iter().take_while(|told| told.words != "deposited 13").count() as u64;
    let picky: BTreeMap<_, Picky> = logs
        .iter()
        .map(|(account, told)| (account.clone(), Picky { versions: (1..=applied(told)).collect() }))
        .collect();
    assert_eq!(documents(views, PROJECTIONS[1]).await, picky, "{step}: the view without what is set aside");

    let progress = effects(events, &id(PROJECTIONS[2])).unwrap();
    let states = documents::<StateOf<Generous>, _>(&progress, PROJECTIONS[2]).await;
    let states: BTreeMap<_, _> = states.into_iter().map(|(key, stored)| (key, stored.state)).collect();
    let seen: BTreeMap<_, _> = states
        .iter()
        .map(|(account, state)| (account.clone(), (u64::from(state.seen), state.refused.len())))
        .collect();
    let expected: BTreeMap<_, _> = logs
        .iter()
        .map(|(account, told)| (account.clone(), (applied(told), usize::from(account == "expires"))))
        .collect();
    assert_eq!(seen, expected, "{step}: the policy has seen each event once, and the refusal once");

    let set_aside: Vec<_> = logs["poison"].iter().skip_while(|told| told.words != "deposited 13").collect();
    let letters = [
        (PROJECTIONS[1], views.notes(&id(PROJECTIONS[1]), "dead/").await.unwrap()),
        (PROJECTIONS[2], progress.notes(&id(PROJECTIONS[2]), "dead/").await.unwrap()),
    ];
    for (name, letters) in letters {
        let places: Vec<_> = letters.iter().map(|(_, content)| place(content)).collect();
        let expected: Vec<_> =
            set_aside.iter().map(|told| (told.position, told.version, "poison".into())).collect();
        assert_eq!(places, expected, "{step}: dead letters of {name}, each once");
    }

    let all: Vec<_> = logs
        .iter()
        .flat_map(|(account, told)| told.iter().map(|told| (account.clone(), told.version.cast_signed())))
        .collect();
    if let Some(rows) = views.rows().await {
        assert_eq!(rows, all, "{step}: a row for each event");
    }
    handled_all(handled, &all, step);
}

/// Each event was handled at least once, and the first handling of those of one account was in order.
fn handled_all(handled: &Path, all: &[(String, i64)], step: Step) {
    let lines = fs::read_to_string(handled).unwrap();
    let mut first = BTreeMap::<_, Vec<_>>::new();
    let mut known = BTreeSet::new();
    for line in lines.lines() {
        let (account, version) = line.split_once(' ').unwrap();
        let version: i64 = version.parse().unwrap();
        if known.insert((account.to_owned(), version)) {
            first.entry(account).or_default().push(version);
        }
    }
    assert_eq!(known.into_iter().collect::<Vec<_>>(), all, "{step}: each event was handled");
    assert!(first.values().all(|versions| versions.is_sorted()), "{step}: {first:?}");
}

fn place(letter: &[u8]) -> (Position, u64, String) {
    let letter: cqrs_core::operate::DeadLetter = serde_json::from_slice(letter).unwrap();
    (letter.position, letter.version.unwrap(), letter.aggregate.id().to_owned())
}

/// A stored state of a policy, beside its version.
#[derive(serde::Deserialize)]
struct StateOf<P> {
    state: P,
}

async fn documents<D: DeserializeOwned, V: ViewStore>(views: &V, name: &'static str) -> BTreeMap<String, D> {
    let all = views.list(&id(name)).await.unwrap().into_iter();
    all.map(|(key, document)| (key, serde_json::from_slice(&document).unwrap())).collect()
}
