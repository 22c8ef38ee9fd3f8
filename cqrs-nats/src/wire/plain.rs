//! A quick reader for the JSON that this crate writes: objects of texts without escapes, and data, without white space.
//!
//! It reads nothing that a JSON parser reads in another way. Whatever else an object may have, it leaves to the parser.
//! It is worth a second reader, because an event has a dozen of texts, and a parser takes three times as long for them.

use serde_json::{Deserializer, value::RawValue};

/// A member of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Member<'a> {
    /// A text without escapes.
    Text(&'a str),
    /// The data, as JSON.
    Data(&'a str),
}

/// Passes the members of the object at the beginning of `text` to `each`, and returns what follows the object. `None` if
/// the object has another form, or if `each` returns `None`.
pub(super) fn object<'a>(
    text: &'a str,
    mut each: impl FnMut(&'a str, Member<'a>) -> Option<()>,
) -> Option<&'a str> {
    let mut rest = text.strip_prefix('{')?;
    loop {
        let (name, value) = quoted(rest)?;
        let value = value.strip_prefix(':')?;
        rest = if name == "data" {
            let mut values = Deserializer::from_str(value).into_iter::<&RawValue>();
            let data = values.next()?.ok()?.get();
            each(name, Member::Data(data))?;
            // Without white space before it.
            value.strip_prefix(data)?
        } else {
            let (text, rest) = quoted(value)?;
            each(name, Member::Text(text))?;
            rest
        };
        match rest.as_bytes().first()? {
            b',' => rest = &rest[1..],
            b'}' => return Some(&rest[1..]),
            _ => return None,
        }
    }
}

/// The content of the string at the beginning of `json`, and what follows it, if nothing in it is escaped or must be.
fn quoted(json: &str) -> Option<(&str, &str)> {
    let rest = json.strip_prefix('"')?;
    let end = memchr::memchr(b'"', rest.as_bytes())?;
    let (content, rest) = (&rest[..end], &rest[end + 1..]);
    // Without an early end, so that the compiler takes many bytes at a time.
    let special = content.bytes().fold(false, |special, byte| special | (byte < b' ') | (byte == b'\\'));
    (!special).then_some((content, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// The members of an object that is all of a text.
    fn members(text: &str) -> Option<Vec<(&str, Member<'_>)>> {
        let mut all = Vec::new();
        let rest = object(text, |name, member| {
            all.push((name, member));
            Some(())
        });
        rest.filter(|rest| rest.is_empty()).map(|_| all)
    }

    #[test]
    fn an_object_of_texts_and_data_is_read() {
        let read = members(r#"{"id":"7","data":{"a":[1,"}\""]},"subject":"é/{","data":1.50}"#).unwrap();
        let data = |json| ("data", Member::Data(json));
        let text = |name, text| (name, Member::Text(text));
        assert_eq!(read, [text("id", "7"), data(r#"{"a":[1,"}\""]}"#), text("subject", "é/{"), data("1.50")]);
        assert_eq!(object(r#"{"a":"b"},{"#, |_, _| Some(())), Some(",{"));
    }

    #[test]
    fn every_other_form_is_left_to_the_parser() {
        for other in [
            "",
            "{}",
            "{",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1}"#,
            r#"{"a":null}"#,
            r#"{"a":"b""#,
            r#"{"a":"b",}"#,
            r#"{"a":"b"};"#,
            r#"{"a" :"b"}"#,
            r#" {"a":"b"}"#,
            r#"{"a":"\n"}"#,
            "{\"a\":\"\n\"}",
            r#"{"a\u0062":"c"}"#,
            r#"{"data":}"#,
            r#"{"data":1 2}"#,
            r#"{"data":{"a":1}"#,
            r#"{"data":[1}}"#,
            r#"{"data":nul}"#,
            r#"{"data":01}"#,
        ] {
            assert_eq!(members(other), None, "{other}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// Of texts that are nearly JSON, each that is read is JSON of the same content.
        #[test]
        fn nothing_is_read_that_a_parser_reads_in_another_way(
            parts in prop::collection::vec(prop::sample::select(vec![
                "{", "}", "\"", ":", ",", "[", "]", "\\", "\n", " ", "data", "a", "é", "1", "-", ".5", "e3", "null", "true",
                "\"a\":\"b\"", "\"data\":", "\"data\":{\"x\":1}", "\"c\":", "\u{0}", "\\u0041",
            ]), 0..12),
        ) {
            let inner = parts.concat();
            for text in [format!("{{{inner}}}"), format!("{{\"a\":\"{inner}\"}}"), format!("{{\"data\":{inner}}}")] {
                let Some(read) = members(&text) else { continue };
                prop_assert!(serde_json::from_str::<Value>(&text).is_ok(), "{}", text);
                // The same members, written again.
                let members: Vec<_> = read.iter().map(|(name, member)| match member {
                    Member::Text(content) => format!("{}:{}", Value::from(*name), Value::from(*content)),
                    Member::Data(json) => format!("{}:{json}", Value::from(*name)),
                }).collect();
                prop_assert_eq!(format!("{{{}}}", members.join(",")), text);
            }
        }
    }
}
