//! Connects to a server, and checks its version and API level.

mod error;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_nats::{
    ConnectOptions, Event,
    jetstream::{self, context::RequestErrorKind, response::Response},
};
use cqrs_core::port::Source;
use serde::Deserialize;
use tokio::sync::watch;

pub use error::ConnectError;

use crate::{
    client::{
        address::{Addresses, Identity},
        api::INFO,
        connection::{Connection, Link, Live, NoAnswer},
    },
    open::Nats,
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
