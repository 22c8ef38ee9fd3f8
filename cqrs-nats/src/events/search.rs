//! Searches the stream for the commits of one business transaction.
//!
//! There is no index by transaction: the stream is read from a time on, with a consumer that the server deletes when it
//! is not used any more. Messages are read whole, because the events of a batch carry their ids in the payload; a
//! message that does not contain the id is dropped without decoding.

use std::time::{Duration, SystemTime};

use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use cqrs_core::{
    StoreError,
    log::StoredCommit,
    port::{Page, Search},
};
use tracing::warn;
use uuid::Uuid;

use crate::{
    client::{
        connection::{Connection, NoAnswer},
        errors::{no_answer, unavailable},
        found::Found,
        leader_get::OneByOne,
        scan::{self, Scan, passing},
        stream::handle,
    },
    topology::Topology,
    wire::{self, stored::delivered_found, subject::Subjects},
};

/// The result so far, and where to continue.
struct Looking {
    search: Search,
    page: Page,
    /// The last sequence that was read.
    seen: u64,
    /// How many messages are left to read. Messages that are stored later do not count, so that the search ends while
    /// other programs write.
    left: Option<u64>,
}

impl Looking {
    /// Examines a message; returns false when enough commits were found.
    fn look(&mut self, subjects: &Subjects, found: Found) -> bool {
        self.seen = found.sequence;
        self.left = self.left.map(|left| left.saturating_sub(1));
        let id = self.search.correlation_id.to_string();
        if found.headers.as_ref().is_ok_and(|headers| !wire::may_mention(headers, &found.payload, &id)) {
            return true;
        }
        // A message without readable headers does not prove that it belongs to the transaction.
        let mentions_it = found.headers.is_ok();
        let stored = match delivered_found(subjects, &[], found) {
            Ok(stored) => stored,
            Err(unreadable) => {
                let (sequence, reason) = (unreadable.sequence, unreadable.reason);
                warn!(
                    log = subjects.log(),
                    sequence, reason, "a message that may be of the transaction cannot be read"
                );
                self.page.more |= mentions_it;
                return true;
            }
        };
        if !mentions(&stored, &self.search) {
            return true;
        }
        let is_full = self.page.commits.len() == self.search.max;
        if is_full {
            self.page.more = true;
        } else {
            self.page.commits.push(stored);
        }
        !is_full
    }
}

/// The commits of one business transaction that the search asks for.
pub(crate) async fn look_through(
    connection: &Connection,
    topology: &Topology,
    search: Search,
) -> Result<Page, StoreError> {
    let page = Page { commits: Vec::new(), more: false, confirmed: !topology.is_replicated() };
    let mut looking = Looking { search, page, seen: 0, left: None };
    loop {
        let name = format!("search-{}", Uuid::new_v4().simple());
        let (asked, seen) = (scan::subjects(&connection.domain, topology.stream(), &name), looking.seen);
        match connection.answer(&asked, Box::pin(look_on(connection, topology, &name, &mut looking))).await {
            Ok(looked) => return looked.map(|()| looking.page),
            // A message that was sent may have ended the connection. Then the server sends nothing more for this
            // consumer.
            Err(NoAnswer::Lost) if connection.is_up().await => {
                if !look_one_by_one(connection, topology, &name, &mut looking).await? {
                    return Ok(looking.page);
                }
                if looking.seen == seen {
                    return Err(no_answer(what(topology), NoAnswer::Lost));
                }
            }
            Err(why) => return Err(no_answer(what(topology), why)),
        }
    }
}

/// Reads on after the last sequence, with a consumer of this name.
async fn look_on(
    connection: &Connection,
    topology: &Topology,
    name: &str,
    looking: &mut Looking,
) -> Result<(), StoreError> {
    let config = config(name, looking);
    let mut scan = Scan::open(connection, topology.stream(), config, what(topology)).await?;
    let looked = collect(&mut scan, topology, looking).await;
    scan.close().await;
    looked
}

async fn collect(scan: &mut Scan, topology: &Topology, looking: &mut Looking) -> Result<(), StoreError> {
    for _ in 0..*looking.left.get_or_insert(scan.pending()) {
        if !looking.look(topology.subjects(), scan.next().await?.found) {
            break;
        }
    }
    Ok(())
}

/// Reads the messages that the server sent to a consumer and that did not arrive here; returns false when enough
/// commits were found.
async fn look_one_by_one(
    connection: &Connection,
    topology: &Topology,
    name: &str,
    looking: &mut Looking,
) -> Result<bool, StoreError> {
    let stream = handle(connection, topology.stream(), || what(topology)).await?;
    let sent = stream.consumer_info(name).await.map_err(|error| unavailable(what(topology), error))?;
    let _ = stream.delete_consumer(name).await;
    // The consumer delivers every message, and no message of the log is ever deleted, so the deliveries are consecutive
    // sequences.
    let until = sent.delivered.stream_sequence;
    let after = looking.seen.max(until.saturating_sub(sent.delivered.consumer_sequence));
    let mut messages = OneByOne::new([">".to_owned()], after, until);
    while looking.left != Some(0)
        && let Some(found) = messages.next(connection, topology.stream()).await?
    {
        if !looking.look(topology.subjects(), found) {
            return Ok(false);
        }
    }
    Ok(looking.left != Some(0))
}

fn what(topology: &Topology) -> String {
    format!("looking through stream {}", topology.stream())
}

fn mentions(stored: &StoredCommit, search: &Search) -> bool {
    stored.commit.events.iter().any(|event| event.origin.correlation_id == search.correlation_id)
}

fn config(name: &str, looking: &Looking) -> pull::Config {
    // Whole seconds are enough, rounded down.
    let deliver_policy = match u64::try_from(looking.search.since.as_second()) {
        _ if looking.seen > 0 => {
            DeliverPolicy::ByStartSequence { start_sequence: looking.seen.saturating_add(1) }
        }
        Err(_) | Ok(0) => DeliverPolicy::All,
        Ok(seconds) => {
            let since = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            DeliverPolicy::ByStartTime { start_time: since.into() }
        }
    };
    pull::Config { deliver_policy, ..passing(name, "looks for a business transaction") }
}
