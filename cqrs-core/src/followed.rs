//! The log that a projector subscribes to, of its own context or of another one, with the name of its consumer. The
//! store's type is erased, since one service can follow logs in several stores.

use std::{fmt::Write as _, sync::Arc};

use crate::{
    AggregateKey, Backlog, BoxFuture, Delivery, EventStore, Log, StoreError, StoredCommit, Subscribe,
    Subscription,
};

/// A log that is followed.
#[derive(Clone)]
pub(crate) struct Followed {
    pub(crate) events: Arc<dyn AnyEvents>,
    /// Who follows, where the log is another context's: several contexts may follow it with projections of one name.
    follower: Option<String>,
}

impl Followed {
    /// The log of the service's own context.
    pub(crate) fn own(events: Arc<dyn AnyEvents>) -> Self {
        Self { events, follower: None }
    }

    /// Another context's log, followed by the context whose own log has this name.
    pub(crate) fn foreign(events: Arc<dyn AnyEvents>, log: &str) -> Self {
        Self { events, follower: Some(as_follower(log)) }
    }

    pub(crate) fn is_own(&self) -> bool {
        self.follower.is_none()
    }

    /// The name under which the store knows who follows, by that of the projection in its own context.
    pub(crate) fn subscriber(&self, projection: &str) -> String {
        subscriber(self.follower.as_deref(), projection)
    }
}

/// `=` is in no other name, and what a follower's own name has in its place begins with a capital, which no
/// projection's does.
fn subscriber(follower: Option<&str>, projection: &str) -> String {
    follower.map_or_else(|| projection.to_owned(), |follower| format!("{follower}={projection}"))
}

/// A log's name as a part of a subscriber's: letters, digits, `_` and `-` stay, every other byte becomes `=X` and two
/// hexadecimal digits, and no two logs become the same.
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

/// [`EventStore`] without its type, so that one service can follow several: its calls are one for each batch.
pub(crate) trait AnyEvents: Send + Sync + 'static {
    fn era(&self) -> u64;
    fn commit_at(&self, sequence: u64) -> BoxFuture<'_, Result<Option<Delivery>, StoreError>>;
    fn last_before<'a>(
        &'a self,
        aggregates: &'a [AggregateKey],
        sequence: u64,
    ) -> BoxFuture<'a, Result<Vec<Option<Delivery>>, StoreError>>;
    fn next_after<'a>(
        &'a self,
        aggregate: &'a AggregateKey,
        after: u64,
    ) -> BoxFuture<'a, Result<Option<StoredCommit>, StoreError>>;
    fn log<'a>(&'a self, aggregates: &'a [&'static str]) -> BoxFuture<'a, Result<Log, StoreError>>;
    fn backlog<'a>(
        &'a self,
        aggregates: &'a [&'static str],
        after: u64,
    ) -> BoxFuture<'a, Result<Backlog, StoreError>>;
    fn subscribe<'a>(
        &'a self,
        request: Subscribe<'a>,
    ) -> BoxFuture<'a, Result<Box<dyn AnySubscription>, StoreError>>;
    fn forget<'a>(&'a self, subscriber: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;
}

impl<E: EventStore> AnyEvents for E {
    fn era(&self) -> u64 {
        E::era(self)
    }

    fn commit_at(&self, sequence: u64) -> BoxFuture<'_, Result<Option<Delivery>, StoreError>> {
        Box::pin(E::commit_at(self, sequence))
    }

    fn last_before<'a>(
        &'a self,
        aggregates: &'a [AggregateKey],
        sequence: u64,
    ) -> BoxFuture<'a, Result<Vec<Option<Delivery>>, StoreError>> {
        Box::pin(E::last_before(self, aggregates, sequence))
    }

    fn next_after<'a>(
        &'a self,
        aggregate: &'a AggregateKey,
        after: u64,
    ) -> BoxFuture<'a, Result<Option<StoredCommit>, StoreError>> {
        Box::pin(E::next_after(self, aggregate, after))
    }

    fn log<'a>(&'a self, aggregates: &'a [&'static str]) -> BoxFuture<'a, Result<Log, StoreError>> {
        Box::pin(E::log(self, aggregates))
    }

    fn backlog<'a>(
        &'a self,
        aggregates: &'a [&'static str],
        after: u64,
    ) -> BoxFuture<'a, Result<Backlog, StoreError>> {
        Box::pin(E::backlog(self, aggregates, after))
    }

    fn subscribe<'a>(
        &'a self,
        request: Subscribe<'a>,
    ) -> BoxFuture<'a, Result<Box<dyn AnySubscription>, StoreError>> {
        Box::pin(async move {
            let subscription = E::subscribe(self, request).await?;
            Ok(Box::new(subscription) as Box<dyn AnySubscription>)
        })
    }

    fn forget<'a>(&'a self, subscriber: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(E::forget(self, subscriber))
    }
}

/// [`Subscription`] without its type.
pub(crate) trait AnySubscription: Send {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, StoreError>>;
    fn pending(&self) -> u64;
    fn is_standby(&self) -> bool;
    fn done(&mut self, sequence: u64) -> BoxFuture<'_, Result<(), StoreError>>;
    fn leave(self: Box<Self>) -> BoxFuture<'static, ()>;
}

impl<S: Subscription + 'static> AnySubscription for S {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, StoreError>> {
        Box::pin(S::next(self, max))
    }

    fn pending(&self) -> u64 {
        S::pending(self)
    }

    fn is_standby(&self) -> bool {
        S::is_standby(self)
    }

    fn done(&mut self, sequence: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(S::done(self, sequence))
    }

    fn leave(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(S::leave(*self))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{ProjectionId, projection};

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
