//! Content types of payloads.

use std::borrow::Cow;

/// The content type of JSON payloads.
pub const JSON: &str = "application/json";

/// The content type of payloads in bincode (version 2, standard configuration).
pub const BINCODE: &str = "application/x-bincode";

/// The media type of a content type, which may have parameters and upper case: `application/json` of
/// `Application/JSON; charset=utf-8`.
pub fn media_type(content_type: &str) -> Cow<'_, str> {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if media_type.bytes().any(|byte| byte.is_ascii_uppercase()) {
        media_type.to_ascii_lowercase().into()
    } else {
        media_type.into()
    }
}

/// Whether a payload of this content type is JSON: `application/json` with or without parameters, and every media type
/// that ends in `/json` or `+json`.
pub fn is_json(content_type: &str) -> bool {
    if content_type == JSON {
        return true;
    }
    let media_type = media_type(content_type);
    media_type.ends_with("/json") || media_type.ends_with("+json")
}
