//! Subjects: the subject of an aggregate's commits in the stream.
//!
//! An id may be any text, but a token of a subject may not: `.` separates tokens, and `*` and `>` are wildcards that
//! the server accepts even in a publish, in which they make checks and reads apply to every aggregate. So an id is
//! encoded as one token of letters, digits, `_`, `-` and `=HH` for every other byte.
//!
//! A log may have slices: a fixed number of parts, each with the aggregates of some hashes. The slice is a token before
//! the aggregate's, so that a consumer can have a filter for some of them.

use std::{borrow::Cow, fmt::Write as _};

use cqrs_core::AggregateKey;
use xxhash_rust::xxh3::Xxh3;

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

/// The most slices that a log can have.
pub(crate) const MOST_SLICES: u16 = 1_024;

/// The subjects of one log: it alone writes and reads the tokens after the log's prefix.
///
/// An aggregate's commits have the subject `<log>.<aggregate>.<id>`, or `<log>.<slice>.<aggregate>.<id>` in a log with
/// slices. The log is `<context>.event` or `<context>.public`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subjects {
    log: String,
    notices: String,
    slices: u16,
}

impl Subjects {
    /// The subjects of a log without slices.
    pub(crate) fn new(log: String, notices: String) -> Self {
        Self { log, notices, slices: 1 }
    }

    pub(crate) fn sliced(self, slices: u16) -> Self {
        Self { slices, ..self }
    }

    /// The number of slices; with 1, subjects have no token for it.
    pub(crate) fn slices(&self) -> u16 {
        self.slices
    }

    fn is_sliced(&self) -> bool {
        self.slices > 1
    }

    /// Whether a log can have this number of slices. With a power of two, the slice is the last bits of the hash.
    pub(crate) fn can_be(slices: u16) -> bool {
        slices.is_power_of_two() && slices <= MOST_SLICES
    }

    /// The prefix of the subjects of its commits.
    pub(crate) fn log(&self) -> &str {
        &self.log
    }

    /// The prefix of the subjects of its notices.
    pub(crate) fn notices(&self) -> &str {
        &self.notices
    }

    /// The subjects of the log's stream. A stream with slices has only subjects with so many tokens, so that the server
    /// refuses a commit that is written without a slice.
    pub(crate) fn of_stream(&self) -> String {
        format!("{}.{}", self.log, if self.is_sliced() { "*.*.*" } else { ">" })
    }

    /// The subject of an aggregate's commits.
    pub(crate) fn subject_of(&self, aggregate: &AggregateKey) -> String {
        let known = self.log.len() + aggregate.name().len() + aggregate.id().len();
        let mut subject = String::with_capacity(known + 16);
        subject.push_str(&self.log);
        subject.push('.');
        if self.is_sliced() {
            // Writing to a string cannot fail.
            let _ = write!(subject, "{}.", self.slice_of(aggregate));
        }
        subject.push_str(aggregate.name());
        subject.push('.');
        push_token(&mut subject, aggregate.id());
        subject
    }

    /// The filter for all commits of an aggregate type.
    pub(crate) fn filter_of(&self, aggregate: &str) -> String {
        self.filter(&self.log, aggregate)
    }

    /// The filter for all notices of an aggregate type.
    pub(crate) fn notices_of(&self, aggregate: &str) -> String {
        self.filter(&self.notices, aggregate)
    }

    fn filter(&self, prefix: &str, aggregate: &str) -> String {
        format!("{prefix}.{}{aggregate}.*", if self.is_sliced() { "*." } else { "" })
    }

    /// The aggregate of a subject of this log. Its type probably is one of `names`. A subject with the slice of another
    /// aggregate has none: each aggregate has one subject.
    pub(crate) fn aggregate_of(&self, names: &[&'static str], subject: &str) -> Option<AggregateKey> {
        let mut rest = subject.strip_prefix(&*self.log)?.strip_prefix('.')?;
        let mut slice = None;
        if self.is_sliced() {
            let (first, others) = rest.split_once('.')?;
            (slice, rest) = (Some(first), others);
        }
        let (name, token) = rest.split_once('.')?;
        let known = names.iter().find(|known| **known == name);
        let name = known.map_or_else(|| Cow::from(name.to_owned()), |known| Cow::from(*known));
        let aggregate = AggregateKey::new(name, &*decoded(token).ok()?).ok()?;
        let fits = slice.is_none_or(|slice| is_number(slice, self.slice_of(&aggregate)));
        fits.then_some(aggregate)
    }

    /// The slice of an aggregate: a hash of `<aggregate>/<id>`, modulo the number of slices. It never changes, since
    /// aggregates are found by it; the guide `wire` defines it for other programs.
    fn slice_of(&self, aggregate: &AggregateKey) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(aggregate.name().as_bytes());
        hash.update(b"/");
        hash.update(aggregate.id().as_bytes());
        hash.digest() % u64::from(self.slices)
    }
}

/// Whether the token is this number, as it is written: without a sign, and without zeros before it.
fn is_number(token: &str, number: u64) -> bool {
    let is_canonical = token == "0" || token.bytes().next().is_some_and(|first| matches!(first, b'1'..=b'9'));
    is_canonical && token.parse() == Ok(number)
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

    fn shop(slices: u16) -> Subjects {
        Subjects::new("shop.event".to_owned(), "shop.notice".to_owned()).sliced(slices)
    }

    fn order(id: &str) -> AggregateKey {
        AggregateKey::new("order", id).unwrap()
    }

    #[test]
    fn a_million_ids_have_a_legal_subject_each_and_come_back() {
        let mut numbers = Numbers(1);
        let mut longest = 0;
        for _ in 0..1_000_000 {
            let id = numbers.id();
            let subject = shop(1).subject_of(&order(&id));
            let token = subject.strip_prefix("shop.event.order.").unwrap();
            assert!(!token.is_empty(), "{id:?}");
            assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-=".contains(&b)), "{id:?}");
            // No two ids have one subject, because each subject is decoded to one id.
            assert_eq!(shop(1).aggregate_of(&["order"], &subject).unwrap().id(), id);
            longest = longest.max(subject.len());
        }
        assert!(longest > 300 && longest <= "shop.event.order.".len() + 3 * MAX_ID_BYTES, "{longest}");
    }

    #[test]
    fn the_longest_subject_is_one_that_a_server_takes() {
        let id = "\u{1f600}".repeat(MAX_ID_BYTES / 4);
        let log = format!("{}.public", "c".repeat(64));
        let subjects = Subjects::new(log, String::new()).sliced(MOST_SLICES);
        let subject = subjects.subject_of(&AggregateKey::new("n".repeat(64), id.as_str()).unwrap());
        assert!(subject.len() < 1_024, "the server's limit for one line is 4,096: {}", subject.len());
    }

    /// Aggregates of a stored log are found by these; they are in the guide `wire` for other programs, too.
    /// The hashes are those of xxHash's own implementation in C.
    const SLICES: [(&str, &str, u64, u16); 7] = [
        ("order", "7", 0x1b91_2106_11d1_1033, 51),
        ("order", "", 0xcf58_74ec_d270_f057, 23),
        ("order", "A 1.*>", 0xd162_c50b_c0ba_530a, 10),
        ("order", "0190a5f3-0000-7000-8000-000000000001", 0x175f_7cfc_6237_72ae, 46),
        ("7", "7", 0xf47b_9a5d_b1f4_254b, 11),
        ("account", "日本", 0x313f_8597_a741_1ca1, 33),
        ("account", "\u{e9}", 0x8209_ed9f_6364_383d, 61),
    ];

    #[test]
    fn the_slice_of_an_aggregate_never_changes() {
        let guide = include_str!("../../docs/wire.md");
        for (name, id, hash, slice) in SLICES {
            let key = AggregateKey::new(name, id).unwrap();
            let whole = xxhash_rust::xxh3::xxh3_64(key.to_string().as_bytes());
            assert_eq!((whole, shop(64).slice_of(&key)), (hash, u64::from(slice)), "{key}");
            let subject = shop(64).subject_of(&key);
            let token = encode_token(id);
            assert_eq!(subject, format!("shop.event.{slice}.{name}.{token}"));
            let row = format!("| `{key}` | `{hash:016x}` | {slice} | `{slice}.{name}.{token}` |");
            assert!(guide.contains(&row), "{row}");
        }
    }

    #[test]
    fn an_aggregate_has_no_second_subject() {
        let (key, subjects) = (order("7"), shop(64));
        let own = subjects.slice_of(&key);
        let at = |place: &str| subjects.aggregate_of(&["order"], &format!("shop.event.{place}"));
        for slice in 0..128 {
            assert_eq!(at(&format!("{slice}.order.7")), (slice == own).then(|| key.clone()), "{slice}");
        }
        for slice in
            [format!("0{own}"), format!("+{own}"), format!("{own} "), format!("={own}"), String::new()]
        {
            assert_eq!(at(&format!("{slice}.order.7")), None, "{slice}");
        }
        for place in
            ["order.7".to_owned(), format!("{own}.order.7.7"), format!("{own}.order"), own.to_string()]
        {
            assert_eq!(at(&place), None, "{place}");
        }
        // A log without slices takes nothing for one.
        assert_eq!(shop(1).aggregate_of(&[], &subjects.subject_of(&key)), None);
    }

    /// With slices, the first token always is the slice, also where a name of an aggregate could be one.
    #[test]
    fn a_name_of_digits_is_no_slice() {
        for slices in [1, 2, 64] {
            let keys = ["0", "1", "7"].map(|name| AggregateKey::new(name, "1").unwrap());
            for key in &keys {
                let subject = shop(slices).subject_of(key);
                assert_eq!(shop(slices).aggregate_of(&["0", "1", "7"], &subject).as_ref(), Some(key));
            }
        }
    }

    #[test]
    fn a_log_without_slices_has_no_token_for_them() {
        assert_eq!(shop(1).subject_of(&order("7")), "shop.event.order.7");
        assert_eq!(
            (&*shop(1).filter_of("order"), &*shop(1).of_stream()),
            ("shop.event.order.*", "shop.event.>")
        );
        assert_eq!(shop(1).notices_of("order"), "shop.notice.order.*");
        assert_eq!(shop(2).filter_of("order"), "shop.event.*.order.*");
        assert_eq!(
            (&*shop(2).notices_of("order"), &*shop(2).of_stream()),
            ("shop.notice.*.order.*", "shop.event.*.*.*")
        );
    }

    /// Ids that people choose, also those that differ little, and hostile ones. Twice the mean is far more than chance
    /// gives a slice of a thousand.
    #[test]
    fn ids_are_spread_evenly() {
        const EACH: usize = 1_000;
        let mut numbers = Numbers(7);
        let kinds: [(&str, &mut dyn FnMut(usize) -> String); 5] = [
            ("numbers", &mut |n| n.to_string()),
            ("even numbers", &mut |n| (2 * n).to_string()),
            ("padded", &mut |n| format!("ORD-{n:08}-DE")),
            ("times of UUIDs", &mut |n| format!("0190a5f3-{:04x}-7000-8000-{:012x}", n >> 4, n)),
            ("hostile", &mut |n| format!("{n}{}", ".*>=\0é".repeat(1 + numbers.next(12)))),
        ];
        for (kind, id) in kinds {
            for slices in [2, 64, MOST_SLICES] {
                let mut counts = vec![0_usize; usize::from(slices)];
                for n in 0..EACH * counts.len().min(64) {
                    let slice = shop(slices).slice_of(&order(&id(n)));
                    counts[usize::try_from(slice).unwrap()] += 1;
                }
                let mean = EACH * counts.len().min(64) / counts.len();
                let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
                assert!(
                    *least > mean / 3 && *most < mean * 2,
                    "{kind}, {slices}: {least} to {most} of {mean}"
                );
            }
        }
    }

    #[test]
    fn a_number_of_slices_is_a_power_of_two() {
        let legal: Vec<u16> = (0..=u16::MAX).filter(|slices| Subjects::can_be(*slices)).collect();
        assert_eq!(legal, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024]);
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
        fn a_subject_leads_back_to_its_aggregate(id in "\\PC{0,40}", bits in 0..=10_u32) {
            let subjects = shop(1 << bits);
            let key = AggregateKey::new("order", id);
            prop_assume!(key.is_ok());
            let key = key.unwrap();
            prop_assert_eq!(subjects.aggregate_of(&[], &subjects.subject_of(&key)), Some(key));
        }
    }
}
