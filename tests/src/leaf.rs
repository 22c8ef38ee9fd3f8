//! Two servers, each with a JetStream domain of its own: `hub`, and its leaf node `edge`.

use std::path::Path;

use cqrs_nats_server::LocalServer;

use crate::{configured_server, ports::Port, server_binary};

/// The name of the hub's domain.
pub const HUB: &str = "hub";

/// A hub and its leaf node; dropping it kills them.
#[derive(Debug)]
pub struct Leaf {
    /// The leaf node, to which clients connect.
    pub edge: LocalServer,
    /// The hub.
    pub hub: LocalServer,
    _port: Port,
}

impl Leaf {
    /// Starts both. `edge` are lines in the leaf node's configuration, and `account` is its account that is connected to
    /// the hub.
    ///
    /// # Panics
    ///
    /// When one does not start.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills what was started.
    pub async fn start(edge: &str, account: &str) -> Self {
        let port = Port::reserve();
        let edge = edge_alone(&port, edge, account).await;
        Self { hub: hub_at(&port, None).await, edge, _port: port }
    }
}

/// The leaf node of a hub that listens to leaf nodes at `port`, or will.
///
/// # Panics
///
/// When it does not start.
///
/// # Cancel safety
///
/// Dropping the future kills a server that was being started.
pub async fn edge_alone(port: &Port, config: &str, account: &str) -> LocalServer {
    let remote = format!("{{ url: \"nats-leaf://127.0.0.1:{}\", account: \"{account}\" }}", port.number());
    let domain = "server_name: edge\njetstream { domain: edge }";
    configured_server(format!("{domain}\nleafnodes {{ reconnect: \"1s\", remotes: [ {remote} ] }}\n{config}"))
        .await
}

/// The hub, which listens to leaf nodes at `port`, with its data in `folder`, or in one that goes with it.
///
/// # Panics
///
/// When it does not start.
///
/// # Cancel safety
///
/// Dropping the future kills a server that was being started.
pub async fn hub_at(port: &Port, folder: Option<&Path>) -> LocalServer {
    let listen = format!("leafnodes {{ listen: \"127.0.0.1:{}\" }}", port.number());
    let config = format!("server_name: hub\njetstream {{ domain: {HUB} }}\n{listen}");
    let builder = LocalServer::builder(server_binary().await).config(config);
    let builder = if let Some(folder) = folder { builder.data(folder) } else { builder };
    builder.start().await.unwrap_or_else(|error| panic!("no hub: {error}"))
}
