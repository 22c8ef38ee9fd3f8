//! The names of tables and keys in the database.

use std::{borrow::Cow, marker::PhantomData};

use crate::{SqlError, dialect::Dialect};

/// The names of one bounded context's tables.
pub(crate) struct Names<DB> {
    context: String,
    database: PhantomData<fn() -> DB>,
}

impl<DB: Dialect> Names<DB> {
    /// Names are always quoted, and consist of characters that cannot end a quote.
    pub(crate) fn new(context: &str) -> Result<Self, SqlError> {
        let reserved = ["pg_", "sqlite_", "information_schema"];
        let legal = is_name(context) && context.len() <= 48;
        if !legal || reserved.iter().any(|reserved| context.starts_with(reserved)) {
            return Err(SqlError::Context { name: context.to_owned() });
        }
        Ok(Self { context: context.to_owned(), database: PhantomData })
    }

    pub(crate) fn context(&self) -> &str {
        &self.context
    }

    /// A table of the context, quoted.
    pub(crate) fn table(&self, name: &str) -> String {
        format!("\"{}{}{name}\"", self.context, DB::DOT)
    }

    pub(crate) fn layout(&self) -> String {
        self.table("layout")
    }

    pub(crate) fn projections(&self) -> String {
        self.table("projections")
    }

    pub(crate) fn notes(&self) -> String {
        self.table("notes")
    }

    pub(crate) fn about(&self) -> String {
        self.table("about")
    }
}

/// Whether a name consists of `a-z`, `0-9`, `_` and `-`.
pub(crate) fn is_name(name: &str) -> bool {
    let legal = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    !name.is_empty() && name.bytes().all(legal)
}

/// A key as it is stored. Postgres text cannot contain a zero character, so that one is written as U+0001 and `0`, and
/// U+0001 as itself and `1`; all other keys are stored unchanged, so that an operator can read them.
///
/// The encoding keeps prefixes and the order of keys.
pub(crate) fn stored_key(key: &str) -> Cow<'_, str> {
    if key.contains(['\0', '\u{1}']) {
        Cow::Owned(key.replace('\u{1}', "\u{1}1").replace('\0', "\u{1}0"))
    } else {
        Cow::Borrowed(key)
    }
}

/// The key that is stored as `stored`.
pub(crate) fn original_key(stored: String) -> String {
    if stored.contains('\u{1}') { stored.replace("\u{1}0", "\0").replace("\u{1}1", "\u{1}") } else { stored }
}

#[cfg(all(test, feature = "sqlite", feature = "postgres"))]
mod tests {
    use cqrs_core::port::ProjectionId;
    use proptest::prelude::*;
    use sqlx::{Postgres, Sqlite};

    use super::*;
    use crate::projection::own_table;

    /// The words of which names are made, so that hostile pairs are likely.
    const WORDS: &str = "(p|eu|sales|[a_-]|-v1|-v12|-b2|v1|layout|projections|notes|about|1){1,4}";

    /// A table that a view has in a context: of its documents or its own, by name.
    fn view_table() -> impl Strategy<Value = (String, ProjectionId, Option<String>)> {
        let build = (WORDS, 1..3_u32, 1..4_u32).prop_map(|(name, version, build)| {
            let name = Box::leak(name.into_boxed_str());
            ProjectionId { build, ..ProjectionId::new(name, version) }
        });
        (WORDS, build, proptest::option::of(WORDS))
    }

    fn named<DB: Dialect>((context, build, own): &(String, ProjectionId, Option<String>)) -> String {
        let names = Names::<DB>::new(context).expect("a name");
        names.table(&own.as_ref().map_or_else(|| build.to_string(), |own| own_table(build, own)))
    }

    proptest! {
        #[test]
        fn two_views_share_no_table(one in view_table(), other in view_table()) {
            prop_assume!(one != other);
            prop_assert_ne!(named::<Sqlite>(&one), named::<Sqlite>(&other));
            prop_assert_ne!(named::<Postgres>(&one), named::<Postgres>(&other));
            let names = Names::<Sqlite>::new(&other.0).expect("a name");
            for table in [names.layout(), names.projections(), names.notes(), names.about()] {
                prop_assert_ne!(named::<Sqlite>(&one), table);
            }
        }
    }

    #[test]
    fn keys_come_back_as_they_were() {
        for key in ["", "a", "\0", "\u{1}", "\u{1}0", "\0\u{1}", "\u{1}\0", "\u{1}1\0", "0\u{1}\u{1}0", "é\0"]
        {
            let stored = stored_key(key);
            assert!(!stored.contains('\0'), "{key:?}");
            assert_eq!(original_key(stored.into_owned()), key, "{key:?}");
        }
        assert!(matches!(stored_key("order-1"), Cow::Borrowed("order-1")));
    }

    #[test]
    fn tables_of_a_context_are_named_after_it() {
        let sqlite = Names::<Sqlite>::new("orders").expect("a name");
        assert_eq!(sqlite.table("order-summary-v1"), r#""orders.order-summary-v1""#);
        let postgres = Names::<Postgres>::new("orders").expect("a name");
        assert_eq!(postgres.table("order-summary-v1"), r#""orders"."order-summary-v1""#);
    }

    #[test]
    fn names_that_could_end_the_quotes_or_are_reserved_are_refused() {
        for name in ["", "Orders", "a.b", "a\"b", "pg_orders", "sqlite_a", "information_schema"] {
            assert!(matches!(Names::<Sqlite>::new(name), Err(SqlError::Context { .. })), "{name}");
        }
    }
}
