//! Subjects: the subject of an aggregate's commits in the stream.
//!
//! An id may be any text, but a token of a subject may not: `.` separates tokens, and `*` and `>` are wildcards that
//! the server accepts even in a publish, in which they make checks and reads apply to every aggregate. So an id is
//! encoded as one token of letters, digits, `_`, `-` and `=HH` for every other byte.

use std::{borrow::Cow, fmt::Write as _};

use cqrs_core::AggregateKey;

/// The text as one token of a subject: letters, digits, `_` and `-` stay, every other byte becomes `=` and two
/// upper-case hexadecimal digits, and the empty text becomes `=`.
///
/// Two different texts have two different tokens. Unicode is not normalized: two spellings are two ids.
///
/// ```
/// use cqrs_nats::{decode_token, encode_token};
///
/// assert_eq!(encode_token("order-7"), "order-7");
/// assert_eq!(encode_token("a.b*>"), "a=2Eb=2A=3E");
/// assert_eq!(decode_token("a=2Eb=2A=3E")?, "a.b*>");
/// # Ok::<(), cqrs_nats::BadToken>(())
/// ```
pub fn encode_token(text: &str) -> String {
    let mut token = String::with_capacity(text.len());
    push_token(&mut token, text);
    token
}

fn push_token(out: &mut String, text: &str) {
    if text.is_empty() {
        out.push('=');
    }
    for byte in text.bytes() {
        if is_plain(byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "={byte:02X}");
        }
    }
}

/// The text of a token that [`encode_token`] made.
///
/// # Errors
///
/// [`BadToken`] for anything that [`encode_token`] does not make, so that no text has two tokens.
pub fn decode_token(token: &str) -> Result<String, BadToken> {
    decoded(token).map(Cow::into_owned)
}

fn decoded(token: &str) -> Result<Cow<'_, str>, BadToken> {
    if token == "=" {
        return Ok("".into());
    }
    // Most ids equal their tokens.
    if !token.is_empty() && token.bytes().all(is_plain) {
        return Ok(token.into());
    }
    let bad = || BadToken(token.to_owned());
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'=' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16)).ok_or_else(bad);
        let value = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(value).map_err(|_| bad())?);
    }
    let text = String::from_utf8(bytes).map_err(|_| bad())?;
    // A token that is not canonical (lower-case digits, needless escapes) differs from the encoding of its text.
    if encode_token(&text) == token { Ok(text.into()) } else { Err(bad()) }
}

/// Whether a byte stays unchanged in a token.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// A token that is not the encoding of any text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an encoded id")]
pub struct BadToken(pub String);

/// The subject of an aggregate's commits, `<log>.<aggregate>.<id>`, where the log is `<context>.event` or
/// `<context>.public`.
pub(crate) fn subject_of(log: &str, aggregate: &AggregateKey) -> String {
    let mut subject = String::with_capacity(log.len() + aggregate.name().len() + aggregate.id().len() + 16);
    subject.push_str(log);
    subject.push('.');
    subject.push_str(aggregate.name());
    subject.push('.');
    push_token(&mut subject, aggregate.id());
    subject
}

/// The filter for all commits of an aggregate type, or for all notices of it.
pub(crate) fn filter_of(log: &str, aggregate: &str) -> String {
    format!("{log}.{aggregate}.*")
}

/// The prefix of the subjects of a deadline, beneath the prefix of all deadlines of a log.
pub(crate) fn deadline_of(deadlines: &str, id: &str) -> String {
    let mut subject = format!("{deadlines}.");
    push_token(&mut subject, id);
    subject
}

/// The id of the deadline of a subject beneath the prefix of all deadlines of a log.
pub(crate) fn deadline_id_of(deadlines: &str, subject: &str) -> Option<String> {
    let rest = subject.strip_prefix(deadlines)?.strip_prefix('.')?;
    decode_token(rest.split_once('.')?.0).ok()
}

/// The aggregate of a subject of this log. Its type probably is one of `names`.
pub(crate) fn aggregate_of(log: &str, names: &[&'static str], subject: &str) -> Option<AggregateKey> {
    let rest = subject.strip_prefix(log)?.strip_prefix('.')?;
    let (name, token) = rest.split_once('.')?;
    let known = names.iter().find(|known| **known == name);
    let name = known.map_or_else(|| Cow::from(name.to_owned()), |known| Cow::from(*known));
    AggregateKey::new(name, &*decoded(token).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use cqrs_core::model::MAX_ID_BYTES;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_that_nothing_encodes_to_are_refused() {
        for token in ["", "=2", "=2e", "=41", "=ZZ", "=FF", "a.b", "é", "a=", "=="] {
            assert!(decode_token(token).is_err(), "{token}");
        }
    }

    /// Pseudo-random numbers (`SplitMix64`), the same in every run.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self, below: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            usize::try_from((mixed ^ (mixed >> 31)) % (below as u64)).unwrap()
        }

        /// An id of characters with a special meaning and of any others; mostly a short one.
        fn id(&mut self) -> String {
            const TELLING: &[u8] = b".*>=$ \r\n\t\0\x7f/\\%:;\"'{}aZ09_-";
            let longest = if self.next(64) == 0 { MAX_ID_BYTES } else { 12 };
            let mut id = String::new();
            for _ in 0..self.next(longest + 1) {
                let character = match self.next(4) {
                    0 => char::from_u32(u32::try_from(self.next(0x0011_0000)).unwrap()).unwrap_or('é'),
                    1 => char::from(u8::try_from(self.next(128)).unwrap()),
                    _ => char::from(TELLING[self.next(TELLING.len())]),
                };
                if id.len() + character.len_utf8() > MAX_ID_BYTES {
                    break;
                }
                id.push(character);
            }
            id
        }
    }

    #[test]
    fn a_million_ids_have_a_legal_subject_each_and_come_back() {
        let mut numbers = Numbers(1);
        let mut longest = 0;
        for _ in 0..1_000_000 {
            let id = numbers.id();
            let subject = subject_of("shop.event", &AggregateKey::new("order", id.as_str()).unwrap());
            let token = subject.strip_prefix("shop.event.order.").unwrap();
            assert!(!token.is_empty(), "{id:?}");
            assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-=".contains(&b)), "{id:?}");
            // No two ids have one subject, because each subject is decoded to one id.
            assert_eq!(aggregate_of("shop.event", &["order"], &subject).unwrap().id(), id);
            longest = longest.max(subject.len());
        }
        assert!(longest > 300 && longest <= "shop.event.order.".len() + 3 * MAX_ID_BYTES, "{longest}");
    }

    #[test]
    fn the_longest_subject_is_one_that_a_server_takes() {
        let id = "\u{1f600}".repeat(MAX_ID_BYTES / 4);
        let log = format!("{}.public", "c".repeat(64));
        let subject = subject_of(&log, &AggregateKey::new("n".repeat(64), id.as_str()).unwrap());
        assert!(subject.len() < 1_024, "the server's limit for one line is 4,096: {}", subject.len());
    }

    proptest! {
        #[test]
        fn every_text_has_one_legal_token(text in any::<String>()) {
            let token = encode_token(&text);
            prop_assert!(!token.is_empty());
            prop_assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-=".contains(&b)));
            prop_assert_eq!(decode_token(&token).unwrap(), text);
        }

        #[test]
        fn a_token_that_decodes_is_the_one_that_its_text_encodes_to(token in "[a-zA-Z0-9=_.-]{0,12}") {
            if let Ok(text) = decode_token(&token) {
                prop_assert_eq!(encode_token(&text), token);
            }
        }

        #[test]
        fn a_subject_leads_back_to_its_aggregate(id in "\\PC{0,40}") {
            let key = AggregateKey::new("order", id);
            prop_assume!(key.is_ok());
            let key = key.unwrap();
            prop_assert_eq!(aggregate_of("shop.event", &[], &subject_of("shop.event", &key)), Some(key));
        }
    }
}
