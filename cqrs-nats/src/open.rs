//! Opens what is kept on a server: contexts, and logs alone.

use cqrs_core::{Backend, port::AnyViews};

use crate::{
    client::{
        connection::Connection,
        settings::Kind,
        stream::{patiently, provide},
    },
    events::{NatsEvents, era::Era},
    topology::{Topology, TopologyError},
    views::KvViews,
};

/// A connection to NATS. Cloning is cheap; clones share the connection.
#[derive(Debug, Clone)]
pub struct Nats {
    pub(crate) connection: Connection,
}

impl Nats {
    /// Opens the bounded context `name` with the default [`Topology`], and creates its stream if it does not exist.
    ///
    /// # Errors
    ///
    /// [`TopologyError`]: the name is not legal, or the stream exists with settings under which events could be lost.
    ///
    /// # Cancel safety
    ///
    /// It can be called again.
    pub async fn context(&self, name: &str) -> Result<NatsBackend, TopologyError> {
        self.open(Topology::new(name)).await
    }

    /// Opens a bounded context as `topology` describes it, and creates its stream if it does not exist. It retries for
    /// up to 15 seconds while the server does not answer or the stream has no leader.
    ///
    /// # Errors
    ///
    /// [`TopologyError`]: the name is not legal, or the stream exists with other settings.
    ///
    /// # Cancel safety
    ///
    /// It can be called again.
    pub async fn open(&self, topology: Topology) -> Result<NatsBackend, TopologyError> {
        let events = self.open_log(topology.clone()).await?;
        Ok(NatsBackend { events, views: KvViews::new(self.connection.clone(), topology) })
    }

    /// Opens the public log of the context `name` with the default [`Topology`], and creates its stream if it does not
    /// exist: the context announces into it, and other contexts [follow](cqrs_core::Builder::following) it.
    ///
    /// # Errors
    ///
    /// [`TopologyError`].
    ///
    /// # Cancel safety
    ///
    /// It can be called again.
    pub async fn public_log(&self, name: &str) -> Result<NatsEvents, TopologyError> {
        self.open_log(Topology::new(name).public()).await
    }

    /// Opens a log alone, without views, as `topology` describes it, and creates its stream if it does not exist.
    ///
    /// # Errors
    ///
    /// [`TopologyError`].
    ///
    /// # Cancel safety
    ///
    /// It can be called again.
    pub async fn open_log(&self, topology: Topology) -> Result<NatsEvents, TopologyError> {
        topology.check_names()?;
        let (connection, stream) = (&self.connection, topology.stream());
        let opened = patiently(async || {
            if provide(connection, Kind::Log, &topology.config()).await? {
                tracing::info!(stream, "created the stream");
            }
            Era::watch(connection, stream).await
        });
        let era = opened.await.map_err(|why| topology.not_opened(why))?;
        tell_durability(&topology);
        let progress = AnyViews::new(KvViews::new(connection.clone(), topology.clone()));
        Ok(NatsEvents::new(connection.clone(), topology, era, progress))
    }

    /// The client, for uses outside the framework.
    pub fn client(&self) -> &async_nats::Client {
        &self.connection.client
    }
}

/// A bounded context on NATS: its event store and its view store.
#[derive(Debug, Clone)]
pub struct NatsBackend {
    /// The event store.
    pub events: NatsEvents,
    /// The view store.
    pub views: KvViews,
}

impl Backend for NatsBackend {
    type Events = NatsEvents;
    type Views = KvViews;

    fn split(self) -> (NatsEvents, KvViews) {
        (self.events, self.views)
    }
}

/// Logs what acknowledged commits survive, as far as a client can know it: a server does not show clients how often it
/// writes to the disk.
fn tell_durability(topology: &Topology) {
    let (stream, replicas) = (topology.stream(), topology.replica_count());
    if topology.is_in_memory() {
        tracing::warn!(stream, replicas, storage = "memory", "the log is lost when its servers end");
    } else {
        let what =
            "what a power cut takes depends on `sync_interval` of the servers, which no client can ask for";
        tracing::info!(stream, replicas, storage = "file", "{what}");
    }
}
