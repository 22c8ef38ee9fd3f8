//! Why there is no connection.

use std::path::PathBuf;

use async_nats::ConnectErrorKind;
use cqrs_core::port::Source;

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
        source: Source,
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
    /// The name of the JetStream domain is not valid.
    #[error("{domain:?} cannot be a JetStream domain: use letters, digits, _ and -")]
    Domain {
        /// The name.
        domain: String,
    },
    /// The server refuses the credentials.
    #[error("the NATS server at {url} does not accept the credentials")]
    Unauthorized {
        /// The address, without secrets.
        url: String,
        /// The client's error.
        source: Source,
    },
    /// The client and the server do not agree on TLS.
    #[error("no TLS connection to {url}: check the certificates and whether the server speaks TLS")]
    Tls {
        /// The address, without secrets.
        url: String,
        /// The client's error.
        source: Source,
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
    /// The server reaches no JetStream of this domain.
    #[error(
        "no JetStream of the domain {domain:?} answers through the NATS server at {url}: check the name, and whether the \
         leaf node is connected to the domain"
    )]
    NoDomain {
        /// The address, without secrets.
        url: String,
        /// The domain.
        domain: String,
        /// The client's error.
        source: Source,
    },
    /// A client of your own is not connected.
    #[error("the client is not connected to a NATS server")]
    NotConnected,
    /// The events of a client of your own do not arrive.
    #[error("no event of the client arrives: call `ClientEvents::note` in its `event_callback`")]
    NoEvents,
    /// The user lacks a permission.
    #[error(
        "the user of the NATS server at {url} needs the permission to {permission}: \
         the guide `operate` lists all that a service needs"
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
    pub(super) fn from_client(url: &str, source: async_nats::ConnectError) -> Self {
        // A failure of the TLS handshake is reported as an I/O error.
        let (url, kind, is_tls) = (url.to_owned(), source.kind(), is_tls(&source));
        let source = Source::new(source);
        match kind {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                Self::Unauthorized { url, source }
            }
            ConnectErrorKind::Tls => Self::Tls { url, source },
            ConnectErrorKind::Io if is_tls => Self::Tls { url, source },
            _ => Self::Unreachable { url, source },
        }
    }
}

impl ConnectError {
    /// Whether a later attempt may succeed without a change by an operator: a server is starting, or not there yet.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::NoAnswer { .. } | Self::NoDomain { .. })
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
