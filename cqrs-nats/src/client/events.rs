//! The events of a client: whether the connection was lost, and what the server has denied.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_nats::{ClientError, Event, ServerError};
use cqrs_core::{
    StoreError,
    port::{OutagePart, Outages},
};
use tokio::sync::watch;

use crate::client::connection::{Link, NO_LOGIN, is_refused_login};

/// The events of a client of your own, for [`Nats::from_client`](crate::Nats::from_client). Give it to the client's
/// `event_callback`, and a clone to the framework. It belongs to one client.
///
/// Without the events no call would end when the connection is lost or a permission is missing: each would wait for its
/// whole timeout, and would not know why.
#[derive(Debug, Clone)]
pub struct ClientEvents {
    link: watch::Sender<Link>,
    heard: watch::Sender<bool>,
    /// Reports whether there is a connection. All clients of one connection share it.
    pub(crate) part: Arc<OutagePart>,
    was_connected: Arc<AtomicBool>,
}

impl Default for ClientEvents {
    fn default() -> Self {
        Self::of(Link::default(), Arc::new(part()))
    }
}

/// The part that reports whether there is a connection.
pub(crate) fn part() -> OutagePart {
    Outages::default().part("the connection to NATS")
}

impl ClientEvents {
    pub(crate) fn of(link: Link, part: Arc<OutagePart>) -> Self {
        let (link, heard) = (watch::Sender::new(link), watch::Sender::new(false));
        Self { link, heard, part, was_connected: Arc::default() }
    }

    /// Takes an event of the client. What an operator should know is logged: an outage as one line, however often the
    /// client tries to connect again, and nothing about a client that ends in order.
    pub fn note(&self, event: &Event) {
        self.log(event);
        self.heard.send_replace(true);
        self.link.send_if_modified(|link| link.note(event));
    }

    fn log(&self, event: &Event) {
        match event {
            Event::Connected => {
                if !self.was_connected.swap(true, Ordering::AcqRel) {
                    tracing::info!("connected to NATS");
                }
                self.part.works();
            }
            Event::Disconnected => {
                let what = "the connection to NATS is lost".to_owned();
                self.part.lost(&StoreError::Unavailable { what, source: None });
            }
            Event::ClientError(ClientError::Other(text)) if is_refused_login(text) => {
                let what = format!("connecting to NATS again: {NO_LOGIN}");
                self.part.lost(&StoreError::Refused { what, source: None });
            }
            Event::LameDuckMode => tracing::info!("the NATS server is about to stop (lame duck mode)"),
            Event::ServerError(error) => {
                // A permission that is missing is denied with each attempt.
                if self.link.borrow().has(error) {
                    tracing::debug!(%error, "the NATS server reports an error again");
                } else {
                    tracing::warn!(error = words(error), "the NATS server reports an error");
                }
            }
            Event::SlowConsumer(_) => {
                tracing::warn!(%event, "the client of NATS drops messages, since they are not read fast enough");
            }
            Event::ClientError(_) | Event::Draining | Event::Closed => tracing::debug!(%event, "NATS"),
        }
    }

    /// The state of the link, as it changes. It ends with the last handle of the events, which the client holds.
    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// Sets the prefix of the subjects on which the client receives answers.
    pub(crate) fn set_inbox(&self, inbox: String) {
        self.link.send_modify(|link| link.inbox = inbox);
    }

    /// Waits until the first event has arrived.
    pub(crate) async fn heard(&self) {
        // The sender lives in `self`, so the wait ends only with an event.
        let _ = self.heard.subscribe().wait_for(|heard| *heard).await;
    }
}

/// The server's own words.
fn words(error: &ServerError) -> String {
    match error {
        ServerError::Other(text) => text.clone(),
        error => error.to_string(),
    }
}
