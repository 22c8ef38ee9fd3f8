//! eventsourced on eventsourced-nats: an order is an entity, which has its state in memory while it is held.

use anyhow::{Result, anyhow};
use async_nats::jetstream;
use eventsourced::{
    Command, CommandEffect, EntityRef, EventSourced, EventSourcedExt as _,
    binarize::serde_json::SerdeJsonBinarize, snapshot_store::noop::NoopSnapshotStore,
};
use eventsourced_nats::{NatsEventLog, NatsEventLogConfig};
use std::num::NonZeroUsize;
use uuid::Uuid;

use crate::{
    order::{Happened, Order, Refused, Wanted},
    peer::Peer,
};

const STREAM: &str = "eventsourced";

impl EventSourced for Order {
    type Id = Uuid;
    type Event = Happened;
    const TYPE_NAME: &'static str = "order";

    fn handle_event(mut self, event: Happened) -> Self {
        self.happened(&event);
        self
    }
}

impl Command<Order> for Wanted {
    type Reply = ();
    type Error = Refused;

    fn handle_command(self, _: &Uuid, state: &Order) -> CommandEffect<Order, (), Refused> {
        match state.decide(self) {
            Ok(event) => CommandEffect::emit(event),
            Err(refused) => CommandEffect::reject(refused),
        }
    }
}

#[derive(Clone)]
pub struct Eventsourced(NatsEventLog<Uuid>);

impl Peer for Eventsourced {
    type Held = EntityRef<Order>;

    async fn open(url: &str) -> Result<Self> {
        let context = jetstream::new(async_nats::connect(url).await?);
        // Like its setup makes it, except that it drops nothing when it has more than a gigabyte, and for the limit:
        // every read leaves a consumer behind for a while, and a server allows a thousand by default.
        let stream = jetstream::stream::Config {
            name: STREAM.to_owned(),
            subjects: vec![format!("{STREAM}.>")],
            max_consumers: 10_000_000,
            ..jetstream::stream::Config::default()
        };
        context.get_or_create_stream(stream).await?;
        let config = NatsEventLogConfig {
            server_addr: url.to_owned(),
            event_stream_name: STREAM.to_owned(),
            setup: false,
            ..NatsEventLogConfig::default()
        };
        Ok(Self(NatsEventLog::new(config).await?))
    }

    async fn hold(&self, order: Uuid) -> Result<EntityRef<Order>> {
        let (log, snapshots) = (self.0.clone(), NoopSnapshotStore::new());
        let buffer = NonZeroUsize::new(2).expect("more than none");
        let entity = Order::default().entity().spawn(order, None, buffer, log, snapshots, SerdeJsonBinarize);
        Ok(entity.await?)
    }

    async fn carry_out(&self, order: &mut EntityRef<Order>, wanted: Wanted) -> Result<bool> {
        Ok(order.handle_command(wanted).await.map_err(|error| anyhow!("{error}"))?.is_ok())
    }
}
