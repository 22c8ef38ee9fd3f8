//! The part of an event store that projectors need, without its type.

use crate::{
    base::{future::BoxFuture, id::AggregateKey, store_error::StoreError},
    log::commit::StoredCommit,
    port::{
        event_store::{Backlog, EventStore, Log},
        subscription::{Delivery, Subscribe, Subscription},
    },
};

/// [`EventStore`] without its type, so that one service can follow several logs. The dynamic calls are one for each
/// batch.
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
