//! The names of the streams, buckets and subjects of one log.
//!
//! No two logs share a name. Names of contexts and views consist of `a-z`, `0-9`, `_` and `-`. If they were joined by
//! one `_`, the bucket of context `p` and view `eu_sales` would be that of context `p_eu` and view `sales`. So they are
//! joined by two `_`, which no context has: the part before the first two is the context. Names for a public log end in
//! `__PUBLIC` or `__public`, which no view's id does, because that ends in a number. All of this holds in any mixture
//! of upper and lower case, because the file system of a server may ignore case.

use std::fmt::Display;

use crate::wire::subject::Subjects;

/// The separator between a context and the name of a part of it.
const APART: &str = "__";

/// The longest name of a context or a stream, in bytes.
const LONGEST: usize = 64;

/// The names of one log and of its buckets and subjects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    context: String,
    /// Whether the log is the context's public one.
    public: bool,
    /// The stream's name, if it was chosen.
    chosen: Option<String>,
    stream: String,
    subjects: Subjects,
}

/// A key-value bucket, and its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) name: String,
    pub(crate) stream: String,
    /// The prefix of the subjects of its keys.
    pub(crate) prefix: String,
}

impl Bucket {
    fn named(name: String) -> Self {
        Self { stream: format!("KV_{name}"), prefix: format!("$KV.{name}."), name }
    }
}

/// A name that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadName<'a> {
    pub(crate) what: &'static str,
    pub(crate) name: &'a str,
    pub(crate) legal: &'static str,
}

impl Names {
    /// The names for the events of `context`.
    pub(crate) fn new(context: String) -> Self {
        Self::of(context, false, None)
    }

    /// The names for the context's public log.
    pub(crate) fn public(self) -> Self {
        let slices = self.subjects.slices();
        Self::of(self.context, true, self.chosen).sliced(slices)
    }

    /// The names with another stream.
    pub(crate) fn named(self, stream: String) -> Self {
        let slices = self.subjects.slices();
        Self::of(self.context, self.public, Some(stream)).sliced(slices)
    }

    /// The names with so many slices.
    pub(crate) fn sliced(self, slices: u16) -> Self {
        Self { subjects: self.subjects.sliced(slices), ..self }
    }

    fn of(context: String, public: bool, chosen: Option<String>) -> Self {
        let default = || context.to_uppercase() + if public { "__PUBLIC" } else { "" };
        let stream = chosen.clone().unwrap_or_else(default);
        let log = format!("{context}.{}", if public { "public" } else { "event" });
        let notices = beside(&context, public, "notice");
        Self { context, public, chosen, stream, subjects: Subjects::new(log, notices) }
    }

    /// Checks that the chosen names are legal.
    pub(crate) fn check(&self) -> Result<(), BadName<'_>> {
        let legal = "1 to 64 characters of a-z, 0-9, _ and -, without two _ in a row and none at the end";
        if !is_legal(&self.context, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
            return Err(BadName { what: "context", name: &self.context, legal });
        }
        let Some(chosen) = &self.chosen else { return Ok(()) };
        let legal =
            "1 to 64 letters, digits, _ and -, without two _ in a row, none at the end, and no KV_ before";
        let is_bucket = chosen.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("KV_"));
        if is_bucket || !is_legal(chosen, |byte| byte.is_ascii_alphanumeric()) {
            return Err(BadName { what: "stream", name: chosen, legal });
        }
        Ok(())
    }

    pub(crate) fn context(&self) -> &str {
        &self.context
    }

    pub(crate) fn stream(&self) -> &str {
        &self.stream
    }

    /// What the log is for, in its stream's metadata.
    pub(crate) fn purpose(&self) -> &'static str {
        if self.public { "public" } else { "events" }
    }

    /// The prefix of the subjects of its commits.
    pub(crate) fn log(&self) -> &str {
        self.subjects.log()
    }

    pub(crate) fn subjects(&self) -> &Subjects {
        &self.subjects
    }

    /// The prefix of the subjects of its notices.
    pub(crate) fn notices(&self) -> &str {
        self.subjects.notices()
    }

    /// The prefix of the subjects of its deadlines.
    pub(crate) fn deadlines(&self) -> String {
        beside(&self.context, self.public, "deadline")
    }

    pub(crate) fn deadlines_stream(&self) -> String {
        format!("{}{APART}DEADLINES", self.stream)
    }

    /// The bucket of a projection, whose id ends in a number.
    pub(crate) fn bucket(&self, projection: impl Display) -> Bucket {
        self.bucket_of(projection)
    }

    /// The bucket of the records of views as a whole.
    pub(crate) fn views_bucket(&self) -> Bucket {
        self.bucket_of("views")
    }

    /// The bucket of the aggregates' snapshots.
    pub(crate) fn snapshots_bucket(&self) -> Bucket {
        self.bucket_of("snapshots")
    }

    fn bucket_of(&self, what: impl Display) -> Bucket {
        let public = if self.public { "__public" } else { "" };
        Bucket::named(format!("{}{APART}{what}{public}", self.context))
    }
}

/// The prefix of subjects beside those of the log.
fn beside(context: &str, public: bool, kind: &str) -> String {
    format!("{context}.{}{kind}", if public { "public-" } else { "" })
}

fn is_legal(name: &str, extra: fn(u8) -> bool) -> bool {
    (1..=LONGEST).contains(&name.len())
        && name.bytes().all(|byte| byte == b'_' || byte == b'-' || extra(byte))
        && !name.contains(APART)
        && !name.ends_with('_')
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use cqrs_core::port::ProjectionId;
    use proptest::prelude::*;

    use super::*;

    /// The words of which names are made, so that hostile pairs are likely.
    const WORDS: &str =
        "(p|eu|sales|[a_-]|_|__|-v1|-v12|-b2|v1|views|snapshots|public|deadlines|event|kv|1){1,4}";

    /// All names that two logs could share: streams, the streams of buckets, and the prefixes of subjects.
    fn all(names: &Names, projections: &[ProjectionId]) -> Vec<String> {
        let buckets = projections.iter().map(|id| names.bucket(id));
        let buckets: Vec<Bucket> = buckets.chain([names.views_bucket(), names.snapshots_bucket()]).collect();
        let mut all = vec![names.stream().to_owned(), names.deadlines_stream()];
        all.extend(buckets.iter().map(|bucket| bucket.stream.clone()));
        all.extend(buckets.into_iter().map(|bucket| bucket.prefix));
        all.extend(
            [names.log().to_owned(), names.notices().to_owned(), names.deadlines()].map(|start| start + "."),
        );
        all
    }

    /// The second tokens of subjects that are reserved; see the page about the stored format.
    const RESERVED: [&str; 2] = ["tag", "claim"];

    proptest! {
        #[test]
        fn no_subject_of_a_context_is_a_reserved_one(names in names()) {
            for prefix in [names.log().to_owned(), names.notices().to_owned(), names.deadlines()] {
                let tokens: Vec<_> = prefix.split('.').collect();
                prop_assert_eq!(tokens.len(), 2, "a context's name is one token: {}", prefix);
                prop_assert!(!RESERVED.contains(&tokens[1]), "{}", prefix);
            }
        }
    }

    fn projection() -> impl Strategy<Value = ProjectionId> {
        (WORDS, 1..3_u32, 1..4_u32).prop_map(|(name, version, build)| {
            let name = Box::leak(name.into_boxed_str());
            ProjectionId { build, ..ProjectionId::new(name, version) }
        })
    }

    fn names() -> impl Strategy<Value = Names> {
        let chosen = proptest::option::weighted(0.2, WORDS.prop_map(|name| name.to_uppercase()));
        (WORDS, any::<bool>(), chosen)
            .prop_map(|(context, public, chosen)| Names::of(context, public, chosen))
            .prop_filter("legal", |names| names.check().is_ok())
    }

    proptest! {
        /// Also if case is ignored. The only exception is a stream that was given the name of another log's stream: its
        /// subjects differ, so it is refused when it is opened.
        #[test]
        fn two_logs_share_no_name(
            one in names(),
            other in names(),
            views in proptest::collection::vec(projection(), 1..4),
            others in proptest::collection::vec(projection(), 1..4),
        ) {
            prop_assume!((&one.context, one.public) != (&other.context, other.public));
            prop_assume!(!one.stream.eq_ignore_ascii_case(&other.stream));
            let ours: HashMap<String, String> =
                all(&one, &views).into_iter().map(|name| (name.to_lowercase(), name)).collect();
            for name in all(&other, &others) {
                prop_assert_eq!(ours.get(&name.to_lowercase()), None, "{:?} and {:?}: {}", &one, &other, name);
            }
        }

        #[test]
        fn what_is_not_chosen_is_never_shared(one in names(), other in names()) {
            prop_assume!((&one.context, one.public) != (&other.context, other.public));
            let default = |names: &Names| Names::of(names.context.clone(), names.public, None).stream.to_lowercase();
            prop_assert_ne!(default(&one), default(&other));
        }

        #[test]
        fn two_builds_share_no_bucket(one in projection(), other in projection()) {
            prop_assume!(one != other);
            let names = Names::new("p".to_owned());
            prop_assert_ne!(names.bucket(&one), names.bucket(&other));
            prop_assert_ne!(names.bucket(&one), names.views_bucket());
            prop_assert_ne!(names.bucket(&one), names.snapshots_bucket());
        }
    }

    /// All contexts and views of up to three of these words, each with each.
    #[test]
    fn no_context_and_view_of_a_few_words_share_a_bucket_with_others() {
        let words = ["p", "eu", "_", "-v1", "views", "public"];
        let mut texts = vec![String::new()];
        for _ in 0..3 {
            let longer = texts.iter().flat_map(|text| words.map(|word| format!("{text}{word}")));
            texts.extend(longer.collect::<Vec<_>>());
        }
        texts.sort_unstable();
        texts.dedup();
        let views: Vec<&'static str> = texts.iter().skip(1).map(|text| &*text.clone().leak()).collect();
        let mut owners = HashMap::new();
        for context in texts.iter().map(|text| Names::new(text.clone())).filter(|names| names.check().is_ok())
        {
            for names in [context.clone(), context.public()] {
                let all = views.iter().map(|view| names.bucket(ProjectionId::new(view, 1)));
                for bucket in all.chain([names.views_bucket(), names.snapshots_bucket()]) {
                    let other = owners.insert(bucket.name.clone(), names.log().to_owned());
                    assert_eq!(other, None, "{} is also that of {}", bucket.name, names.log());
                }
            }
        }
        assert!(owners.len() > 10_000, "{}", owners.len());
    }

    #[test]
    fn they_are_short_where_they_can_be() {
        let names = Names::new("orders".to_owned());
        assert_eq!(names.stream(), "ORDERS");
        assert_eq!(names.deadlines_stream(), "ORDERS__DEADLINES");
        assert_eq!(names.bucket(ProjectionId::new("summary", 1)).name, "orders__summary-v1");
        let public = names.public();
        assert_eq!((public.stream(), public.log()), ("ORDERS__PUBLIC", "orders.public"));
        assert_eq!(public.bucket(ProjectionId::new("summary", 1)).name, "orders__summary-v1__public");
        assert_eq!(public.clone().named("OTHER".to_owned()).stream(), "OTHER");
        assert_eq!(Names::new("orders".to_owned()).named("OTHER".to_owned()).public().stream(), "OTHER");
    }

    #[test]
    fn names_that_would_reach_what_others_have_are_refused() {
        for name in ["", "Orders", "a.b", "a*", ">", "a b", "a__b", "a_", "__", &"a".repeat(65)] {
            assert_eq!(Names::new(name.to_owned()).check().unwrap_err().what, "context", "{name:?}");
        }
        for name in ["", "a.b", "KV_a", "kv_a", "ORDERS__PUBLIC", "A_"] {
            let names = Names::new("orders".to_owned()).named(name.to_owned());
            assert_eq!(names.check().unwrap_err().what, "stream", "{name:?}");
        }
        for name in ["a", "p_eu", "_a", "-", "kv_orders", "orders_public", &"a".repeat(64)] {
            assert_eq!(Names::new(name.to_owned()).check(), Ok(()), "{name:?}");
        }
    }
}
