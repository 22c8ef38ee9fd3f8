//! esrc on NATS: every command reads all events of its order through a consumer of its own.

use anyhow::Result;
use async_nats::jetstream;
use esrc::{
    Aggregate,
    aggregate::Root,
    event::{PublishExt as _, ReplayOneExt as _},
    nats::NatsStore,
    version::{DeserializeVersion, SerializeVersion},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    order::{Happened, Order, Refused, Wanted},
    peer::Peer,
};

#[derive(Debug, esrc::Event, Serialize, SerializeVersion, Deserialize, DeserializeVersion)]
struct OrderEvent(Happened);

#[derive(Default)]
struct Folded(Order);

impl Aggregate for Folded {
    type Command = Wanted;
    type Event = OrderEvent;
    type Error = Refused;

    fn process(&self, wanted: Wanted) -> Result<OrderEvent, Refused> {
        self.0.decide(wanted).map(OrderEvent)
    }

    fn apply(mut self, event: &OrderEvent) -> Self {
        self.0.happened(&event.0);
        self
    }
}

/// The prefix of the store, which is also the stream's name.
const STREAM: &str = "esrc";

#[derive(Clone)]
pub struct Esrc(NatsStore);

impl Peer for Esrc {
    type Held = Uuid;

    async fn open(url: &str) -> Result<Self> {
        let client = async_nats::connect(url).await?;
        let context = jetstream::new(client);
        // Like the store makes it, except for the limit: every read leaves a consumer behind for a while, and a server
        // allows a thousand by default.
        let stream = jetstream::stream::Config {
            name: STREAM.to_owned(),
            subjects: vec![format!("{STREAM}.>")],
            discard: jetstream::stream::DiscardPolicy::New,
            max_consumers: 10_000_000,
            ..jetstream::stream::Config::default()
        };
        context.get_or_create_stream(stream).await?;
        Ok(Self(NatsStore::try_new(context, STREAM).await?))
    }

    async fn hold(&self, order: Uuid) -> Result<Uuid> {
        Ok(order)
    }

    async fn carry_out(&self, order: &mut Uuid, wanted: Wanted) -> Result<bool> {
        // A new order need not be read: the first write names the expectation that it has no events.
        let root: Root<Folded> =
            if wanted == Wanted::Create { Root::new(*order) } else { self.0.read(*order).await? };
        match self.0.clone().try_write(root, wanted).await {
            Ok(_) => Ok(true),
            Err(esrc::error::Error::External(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
