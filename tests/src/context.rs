//! A bounded context of one test on the shared server, removed when the test ends.

use cqrs_nats::{Nats, NatsBackend, Topology};
use futures_util::TryStreamExt as _;

use crate::{server, unique_context};

/// A bounded context that belongs to one test.
#[derive(Debug)]
pub struct TestContext {
    /// The context's name, which no other test has.
    pub name: String,
    /// The connection that it was opened on.
    pub nats: Nats,
    url: String,
}

impl TestContext {
    /// A name and a connection; nothing is on the server yet.
    ///
    /// # Panics
    ///
    /// When no server can be had.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn new(prefix: &str) -> Self {
        let url = server().await.url().to_owned();
        let nats = Nats::connect(&url).await.expect("a connection to the test server");
        Self { name: unique_context(prefix), nats, url }
    }

    /// Opens the context with its usual topology.
    ///
    /// # Panics
    ///
    /// When the server refuses.
    ///
    /// # Cancel safety
    ///
    /// It can be called again.
    pub async fn backend(&self) -> NatsBackend {
        self.nats.context(&self.name).await.expect("the context")
    }

    /// The address of its server.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The name of the context's stream.
    pub fn stream(&self) -> String {
        Topology::new(&*self.name).stream().to_owned()
    }
}

impl Drop for TestContext {
    /// Deletes the context's streams, and those of contexts whose names begin with its name. On a thread of its own,
    /// because the test's runtime may be ending.
    fn drop(&mut self) {
        let (url, stream, buckets) = (self.url.clone(), self.stream(), format!("KV_{}", self.name));
        let deletion = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(async {
                let jetstream = async_nats::jetstream::new(async_nats::connect(url).await.ok()?);
                let names: Vec<String> = jetstream.stream_names().try_collect().await.ok()?;
                for name in
                    names.iter().filter(|name| name.starts_with(&stream) || name.starts_with(&buckets))
                {
                    let _ = jetstream.delete_stream(name).await;
                }
                Some(())
            })
        });
        // A server that has ended has nothing left to remove.
        let _ = deletion.join();
    }
}
