//! A connection that can tell when it broke, for those who wait for an answer on it.

use std::{fmt, time::Duration};

use async_nats::{Client, jetstream};
use tokio::sync::watch;

/// A client with its JetStream context.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) jetstream: jetstream::Context,
    pub(crate) link: watch::Receiver<Link>,
}

/// The state of the connection, as the client's events tell it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) up: bool,
    /// How often the connection was lost.
    pub(crate) losses: u64,
}

/// How long a call waits for the connection to come back before it says that there is none.
const RECONNECT: Duration = Duration::from_secs(2);

/// The connection broke while an answer was awaited.
#[derive(Debug, thiserror::Error)]
#[error("the connection was lost while the answer was awaited")]
pub(crate) struct Lost;

impl Connection {
    /// Runs `call`, unless the connection breaks first: the client does not fail what is under way
    /// when it breaks, so the caller would wait until the call's time is up.
    pub(crate) async fn unless_lost<T>(&self, call: impl Future<Output = T>) -> Result<T, Lost> {
        let mut link = self.link.clone();
        let before = link.borrow_and_update().losses;
        tokio::select! {
            biased;
            answer = call => Ok(answer),
            _ = link.wait_for(|link| link.losses != before) => Err(Lost),
        }
    }

    /// Waits for the connection to be there; false when it does not come back soon. What is published
    /// while it is down would be sent later, long after the caller has given up.
    pub(crate) async fn is_up(&self) -> bool {
        let mut link = self.link.clone();
        let up = link.wait_for(|link| link.up);
        tokio::time::timeout(RECONNECT, up).await.is_ok_and(|up| up.is_ok())
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("link", &*self.link.borrow()).finish_non_exhaustive()
    }
}
