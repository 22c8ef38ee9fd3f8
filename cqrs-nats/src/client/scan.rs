//! Reads a stream from a position to its end, with a consumer that is created for it and deleted after it.

use std::time::Duration;

use async_nats::jetstream::{
    self,
    consumer::{
        AckPolicy, PullConsumer,
        pull::{self, MessagesErrorKind},
    },
    stream::Stream,
};
use cqrs_core::StoreError;
use futures_util::StreamExt;
use tokio::time::sleep;

use crate::client::{
    api::{Api, Domain},
    connection::{Connection, NEWS, UNHEARD},
    errors::{store_error, unavailable},
    found::Found,
    stream::handle,
};

/// How long the server keeps the consumer if it is not deleted and gets no requests.
const KEPT: Duration = Duration::from_secs(30);

/// How many messages one pull request asks for.
const PULL: usize = 2_048;

/// How long one pull request lasts.
const REQUEST: Duration = Duration::from_secs(10);

/// How often the server sends a heartbeat during a request. A request that the server has lost is noticed after two of
/// these.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// The settings that all these consumers share. One replica keeps the consumer in memory, because its loss costs
/// nothing.
pub(crate) fn passing(name: &str, description: &str) -> pull::Config {
    pull::Config {
        name: Some(name.to_owned()),
        description: Some(description.to_owned()),
        ack_policy: AckPolicy::None,
        inactive_threshold: KEPT,
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    }
}

/// The subjects that a scan of `stream` with a consumer of this name publishes to.
pub(crate) fn subjects(domain: &Domain, stream: &str, name: &str) -> [String; 3] {
    let place = format!("{stream}.{name}");
    [Api::ConsumerCreate, Api::ConsumerNext, Api::ConsumerDelete].map(|api| api.of(domain, &place))
}

/// A scan in progress.
pub(crate) struct Scan {
    what: String,
    stream: Stream<()>,
    consumer: PullConsumer,
    /// The pull requests, once they have begun.
    messages: Option<pull::Stream>,
    /// How many messages were read. The consumer counts its deliveries without gaps.
    read: u64,
    /// How often a server may still answer that the consumer is unknown.
    unheard: u32,
}

/// A message of a scan.
pub(crate) struct Passed {
    pub(crate) found: Found,
    /// How many messages the consumer had after this one.
    pub(crate) pending: u64,
}

impl Scan {
    /// Creates the consumer; `what` describes the operation for errors.
    pub(crate) async fn open(
        connection: &Connection,
        stream: &str,
        config: pull::Config,
        what: String,
    ) -> Result<Self, StoreError> {
        let stream = handle(connection, stream, || what.clone()).await?;
        let consumer = stream.create_consumer(config).await.map_err(|error| store_error(&*what, error))?;
        Ok(Self { what, stream, consumer, messages: None, read: 0, unheard: UNHEARD })
    }

    /// How many messages the consumer had when it was created.
    pub(crate) fn pending(&self) -> u64 {
        self.consumer.cached_info().num_pending
    }

    /// Waits for the next message.
    pub(crate) async fn next(&mut self) -> Result<Passed, StoreError> {
        loop {
            let messages = match &mut self.messages {
                Some(messages) => messages,
                none => {
                    let request = self.consumer.stream().max_messages_per_batch(PULL);
                    let messages = request.expires(REQUEST).heartbeat(HEARTBEAT).messages().await;
                    none.insert(messages.map_err(|error| store_error(&*self.what, error))?)
                }
            };
            match messages.next().await.ok_or_else(|| unavailable(&*self.what, "it ended"))? {
                // A new consumer is not known on every server of a cluster at once.
                Err(error) if error.kind() == MessagesErrorKind::NoResponders && self.unheard > 0 => {
                    self.unheard -= 1;
                    self.messages = None;
                    sleep(NEWS).await;
                }
                message => return self.take(message.map_err(|error| unavailable(&*self.what, error))?),
            }
        }
    }

    fn take(&mut self, message: jetstream::Message) -> Result<Passed, StoreError> {
        let info = message.info().map_err(|error| unavailable(&*self.what, error))?;
        let (sequence, pending, number) = (info.stream_sequence, info.pending, info.consumer_sequence);
        (self.unheard, self.read) = (0, self.read + 1);
        if number != self.read {
            return Err(unavailable(&*self.what, "a message was lost on its way"));
        }
        let message = message.message;
        let found = Found {
            sequence,
            subject: Some(message.subject.to_string()),
            headers: Ok(message.headers.unwrap_or_default()),
            payload: message.payload,
        };
        Ok(Passed { found, pending })
    }

    /// Deletes the consumer. The server would delete it later; until then it counts against the stream's limit.
    pub(crate) async fn close(self) {
        let _ = self.stream.delete_consumer(&self.consumer.cached_info().name).await;
    }
}
