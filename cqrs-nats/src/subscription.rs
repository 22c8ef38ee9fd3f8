//! Following the stream: a durable pull consumer that starts at the projection's checkpoint.
//!
//! The consumer is there for its name, its lag, its order, and so that one worker reads at a time: the
//! server pins it to one client, and gives the pin to another when that one has not asked for more in a
//! while. The truth about progress is the checkpoint, so a worker whose turn comes makes the consumer
//! anew, right after the checkpoint, unless it stands there already.

mod consumer;
mod reader;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use cqrs_core::{Delivery, StoreError, Subscribe, Subscription};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

use crate::{Topology, connection::Connection, errors::unavailable};
use consumer::{Turn, group_of};
use reader::{Noted, Read, Reader};

pub(crate) use consumer::{OPENING, Turns};

/// How many messages are read ahead of the projector: as many as it takes at once.
const AHEAD: usize = 512;

/// Commits of a stream as they come.
///
/// A task of its own reads ahead, so that the next ones are received and decoded while the projector is busy with the
/// ones before them. What it has read is dropped with the subscription.
pub struct NatsSubscription {
    connection: Connection,
    stream: String,
    subscriber: String,
    group: String,
    ahead: mpsc::Receiver<Result<Read, StoreError>>,
    reader: JoinHandle<()>,
    busy: watch::Sender<Busy>,
    /// How many more messages the consumer had at the last delivery.
    pending: u64,
    /// Another worker was reading when this one came: nothing is delivered before this one's turn.
    standby: bool,
    noted: Noted,
    turns: Turns,
    /// The last delivery's sequence and where to acknowledge it.
    last: Option<(u64, async_nats::Subject)>,
}

/// Since when the projector has had enough to do; none while it waits for more.
type Busy = Option<Instant>;

/// While there is one, the projector waits.
struct Waiting<'a>(&'a watch::Sender<Busy>);

impl<'a> Waiting<'a> {
    fn on(busy: &'a watch::Sender<Busy>) -> Self {
        busy.send_replace(None);
        Self(busy)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_replace(Some(Instant::now()));
    }
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
        let ((to, ahead), (busy, projector)) = (mpsc::channel(AHEAD), watch::channel(Some(Instant::now())));
        Ok(Self {
            connection: connection.clone(),
            stream: topology.stream().to_owned(),
            subscriber: request.subscriber.to_owned(),
            group,
            ahead,
            reader: tokio::spawn(reader.run(to, projector)),
            busy,
            pending,
            standby,
            noted,
            turns: Arc::clone(turns),
            last: None,
        })
    }
}

impl Subscription for NatsSubscription {
    fn pending(&self) -> u64 {
        // What was read ahead may have come when there was nothing behind it yet.
        self.pending.max(self.ahead.len() as u64)
    }

    fn is_standby(&self) -> bool {
        self.standby
    }

    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, StoreError> {
        let mut read = Vec::new();
        let waiting = Waiting::on(&self.busy);
        // Waits for the first, and takes the others only as far as they are there.
        if self.ahead.recv_many(&mut read, max).await == 0 && max > 0 {
            return Err(unavailable(format!("following the stream as {}", self.subscriber), "it is over"));
        }
        drop(waiting);
        let mut deliveries = Vec::with_capacity(read.len());
        for read in read {
            let Read { sequence, delivery, pending, reply } = read?;
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
        // Once it has ended, it asks for no more messages and notes no pin.
        let _ = (&mut self.reader).await;
        // Nothing is to be kept for the next subscription of this process.
        lock(&self.noted).pin = None;
        self.standby = true;
        // Lets the next worker have its turn at once. It would come by itself a little later.
        if let Ok(stream) = self.connection.jetstream.get_stream_no_info(&self.stream).await {
            let asked = format!("$JS.API.CONSUMER.UNPIN.{}.{}", self.stream, self.subscriber);
            let unpin = stream.unpin_consumer(&self.subscriber, &self.group);
            let _ = self.connection.answer(&[&asked], unpin).await;
        }
    }

    async fn done(&mut self, sequence: u64) -> Result<(), StoreError> {
        let Some((_, reply)) = self.last.take_if(|(last, _)| *last <= sequence) else {
            return Ok(());
        };
        // One acknowledgment covers all deliveries before it.
        let ack = self.connection.client.publish(reply, Bytes::from_static(b"+ACK"));
        ack.await.map_err(|error| unavailable("acknowledging", error))
    }
}

impl Drop for NatsSubscription {
    /// Nobody else reads until the server notices that this one does not, and what was delivered and not
    /// acknowledged comes even later. So the next subscription of this process does not stand by for this one.
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

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
