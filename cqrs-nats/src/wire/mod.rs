#![doc = include_str!("../../docs/wire.md")]
// Names, subjects and messages, computed from values alone. Of this crate it imports `client`: the headers of a message
// that is to be sent, and a message as it was found.

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

use crate::{
    client::headers::Headers,
    wire::attributes::{Attributes, PREFIX, Value, known, own, shared},
};

const CONTENT_TYPE: &str = "content-type";

/// A commit as a message: the headers and the payload.
///
/// # Errors
///
/// serde's, when a payload of one of several events is not the JSON that it says it is.
pub(crate) fn encode(commit: &Commit) -> Result<(Headers, Bytes), serde_json::Error> {
    let [event] = &*commit.events else {
        return Ok((Headers::new(CONTENT_TYPE, json::BATCH), json::encode_batch(commit)?));
    };
    let mut headers = Headers::new(CONTENT_TYPE, &event.content_type);
    let mut add = |name, value: Value<'_>| match value {
        Value::Text(text) => headers.add_encoded(name, text),
        value => headers.add(name, value),
    };
    own(commit, 0, &mut add);
    shared(commit, &event.origin, add);
    for (name, value) in event.origin.metadata.iter() {
        headers.add_encoded(&format!("{PREFIX}{name}"), value);
    }
    Ok((headers, event.data.clone()))
}

/// Reads the commit of `aggregate` from a message's headers and payload.
///
/// # Errors
///
/// What is wrong with the message, in words.
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

/// One event whose attributes are headers.
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
    // Where the content type stands in an attribute of its own, as some bindings have it, that is as good.
    let content_type = match (content_type, attributes.content_type.take()) {
        ("", named) => named.map_or(JSON.into(), known),
        (content_type, _) => known(content_type.into()),
    };
    attributes.commit(aggregate, content_type, payload)
}

/// Few values have anything to decode, which is told sooner than it is decoded.
fn percent_decoded(value: &str) -> Result<Cow<'_, str>, Utf8Error> {
    if value.contains('%') { percent_decode_str(value).decode_utf8() } else { Ok(value.into()) }
}

/// The value of a header, whose name others may spell in any case, as in HTTP.
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

/// The value of a header that may be there once.
fn only<'a>(name: &str, values: &'a [HeaderValue]) -> Result<Option<&'a str>, String> {
    match values {
        [] => Ok(None),
        [value] => Ok(Some(value.as_str())),
        _ => Err(twice(name)),
    }
}

/// Which of them is meant, nobody can tell.
fn twice(name: &str) -> String {
    format!("header {} is there more than once", lower_case(name))
}

/// The text in lower case, as it nearly always is.
fn lower_case(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        text.to_ascii_lowercase().into()
    } else {
        text.into()
    }
}

/// Whether a message's bytes can be about a business transaction, told without decoding them: its id stands there in
/// the one form in which ids are written.
pub(crate) fn may_mention(headers: &HeaderMap, payload: &[u8], correlation_id: &str) -> bool {
    if let Ok(Some(value)) = named(headers, "ce-correlationid") {
        return value.eq_ignore_ascii_case(correlation_id);
    }
    memchr::memmem::find(payload, correlation_id.as_bytes()).is_some()
}
