//! The causes of errors, each said once.
//!
//! The errors of other crates often repeat the text of their cause in their own text, and return the cause as `source()`
//! as well. A chain of them joined to one text would be `a: b: c: b: c: c`.

use std::{
    error::Error as StdError,
    fmt::{self, Display},
    iter::successors,
    sync::{Arc, OnceLock},
};

/// The cause of an adapter's error: an error of its client.
///
/// It displays itself like the client's error. Its [`source`](StdError::source) is the first cause that this text does
/// not contain yet, so that the joined texts of a chain of errors say nothing twice. [`get_ref`](Self::get_ref) returns
/// the client's error, for `downcast_ref`.
///
/// ```
/// use cqrs_core::{StoreError, port::Source};
///
/// let error = StoreError::unavailable("reading", std::io::Error::other("no route"));
/// let StoreError::Unavailable { source: Some(source), .. } = error else { unreachable!() };
/// assert_eq!(source.to_string(), "no route");
/// assert!(source.get_ref().is::<std::io::Error>());
/// ```
#[derive(Clone)]
pub struct Source(Arc<Inner>);

struct Inner {
    error: Box<dyn StdError + Send + Sync>,
    /// The causes that the text of `error` does not contain, made when they are asked for.
    causes: OnceLock<Option<Box<Cause>>>,
}

/// A text in a chain of causes.
#[derive(Debug)]
struct Cause {
    text: String,
    next: Option<Box<Cause>>,
}

impl Source {
    /// A cause.
    pub fn new(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(Arc::new(Inner { error: error.into(), causes: OnceLock::new() }))
    }

    /// The client's error.
    pub fn get_ref(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.0.error
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0.error, f)
    }
}

impl Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.0.error, f)
    }
}

impl StdError for Source {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let chain = || {
            let texts: Vec<String> = said_once(self.get_ref()).skip(1).collect();
            texts.into_iter().rev().fold(None, |next, text| Some(Box::new(Cause { text, next })))
        };
        self.0.causes.get_or_init(chain).as_deref().map(|cause| cause as _)
    }
}

impl Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.next.as_deref().map(|cause| cause as _)
    }
}

/// An error with its causes in one text, for a log or a stored reason. A cause that the text contains already is not
/// repeated.
///
/// ```
/// use cqrs_core::{StoreError, port::describe};
///
/// let error = StoreError::unavailable("reading", std::io::Error::other("no route"));
/// assert_eq!(describe(&error), "the store did not answer: reading: no route");
/// ```
pub fn describe(error: &dyn StdError) -> String {
    said_once(error).collect::<Vec<_>>().join(": ")
}

/// The texts of an error and its causes, without those that an earlier text contains.
fn said_once(error: &dyn StdError) -> impl Iterator<Item = String> {
    let causes = successors(error.source(), |cause| (**cause).source()).map(ToString::to_string);
    let mut said = String::new();
    [error.to_string()].into_iter().chain(causes).filter(move |text| {
        let is_new = !contains(&said, text);
        if is_new {
            said.push_str(": ");
            said.push_str(text);
        }
        is_new
    })
}

/// Whether `text` is in `said`, and is not a part of a word there.
fn contains(said: &str, text: &str) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let touches = |inner: char, outer: Option<char>| inner.is_alphanumeric() && is_word(outer);
    let (Some(first), Some(last)) = (text.chars().next(), text.chars().next_back()) else { return true };
    said.match_indices(text).any(|(at, found)| {
        let (before, after) = (&said[..at], &said[at + found.len()..]);
        !touches(first, before.chars().next_back()) && !touches(last, after.chars().next())
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// An error of another crate, as most of them are: its text contains the text of its cause.
    #[derive(Debug, thiserror::Error)]
    #[error("{what}: {source}")]
    struct Repeats {
        what: &'static str,
        source: Box<dyn StdError + Send + Sync>,
    }

    /// An error of another crate whose text is only its own.
    #[derive(Debug, thiserror::Error)]
    #[error("{what}")]
    struct Says {
        what: &'static str,
        source: Box<dyn StdError + Send + Sync>,
    }

    fn repeats(what: &'static str, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Repeats {
        Repeats { what, source: source.into() }
    }

    fn says(what: &'static str, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Says {
        Says { what, source: source.into() }
    }

    /// The joined texts of a chain, as any program joins them.
    fn joined(error: &dyn StdError) -> String {
        let chain = successors(Some(error), |error| (**error).source());
        chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }

    #[test]
    fn each_cause_is_said_once() {
        let deep = || repeats("timed out", repeats("request timed out", io::Error::other("too late")));
        assert_eq!(joined(&deep()).matches("too late").count(), 3, "{}", joined(&deep()));
        for (error, expected) in [
            (Source::new(deep()), "timed out: request timed out: too late"),
            (Source::new(says("no answer", deep())), "no answer: timed out: request timed out: too late"),
            (Source::new(repeats("a", says("b", repeats("c", "d")))), "a: b: c: d"),
            (Source::new("alone"), "alone"),
            (Source::new(says("wrapped", says("wrapped", "end"))), "wrapped: end"),
        ] {
            assert_eq!(joined(&error), expected);
            assert_eq!(describe(error.get_ref()), expected);
        }
    }

    #[test]
    fn a_part_of_a_word_says_nothing() {
        assert_eq!(describe(&says("the store did not answer", "not")), "the store did not answer");
        assert_eq!(describe(&says("another write", "other")), "another write: other");
        assert_eq!(
            describe(&says("place 127.0.0.10", "place 127.0.0.1")),
            "place 127.0.0.10: place 127.0.0.1"
        );
        assert_eq!(describe(&says("", "")), "");
    }
}
