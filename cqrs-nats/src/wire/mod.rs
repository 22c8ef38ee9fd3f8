#![doc = include_str!("../../docs/wire.md")]
// Names, subjects and messages, computed from values alone. Of this crate it imports `client`: a message as it was read.

pub(crate) mod names;
pub(crate) mod subject;
mod attributes;
mod json;
pub(crate) mod stored;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, str::Utf8Error};

use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;
use cqrs_core::{
    AggregateKey,
    log::{Commit, JSON, media_type},
};
use percent_encoding::percent_decode_str;

use crate::wire::attributes::{Attributes, known};

pub(crate) const CONTENT_TYPE: &str = "content-type";

/// The prefix of the names of attributes in headers.
const PREFIX: &str = "ce-";

/// A commit as a message: its content type and the payload.
///
/// # Errors
///
/// serde's, when a payload is not valid JSON although its content type is JSON.
pub(crate) fn encode(commit: &Commit) -> Result<(&'static str, Bytes), serde_json::Error> {
    let content_type = if commit.events.len() == 1 { json::EVENT } else { json::BATCH };
    Ok((content_type, json::encode(commit)?))
}

/// Reads the commit of `aggregate` from a message's headers and payload.
///
/// # Errors
///
/// Why the message is not a commit.
pub(crate) fn decode(aggregate: AggregateKey, headers: &HeaderMap, payload: Bytes) -> Result<Commit, String> {
    let content_type = named(headers, CONTENT_TYPE)?.unwrap_or_default();
    match &*media_type(content_type) {
        json::BATCH => json::decode_batch(&aggregate, &payload),
        json::EVENT => json::decode_event(&aggregate, &payload),
        other if other.starts_with("application/cloudevents") => {
            Err(format!("events in the format {other:?} are not read"))
        }
        _ => decode_binary(aggregate, headers, content_type, payload),
    }
}

/// Reads one event whose attributes are headers.
fn decode_binary(
    aggregate: AggregateKey,
    headers: &HeaderMap,
    content_type: &str,
    payload: Bytes,
) -> Result<Commit, String> {
    let mut attributes = Attributes::default();
    for (name, values) in headers.iter() {
        let name: &str = name.as_ref();
        if !name.get(..PREFIX.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(PREFIX)) {
            continue;
        }
        let Some(value) = only(name, values)? else { continue };
        let name = lower_case(&name[PREFIX.len()..]);
        let value = percent_decoded(value).map_err(|_| format!("header ce-{name} is not UTF-8"))?;
        attributes.add(&name, value).map_err(|()| twice(&format!("ce-{name}")))?;
    }
    // Some bindings carry the content type in an attribute of its own.
    let content_type = match (content_type, attributes.content_type.take()) {
        ("", named) => named.map_or(JSON.into(), known),
        (content_type, _) => known(content_type.into()),
    };
    attributes.commit(aggregate, content_type, payload)
}

/// Few values need decoding, and the check is cheaper than the decoding.
fn percent_decoded(value: &str) -> Result<Cow<'_, str>, Utf8Error> {
    if value.contains('%') { percent_decode_str(value).decode_utf8() } else { Ok(value.into()) }
}

/// The value of a header. Other writers may spell its name in any case, as in HTTP.
fn named<'a>(headers: &'a HeaderMap, wanted: &str) -> Result<Option<&'a str>, String> {
    let mut found = None;
    for (name, values) in headers.iter() {
        let name: &str = name.as_ref();
        if name.eq_ignore_ascii_case(wanted)
            && let Some(value) = only(name, values)?
            && found.replace(value).is_some()
        {
            return Err(twice(wanted));
        }
    }
    Ok(found)
}

/// The value of a header that may occur once.
fn only<'a>(name: &str, values: &'a [HeaderValue]) -> Result<Option<&'a str>, String> {
    match values {
        [] => Ok(None),
        [value] => Ok(Some(value.as_str())),
        _ => Err(twice(name)),
    }
}

/// The error for a header that occurs more than once: it is unknown which value is meant.
fn twice(name: &str) -> String {
    format!("header {} is there more than once", lower_case(name))
}

/// The text in lower case, which it nearly always has already.
fn lower_case(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        text.to_ascii_lowercase().into()
    } else {
        text.into()
    }
}

/// Whether a message may belong to a business transaction. It is not decoded: its bytes contain the id in the only form
/// in which ids are written, as the id of the transaction or of the command that began it.
pub(crate) fn may_mention(headers: &HeaderMap, payload: &[u8], correlation_id: &str) -> bool {
    memchr::memmem::find(payload, correlation_id.as_bytes()).is_some()
        || headers.iter().flat_map(|(_, values)| values).any(|value| {
            let value: &str = value.as_ref();
            value.eq_ignore_ascii_case(correlation_id)
        })
}
