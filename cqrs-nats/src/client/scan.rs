//! Reading a stream from a place to an end, by a consumer that is made for it and deleted after it.

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
    api::Api,
    connection::{Connection, NEWS, UNHEARD},
    errors::{store_error, unavailable},
    found::Found,
    stream::handle,
};

/// How long the server keeps the consumer if it is not deleted and nobody asks it for messages.
const KEPT: Duration = Duration::from_secs(30);

/// How many messages are under way at once.
const PULL: usize = 2_048;

/// How long one request for messages lasts.
const REQUEST: Duration = Duration::from_secs(10);

/// How often the server says during a request that it is there. A request that it has forgotten is noticed after two of
/// these.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// The settings that all these consumers have in common. One replica keeps it in its memory, since nothing is lost with
/// it.
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

/// What is published to by reading `stream` with a consumer of this name.
pub(crate) fn subjects(stream: &str, name: &str) -> [String; 3] {
    let place = format!("{stream}.{name}");
    [Api::ConsumerCreate, Api::ConsumerNext, Api::ConsumerDelete].map(|api| api.of(&place))
}

/// A reading that is under way.
pub(crate) struct Scan {
    what: String,
    stream: Stream<()>,
    consumer: PullConsumer,
    /// The request for messages, once there is one.
    messages: Option<pull::Stream>,
    /// How many messages were read. The consumer counts those that it sends without gaps.
    read: u64,
    /// How often the consumer may still be unknown to the server that is asked.
    unheard: u32,
}

/// A message of a reading.
pub(crate) struct Passed {
    pub(crate) found: Found,
    /// How many messages the consumer had after this one.
    pub(crate) pending: u64,
}

impl Scan {
    /// Makes the consumer; `what` is what it is made for.
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

    /// How many messages the consumer had when it was made.
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
                // A consumer that was just made is not known on every server of a cluster at once.
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

    /// Deletes the consumer. The server does it by itself later; until then it counts against the stream's limit.
    pub(crate) async fn close(self) {
        let _ = self.stream.delete_consumer(&self.consumer.cached_info().name).await;
    }
}
