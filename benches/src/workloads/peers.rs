//! Other frameworks, each as it is published, in turn with this one on the same servers.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use cqrs_benches::domain::{CreateOrder, PayOrder};
use cqrs_tests::postgres::LocalPostgres;
use uuid::Uuid;

use crate::{
    cli::Options,
    report::{Goal, Group, Line, PEERS, Unit},
    rounds::{Contender, Until, in_turn, per_second, preparing},
    server::{Orders, Server, Sync, place},
    workloads::{
        commands::{commanding, publishing},
        loads::cold,
    },
};

/// How many commands an order gets if orders have an end: one creates it, the others pay.
const EACH: u64 = 10;

/// How many events a loaded order has.
const LOADED: u64 = 100;

/// disintegrate needs a feature of this version.
const POSTGRES: u32 = 16;

/// The frameworks on Postgres: their names in the peers' program, and their usual names.
const ON_POSTGRES: [(&str, &str); 3] =
    [("cqrs-es", "cqrs-es 0.5.0"), ("disintegrate", "disintegrate 4.0.1"), ("eventcore", "eventcore 2.1.0")];

/// Those on NATS.
const ON_NATS: [(&str, &str); 2] = [("eventsourced", "eventsourced 0.27.1"), ("esrc", "esrc 0.1.0")];

pub(crate) async fn run(options: &Options) -> Result<Group> {
    let program = build()?;
    let server = Server::start(Sync::Default).await?;
    let postgres = LocalPostgres::at_least(POSTGRES).await;
    for (name, _) in ON_POSTGRES {
        postgres.run(&format!("CREATE DATABASE \"{name}\"")).await;
    }
    let tasks = options.tasks;
    let service = server.orders("peers", 1_000_000).await?;
    place(&service, 1..=tasks).await?;
    let commands = Unit::CommandsPerSecond;

    let mut contenders = vec![
        Contender::new(format!("this, orders of {EACH}"), commands, |time| {
            in_turns(service.clone(), tasks, time)
        }),
        Contender::new("this, one order in memory for each task", commands, |time| {
            commanding(service.clone(), PayOrder::usual, 1..=tasks, time)
        }),
    ];
    // The client alone: the limit of a framework with such messages.
    let raw = server.raw("peers").await?;
    for (what, template) in [
        ("client alone, the messages of this", raw.one_event.clone()),
        ("client alone, data and check", raw.one_event.bare()?),
    ] {
        let raw = raw.clone();
        contenders.push(Contender::new(what, commands, move |time| {
            publishing(raw.clone(), template.clone(), tasks, time)
        }));
    }
    let peer = |what: String, unit: Unit, name: &'static str, url: String, measure: Vec<String>| {
        let program = program.clone();
        Contender::new(what, unit, move |time| {
            peer(program.clone(), name, url.clone(), measure.clone(), time)
        })
    };
    let several = |each: u64| -> Vec<String> {
        let words = ["commands", "--tasks", &tasks.to_string(), "--each", &each.to_string()];
        words.map(str::to_owned).to_vec()
    };
    for (name, what) in ON_NATS {
        let what = format!("{what}, orders of {EACH}");
        contenders.push(peer(what, commands, name, server.url().to_owned(), several(EACH)));
    }
    let (resident, what) = ON_NATS[0];
    let what = format!("{what}, a resident entity for each task");
    contenders.push(peer(what, commands, resident, server.url().to_owned(), several(0)));
    for synchronous in ["on", "off"] {
        for (name, what) in ON_POSTGRES {
            let what = format!("{what}, synchronous_commit {synchronous}, orders of {EACH}");
            contenders.push(peer(
                what,
                commands,
                name,
                database(&postgres, name, synchronous),
                several(EACH),
            ));
        }
    }
    let mut lines = beside(in_turn(options, contenders).await?)?;

    let backend = server.nats().await?.context("peers").await?;
    let loaded = 2_000_000..2_000_064_u64;
    for order in loaded.clone() {
        raw.fill(crate::raw::Kind::Order, order..order + 1, 1..LOADED + 1).await?;
    }
    let what = format!("this, load of {LOADED} events");
    let mut contenders = vec![Contender::new(what, Unit::Milliseconds, move |time| {
        cold(backend.clone(), loaded.clone().collect(), PayOrder::refused, time)
    })];
    let load = || vec!["load".to_owned(), "--events".to_owned(), LOADED.to_string()];
    for (name, what) in ON_NATS {
        let what = format!("{what}, load of {LOADED} events");
        contenders.push(peer(what, Unit::Milliseconds, name, server.url().to_owned(), load()));
    }
    for (name, what) in ON_POSTGRES {
        let what = format!("{what}, load of {LOADED} events");
        contenders.push(peer(what, Unit::Milliseconds, name, database(&postgres, name, "on"), load()));
    }
    lines.extend(in_turn(options, contenders).await?);
    service.stop().await;
    let setting = format!(
        "{}; Postgres {} with fsync, {tasks} connections",
        server.setting().await?,
        postgres.version().await
    );
    Ok(Group {
        title: format!(
            "{PEERS} side by side: {tasks} tasks, one event per command, orders of {EACH}: one creates, the others pay"
        ),
        setting,
        lines,
    })
}

/// The frameworks, with what this one is compared with: the best on a database, and resident entities.
fn beside(lines: Vec<Line>) -> Result<Vec<Line>> {
    let find = |part: &str| lines.iter().find(|line| line.what.contains(part)).context("a contender");
    let resident = find("resident")?.clone();
    let sql = lines.iter().filter(|line| line.what.contains("synchronous_commit"));
    let best = sql.max_by(|a, b| a.median().total_cmp(&b.median())).context("a database")?.clone();
    let measured = lines.into_iter().enumerate().map(|(place, line)| match place {
        0 => line.beside(&best, Some(Goal::AtLeast(8.0))),
        1 => line.beside(&resident, Some(Goal::AtLeast(0.95))),
        _ => line,
    });
    Ok(measured.collect())
}

/// Commands per second of tasks that take a new order after so many commands.
async fn in_turns(service: Orders, tasks: u64, time: Duration) -> Result<f64> {
    let task = |_| {
        let service = service.clone();
        move |until: Until| async move {
            let (mut done, mut order) = (0, unused());
            while until.goes_on() {
                if done % EACH == 0 {
                    order += 1;
                    service.execute(CreateOrder::usual(order)).await?;
                } else {
                    service.execute(PayOrder::usual(order)).await?;
                }
                done += 1;
            }
            Ok(done)
        }
    };
    per_second(time, (0..tasks).map(task)).await
}

/// A number from which a task can count for long without reaching the numbers of another, in this round or an earlier
/// one.
fn unused() -> u64 {
    Uuid::new_v4().as_u64_pair().0 & !0xffff
}

/// Runs the peers' program for about this time; it prints one number.
async fn peer(
    program: PathBuf,
    name: &'static str,
    url: String,
    measure: Vec<String>,
    time: Duration,
) -> Result<f64> {
    let seconds = time.as_secs_f64().to_string();
    let run = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(program);
        command.args([name, "--url", &url, "--seconds", &seconds]).args(measure).output()
    });
    let output = run.await??;
    ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)?.trim().parse().context("a number")
}

/// A peer's own database, with or without a wait for the disk at a commit.
fn database(postgres: &LocalPostgres, name: &str, synchronous: &str) -> String {
    let url = postgres.url().replace("/postgres?", &format!("/{name}?"));
    format!("{url}&options=-c%20synchronous_commit%3D{synchronous}")
}

/// Builds the peers, which are a workspace of their own.
fn build() -> Result<PathBuf> {
    let bar = preparing("building the peers", 1);
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let target = package.join("../../target/peers");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked", "--quiet", "--target-dir"]).arg(&target);
    let output = cargo.current_dir(&package).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    bar.finish_and_clear();
    Ok(target.join("release/cqrs-peers"))
}
