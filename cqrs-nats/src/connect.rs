//! Connecting to a server, and finding out whether it will do.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use async_nats::{
    ConnectErrorKind, ConnectOptions, Event,
    jetstream::{self, context::RequestErrorKind, response::Response},
};
use cqrs_core::Source;
use serde::Deserialize;
use tokio::sync::watch;

use crate::{
    NatsBackend, NatsEvents, Topology, TopologyError,
    connection::{Connection, Link, NoAnswer, Unreadable},
};

/// The oldest nats-server that will do: the views need its atomic batches, and that it goes on answering.
///
/// 2.12.0 has the batches, but checks the expectation of every message as if it were about the subject of the batch's
/// last. Any but the first then seems to come after a write to its own subject, and the batch is refused with the
/// error 10164 ("wrong last sequence"): no view could save a document with its checkpoint.
///
/// 2.12.1 stops answering about a stream, and soon about all, when a message is stored while several are being read
/// with one direct request: it waits for a lock that it holds itself. Reading aggregates and views does that.
pub const MIN_SERVER: (i64, i64, i64) = (2, 12, 2);

/// The JetStream API level of that server, and of the older ones of 2.12.
const MIN_API_LEVEL: u32 = 2;

/// How long a caller waits for an answer of the server.
const ANSWER: Duration = Duration::from_secs(5);

/// How long one attempt to read from a leader waits. A request to a stream without a leader is dropped without an
/// answer, so this is about what an election costs on top.
const READ: Duration = Duration::from_secs(1);

/// How long an append waits for its answer before it is sent again, which is safe at any time. A message to a
/// stream without a leader is dropped without an answer, so this is about what an election costs on top.
const APPEND: Duration = Duration::from_secs(1);

/// A connection to NATS. Cloning is cheap; clones share the connection.
#[derive(Debug, Clone)]
pub struct Nats {
    connection: Connection,
}

impl Nats {
    /// Connects to `url`, such as `nats://localhost:4222` or `tls://user:password@host`; several servers
    /// of one cluster are separated by commas. For credentials and certificates see [`Connect::to`].
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

    /// Opens the bounded context `name` with the usual [`Topology`], and creates what is not there.
    ///
    /// # Errors
    ///
    /// [`TopologyError`]: the name is not legal, or the stream is there with settings under which events
    /// could be lost.
    ///
    /// # Cancel safety
    ///
    /// It can be called again.
    pub async fn context(&self, name: &str) -> Result<NatsBackend, TopologyError> {
        self.open(Topology::new(name)).await
    }

    /// Opens a bounded context as `topology` describes it, and creates what is not there.
    ///
    /// # Errors
    ///
    /// [`TopologyError`]: the name is not legal, or the stream is there with other settings.
    ///
    /// # Cancel safety
    ///
    /// It can be called again.
    pub async fn open(&self, topology: Topology) -> Result<NatsBackend, TopologyError> {
        topology.open(&self.connection).await
    }

    /// Opens the public log of the context `name` with the usual [`Topology`], and creates it if it is not there: the
    /// context announces into it, and others [follow](cqrs_core::Builder::following) it.
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

    /// Opens a log alone, without views, as `topology` describes it, and creates it if it is not there.
    ///
    /// # Errors
    ///
    /// [`TopologyError`].
    ///
    /// # Cancel safety
    ///
    /// It can be called again.
    pub async fn open_log(&self, topology: Topology) -> Result<NatsEvents, TopologyError> {
        topology.open_log(&self.connection).await
    }

    /// The client itself, for what is outside the framework.
    pub fn client(&self) -> &async_nats::Client {
        &self.connection.client
    }
}

/// How to connect.
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

    /// Authenticates with a user and a password.
    pub fn user(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some((user.into(), password.into()));
        self
    }

    /// Authenticates with a token.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
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

    /// Connects, and checks that the server will do.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the connection.
    pub async fn connect(self) -> Result<Nats, ConnectError> {
        // The client panics on its first TLS connection when the process has no provider, or two. An
        // error says that the application has chosen one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (sender, link) = watch::channel(Link::default());
        let shown = shown(&self.url);
        let options = self.options(sender).await?;
        let servers: Vec<&str> = self.url.split(',').map(str::trim).collect();
        let client =
            options.connect(servers).await.map_err(|error| ConnectError::from_client(&shown, error))?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(ANSWER);
        let (mut appends, mut reads) = (jetstream.clone(), jetstream.clone());
        appends.set_timeout(APPEND);
        reads.set_timeout(READ);
        let connection =
            Connection { client, jetstream, appends, reads, link, unreadable: Unreadable::default() };
        check_server(&connection, &shown).await?;
        Ok(Nats { connection })
    }

    async fn options(&self, link: watch::Sender<Link>) -> Result<ConnectOptions, ConnectError> {
        let mut options = ConnectOptions::new()
            // A connection that died silently is noticed after two to three of these.
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
        if let Some((user, password)) = &self.user {
            options = options.user_and_password(user.clone(), password.clone());
        }
        if let Some(token) = &self.token {
            options = options.token(token.clone());
        }
        if let Some(file) = &self.ca {
            options = options.add_root_certificates(file.clone());
        }
        if let Some((certificate, key)) = &self.certificate {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        Ok(options.require_tls(self.tls))
    }
}

/// Keeps the link's state, and logs what the operator of the service should know.
fn note(link: &watch::Sender<Link>, event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to NATS"),
        Event::Disconnected => tracing::warn!("the connection to NATS is lost"),
        other => tracing::warn!(event = %other, "NATS"),
    }
    link.send_if_modified(|link| link.note(event));
}

/// Checks the version of the server that we are connected to, and the API level of the JetStream that
/// answers, which in a cluster may be another server's. 2.12.0 and 2.12.1 are noticed only where we are connected to
/// them, since they have the level of 2.12.2.
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

/// Why JetStream did not say what it is.
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
        // Servers before 2.11 have no levels.
        #[serde(default)]
        level: u32,
    }
    let info = connection.jetstream.request("INFO", &());
    match connection.answer(&["$JS.API.INFO"], info).await {
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

/// The URL without what is secret in it.
fn shown(url: &str) -> String {
    let one = |url: &str| match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        _ => url.to_owned(),
    };
    url.split(',').map(|url| one(url.trim())).collect::<Vec<_>>().join(",")
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("url", &shown(&self.url))
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Why there is no connection, or none that will do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No server answers there.
    #[error("no NATS server can be reached at {url}: is it running, and is the address right?")]
    Unreachable {
        /// The address, without secrets.
        url: String,
        /// The client's error.
        source: async_nats::ConnectError,
    },
    /// The address cannot be read.
    #[error("{url:?} is not the address of a NATS server, which looks like nats://host:4222")]
    Address {
        /// The address, without secrets.
        url: String,
        /// The client's error.
        source: async_nats::ConnectError,
    },
    /// The server does not accept the credentials.
    #[error("the NATS server at {url} does not accept the credentials")]
    Unauthorized {
        /// The address, without secrets.
        url: String,
        /// The client's error.
        source: async_nats::ConnectError,
    },
    /// The two do not agree on TLS.
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
        /// What it says of itself.
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
        /// What the user must be allowed to do.
        permission: String,
    },
    /// The server is there, and its JetStream does not answer in time.
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
            ConnectErrorKind::ServerParse => Self::Address { url, source },
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                Self::Unauthorized { url, source }
            }
            ConnectErrorKind::Tls => Self::Tls { url, source },
            // What goes wrong in the handshake itself comes as a failure of input and output.
            ConnectErrorKind::Io if is_tls(&source) => Self::Tls { url, source },
            _ => Self::Unreachable { url, source },
        }
    }
}

/// Whether an error of the TLS library is somewhere beneath.
fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        // An input and output error does not show what it wraps as its source.
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
    use super::*;

    #[test]
    fn secrets_in_addresses_are_not_shown() {
        assert_eq!(shown("nats://anna:s3cret@host:4222"), "nats://host:4222");
        assert_eq!(shown("anna:s3c@ret@host"), "host");
        assert_eq!(shown("nats://a:b@one, nats://c:d@two"), "nats://one,nats://two");
        let connect = Connect::to("nats://anna:s3cret@host").token("t0ken").user("u", "passw0rd");
        let text = format!("{connect:?}");
        assert!(!text.contains("s3cret") && !text.contains("t0ken") && !text.contains("passw0rd"), "{text}");
    }
}
