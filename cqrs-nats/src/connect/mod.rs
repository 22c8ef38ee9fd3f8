//! Connects to a server, and checks its version and API level.

mod check;
mod error;
mod own_client;
mod wait;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_nats::{Client, ConnectOptions, jetstream};
use cqrs_core::port::{OutagePart, describe};
use tokio::sync::watch;

pub use check::MIN_SERVER;
pub use error::ConnectError;
pub use own_client::FromClient;

use check::check_server;
use wait::Waiting;

use crate::{
    client::{
        address::{Addresses, Identity},
        api::Domain,
        connection::{Connection, Link, Live},
        events::{self, ClientEvents},
    },
    open::Nats,
    wire::subject::encode_token,
};

/// How long a request to the server waits for its answer.
const ANSWER: Duration = Duration::from_secs(5);

/// How long one read from a leader waits. A request to a stream without a leader is dropped without an answer, so an
/// election costs about this much in addition.
const READ: Duration = Duration::from_secs(1);

/// How long an append waits for its answer before it is sent again, which is idempotent. A message to a stream without
/// a leader is dropped without an answer, so an election costs about this much in addition.
const APPEND: Duration = Duration::from_secs(1);

impl Nats {
    /// Connects to `url`, such as `nats://localhost:4222`, `tls://user:password@host` or `tls://token@host`. Several
    /// servers of one cluster are separated by commas, and the first one's user and password are sent to all of them.
    /// Every character of a user, password or token that is neither a letter nor a digit is percent-encoded, such as
    /// `%2C` for a comma. For credentials, certificates and a server that comes later see [`Connect::to`].
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the connection.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        Connect::to(url).connect().await
    }
}

/// The settings of a connection.
///
/// ```no_run
/// # async fn run() -> Result<(), cqrs_nats::ConnectError> {
/// use cqrs_nats::Connect;
///
/// let nats = Connect::to("tls://nats.example.com")
///     .credentials("orders.creds")
///     .ca("ca.pem")
///     .name("order-service")
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "it connects when `connect` is called"]
pub struct Connect {
    url: String,
    name: Option<String>,
    credentials: Option<PathBuf>,
    user: Option<(String, String)>,
    token: Option<String>,
    inbox: Option<String>,
    ca: Option<PathBuf>,
    certificate: Option<(PathBuf, PathBuf)>,
    tls: bool,
    domain: Option<String>,
    patience: Duration,
}

impl Connect {
    /// A connection to `url`; see [`Nats::connect`].
    pub fn to(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            name: None,
            credentials: None,
            user: None,
            token: None,
            inbox: None,
            ca: None,
            certificate: None,
            tls: false,
            domain: None,
            patience: Duration::ZERO,
        }
    }

    /// The connection's name, which the server shows to its operator.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Authenticates with a credentials file (a JWT and its seed, as `nsc` writes it).
    pub fn credentials(mut self, file: impl Into<PathBuf>) -> Self {
        self.credentials = Some(file.into());
        self
    }

    /// Authenticates with a user and a password, in place of those in the address.
    pub fn user(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some((user.into(), password.into()));
        self
    }

    /// Authenticates with a token, in place of the one in the address.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Receives answers on subjects that begin with `prefix`: one or more tokens of letters, digits, `_`, `-` and `=`,
    /// separated by dots.
    ///
    /// Any user who may subscribe to a subject reads its messages. So users of one account can read each other's
    /// answers, unless each user has its own prefix and may subscribe to no other one. The default is `_INBOX.<user>`
    /// for a user with a password, where `<user>` is [encoded](crate::encode_token), and `_INBOX` for all other users,
    /// which should set a prefix.
    pub fn inbox_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.inbox = Some(prefix.into());
        self
    }

    /// Requires TLS, also if the URL has the scheme `nats://`.
    pub fn require_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Trusts the certificate authorities in this PEM file beside the system's, and requires TLS.
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca = Some(file.into());
        self.require_tls()
    }

    /// Shows this certificate to the server (PEM files), and requires TLS.
    pub fn client_certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.certificate = Some((certificate.into(), key.into()));
        self.require_tls()
    }

    /// Uses the JetStream of this domain in place of the connected server's: the server is a leaf node, or a server of
    /// the domain itself. All that is stored is stored there, and requests go to `$JS.<name>.API.>`. A leaf node that is
    /// cut off from the domain stores nothing.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), cqrs_nats::ConnectError> {
    /// // The leaf node of a shop, with the events in the headquarters.
    /// let nats = cqrs_nats::Connect::to("nats://localhost:4222").domain("hub").connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The permissions are those of [`Topology::permissions_in_domain`](crate::Topology::permissions_in_domain).
    pub fn domain(mut self, name: impl Into<String>) -> Self {
        self.domain = Some(name.into());
        self
    }

    /// Waits for a server that comes later: while no server can be reached, its JetStream does not answer, or the domain
    /// is not there, connecting is tried again. The time in which no attempt can succeed is one warning in the log, with
    /// its first cause. The last attempt begins when the time is up and may take some seconds more. By default the first
    /// failure is the result.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), cqrs_nats::ConnectError> {
    /// use std::time::Duration;
    ///
    /// let connect = cqrs_nats::Connect::to("nats://localhost:4222");
    /// let nats = connect.wait_for(Duration::from_secs(60)).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_for(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Connects, and checks the server's version and API level.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]; after a [wait](Self::wait_for) that of the last attempt.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the connection.
    pub async fn connect(self) -> Result<Nats, ConnectError> {
        // The client panics on its first TLS connection when the process has no crypto provider, or two. An error here
        // means that the application has installed one already, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let shown = self.addresses()?.to_string();
        let mut waiting = Waiting::new(self.patience);
        let part = Arc::new(events::part());
        let connection = loop {
            match self.live(0, &part).await {
                Ok(live) => break Connection::new(live),
                Err(error) => waiting.after(error).await?,
            }
        };
        while let Err(error) = check_server(&connection, &shown).await {
            waiting.after(error).await?;
        }
        waiting.over();
        let connect = Arc::new(self);
        connection.keep(move |losses| {
            let (connect, part) = (Arc::clone(&connect), Arc::clone(&part));
            async move {
                let live = connect.live(losses, &part).await;
                live.inspect_err(|error| tracing::debug!(error = describe(error), "no other client yet")).ok()
            }
        });
        Ok(Nats { connection })
    }

    fn addresses(&self) -> Result<Addresses, ConnectError> {
        Addresses::read(&self.url).map_err(|reason| ConnectError::Address { reason })
    }

    /// Connects one client, after the connection was lost `losses` times.
    async fn live(&self, losses: u64, part: &Arc<OutagePart>) -> Result<Live, ConnectError> {
        let mut addresses = self.addresses()?;
        let identity = self.identity(addresses.identity.take());
        let inbox = inbox(self.inbox.as_deref(), identity.as_ref())?;
        let domain = domain_of(self.domain.as_deref())?;
        let events = ClientEvents::of(Link::of(inbox.clone()).after(losses), Arc::clone(part));
        let link = events.link();
        let shown = addresses.to_string();
        let options = self.options(identity, inbox, events).await?;
        let connected = options.connect(addresses.servers).await;
        let client = connected.map_err(|error| ConnectError::from_client(&shown, error))?;
        Ok(live(client, domain, link, Arc::clone(part)))
    }

    /// The identity of the user: one that was set explicitly, or else the one in the address.
    fn identity(&self, address: Option<Identity>) -> Option<Identity> {
        match (&self.user, &self.token) {
            (Some((name, password)), _) => {
                Some(Identity::User { name: name.clone(), password: password.clone() })
            }
            (None, Some(token)) => Some(Identity::Token(token.clone())),
            (None, None) => address,
        }
    }

    async fn options(
        &self,
        identity: Option<Identity>,
        inbox: String,
        events: ClientEvents,
    ) -> Result<ConnectOptions, ConnectError> {
        let mut options = ConnectOptions::new()
            .custom_inbox_prefix(inbox)
            // A connection that died silently is noticed after two to three pings.
            .ping_interval(Duration::from_secs(2))
            .reconnect_delay_callback(|attempts| match attempts {
                0 | 1 => Duration::ZERO,
                2..40 => Duration::from_millis(50),
                _ => Duration::from_secs(1),
            })
            .connection_timeout(ANSWER)
            .request_timeout(Some(ANSWER))
            .event_callback(move |event| {
                events.note(&event);
                std::future::ready(())
            });
        if let Some(name) = &self.name {
            options = options.name(name);
        }
        if let Some(file) = &self.credentials {
            let unreadable = |source| ConnectError::Credentials { file: file.clone(), source };
            options = options.credentials_file(file).await.map_err(unreadable)?;
        }
        options = match identity {
            Some(Identity::User { name, password }) => options.user_and_password(name, password),
            Some(Identity::Token(token)) => options.token(token),
            None => options,
        };
        if let Some(file) = &self.ca {
            options = options.add_root_certificates(file.clone());
        }
        if let Some((certificate, key)) = &self.certificate {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        Ok(options.require_tls(self.tls))
    }
}

/// A client in use, with the timeouts of its calls.
fn live(client: Client, domain: Domain, link: watch::Receiver<Link>, part: Arc<OutagePart>) -> Live {
    let mut jetstream = match domain.name() {
        Some(name) => jetstream::with_domain(client.clone(), name),
        None => jetstream::new(client.clone()),
    };
    jetstream.set_timeout(ANSWER);
    let (mut appends, mut reads) = (jetstream.clone(), jetstream.clone());
    appends.set_timeout(APPEND);
    reads.set_timeout(READ);
    let statistics = client.statistics();
    Live { client, domain, jetstream, appends, reads, link, part, statistics, next: OnceLock::new() }
}

/// The domain of that name; the connected server's own without one.
fn domain_of(name: Option<&str>) -> Result<Domain, ConnectError> {
    let Some(name) = name else { return Ok(Domain::own()) };
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_legal) {
        return Err(ConnectError::Domain { domain: name.to_owned() });
    }
    Ok(Domain::named(name.to_owned()))
}

/// The prefix of the subjects on which answers arrive.
fn inbox(chosen: Option<&str>, identity: Option<&Identity>) -> Result<String, ConnectError> {
    let Some(chosen) = chosen else {
        return Ok(match identity {
            Some(Identity::User { name, .. }) => format!("_INBOX.{}", encode_token(name)),
            _ => "_INBOX".to_owned(),
        });
    };
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_-=".contains(&byte);
    let legal = chosen.split('.').all(|token| !token.is_empty() && token.bytes().all(is_legal));
    if legal { Ok(chosen.to_owned()) } else { Err(ConnectError::InboxPrefix { prefix: chosen.to_owned() }) }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers =
            Addresses::read(&self.url).map_or_else(|_| "(unreadable)".to_owned(), |all| all.to_string());
        f.debug_struct("Connect").field("servers", &servers).field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn inbox_of(connect: &Connect) -> Result<String, ConnectError> {
        let addresses = Addresses::read(&connect.url).expect("an address");
        inbox(connect.inbox.as_deref(), connect.identity(addresses.identity).as_ref())
    }

    #[test]
    fn a_user_has_inboxes_of_its_own() {
        for (connect, expected) in [
            (Connect::to("host"), "_INBOX"),
            (Connect::to("nats://orders:p@host"), "_INBOX.orders"),
            (Connect::to("nats://orders:p@host").user("a.b", "p"), "_INBOX.a=2Eb"),
            (Connect::to("nats://t0ken@host"), "_INBOX"),
            (Connect::to("nats://orders:p@host").inbox_prefix("in.orders"), "in.orders"),
        ] {
            assert_eq!(inbox_of(&connect).unwrap(), expected, "{connect:?}");
        }
        for prefix in ["", ".", "a.", "a..b", "*", "a.>", "a b"] {
            let error = inbox_of(&Connect::to("host").inbox_prefix(prefix)).unwrap_err();
            assert!(matches!(error, ConnectError::InboxPrefix { .. }), "{prefix:?}: {error:?}");
        }
    }

    /// All texts about a connection to such an address: before it is made, and when it cannot be made.
    fn said(url: &str) -> String {
        let connect = Connect::to(url).user("otto", "passw0rd").token("t0ken");
        let mut said = format!("{connect:?}");
        if let Err(reason) = Addresses::read(url) {
            let error = ConnectError::Address { reason };
            said = format!("{said} {error} {error:?}");
        }
        said
    }

    proptest! {
        #[test]
        fn no_secret_is_ever_shown(
            before in r"[a,@:/?#%\[\]\\. &=0-9]{0,6}",
            after in r"[a,@:/?#%\[\]\\. &=0-9]{0,6}",
            form in 0..8_usize,
        ) {
            let secret = format!("{before}S3CRET{after}");
            let url = match form {
                0 => format!("nats://anna:{secret}@host:4222"),
                1 => format!("nats://{secret}@host:4222"),
                2 => format!("anna:{secret}@host"),
                3 => format!("nats://anna:{secret}@one,nats://anna:{secret}@two"),
                4 => format!("nats://one,anna:{secret}@two"),
                5 => format!("nats://host?password={secret}"),
                6 => format!("tls://:{secret}@"),
                _ => format!("nats://anna:{secret}@"),
            };
            // Text after an `@` in the password or a comma looks like a host, if all before it can be parsed.
            let is_host = secret.contains('@') && secret.contains(',');
            prop_assume!(!is_host);
            let said = said(&url);
            for secret in ["S3CRET", "s3cret", "passw0rd", "t0ken"] {
                prop_assert!(!said.contains(secret), "{}: {}", url, said);
            }
        }
    }
}
