//! Follows the stream with a durable pull consumer that starts at the projection's checkpoint.
//!
//! The consumer provides a name, a lag, an order, and a single reader: the server pins one client of the priority
//! group, and pins another when that client has sent no request for `priority_timeout`. The checkpoint alone says how
//! far the projection is, so a subscriber that becomes active creates the consumer again, right after the checkpoint,
//! unless it is at that position already.

pub(crate) mod consumer;
mod ahead;
mod reader;
pub(crate) mod taken;

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::stream::Stream;
use bytes::Bytes;
use cqrs_core::{
    StoreError,
    port::{Delivery, Subscribe, Subscription},
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    client::{
        api::Api,
        connection::{Connection, NoAnswer},
        errors::unavailable,
    },
    events::subscription::{
        consumer::{REQUEST, Turn, Turns, group_of, is_taken, lock, pin_of},
        reader::{Noted, Read, Reader},
    },
    topology::Topology,
};

/// How long a pull request may take to its server.
const IN_FLIGHT: Duration = Duration::from_millis(100);

/// The pause before a consumer is looked at again.
const AGAIN: Duration = Duration::from_millis(50);

/// The commits of a stream, as they arrive.
///
/// A task of its own reads ahead, so that the next messages are received and decoded while the projector applies the
/// ones before them. Messages that were read ahead are dropped with the subscription. The same task keeps the pin for
/// as long as the subscription lives, however long the projector takes.
pub struct NatsSubscription {
    connection: Connection,
    stream: String,
    subscriber: String,
    group: String,
    ahead: ahead::Receiver<Result<Read, StoreError>>,
    reader: JoinHandle<()>,
    /// How many more messages the consumer had at the last delivery.
    pending: u64,
    /// Another client was active when this subscription began: this one is a standby and delivers nothing.
    standby: bool,
    noted: Noted,
    turns: Turns,
    /// The last delivery's sequence and its reply subject.
    last: Option<(u64, async_nats::Subject)>,
    /// An error was returned, after which nothing is delivered.
    over: bool,
}

impl NatsSubscription {
    pub(crate) async fn open(
        connection: &Connection,
        topology: &Topology,
        turns: &Turns,
        request: Subscribe<'_>,
    ) -> Result<Self, StoreError> {
        let reader = Reader::open(connection, topology, turns, request).await?;
        let (standby, pending, noted) = (reader.standby, reader.pending(), Arc::clone(&reader.noted));
        let group = group_of(reader.consumer.cached_info()).to_owned();
        let (to, ahead) = ahead::queue(ahead::MESSAGES, ahead::BYTES);
        Ok(Self {
            connection: connection.clone(),
            stream: topology.stream().to_owned(),
            subscriber: request.subscriber.to_owned(),
            group,
            ahead,
            reader: tokio::spawn(reader.run(to)),
            pending,
            standby,
            noted,
            turns: Arc::clone(turns),
            last: None,
            over: false,
        })
    }
}

impl NatsSubscription {
    /// Waits until the server has dropped the last request. It does so as soon as nobody waits for the answer; but a
    /// server with leaf nodes keeps the request until it ends, because it may not have heard yet of a client at a leaf
    /// node, and the next subscriber would take the consumer for taken.
    async fn until_free(&self, stream: &Stream<()>) {
        let asked = self.asked(Api::ConsumerInfo);
        while let Ok(Ok(info)) =
            self.connection.answer(&[&asked], stream.consumer_info(&self.subscriber)).await
            && pin_of(&info).is_none()
            && is_taken(&info)
        {
            sleep(AGAIN).await;
        }
    }

    fn asked(&self, api: Api) -> String {
        api.of(&self.connection.domain, format_args!("{}.{}", self.stream, self.subscriber))
    }
}

impl Subscription for NatsSubscription {
    fn pending(&self) -> u64 {
        // Messages that were read ahead may have arrived when the consumer had no more behind them.
        self.pending.max(self.ahead.len() as u64)
    }

    fn is_standby(&self) -> bool {
        self.standby
    }

    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, StoreError> {
        let over = || unavailable(format!("following the stream as {}", self.subscriber), "it is over");
        if self.over {
            return Err(over());
        }
        let read = self.ahead.take(max).await;
        if read.is_empty() && max > 0 {
            return Err(over());
        }
        self.over = read.iter().any(Result::is_err);
        let mut deliveries = Vec::with_capacity(read.len());
        for read in read {
            let Read { sequence, delivery, pending, reply, .. } = read?;
            self.pending = pending;
            self.last = reply.map(|reply| (sequence, reply)).or(self.last.take());
            deliveries.push(delivery);
        }
        Ok(deliveries)
    }

    async fn leave(mut self) {
        self.reader.abort();
        if self.standby {
            return;
        }
        // After its end, the task requests no more messages and notes no pin.
        let _ = (&mut self.reader).await;
        // The next subscription of this process must not take the pin for its own.
        lock(&self.noted).pin = None;
        self.standby = true;
        // Releases the pin, so that a standby becomes active at once and not after `priority_timeout`.
        if let Ok(stream) = self.connection.jetstream.get_stream_no_info(&self.stream).await {
            let asked = self.asked(Api::ConsumerUnpin);
            let unpin = stream.unpin_consumer(&self.subscriber, &self.group);
            if let Err(error @ NoAnswer::NotPermitted(_)) = self.connection.answer(&[&asked], unpin).await {
                tracing::warn!(subscriber = self.subscriber, %error, "the next worker has to wait for its turn");
            }
            let _ = timeout(REQUEST + IN_FLIGHT, self.until_free(&stream)).await;
        }
    }

    async fn done(&mut self, sequence: u64) -> Result<(), StoreError> {
        let Some((_, reply)) = self.last.take_if(|(last, _)| *last <= sequence) else {
            return Ok(());
        };
        // One acknowledgment covers all earlier deliveries.
        let ack = self.connection.client.publish(reply, Bytes::from_static(b"+ACK"));
        ack.await.map_err(|error| unavailable("acknowledging", error))
    }
}

impl Drop for NatsSubscription {
    /// Notes the pin for the next subscription of this process, so that it does not stand by for this one: no other
    /// client reads until the server notices that this one is gone, and unacknowledged deliveries are redelivered even
    /// later.
    fn drop(&mut self) {
        self.reader.abort();
        let noted = std::mem::take(&mut *lock(&self.noted));
        let turn = match noted.pin {
            Some(pin) => Turn::Held(pin),
            None if self.standby => return,
            None => Turn::Free { group: self.group.clone(), delivered: noted.delivery },
        };
        lock(&self.turns).entry(self.subscriber.clone()).or_insert(turn);
    }
}
