//! The headers of a message to send, as the text on the wire.
//!
//! The client's own map takes three allocations and two hashes for each header, and writes all of them into one text in
//! the end: for the seventeen headers of a commit that costs more than the rest of publishing it. So this module writes
//! the text at once, and passes it as the value of its first header.

use std::{
    fmt::{Display, Write as _},
    sync::LazyLock,
};

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::{
    Deserialize as _,
    de::{IntoDeserializer as _, value::Error},
};

/// The characters that the HTTP binding of CloudEvents encodes in header values: controls, space, quote, percent, and
/// all non-ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// The size that is enough for most messages, so that the text is allocated once.
const USUAL: usize = 1024;

/// Whether the client takes a value with several lines. It does when the value comes from serde, but does not promise
/// that; a version that does not gets the headers one by one.
static LINES: LazyLock<bool> = LazyLock::new(|| value_of("1\r\nb: 2".to_owned()).is_ok());

/// Headers in the order in which they were added. Each name must be added once.
#[derive(Debug, PartialEq)]
pub(crate) struct Headers {
    /// The name of the first header.
    first: &'static str,
    /// The value of the first header, and the lines of the others.
    text: String,
}

impl Headers {
    /// Begins with one header. Its value is unchanged, except for controls (which could begin a line) and non-ASCII.
    pub(crate) fn new(name: &'static str, value: &str) -> Self {
        let mut headers = Self { first: name, text: String::with_capacity(USUAL) };
        headers.push(value, CONTROLS, |byte| !byte.is_ascii_control() && byte.is_ascii());
        headers
    }

    /// Adds a header whose value must be printable ASCII.
    pub(crate) fn add(&mut self, name: &str, value: impl Display) {
        self.begin(name);
        write!(self.text, "{value}").expect("a text takes all that is written");
    }

    /// Adds a header whose value may be any text.
    pub(crate) fn add_encoded(&mut self, name: &str, value: &str) {
        self.begin(name);
        self.push(value, ENCODED, |byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'%');
    }

    /// Few values need encoding, and the check is cheaper than the encoding.
    fn push(&mut self, value: &str, encoded: &'static AsciiSet, is_plain: impl Fn(u8) -> bool) {
        if value.bytes().all(is_plain) {
            self.text.push_str(value);
        } else {
            self.text.extend(utf8_percent_encode(value, encoded));
        }
    }

    fn begin(&mut self, name: &str) {
        self.text.push_str("\r\n");
        self.text.push_str(name);
        self.text.push_str(": ");
    }

    /// How many bytes the headers take in a message, with the first line and the final line break.
    pub(crate) fn bytes(&self) -> usize {
        "NATS/1.0\r\n".len() + self.first.len() + ": ".len() + self.text.len() + "\r\n\r\n".len()
    }

    /// The headers as the client takes them.
    pub(crate) fn into_map(self) -> HeaderMap {
        if !*LINES {
            return self.one_by_one();
        }
        let mut map = HeaderMap::new();
        map.insert(HeaderName::from_static(self.first), value_of(self.text).expect("lines are taken"));
        map
    }

    /// The headers one by one, as a receiver sees them.
    pub(crate) fn one_by_one(&self) -> HeaderMap {
        let mut lines = self.text.split("\r\n");
        let mut map = HeaderMap::new();
        map.insert(self.first, lines.next().unwrap_or_default());
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            map.insert(name, value);
        }
        map
    }
}

/// A value of the client that was not validated.
fn value_of(text: String) -> Result<HeaderValue, Error> {
    HeaderValue::deserialize(text.into_deserializer())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_the_same_together_and_one_by_one() {
        let mut headers = Headers::new("content-type", "application/json");
        headers.add("Nats-Expected-Last-Subject-Sequence", 7);
        headers.add_encoded("ce-subject", "caf\u{e9} 100%\r\nce-id: 1");
        assert!(*LINES, "the client takes them together");
        let together = headers.one_by_one();
        assert_eq!(together.len(), 3);
        assert_eq!(together.get("Nats-Expected-Last-Subject-Sequence").map(HeaderValue::as_str), Some("7"));
        let subject = together.get("ce-subject").map(HeaderValue::as_str);
        assert_eq!(subject, Some("caf%C3%A9%20100%25%0D%0Ace-id:%201"));
        let bytes: usize = together
            .iter()
            .map(|(name, values)| AsRef::<str>::as_ref(name).len() + values[0].as_str().len() + 4)
            .sum();
        assert_eq!(headers.bytes(), bytes + "NATS/1.0\r\n\r\n".len());
        let map = headers.into_map();
        assert_eq!(map.len(), 1, "one text");
    }
}
