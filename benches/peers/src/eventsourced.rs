//! eventsourced on eventsourced-nats: an order is an entity, which has its state in memory while it is held.

use anyhow::{Result, anyhow};
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
        let config = NatsEventLogConfig {
            server_addr: url.to_owned(),
            event_stream_name: "eventsourced".to_owned(),
            // Its own default drops the oldest events when they are more than a gigabyte.
            event_stream_max_bytes: -1,
            setup: true,
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
