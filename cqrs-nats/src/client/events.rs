//! The events of a client: whether the connection was lost, and what the server has denied.

use async_nats::Event;
use tokio::sync::watch;

use crate::client::connection::Link;

/// The events of a client of your own, for [`Nats::from_client`](crate::Nats::from_client). Give it to the client's
/// `event_callback`, and a clone to the framework. It belongs to one client.
///
/// Without the events no call would end when the connection is lost or a permission is missing: each would wait for its
/// whole timeout, and would not know why.
#[derive(Debug, Clone)]
pub struct ClientEvents {
    link: watch::Sender<Link>,
    heard: watch::Sender<bool>,
}

impl Default for ClientEvents {
    fn default() -> Self {
        Self::of(Link::default())
    }
}

impl ClientEvents {
    pub(crate) fn of(link: Link) -> Self {
        Self { link: watch::Sender::new(link), heard: watch::Sender::new(false) }
    }

    /// Takes an event of the client, and logs it for the operator.
    pub fn note(&self, event: &Event) {
        match event {
            Event::Connected => tracing::info!("connected to NATS"),
            Event::Disconnected => tracing::warn!("the connection to NATS is lost"),
            other => tracing::warn!(event = %other, "NATS"),
        }
        self.heard.send_replace(true);
        self.link.send_if_modified(|link| link.note(event));
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
