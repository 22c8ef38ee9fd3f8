//! Connects to a server, and checks its version and API level.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_nats::{
    ConnectErrorKind, ConnectOptions, Event,
    jetstream::{self, context::RequestErrorKind, response::Response},
};
use cqrs_core::{Backend, port::Source};
use serde::Deserialize;
use tokio::sync::watch;

use crate::{
    client::{
        address::{Addresses, Identity},
        api::INFO,
        connection::{Connection, Link, Live, NoAnswer},
        settings::Kind,
        stream::{patiently, provide},
    },
    events::{NatsEvents, era::Era},
    topology::{Topology, TopologyError},
    views::KvViews,
    wire::subject::encode_token,
};

/// The oldest supported nats-server: the views need its atomic batches, and two earlier versions have bugs.
///
/// 2.12.0 has atomic batches, but checks the expected sequence of every message against the subject of the batch's last
/// message. Any message but the first then seems to come after a write to its own subject, and the batch is refused
/// with the error 10164 ("wrong last sequence"): no view could save a document with its checkpoint.
///
/// 2.12.1 stops answering about a stream, and soon about all streams, when a message is stored while a batched direct
/// get reads several: it waits for a lock that it holds itself. Reading aggregates and views does that.
pub const MIN_SERVER: (i64, i64, i64) = (2, 12, 2);

/// The JetStream API level of that server, and of the older versions 2.12.x.
const MIN_API_LEVEL: u32 = 2;

/// How long a request to the server waits for its answer.
const ANSWER: Duration = Duration::from_secs(5);

/// How long one read from a leader waits. A request to a stream without a leader is dropped without an answer, so an
/// election costs about this much in addition.
const READ: Duration = Duration::from_secs(1);

/// How long an append waits for its answer before it is sent again, which is idempotent. A message to a stream without
/// a leader is dropped without an answer, so an election costs about this much in addition.
const APPEND: Duration = Duration::from_secs(1);

/// A connection to NATS. Cloning is cheap; clones share the connection.
#[derive(Debug, Clone)]
pub struct Nats {
    connection: Connection,
}

impl Nats {
    /// Connects to `url`, such as `nats://localhost:4222`, `tls://user:password@host` or `tls://token@host`. Several
    /// servers of one cluster are separated by commas, and the first one's user and password are sent to all of them.
    /// Every character of a user, password or token that is neither a letter nor a digit is percent-encoded, such as
    /// `%2C` for a comma. For credentials and certificates see [`Connect::to`].
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
        Ok(NatsEvents::new(connection.clone(), topology, era))
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

    /// Requires TLS, whatever the URL says.
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

    /// Connects, and checks the server's version and API level.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the connection.
    pub async fn connect(self) -> Result<Nats, ConnectError> {
        // The client panics on its first TLS connection when the process has no crypto provider, or two. An error here
        // means that the application has installed one already, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let shown = self.addresses()?.to_string();
        let connection = Connection::new(self.live(0).await?);
        check_server(&connection, &shown).await?;
        let connect = Arc::new(self);
        connection.keep(move |losses| {
            let connect = Arc::clone(&connect);
            async move {
                let live = connect.live(losses).await;
                live.inspect_err(|error| tracing::warn!(%error, "there is no other client of NATS yet")).ok()
            }
        });
        Ok(Nats { connection })
    }

    fn addresses(&self) -> Result<Addresses, ConnectError> {
        Addresses::read(&self.url).map_err(|reason| ConnectError::Address { reason })
    }

    /// Connects one client, after the connection was lost `losses` times.
    async fn live(&self, losses: u64) -> Result<Live, ConnectError> {
        let mut addresses = self.addresses()?;
        let identity = self.identity(addresses.identity.take());
        let inbox = inbox(self.inbox.as_deref(), identity.as_ref())?;
        let (sender, link) = watch::channel(Link::of(inbox.clone()).after(losses));
        let shown = addresses.to_string();
        let options = self.options(identity, inbox, sender).await?;
        let connected = options.connect(addresses.servers).await;
        let client = connected.map_err(|error| ConnectError::from_client(&shown, error))?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(ANSWER);
        let (mut appends, mut reads) = (jetstream.clone(), jetstream.clone());
        appends.set_timeout(APPEND);
        reads.set_timeout(READ);
        let statistics = client.statistics();
        Ok(Live { client, jetstream, appends, reads, link, statistics, next: OnceLock::new() })
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
        link: watch::Sender<Link>,
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
                note(&link, &event);
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

/// Updates the state of the link, and logs events for the operator.
fn note(link: &watch::Sender<Link>, event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to NATS"),
        Event::Disconnected => tracing::warn!("the connection to NATS is lost"),
        other => tracing::warn!(event = %other, "NATS"),
    }
    link.send_if_modified(|link| link.note(event));
}

/// Checks the version of the connected server, and the API level of the JetStream that answers, which in a cluster may
/// be another server's. 2.12.0 and 2.12.1 are detected only on the connected server, because they have the API level of
/// 2.12.2.
async fn check_server(connection: &Connection, url: &str) -> Result<(), ConnectError> {
    let (major, minor, patch) = MIN_SERVER;
    if !connection.client.is_server_compatible(major, minor, patch) {
        let version = connection.client.server_info().version;
        return Err(ConnectError::TooOld { url: url.to_owned(), found: format!("has version {version}") });
    }
    let level = api_level(connection).await.map_err(|error| error.at(url))?;
    if level < MIN_API_LEVEL {
        let found = format!("has JetStream API level {level}, not {MIN_API_LEVEL}");
        return Err(ConnectError::TooOld { url: url.to_owned(), found });
    }
    Ok(())
}

/// Why JetStream did not return its API level.
enum NoLevel {
    NoAnswer(Source),
    NoJetStream(Source),
    NotPermitted(String),
}

impl NoLevel {
    fn at(self, url: &str) -> ConnectError {
        let url = url.to_owned();
        match self {
            Self::NoAnswer(source) => ConnectError::NoAnswer { url, source },
            Self::NoJetStream(source) => ConnectError::NoJetStream { url, source },
            Self::NotPermitted(permission) => ConnectError::NotPermitted { url, permission },
        }
    }
}

async fn api_level(connection: &Connection) -> Result<u32, NoLevel> {
    #[derive(Deserialize)]
    struct Info {
        api: Api,
    }
    #[derive(Deserialize)]
    struct Api {
        // Servers before 2.11 have no API levels.
        #[serde(default)]
        level: u32,
    }
    let info = connection.jetstream.request("INFO", &());
    match connection.answer(&[INFO], info).await {
        Ok(Ok(Response::Ok(Info { api }))) => Ok(api.level),
        Ok(Ok(Response::Err { error })) => Err(NoLevel::NoJetStream(Arc::new(error))),
        Ok(Err(error)) if error.kind() == RequestErrorKind::TimedOut => {
            Err(NoLevel::NoAnswer(Arc::new(error)))
        }
        Ok(Err(error)) => Err(NoLevel::NoJetStream(Arc::new(error))),
        Err(NoAnswer::NotPermitted(permission)) => Err(NoLevel::NotPermitted(permission)),
        Err(lost) => Err(NoLevel::NoAnswer(Arc::new(lost))),
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers =
            Addresses::read(&self.url).map_or_else(|_| "(unreadable)".to_owned(), |all| all.to_string());
        f.debug_struct("Connect").field("servers", &servers).field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why there is no usable connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No server answers at the address.
    #[error("no NATS server can be reached at {url}: is it running, and is the address right?")]
    Unreachable {
        /// The address, without secrets.
        url: String,
        /// The client's error.
        source: async_nats::ConnectError,
    },
    /// The address cannot be parsed.
    #[error(
        "the address of the NATS server cannot be used: {reason}; it looks like nats://user:password@host:4222, where \
         what is neither letter nor digit in user and password is percent-encoded, such as %2C for a comma"
    )]
    Address {
        /// Why not. The address itself is not shown, because it is unknown which part of it is secret.
        reason: &'static str,
    },
    /// The prefix of inboxes is not valid.
    #[error(
        "{prefix:?} cannot be the prefix of inboxes: use tokens of letters, digits, _, - and =, with dots between"
    )]
    InboxPrefix {
        /// The prefix.
        prefix: String,
    },
    /// The server refuses the credentials.
    #[error("the NATS server at {url} does not accept the credentials")]
    Unauthorized {
        /// The address, without secrets.
        url: String,
        /// The client's error.
        source: async_nats::ConnectError,
    },
    /// The client and the server do not agree on TLS.
    #[error("no TLS connection to {url}: check the certificates and whether the server speaks TLS")]
    Tls {
        /// The address, without secrets.
        url: String,
        /// The client's error.
        source: async_nats::ConnectError,
    },
    /// The credentials file cannot be used.
    #[error("the credentials file {} cannot be read", file.display())]
    Credentials {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The server is too old.
    #[error("the NATS server at {url} {found}, at least 2.12.2 is needed: upgrade it")]
    TooOld {
        /// The address, without secrets.
        url: String,
        /// The version or API level that was found.
        found: String,
    },
    /// The server has no JetStream for this account.
    #[error(
        "the NATS server at {url} has no JetStream for this account: start it with -js, or allow it to the account"
    )]
    NoJetStream {
        /// The address, without secrets.
        url: String,
        /// The client's error.
        source: Source,
    },
    /// The user lacks a permission.
    #[error(
        "the user of the NATS server at {url} needs the permission to {permission}: \
         the guide to commands lists all that a service needs"
    )]
    NotPermitted {
        /// The address, without secrets.
        url: String,
        /// The permission that is missing.
        permission: String,
    },
    /// The server answers, but its JetStream does not answer in time.
    #[error("JetStream on the NATS server at {url} does not answer: it may be starting, or have no leader")]
    NoAnswer {
        /// The address, without secrets.
        url: String,
        /// The client's error.
        source: Source,
    },
}

impl ConnectError {
    fn from_client(url: &str, source: async_nats::ConnectError) -> Self {
        let url = url.to_owned();
        match source.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                Self::Unauthorized { url, source }
            }
            ConnectErrorKind::Tls => Self::Tls { url, source },
            // A failure of the TLS handshake is reported as an I/O error.
            ConnectErrorKind::Io if is_tls(&source) => Self::Tls { url, source },
            _ => Self::Unreachable { url, source },
        }
    }
}

/// Whether an error of the TLS library is among the causes.
fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        // An I/O error does not return the error that it wraps as its source.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if error.is::<rustls::Error>()
            || wrapped.and_then(|error| error.downcast_ref::<rustls::Error>()).is_some()
        {
            return true;
        }
        cause = error.source();
    }
    false
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
