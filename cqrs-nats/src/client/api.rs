//! The requests of the JetStream API, and related subjects.
//!
//! A request is published to a subject that names it. The user needs the permission to publish there, and the server's
//! refusal names the subject. So each call passes the subjects that it publishes to, and only this module spells them.

use std::fmt::Display;

use async_nats::jetstream::{self, ErrorCode, context::RequestError, response::Response};
use cqrs_core::{StoreError, port::Source};
use serde::{Serialize, de::DeserializeOwned};

use crate::client::{
    connection::{Connection, NoAnswer},
    errors::store_error,
};

/// The JetStream domain that requests go to: the connected server's own, or another one beyond a leaf node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Domain {
    name: Option<String>,
    /// The prefix of the subjects of all requests. The client adds it by itself.
    prefix: String,
}

impl Domain {
    /// The domain of the connected server.
    pub(crate) fn own() -> Self {
        Self { name: None, prefix: "$JS.API.".to_owned() }
    }

    pub(crate) fn named(name: String) -> Self {
        Self { prefix: format!("$JS.{name}.API."), name: Some(name) }
    }

    /// Its name; `None` for the connected server's own.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The subject for information about JetStream itself.
    pub(crate) fn info(&self) -> String {
        format!("{}INFO", self.prefix)
    }

    /// The subject to publish to for a message that is stored on `subject`, a key of a key-value bucket. No leaf node
    /// passes messages on `$KV.>` to another domain; the domain takes them beneath its prefix.
    pub(crate) fn key_value(&self, subject: String) -> String {
        if self.name.is_none() { subject } else { format!("{}{subject}", self.prefix) }
    }
}

/// A request about a stream, or about a consumer of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Api {
    StreamInfo,
    StreamCreate,
    StreamDelete,
    StreamPurge,
    /// A message from the stream's leader.
    MessageGet,
    /// Messages from any replica.
    DirectGet,
    ConsumerInfo,
    ConsumerCreate,
    /// The next messages of a consumer.
    ConsumerNext,
    ConsumerDelete,
    ConsumerUnpin,
}

impl Api {
    /// The subject of the request to a domain for `place`: a stream, or a stream and a consumer separated by a dot.
    pub(crate) fn of(self, domain: &Domain, place: impl Display) -> String {
        format!("{}{}.{place}", domain.prefix, self.name())
    }

    fn name(self) -> &'static str {
        match self {
            Self::StreamInfo => "STREAM.INFO",
            Self::StreamCreate => "STREAM.CREATE",
            Self::StreamDelete => "STREAM.DELETE",
            Self::StreamPurge => "STREAM.PURGE",
            Self::MessageGet => "STREAM.MSG.GET",
            Self::DirectGet => "DIRECT.GET",
            Self::ConsumerInfo => "CONSUMER.INFO",
            Self::ConsumerCreate => "CONSUMER.CREATE",
            Self::ConsumerNext => "CONSUMER.MSG.NEXT",
            Self::ConsumerDelete => "CONSUMER.DELETE",
            Self::ConsumerUnpin => "CONSUMER.UNPIN",
        }
    }
}

/// The subjects of acknowledgments; `place` is the stream and the consumer, separated by a dot.
pub(crate) fn acknowledgments(place: impl Display) -> String {
    format!("$JS.ACK.{place}")
}

/// The subjects of the server's advisories about a stream.
pub(crate) fn advisories(stream: &str) -> String {
    format!("$JS.EVENT.ADVISORY.STREAM.*.{stream}")
}

/// A failed request.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server's error.
    Server(jetstream::Error),
    /// No answer arrived in time, or no readable one.
    Client(RequestError),
}

impl Failure {
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Server(error) => Some(error.error_code()),
            Self::Client(_) => None,
        }
    }

    pub(crate) fn into_source(self) -> Source {
        match self {
            Self::Server(error) => Source::new(error),
            Self::Client(error) => Source::new(error),
        }
    }

    /// The failure as a store's error; `what` describes the operation.
    pub(crate) fn into_store_error(self, what: impl Into<String>) -> StoreError {
        match self {
            Self::Server(error) => store_error(what, error),
            Self::Client(error) => store_error(what, error),
        }
    }
}

impl Connection {
    /// Sends a request about a stream or a consumer, with the timeout of `context`.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        context: &jetstream::Context,
        api: Api,
        place: &str,
        request: &impl Serialize,
    ) -> Result<Result<T, Failure>, NoAnswer> {
        let asked = api.of(&self.domain, place);
        let subject = asked[self.domain.prefix.len()..].to_owned();
        Ok(match self.answer(&[&asked], context.request(subject, request)).await? {
            Ok(Response::Ok(answer)) => Ok(answer),
            Ok(Response::Err { error }) => Err(Failure::Server(error)),
            Err(error) => Err(Failure::Client(error)),
        })
    }
}
