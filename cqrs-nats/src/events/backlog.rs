//! How much there is after a place: the server counts it for a consumer, which is made for that and removed.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use cqrs_core::{Backlog, StoreError};
use uuid::Uuid;

use crate::{
    client::{
        api::Api,
        connection::Connection,
        errors::{no_answer, store_error},
        leader_get::OneByOne,
    },
    topology::Topology,
    wire::{stored::delivered_found, subject::filter_of},
};

/// How long the server keeps the consumer if it is not removed.
const KEPT: Duration = Duration::from_secs(5);

/// The commits of some types of aggregates after a place.
pub(crate) async fn after(
    connection: &Connection,
    topology: &Topology,
    aggregates: &[&'static str],
    after: u64,
) -> Result<Backlog, StoreError> {
    let what = || format!("counting what stream {} has after sequence {after}", topology.stream());
    let name = format!("counting-{}", Uuid::new_v4().simple());
    let asked = [Api::ConsumerCreate, Api::ConsumerNext, Api::ConsumerDelete];
    let asked = asked.map(|api| api.of(format_args!("{}.{name}", topology.stream())));
    let counting = Box::pin(count(connection, topology, aggregates, after, name));
    connection.answer(&asked, counting).await.map_err(|why| no_answer(what(), why))?
}

async fn count(
    connection: &Connection,
    topology: &Topology,
    aggregates: &[&'static str],
    after: u64,
    name: String,
) -> Result<Backlog, StoreError> {
    let what = || format!("counting what stream {} has after sequence {after}", topology.stream());
    let stream = connection.jetstream.get_stream_no_info(topology.stream()).await;
    let stream = stream.map_err(|error| store_error(what(), error))?;
    let config = pull::Config {
        name: Some(name),
        description: Some("counts what a projection has still to do".to_owned()),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: after.saturating_add(1) },
        ack_policy: AckPolicy::None,
        filter_subjects: aggregates.iter().map(|name| filter_of(topology.log(), name)).collect(),
        inactive_threshold: KEPT,
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(|error| store_error(what(), error))?;
    let commits = consumer.cached_info().num_pending;
    let mut since = None;
    if commits > 0 {
        let filters = aggregates.iter().map(|name| filter_of(topology.log(), name));
        let mut messages = OneByOne::new(filters, after, u64::MAX);
        let first = messages.next(connection, topology.stream()).await?;
        let commit = first.and_then(|found| delivered_found(topology.log(), aggregates, found).ok());
        since = commit.and_then(|stored| stored.commit.events.first().map(|event| event.origin.time));
    }
    // The server does it by itself a little later.
    let _ = stream.delete_consumer(&consumer.cached_info().name).await;
    Ok(Backlog { commits, since })
}
