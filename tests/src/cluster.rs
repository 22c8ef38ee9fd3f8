//! One nats-server, or three in a cluster, that can be killed, paused and restarted one by one.
//!
//! Each server keeps its ports and its data folder over restarts. The servers do not tell clients about each other, so
//! that clients use only the addresses that the test gives them, mostly of proxies.

use std::{path::PathBuf, process::Command, time::Duration};

use async_nats::jetstream::{self, stream::Info};
use cqrs_nats_server::LocalServer;
use tokio::task;

use crate::{eventually, ports::Port, scratch::Scratch, server_binary};

/// How long a request about a stream may take; a stream without a leader gives no answer.
const ANSWER: Duration = Duration::from_millis(500);

/// Servers on the loopback interface; dropping it kills them.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    _routes: Vec<Port>,
    /// After the nodes, so that they have ended when their folders are removed.
    _data: Scratch,
}

/// One of the servers, running or not.
#[derive(Debug)]
struct Node {
    binary: PathBuf,
    config: String,
    port: Port,
    data: PathBuf,
    server: Option<LocalServer>,
}

impl Cluster {
    /// One server alone, or several in a cluster; returns when JetStream answers on each.
    ///
    /// # Panics
    ///
    /// When a server does not start.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills what was started.
    pub async fn start(size: usize) -> Self {
        let binary = server_binary().await;
        let routes: Vec<Port> = (0..size).map(|_| Port::reserve()).collect();
        let data = Scratch::new().expect("a folder for the servers' data");
        let numbers: Vec<u16> = routes.iter().map(Port::number).collect();
        let node = |index| Node {
            binary: binary.clone(),
            config: if size == 1 { String::new() } else { config(index, &numbers) },
            port: Port::reserve(),
            data: data.path().join(format!("node-{index}")),
            server: None,
        };
        let nodes = (0..size).map(node).collect();
        let mut cluster = Self { nodes, _routes: routes, _data: data };
        for node in 0..size {
            cluster.restart(node).await;
        }
        for node in &cluster.nodes {
            eventually("JetStream answers", async || node.jetstream_answers().await).await;
        }
        cluster
    }

    /// How many servers there are.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// The clients' port of each server.
    pub fn ports(&self) -> Vec<u16> {
        self.nodes.iter().map(|node| node.port.number()).collect()
    }

    /// The addresses of the servers themselves, separated by commas.
    pub fn url(&self) -> String {
        let urls: Vec<String> = self.nodes.iter().map(Node::url).collect();
        urls.join(",")
    }

    /// Kills a server as `kill -9` does.
    ///
    /// # Cancel safety
    ///
    /// The server is killed all the same.
    pub async fn kill(&mut self, node: usize) {
        if let Some(server) = self.nodes[node].server.take() {
            server.kill().await;
        }
    }

    /// Lets a server shut down in order.
    ///
    /// # Cancel safety
    ///
    /// The server is stopped all the same.
    pub async fn stop(&mut self, node: usize) {
        if let Some(server) = self.nodes[node].server.take() {
            server.stop().await;
        }
    }

    /// Starts a server that was killed or stopped, on its port and folder.
    ///
    /// # Panics
    ///
    /// When it does not start.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the server down.
    pub async fn restart(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        let builder = LocalServer::builder(&node.binary).port(node.port.number()).data(&node.data);
        let started = builder.config(&node.config).start().await;
        node.server = Some(started.unwrap_or_else(|error| panic!("no server: {error}")));
    }

    /// Pauses a server's process; its connections stay open.
    ///
    /// # Cancel safety
    ///
    /// Dropping it may leave the server paused.
    pub async fn pause(&self, node: usize) {
        self.nodes[node].signal("-STOP").await;
    }

    /// Resumes a paused server.
    ///
    /// # Cancel safety
    ///
    /// Dropping it may leave the server paused.
    pub async fn resume(&self, node: usize) {
        self.nodes[node].signal("-CONT").await;
    }

    /// Lets a server leave in order (lame duck mode): its leaders step down and its clients are disconnected one by
    /// one. Returns when it has ended.
    ///
    /// # Cancel safety
    ///
    /// The server leaves all the same.
    pub async fn leave(&mut self, node: usize) {
        self.nodes[node].signal("-USR2").await;
        let Some(mut server) = self.nodes[node].server.take() else { return };
        eventually("the server has left", async || server.has_ended()).await;
        server.kill().await;
    }

    /// Sends a request to the JetStream API, such as `STREAM.LEADER.STEPDOWN.ORDERS`. The caller checks whether it had
    /// an effect.
    ///
    /// # Cancel safety
    ///
    /// A dropped request may have been carried out.
    pub async fn ask(&self, request: &str) {
        for node in &self.nodes {
            if let Some(jetstream) = node.jetstream().await {
                let _: Result<serde_json::Value, _> = jetstream.request(request.to_owned(), &()).await;
                return;
            }
        }
    }

    /// Which server is the stream's leader; `None` when no server says so at the moment.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn leader(&self, stream: &str) -> Option<usize> {
        let Some(cluster) = self.info(stream).await?.cluster else { return Some(0) };
        let leader = cluster.leader?;
        (0..self.size()).find(|node| name(*node) == leader)
    }

    /// Whether the stream has a leader and all its replicas are up to date.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn is_healthy(&self, stream: &str) -> bool {
        let Some(info) = self.info(stream).await else { return false };
        let Some(cluster) = info.cluster else { return self.size() == 1 };
        let well = cluster.replicas.iter().filter(|peer| peer.current && !peer.offline).count();
        cluster.leader.is_some_and(|leader| !leader.is_empty()) && well + 1 == self.size()
    }

    async fn info(&self, stream: &str) -> Option<Info> {
        for node in self.nodes.iter().filter(|node| node.server.is_some()) {
            if let Some(info) = node.info(stream).await {
                return Some(info);
            }
        }
        None
    }
}

impl Node {
    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port.number())
    }

    async fn jetstream(&self) -> Option<jetstream::Context> {
        let options =
            async_nats::ConnectOptions::new().connection_timeout(ANSWER).request_timeout(Some(ANSWER));
        let client = options.connect(self.url()).await.ok()?;
        let mut jetstream = jetstream::new(client);
        jetstream.set_timeout(ANSWER);
        Some(jetstream)
    }

    async fn jetstream_answers(&self) -> bool {
        let Some(jetstream) = self.jetstream().await else { return false };
        jetstream.query_account().await.is_ok()
    }

    async fn info(&self, stream: &str) -> Option<Info> {
        let stream = self.jetstream().await?.get_stream(stream).await.ok()?;
        Some(stream.cached_info().clone())
    }

    async fn signal(&self, signal: &'static str) {
        let Some(server) = &self.server else { return };
        let pid = server.pid().to_string();
        let sent = task::spawn_blocking(move || Command::new("kill").args([signal, &pid]).status()).await;
        let status = sent.expect("it does not panic").expect("there is a `kill`");
        assert!(status.success(), "kill {signal}: {status}");
    }
}

fn name(node: usize) -> String {
    format!("node-{node}")
}

/// The configuration of one server in a cluster with these ports for routes. A server in lame duck mode closes one
/// connection per second.
fn config(node: usize, routes: &[u16]) -> String {
    let (name, listen) = (name(node), routes[node]);
    let urls: Vec<String> = routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
    let routes = urls.join(", ");
    format!(
        "server_name: {name}
        lame_duck_grace_period: 200ms
        lame_duck_duration: 30s
        cluster {{ name: storm, listen: \"127.0.0.1:{listen}\", routes: [{routes}], no_advertise: true }}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_a_cluster_know_each_other_and_keep_it_to_themselves() {
        let config = config(1, &[7, 8]);
        assert!(config.contains("server_name: node-1"), "{config}");
        assert!(config.contains("listen: \"127.0.0.1:8\""), "{config}");
        assert!(config.contains("routes: [nats://127.0.0.1:7, nats://127.0.0.1:8], no_advertise: true"));
    }
}
