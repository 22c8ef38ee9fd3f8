//! Reads messages from any headers and payload, for the fuzz targets.

use async_nats::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use cqrs_core::{AggregateKey, log::Commit};

use crate::wire;

/// Reads a commit from the headers that a message can have, and a payload.
///
/// # Errors
///
/// Why it is not a commit.
pub fn decode(aggregate: AggregateKey, headers: &[(&str, &str)], payload: &[u8]) -> Result<Commit, String> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            map.append(name, value);
        }
    }
    wire::decode(aggregate, &map, payload.to_vec().into())
}

/// Writes the commit and reads it again.
///
/// # Panics
///
/// When it is read as another commit.
pub fn assert_comes_back(commit: &Commit) {
    // A payload whose content type says JSON need not be JSON.
    if let Ok((content_type, payload)) = wire::encode(commit) {
        let mut headers = HeaderMap::new();
        headers.insert(wire::CONTENT_TYPE, content_type);
        let read = wire::decode(commit.aggregate.clone(), &headers, payload);
        assert_eq!(read.as_ref(), Ok(commit));
    }
}
