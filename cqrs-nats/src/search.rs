//! Looking through the stream for one business transaction.
//!
//! There is no index by transaction: the stream is read from a time on, by a consumer that the server forgets by
//! itself. Messages come whole, since the events of a batch carry their ids in the payload; what does not mention the
//! transaction is dropped undecoded.

use std::time::{Duration, SystemTime};

use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, DeliverPolicy, pull},
};
use cqrs_core::{Page, Search, StoreError, StoredCommit};
use futures_util::StreamExt;
use jiff::Timestamp;
use tracing::warn;
use uuid::Uuid;

use crate::{
    NatsEvents,
    errors::{no_answer, store_error, unavailable},
    events::delivered,
    wire,
};

/// How long the server keeps a consumer that nobody asks.
const KEPT: Duration = Duration::from_secs(30);

/// How many messages, and how many bytes of them, are under way at once.
const PULL: usize = 2_048;

/// How long one request for messages lasts.
const REQUEST: Duration = Duration::from_secs(10);

impl NatsEvents {
    pub(crate) async fn look_through(&self, search: Search) -> Result<Page, StoreError> {
        let what = || format!("looking through stream {}", self.topology.stream());
        let name = format!("search-{}", Uuid::new_v4().simple());
        let verbs = ["CONSUMER.CREATE", "CONSUMER.MSG.NEXT", "CONSUMER.DELETE"];
        let asked = verbs.map(|verb| format!("$JS.API.{verb}.{}.{name}", self.topology.stream()));
        let asked = asked.each_ref().map(String::as_str);
        let stream = self.connection.jetstream.get_stream_no_info(self.topology.stream());
        let stream = stream.await.map_err(|error| store_error(what(), error))?;
        let looking = Box::pin(async {
            let created = stream.create_consumer(config(&name, search.since)).await;
            let consumer = created.map_err(|error| store_error(what(), error))?;
            let found = self.collect(&consumer, search).await;
            // It would go by itself a little later.
            let _ = stream.delete_consumer(&name).await;
            found
        });
        self.connection.answer(&asked, looking).await.map_err(|why| no_answer(what(), why))?
    }

    async fn collect(
        &self,
        consumer: &jetstream::consumer::PullConsumer,
        search: Search,
    ) -> Result<Page, StoreError> {
        let what = || format!("looking through stream {}", self.topology.stream());
        let mut page = Page { commits: Vec::new(), more: false, confirmed: !self.topology.is_replicated() };
        let id = search.correlation_id.to_string();
        // What comes later is not looked at, so that the search ends while others write.
        let all = consumer.cached_info().num_pending;
        let requests = consumer.stream().max_messages_per_batch(PULL).expires(REQUEST).heartbeat(REQUEST / 5);
        let mut messages = requests.messages().await.map_err(|error| store_error(what(), error))?;
        for number in 1..=all {
            let next = messages.next().await.ok_or_else(|| unavailable(what(), "it ended"))?;
            let message = next.map_err(|error| unavailable(what(), error))?;
            let info = message.info().map_err(|error| unavailable(what(), error))?;
            if info.consumer_sequence != number {
                return Err(unavailable(what(), "a message was lost on its way"));
            }
            let sequence = info.stream_sequence;
            let headers = message.headers.clone().unwrap_or_default();
            if !wire::may_mention(&headers, &message.payload, &id) {
                continue;
            }
            let log = self.topology.log();
            let stored =
                match delivered(log, &[], &message.subject, sequence, &headers, message.payload.clone()) {
                    Ok(stored) => stored,
                    Err(unreadable) => {
                        warn!(
                            sequence,
                            reason = unreadable.reason,
                            "a message of the transaction cannot be read"
                        );
                        continue;
                    }
                };
            if !mentions(&stored, &search) {
                continue;
            }
            if page.commits.len() == search.max {
                page.more = true;
                break;
            }
            page.commits.push(stored);
        }
        Ok(page)
    }
}

fn mentions(stored: &StoredCommit, search: &Search) -> bool {
    stored.commit.events.iter().any(|event| event.origin.correlation_id == search.correlation_id)
}

fn config(name: &str, since: Timestamp) -> pull::Config {
    // Whole seconds are enough, rounded down.
    let deliver_policy = match u64::try_from(since.as_second()) {
        Err(_) | Ok(0) => DeliverPolicy::All,
        Ok(seconds) => {
            let since = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            DeliverPolicy::ByStartTime { start_time: since.into() }
        }
    };
    pull::Config {
        name: Some(name.to_owned()),
        description: Some("looks for a business transaction".to_owned()),
        deliver_policy,
        ack_policy: AckPolicy::None,
        inactive_threshold: KEPT,
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    }
}
