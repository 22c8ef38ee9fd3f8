//! Counts the messages after a sequence: the server counts them for a consumer, which is created for that and deleted.

use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use cqrs_core::{StoreError, port::Backlog};
use uuid::Uuid;

use crate::{
    client::{
        connection::Connection,
        errors::no_answer,
        leader_get::OneByOne,
        scan::{self, Scan, passing},
    },
    topology::Topology,
    wire::stored::delivered_found,
};

/// The commits of some aggregate types after a sequence.
pub(crate) async fn after(
    connection: &Connection,
    topology: &Topology,
    aggregates: &[&'static str],
    after: u64,
) -> Result<Backlog, StoreError> {
    let name = format!("counting-{}", Uuid::new_v4().simple());
    let asked = scan::subjects(&connection.domain, topology.stream(), &name);
    let counting = Box::pin(count(connection, topology, aggregates, after, &name));
    connection.answer(&asked, counting).await.map_err(|why| no_answer(what(topology, after), why))?
}

async fn count(
    connection: &Connection,
    topology: &Topology,
    aggregates: &[&'static str],
    after: u64,
    name: &str,
) -> Result<Backlog, StoreError> {
    let filters = || aggregates.iter().map(|name| topology.subjects().filter_of(name));
    let config = pull::Config {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: after.saturating_add(1) },
        filter_subjects: filters().collect(),
        ..passing(name, "counts what a projection has still to do")
    };
    let scan = Scan::open(connection, topology.stream(), config, what(topology, after)).await?;
    let commits = scan.pending();
    let mut since = None;
    if commits > 0 {
        let mut messages = OneByOne::new(filters(), after, u64::MAX);
        let first = messages.next(connection, topology.stream()).await?;
        let commit = first.and_then(|found| delivered_found(topology.subjects(), aggregates, found).ok());
        since = commit.and_then(|stored| stored.commit.events.first().map(|event| event.origin.time));
    }
    scan.close().await;
    Ok(Backlog { commits, since })
}

fn what(topology: &Topology, after: u64) -> String {
    format!("counting what stream {} has after sequence {after}", topology.stream())
}
