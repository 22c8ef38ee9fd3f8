//! A message of a stream, independent of the way in which it was read.

use async_nats::{HeaderMap, header::NATS_SUBJECT};
use bytes::Bytes;

/// A message of a stream.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) sequence: u64,
    /// The subject, if it is not among the headers.
    pub(crate) subject: Option<String>,
    /// The headers, or why the client could not parse them.
    pub(crate) headers: Result<HeaderMap, String>,
    pub(crate) payload: Bytes,
}

impl Found {
    pub(crate) fn subject(&self) -> &str {
        if let Some(subject) = &self.subject {
            return subject;
        }
        let headers = self.headers.as_ref().ok();
        headers.and_then(|headers| headers.get_last(NATS_SUBJECT)).map_or("", |subject| subject.as_str())
    }
}
