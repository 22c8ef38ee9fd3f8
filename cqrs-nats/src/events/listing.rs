//! Lists the aggregates of a type: the leader of the stream knows its subjects, and tells them in their order.
//!
//! The server goes through all subjects of the filter and sorts them for each answer, which has up to 100,000 of them
//! from an offset on. Subjects never go away, but new ones move those behind them. So the offset only says where to
//! look, and the last subject that was listed says where to go on.

use std::{collections::BTreeMap, time::Duration};

use cqrs_core::{
    AggregateKey, StoreError,
    port::{AggregatePage, Listing},
};
use serde::{Deserialize, Serialize};

use crate::{
    client::{api::Api, connection::Connection, errors::no_answer},
    topology::Topology,
};

/// How long a server may take for an answer. It needs a few seconds for a million subjects.
const ANSWER: Duration = Duration::from_secs(20);

/// The server takes no larger offset.
const MAX_OFFSET: u64 = i64::MAX.unsigned_abs();

#[derive(Serialize)]
struct Request<'a> {
    subjects_filter: &'a str,
    offset: u64,
}

#[derive(Deserialize)]
struct Answer {
    /// How many subjects the filter has.
    #[serde(default)]
    total: u64,
    state: State,
}

#[derive(Deserialize)]
struct State {
    /// The number of messages of each, sorted as the server sorts them: by the bytes of the subjects.
    #[serde(default)]
    subjects: BTreeMap<String, u64>,
}

/// A page of the aggregates of a type, in the order of their subjects.
pub(crate) async fn page(
    connection: &Connection,
    topology: &Topology,
    listing: Listing<'_>,
) -> Result<AggregatePage, StoreError> {
    let subjects = topology.subjects();
    let filter = subjects.filter_of(listing.aggregate);
    let after = listing.after.map(|after| subjects.subject_of(&after.key));
    let is_listed = |subject: &str| after.as_deref().is_some_and(|after| subject <= after);
    // The last subject that was listed is at this offset or behind it.
    let mut offset = listing.after.map_or(0, |after| after.count.saturating_sub(1)).min(MAX_OFFSET);
    let mut answer = ask(connection, topology, &filter, offset).await?;
    if offset > 0 && !answer.state.subjects.first_key_value().is_some_and(|(first, _)| is_listed(first)) {
        // The count is wrong, for instance because the stream was restored from an older copy.
        offset = 0;
        answer = ask(connection, topology, &filter, offset).await?;
    }
    loop {
        let Answer { total, state: State { subjects: found } } = answer;
        offset = offset.saturating_add(found.len() as u64);
        let is_last = found.is_empty() || offset >= total;
        let rest = found.into_keys().filter(|subject| !is_listed(subject));
        let mut rest = rest.filter_map(|subject| subjects.aggregate_of(&[listing.aggregate], &subject));
        let keys: Vec<AggregateKey> = rest.by_ref().take(listing.max).collect();
        if is_last || !keys.is_empty() {
            return Ok(listing.page(keys, !is_last || rest.next().is_some()));
        }
        answer = ask(connection, topology, &filter, offset).await?;
    }
}

async fn ask(
    connection: &Connection,
    topology: &Topology,
    filter: &str,
    offset: u64,
) -> Result<Answer, StoreError> {
    let what = || format!("listing the subjects {filter} of stream {}", topology.stream());
    let request = Request { subjects_filter: filter, offset };
    let mut patient = connection.jetstream.clone();
    patient.set_timeout(ANSWER);
    let asked = connection.ask(&patient, Api::StreamInfo, topology.stream(), &request);
    let answer: Result<Answer, _> = Box::pin(asked).await.map_err(|why| no_answer(what(), why))?;
    answer.map_err(|failure| failure.into_store_error(what()))
}
