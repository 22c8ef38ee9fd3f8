//! A connection over a client that the application has made.

use std::{sync::Arc, time::Duration};

use async_nats::Client;
use cqrs_core::port::BoxFuture;
use tokio::time::timeout;

use crate::{
    client::{connection::Connection, events::ClientEvents},
    connect::{ConnectError, check::check_server, domain_of, live},
    open::Nats,
};

/// How long the client's first event may take: it has come when the client is connected.
const HEARD: Duration = Duration::from_secs(5);

impl Nats {
    /// Uses a client of your own, for what [`Connect`](crate::Connect) has no setting for. (For subjects of your own over
    /// the framework's client there is [`Nats::client`].) Set its options, then await the returned value.
    ///
    /// The framework has to hear the client's events, so they must go to [`ClientEvents`] from the beginning:
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// use async_nats::ConnectOptions;
    /// use cqrs_nats::{ClientEvents, Nats};
    ///
    /// let events = ClientEvents::default();
    /// let heard = events.clone();
    /// let client = ConnectOptions::new()
    ///     .custom_inbox_prefix("_INBOX.orders")
    ///     .ping_interval(std::time::Duration::from_secs(2))
    ///     .event_callback(move |event| {
    ///         heard.note(&event);
    ///         std::future::ready(()) // And what you do with it.
    ///     })
    ///     .connect("nats://localhost:4222")
    ///     .await?;
    /// let nats = Nats::from_client(client, events).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// What [`Connect`](crate::Connect) does is then up to the client:
    ///
    /// | | [`Connect`](crate::Connect) | a client of your own |
    /// |---|---|---|
    /// | a silent connection is noticed | after two to three pings of 2 seconds | by `ping_interval`, by default after minutes; callers wait meanwhile |
    /// | pause before a reconnect | 50 milliseconds, after 40 attempts a second | by `reconnect_delay_callback`, by default up to 4 seconds |
    /// | inboxes | of each user with a password its own | by `custom_inbox_prefix`; the default is one for all users |
    /// | the client's task ends, by a header that makes it panic or by `max_reconnects` | another client takes its place | every call fails with [`StoreError::Unavailable`](cqrs_core::StoreError::Unavailable); start the service again |
    ///
    /// # Errors
    ///
    /// [`ConnectError::NotConnected`], [`ConnectError::NoEvents`], and what is wrong with the server, as for
    /// [`Connect::connect`](crate::Connect::connect).
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub fn from_client(client: Client, events: ClientEvents) -> FromClient {
        FromClient { client, events, domain: None }
    }
}

/// A connection over a client of your own, when it is awaited; see [`Nats::from_client`].
#[derive(Debug)]
#[must_use = "it is checked when it is awaited"]
pub struct FromClient {
    client: Client,
    events: ClientEvents,
    domain: Option<String>,
}

impl FromClient {
    /// Uses another JetStream domain; see [`Connect::domain`](crate::Connect::domain).
    pub fn domain(mut self, name: impl Into<String>) -> Self {
        self.domain = Some(name.into());
        self
    }

    async fn run(self) -> Result<Nats, ConnectError> {
        let Self { client, events, domain } = self;
        let domain = domain_of(domain.as_deref())?;
        let inbox = client.new_inbox();
        events.set_inbox(inbox.rsplit_once('.').map_or("", |(prefix, _)| prefix).to_owned());
        let connection = Connection::new(live(client, domain, events.link(), Arc::clone(&events.part)));
        if !connection.is_up().await {
            return Err(ConnectError::NotConnected);
        }
        if timeout(HEARD, events.heard()).await.is_err() {
            return Err(ConnectError::NoEvents);
        }
        // The client's callback has the last handle, so that the end of the client ends the link.
        drop(events);
        let info = connection.client.server_info();
        check_server(&connection, &format!("nats://{}:{}", info.host, info.port)).await?;
        Ok(Nats { connection })
    }
}

impl IntoFuture for FromClient {
    type Output = Result<Nats, ConnectError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
