//! An event store of any type, so that a service does not depend on the type of its store, and can follow several logs.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;

use crate::{
    base::{future::BoxFuture, id::AggregateKey, store_error::StoreError},
    log::commit::{Commit, StoredCommit},
    port::{
        capabilities::Capabilities,
        event_store::{AppendError, Backlog, EventStore, Expected, Log, Page, Search, SnapshotPart},
        listing::{AggregatePage, Listing},
        subscription::{Delivery, Subscribe, Subscription},
    },
};

/// An event store of any type. Clones share the store. Each call allocates its future, which costs far less than any
/// store's answer; in return, everything that uses a store is compiled once, and not for each type of store.
#[derive(Clone)]
pub struct AnyEvents {
    store: Arc<dyn DynEvents>,
    /// Added to the store's era. No two stores have equal eras then, so that what is known in one log is never taken for
    /// known in another, such as the receipt of another service.
    eras: u64,
}

impl AnyEvents {
    /// Forgets the type of `store`.
    pub fn new(store: impl EventStore) -> Self {
        static STORES: AtomicU64 = AtomicU64::new(1);
        // The multiples of an odd number that are near each other have very different values.
        let eras = STORES.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { store: Arc::new(store), eras }
    }
}

impl fmt::Debug for AnyEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnyEvents").field(&self.store.name()).finish()
    }
}

/// [`EventStore`] without its type.
trait DynEvents: Send + Sync + 'static {
    fn source(&self) -> &str;
    fn name(&self) -> &str;
    fn era(&self) -> u64;
    fn capabilities(&self) -> Capabilities;
    fn append<'a>(
        &'a self,
        commit: &'a Commit,
        expected: Expected,
    ) -> BoxFuture<'a, Result<u64, AppendError>>;
    fn read<'a>(
        &'a self,
        aggregate: &'a AggregateKey,
        after: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<Page, StoreError>>;
    fn last<'a>(
        &'a self,
        aggregate: &'a AggregateKey,
    ) -> BoxFuture<'a, Result<Option<StoredCommit>, StoreError>>;
    fn last_confirmed<'a>(
        &'a self,
        aggregate: &'a AggregateKey,
    ) -> BoxFuture<'a, Result<Option<StoredCommit>, StoreError>>;
    fn next_after<'a>(
        &'a self,
        aggregate: &'a AggregateKey,
        after: u64,
    ) -> BoxFuture<'a, Result<Option<StoredCommit>, StoreError>>;
    fn last_before<'a>(
        &'a self,
        aggregates: &'a [AggregateKey],
        sequence: u64,
    ) -> BoxFuture<'a, Result<Vec<Option<Delivery>>, StoreError>>;
    fn commit_at(&self, sequence: u64) -> BoxFuture<'_, Result<Option<Delivery>, StoreError>>;
    fn log<'a>(&'a self, aggregates: &'a [&'static str]) -> BoxFuture<'a, Result<Log, StoreError>>;
    fn backlog<'a>(
        &'a self,
        aggregates: &'a [&'static str],
        after: u64,
    ) -> BoxFuture<'a, Result<Backlog, StoreError>>;
    fn search(&self, search: Search) -> BoxFuture<'_, Result<Page, StoreError>>;
    fn aggregates<'a>(&'a self, listing: Listing<'a>) -> BoxFuture<'a, Result<AggregatePage, StoreError>>;
    fn has_subscriber<'a>(&'a self, subscriber: &'a str) -> BoxFuture<'a, Result<Option<bool>, StoreError>>;
    fn forget<'a>(&'a self, subscriber: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;
    fn load_snapshot<'a>(
        &'a self,
        aggregate: &'a AggregateKey,
        part: SnapshotPart,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>>;
    fn save_snapshot<'a>(
        &'a self,
        aggregate: &'a AggregateKey,
        part: SnapshotPart,
        snapshot: Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>>;
    fn subscribe<'a>(&'a self, request: Subscribe<'a>) -> BoxFuture<'a, Result<AnySubscription, StoreError>>;
}

impl<E: EventStore> DynEvents for E {
    fn source(&self) -> &str {
        E::source(self)
    }

    fn name(&self) -> &str {
        E::name(self)
    }

    fn era(&self) -> u64 {
        E::era(self)
    }

    fn capabilities(&self) -> Capabilities {
        E::capabilities(self)
    }

    fn append<'a>(
        &'a self,
        commit: &'a Commit,
        expected: Expected,
    ) -> BoxFuture<'a, Result<u64, AppendError>> {
        Box::pin(E::append(self, commit, expected))
    }

    fn read<'a>(
        &'a self,
        aggregate: &'a AggregateKey,
        after: u64,
        max: usize,
    ) -> BoxFuture<'a, Result<Page, StoreError>> {
        Box::pin(E::read(self, aggregate, after, max))
    }

    fn last<'a>(
        &'a self,
        aggregate: &'a AggregateKey,
    ) -> BoxFuture<'a, Result<Option<StoredCommit>, StoreError>> {
        Box::pin(E::last(self, aggregate))
    }

    fn last_confirmed<'a>(
        &'a self,
        aggregate: &'a AggregateKey,
    ) -> BoxFuture<'a, Result<Option<StoredCommit>, StoreError>> {
        Box::pin(E::last_confirmed(self, aggregate))
    }

    fn next_after<'a>(
        &'a self,
        aggregate: &'a AggregateKey,
        after: u64,
    ) -> BoxFuture<'a, Result<Option<StoredCommit>, StoreError>> {
        Box::pin(E::next_after(self, aggregate, after))
    }

    fn last_before<'a>(
        &'a self,
        aggregates: &'a [AggregateKey],
        sequence: u64,
    ) -> BoxFuture<'a, Result<Vec<Option<Delivery>>, StoreError>> {
        Box::pin(E::last_before(self, aggregates, sequence))
    }

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

    fn search(&self, search: Search) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(E::search(self, search))
    }

    fn aggregates<'a>(&'a self, listing: Listing<'a>) -> BoxFuture<'a, Result<AggregatePage, StoreError>> {
        Box::pin(E::aggregates(self, listing))
    }

    fn has_subscriber<'a>(&'a self, subscriber: &'a str) -> BoxFuture<'a, Result<Option<bool>, StoreError>> {
        Box::pin(E::has_subscriber(self, subscriber))
    }

    fn forget<'a>(&'a self, subscriber: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(E::forget(self, subscriber))
    }

    fn load_snapshot<'a>(
        &'a self,
        aggregate: &'a AggregateKey,
        part: SnapshotPart,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(E::load_snapshot(self, aggregate, part))
    }

    fn save_snapshot<'a>(
        &'a self,
        aggregate: &'a AggregateKey,
        part: SnapshotPart,
        snapshot: Bytes,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(E::save_snapshot(self, aggregate, part, snapshot))
    }

    fn subscribe<'a>(&'a self, request: Subscribe<'a>) -> BoxFuture<'a, Result<AnySubscription, StoreError>> {
        Box::pin(async move { Ok(AnySubscription(Box::new(E::subscribe(self, request).await?))) })
    }
}

#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl EventStore for AnyEvents {
    type Subscription = AnySubscription;

    fn source(&self) -> &str {
        self.store.source()
    }

    fn name(&self) -> &str {
        self.store.name()
    }

    fn era(&self) -> u64 {
        self.eras.wrapping_add(self.store.era())
    }

    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    async fn append(&self, commit: &Commit, expected: Expected) -> Result<u64, AppendError> {
        self.store.append(commit, expected).await
    }

    async fn read(&self, aggregate: &AggregateKey, after: u64, max: usize) -> Result<Page, StoreError> {
        self.store.read(aggregate, after, max).await
    }

    async fn last(&self, aggregate: &AggregateKey) -> Result<Option<StoredCommit>, StoreError> {
        self.store.last(aggregate).await
    }

    async fn last_confirmed(&self, aggregate: &AggregateKey) -> Result<Option<StoredCommit>, StoreError> {
        self.store.last_confirmed(aggregate).await
    }

    async fn next_after(
        &self,
        aggregate: &AggregateKey,
        after: u64,
    ) -> Result<Option<StoredCommit>, StoreError> {
        self.store.next_after(aggregate, after).await
    }

    async fn last_before(
        &self,
        aggregates: &[AggregateKey],
        sequence: u64,
    ) -> Result<Vec<Option<Delivery>>, StoreError> {
        self.store.last_before(aggregates, sequence).await
    }

    async fn commit_at(&self, sequence: u64) -> Result<Option<Delivery>, StoreError> {
        self.store.commit_at(sequence).await
    }

    async fn log(&self, aggregates: &[&'static str]) -> Result<Log, StoreError> {
        self.store.log(aggregates).await
    }

    async fn backlog(&self, aggregates: &[&'static str], after: u64) -> Result<Backlog, StoreError> {
        self.store.backlog(aggregates, after).await
    }

    async fn search(&self, search: Search) -> Result<Page, StoreError> {
        self.store.search(search).await
    }

    async fn aggregates(&self, listing: Listing<'_>) -> Result<AggregatePage, StoreError> {
        self.store.aggregates(listing).await
    }

    async fn has_subscriber(&self, subscriber: &str) -> Result<Option<bool>, StoreError> {
        self.store.has_subscriber(subscriber).await
    }

    async fn forget(&self, subscriber: &str) -> Result<(), StoreError> {
        self.store.forget(subscriber).await
    }

    async fn load_snapshot(
        &self,
        aggregate: &AggregateKey,
        part: SnapshotPart,
    ) -> Result<Option<Bytes>, StoreError> {
        self.store.load_snapshot(aggregate, part).await
    }

    async fn save_snapshot(
        &self,
        aggregate: &AggregateKey,
        part: SnapshotPart,
        snapshot: Bytes,
    ) -> Result<(), StoreError> {
        self.store.save_snapshot(aggregate, part, snapshot).await
    }

    async fn subscribe(&self, request: Subscribe<'_>) -> Result<AnySubscription, StoreError> {
        self.store.subscribe(request).await
    }
}

/// A subscription of any type.
pub struct AnySubscription(Box<dyn DynSubscription>);

/// [`Subscription`] without its type.
trait DynSubscription: Send {
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, StoreError>>;
    fn pending(&self) -> u64;
    fn is_standby(&self) -> bool;
    fn done(&mut self, sequence: u64) -> BoxFuture<'_, Result<(), StoreError>>;
    fn leave(self: Box<Self>) -> BoxFuture<'static, ()>;
}

impl<S: Subscription + 'static> DynSubscription for S {
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

#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl Subscription for AnySubscription {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, StoreError> {
        self.0.next(max).await
    }

    fn pending(&self) -> u64 {
        self.0.pending()
    }

    fn is_standby(&self) -> bool {
        self.0.is_standby()
    }

    async fn done(&mut self, sequence: u64) -> Result<(), StoreError> {
        self.0.done(sequence).await
    }

    async fn leave(self) {
        self.0.leave().await;
    }
}
