//! A log as projectors need it: followed, whatever the type of its store; their own context's or another's.

use std::sync::Arc;

use crate::{Backlog, BoxFuture, Delivery, EventStore, Log, StoreError, Subscribe, Subscription};

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

    /// Another context's log, followed by the context whose events have this `source`.
    pub(crate) fn foreign(events: Arc<dyn AnyEvents>, source: &str) -> Self {
        let legal = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '-' };
        Self { events, follower: Some(source.trim_matches('/').chars().map(legal).collect()) }
    }

    pub(crate) fn is_own(&self) -> bool {
        self.follower.is_none()
    }

    /// The name under which the store knows who follows. `=` is in no other name.
    pub(crate) fn subscriber(&self, projection: &str) -> String {
        match &self.follower {
            None => projection.to_owned(),
            Some(follower) => format!("{follower}={projection}"),
        }
    }
}

/// [`EventStore`] without its type, so that one service can follow several: its calls are one for each batch.
pub(crate) trait AnyEvents: Send + Sync + 'static {
    fn commit_at(&self, sequence: u64) -> BoxFuture<'_, Result<Option<Delivery>, StoreError>>;
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
    fn commit_at(&self, sequence: u64) -> BoxFuture<'_, Result<Option<Delivery>, StoreError>> {
        Box::pin(E::commit_at(self, sequence))
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
