//! The permissions that [`Topology::permissions`] writes are all that a service needs during its whole life, and it
//! needs each: without one line something fails, and the error or the log names the line.
//!
//! Errors that only the log has are looked for there.
#![cfg(not(feature = "testcontainers"))]
#![allow(clippy::large_futures, reason = "a test has few of them")]

use std::{
    cell::RefCell,
    fmt::Write as _,
    rc::Rc,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use cqrs_core::{
    Cqrs, Effects, Envelope, Error, Policy, React, Receipt, Start, View as _, operate::ProjectorState,
    port::ProjectionId,
};
use cqrs_nats::{Connect, Permissions, Topology};
use cqrs_nats_server::LocalServer;
use cqrs_tests::{
    domain::{Account, AccountEvent, Bank, RichAccounts, Statement, deposit, open, statement, withdraw},
    lines::Lines,
    server_binary, with_causes,
};
use serde::{Deserialize, Serialize};
use tokio::{
    runtime,
    task::LocalSet,
    time::{sleep, timeout},
};

/// How long a step, or a log line about it, may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// How many services run at the same time.
const AT_ONCE: usize = 4;

/// A deposit of 1 arms a deadline of 1,000 seconds for a deposit of 2, and a withdrawal disarms it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Reminder;

impl Policy for Reminder {
    const NAME: &'static str = "reminder";
    const START: Start = Start::Beginning;
    type Of = Account;
}

impl React<AccountEvent> for Reminder {
    fn react(&mut self, event: &Envelope<AccountEvent>, effects: &mut Effects) {
        let account = event.subject().to_owned();
        match event.data {
            AccountEvent::Deposited { amount: 1 } => {
                let time = event.time + Duration::from_secs(1_000);
                effects.at("later", time, deposit(account, 2));
            }
            AccountEvent::Withdrawn { .. } => {
                effects.disarm("later");
                effects.at("now", event.time, deposit(account, 3));
            }
            _ => {}
        }
    }
}

fn topology() -> Topology {
    Topology::new("shop").notices()
}

fn needed(user: &str) -> Permissions {
    let first = Statement::projection();
    let permissions = topology().permissions(&format!("_INBOX.{user}")).projection(&first);
    let permissions = permissions.projection(&ProjectionId { build: 2, ..first.clone() }).removal(&first);
    permissions.projection(&ProjectionId::new(Reminder::NAME, 1)).snapshots().deadlines().notices()
}

/// The errors that a service reports, except for its log.
type Said = Rc<RefCell<String>>;

async fn step<T, E: std::error::Error + 'static>(
    what: &str,
    step: impl IntoFuture<Output = Result<T, E>>,
) -> Result<T, String> {
    let done = timeout(PATIENCE, step.into_future()).await.map_err(|_| format!("{what} does not end"))?;
    done.map_err(|error| format!("{what}: {}", with_causes(&error)))
}

/// A step that only reads, or can be repeated: it is tried again after an error that may pass, since a busy server may not
/// answer in time. A missing permission does not pass.
async fn asked<T, F>(what: &str, ask: impl Fn() -> F) -> Result<T, String>
where
    F: IntoFuture<Output = Result<T, Error>>,
{
    let answered = async {
        loop {
            match ask().await {
                Err(Error::Store(error)) if error.is_transient() => sleep(Duration::from_millis(20)).await,
                answer => break answer,
            }
        }
    };
    step(what, answered).await
}

/// Notes the states of a service's projectors.
async fn listen(bank: Bank, said: Said) {
    loop {
        for projector in bank.projectors() {
            if let ProjectorState::Halted { reason } | ProjectorState::Retrying { reason } = projector.state {
                said.borrow_mut().push_str(&reason);
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn instance(url: &str, user: &str, said: &Said) -> Result<Bank, String> {
    let nats = step("connecting", Connect::to(url).user(user, "p").connect()).await?;
    let backend = step("opening", nats.open(topology())).await?;
    let builder = Cqrs::builder(backend).aggregate::<Account>().view::<Statement>().policy::<Reminder>();
    let bank = step("starting", Box::pin(builder.start())).await?;
    tokio::task::spawn_local(listen(bank.clone(), Rc::clone(said)));
    Ok(bank)
}

async fn seen(bank: &Bank, receipt: &Receipt) -> Result<Statement, String> {
    let query = || bank.query(statement("1")).after(receipt).patience(PATIENCE);
    Ok(asked("asking", query).await?.expect("an account"))
}

/// Everything that a service does.
async fn live(url: &str, user: &str, said: &Said) -> Result<(), String> {
    let bank = Box::pin(instance(url, user, said)).await?;
    let mut notices = step("listening", bank.notices::<Account, _>()).await?;
    let open = open("1", 1);
    let opened = step("opening an account", bank.execute(open)).await?;
    let heard = timeout(PATIENCE, notices.next()).await;
    heard.map_err(|_| "no notice comes".to_owned())?.ok_or("the notices are over")?;
    // Enough for a snapshot.
    for _ in 0..5 {
        step("paying in", bank.execute(deposit("1", 10))).await?;
    }
    let receipt = step("paying out", bank.execute(withdraw("1", 1))).await?;
    let trace = asked("tracing", || bank.trace(opened.correlation_id)).await?;
    drop(trace);
    asked("listing accounts", || bank.aggregates::<Account, _>()).await?;
    seen(&bank, &receipt).await?;
    // The deadline passes, once the other one is disarmed.
    let paid = async {
        while seen(&bank, &receipt).await?.balance != 53 {
            sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, String>(())
    };
    timeout(PATIENCE, paid).await.map_err(|_| "no deadline comes".to_owned())??;
    // Another instance reads the snapshot and writes, so that this one gets a conflict, and becomes a standby.
    let standby = Box::pin(instance(url, user, said)).await?;
    for bank in [&standby, &bank, &standby] {
        step("paying in", bank.execute(deposit("1", 10))).await?;
    }
    asked("listing", || bank.query(RichAccounts { at_least: 0 })).await?;
    step("rebuilding", async { bank.rebuild(Statement::NAME).await?.finished().await }).await?;
    asked("removing", || bank.remove_old_builds(Statement::NAME)).await?;
    asked("listing again", || bank.query(RichAccounts { at_least: 0 })).await?;
    let letters = asked("looking at dead letters", || bank.dead_letters(Statement::NAME)).await?;
    asked("listing dead letters", || letters.list()).await?;
    asked("asking how far it is", || bank.progress()).await?;
    bank.stop().await;
    let receipt = step("paying in", standby.execute(deposit("1", 10))).await?;
    seen(&standby, &receipt).await?;
    standby.stop().await;
    Ok(())
}

/// Whether a text names a missing permission that this line would grant.
fn names(text: &str, line: &str) -> bool {
    let covers = |subject: &str| {
        let (mut line, mut subject) = (line.split('.'), subject.split('.'));
        loop {
            match (line.next(), subject.next()) {
                (Some(">"), Some(_)) | (None, None) => return true,
                (Some("*"), Some(_)) => {}
                (Some(one), Some(other)) if one == other => {}
                _ => return false,
            }
        }
    };
    let subjects = ["publish to ", "subscribe to "].into_iter().flat_map(|verb| text.split(verb).skip(1));
    let end = |c: char| c.is_whitespace() || [':', '"', ','].contains(&c);
    subjects.filter_map(|rest| rest.split(end).next()).any(|subject| subject == line || covers(subject))
}

/// Runs a service without a line; returns the problem if nothing reports that.
fn without(url: &str, user: &str, line: Option<&str>) -> Result<(), String> {
    let lines = Lines::collect();
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let said = Said::default();
        let Some(line) = line else { return Box::pin(live(url, user, &said)).await };
        let is_named = || names(&lines.text(), line) || names(&said.borrow(), line);
        let named = async {
            while !is_named() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            lived = Box::pin(live(url, user, &said)) => match lived {
                _ if is_named() => Ok(()),
                Ok(()) => Err(format!("{line} is not needed")),
                Err(error) if names(&error, line) => Ok(()),
                Err(error) => Err(format!("without {line}, which nothing names: {error}")),
            },
            () = named => Ok(()),
        }
    })
}

#[test]
fn each_permission_is_needed_and_no_other() {
    let lines = Lines::collect();
    let binary = runtime::Runtime::new().unwrap().block_on(server_binary());
    let count = needed("").publish().len() + needed("").subscribe().len();
    // An account for each service: with all lines, and then with all but one.
    let mut users = Vec::new();
    let mut accounts = String::new();
    for number in 0..=count {
        let user = format!("user-{number}");
        let permissions = needed(&user);
        let (mut publish, mut subscribe) = (permissions.publish().to_vec(), permissions.subscribe().to_vec());
        let missing = number.checked_sub(1).map(|index| match index.checked_sub(publish.len()) {
            None => publish.remove(index),
            Some(index) => subscribe.remove(index),
        });
        let _ = writeln!(
            accounts,
            "A{number} {{ jetstream: enabled, users: [ {{ user: {user}, password: p, permissions: {{
                publish: {publish:?}, subscribe: {subscribe:?} }} }} ] }}"
        );
        users.push((user, missing));
    }
    let config = format!("accounts {{ {accounts} }}");
    let runtime = runtime::Runtime::new().unwrap();
    let server = runtime.block_on(LocalServer::builder(binary).config(config).start()).unwrap();
    let (next, url, users) = (AtomicUsize::new(0), server.url(), &users);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let next = &next;
        let work = move || {
            let mut wrong = Vec::new();
            while let Some((user, line)) = users.get(next.fetch_add(1, Ordering::Relaxed)) {
                // Each on a thread of its own, whose lines are collected.
                let life = scope.spawn(move || without(url, user, line.as_deref()));
                wrong.extend(life.join().unwrap().err());
            }
            wrong
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let log = std::fs::read_to_string(server.folder().join("log")).unwrap();
    let all = log.lines().filter(|line| line.contains("Violation") && line.contains("user:user-0\""));
    assert_eq!(all.collect::<Vec<_>>(), [""; 0], "with all of them");
    assert_eq!(wrong, [""; 0], "{} of {} lives", wrong.len(), users.len());
    runtime.block_on(server.stop());
    drop(lines);
}
