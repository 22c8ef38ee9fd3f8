//! One log that a projector subscribes to (of its own context or of another), and the name of its consumer there. The
//! store's type is erased, since one service can follow logs in several stores. How a user adds another context's log
//! to a service is in `service/builder/following.rs`.

use std::fmt::Write as _;

use crate::port::any_events::AnyEvents;

/// A log to subscribe to.
#[derive(Clone)]
pub(crate) struct Followed {
    pub(crate) events: AnyEvents,
    /// The name of the following context, for another context's log: several contexts may follow that log with
    /// projections of the same name.
    follower: Option<String>,
}

impl Followed {
    /// The log of the service's own context.
    pub(crate) fn own(events: AnyEvents) -> Self {
        Self { events, follower: None }
    }

    /// Another context's log, followed by the context whose own log is named `log`.
    pub(crate) fn foreign(events: AnyEvents, log: &str) -> Self {
        Self { events, follower: Some(as_follower(log)) }
    }

    pub(crate) fn is_own(&self) -> bool {
        self.follower.is_none()
    }

    /// The subscriber's name in the log's store, from the projection's name in its own context.
    pub(crate) fn subscriber(&self, projection: &str) -> String {
        subscriber(self.follower.as_deref(), projection)
    }
}

/// Joins the follower's name and the projection's. `=` is in no name of a projection. Where an escape puts an `=` into
/// the follower's name, a capital `X` comes after it, and a projection's name begins with no capital.
pub(crate) fn subscriber(follower: Option<&str>, projection: &str) -> String {
    follower.map_or_else(|| projection.to_owned(), |follower| format!("{follower}={projection}"))
}

/// A log's name as a part of a subscriber's: ASCII letters, digits, `_` and `-` stay, every other byte becomes `=X` and
/// two hexadecimal digits. So two different logs have two different names.
fn as_follower(log: &str) -> String {
    let mut name = String::with_capacity(log.len());
    for byte in log.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' {
            name.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(name, "=X{byte:02X}");
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{base::id::ProjectionId, port::projection};

    const WORDS: &str = "(p|eu|[a_-]|-v1|-v12|-b2|-at-|at|X2F|2F|1){1,4}";

    fn id() -> impl Strategy<Value = ProjectionId> {
        (WORDS, 1..3_u32, 1..4_u32).prop_map(|(name, version, build)| {
            let name = Box::leak(name.to_lowercase().into_boxed_str());
            ProjectionId { build, ..ProjectionId::new(name, version) }
        })
    }

    fn place() -> impl Strategy<Value = Option<String>> {
        proptest::option::of(WORDS.prop_map(|place| place.to_lowercase()))
    }

    proptest! {
        #[test]
        fn two_followers_of_a_log_share_no_name(
            one in (proptest::option::of("(/|=|=X2F|X2F|20|p|eu|-v1|[A-Z./ ]){0,3}"), id(), place()),
            other in (proptest::option::of("(/|=|=X2F|X2F|20|p|eu|-v1|[A-Z./ ]){0,3}"), id(), place()),
        ) {
            prop_assume!(one != other);
            let name = |(follower, id, place): &(Option<String>, ProjectionId, Option<String>)| {
                let follower = follower.as_deref().map(as_follower);
                subscriber(follower.as_deref(), &projection::subscriber(id, place.as_deref()))
            };
            prop_assert_ne!(name(&one), name(&other));
        }
    }

    #[test]
    fn followers_are_named_as_they_are_where_that_is_legal() {
        assert_eq!(as_follower("ORDERS"), "ORDERS");
        assert_eq!(as_follower("/orders"), "=X2Forders");
    }
}
