//! Leaders that step down, and servers that leave in order (lame duck mode), under load: usual operations.

use std::{collections::BTreeMap, time::Duration};

use cqrs_core::{View as _, port::ViewStore as _};
use cqrs_tests::{
    cluster::Cluster,
    domain::{Account, Statement},
    eventually,
    history::{Stored, check, story},
};
use tokio::time::sleep;

use crate::{
    MACHINE,
    random::{self, Random},
    summary,
    workload::{Bank, Workload},
};

/// How often the leaders step down.
const STEPS: u32 = 12;

#[tokio::test(flavor = "multi_thread")]
async fn leaders_that_step_down_and_servers_that_leave_in_order() {
    let _machine = MACHINE.lock().await;
    let mut cluster = Cluster::start(3).await;
    let bank = Bank::open(&cluster).await;
    let mut readers = Vec::new();
    for _ in 0..2 {
        let backend = bank.backend(&cluster).await;
        let views = backend.views.clone();
        let builder = cqrs_core::Cqrs::builder(backend).aggregate::<Account>().view::<Statement>();
        readers.push((builder.start().await.unwrap(), views));
    }
    let seed = random::seed();
    let workload = Workload::start(&bank.services, Random::new(seed));
    let (stream, bucket) = (bank.stream(), bank.bucket("statement-v1"));
    for step in 0..STEPS {
        // Not all at once: the test is about calls in progress.
        sleep(Duration::from_millis(200)).await;
        for subject in [
            format!("STREAM.LEADER.STEPDOWN.{stream}"),
            format!("STREAM.LEADER.STEPDOWN.{bucket}"),
            format!("CONSUMER.LEADER.STEPDOWN.{stream}.statement-v1"),
        ] {
            cluster.ask(&subject).await;
        }
        eventually("the stream is well", async || cluster.is_healthy(&stream).await).await;
        if step % 4 == 3 {
            let node = cluster.leader(&stream).await.unwrap_or_default();
            cluster.leave(node).await;
            cluster.restart(node).await;
            eventually("the stream is well", async || cluster.is_healthy(&stream).await).await;
        }
    }
    let history = workload.stop().await;
    let log = bank.log(&cluster).await;
    let violations = check(&history, &log);
    eprintln!("{}", summary(&history, log.len()));
    for violation in violations.iter().take(5) {
        eprintln!("{violation}\n{}", story(&violation.account, &history, &log));
    }
    assert!(violations.is_empty(), "{} violations, {:?}", violations.len(), violations[0]);

    let (reader, views) = &readers[0];
    reader.caught_up().await.unwrap();
    let documents = views.list(&Statement::projection()).await.unwrap().into_iter();
    let documents: BTreeMap<String, Statement> =
        documents.map(|(key, document)| (key, serde_json::from_slice(&document).unwrap())).collect();
    assert_eq!(documents, statements(&log), "the view is the fold of the log");
    for (reader, _) in &readers {
        assert_eq!(reader.stop().await, []);
    }
}

/// The expected view, folded without the framework.
fn statements(log: &[Stored]) -> BTreeMap<String, Statement> {
    let mut all = BTreeMap::<String, Statement>::new();
    for stored in log {
        let statement = all.entry(stored.account.clone()).or_default();
        for ((_, what), version) in stored.events.iter().zip(stored.first_version..) {
            statement.versions.push(version);
            let amount = what
                .split("\"amount\":")
                .nth(1)
                .map(|rest| rest.trim_end_matches('}').parse::<i64>().unwrap());
            let sign = if what.starts_with("account.withdrawn") { -1 } else { 1 };
            statement.balance += sign * amount.unwrap_or(0);
        }
    }
    all
}
