//! A view store of any type, so that a service does not depend on the type of its store.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{
    base::{future::BoxFuture, id::ProjectionId, store_error::StoreError},
    port::view_store::{Reached, Save, SaveError, SavedCheckpoint, SavedDocument, ViewStore},
};

/// A view store of any type. Clones share the store; see [`AnyEvents`](crate::port::AnyEvents) for the cost.
#[derive(Clone)]
pub struct AnyViews(Arc<dyn DynViews>);

impl AnyViews {
    /// Forgets the type of `store`.
    pub fn new(store: impl ViewStore) -> Self {
        Self(Arc::new(store))
    }
}

impl fmt::Debug for AnyViews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnyViews").field(&self.0.name()).finish()
    }
}

/// [`ViewStore`] without its type.
trait DynViews: Send + Sync + 'static {
    fn max_writes(&self) -> usize;
    fn name(&self) -> Option<String>;
    fn open<'a>(&'a self, projection: &'a ProjectionId) -> BoxFuture<'a, Result<(), StoreError>>;
    fn checkpoint<'a>(
        &'a self,
        projection: &'a ProjectionId,
    ) -> BoxFuture<'a, Result<SavedCheckpoint, StoreError>>;
    fn load<'a>(
        &'a self,
        projection: &'a ProjectionId,
        keys: &'a [String],
    ) -> BoxFuture<'a, Result<Vec<SavedDocument>, StoreError>>;
    fn notes<'a>(
        &'a self,
        projection: &'a ProjectionId,
        prefix: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(String, Bytes)>, StoreError>>;
    fn save<'a>(
        &'a self,
        projection: &'a ProjectionId,
        save: Save<'a>,
    ) -> BoxFuture<'a, Result<u64, SaveError>>;
    fn get<'a>(
        &'a self,
        projection: &'a ProjectionId,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>>;
    fn list<'a>(
        &'a self,
        projection: &'a ProjectionId,
    ) -> BoxFuture<'a, Result<Vec<(String, Bytes)>, StoreError>>;
    fn page<'a>(
        &'a self,
        projection: &'a ProjectionId,
        after: Option<&'a str>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<(String, Bytes)>, StoreError>>;
    fn reached<'a>(
        &'a self,
        projection: &'a ProjectionId,
        sequence: u64,
    ) -> BoxFuture<'a, Result<Reached, StoreError>>;
    fn remove<'a>(&'a self, projection: &'a ProjectionId) -> BoxFuture<'a, Result<(), StoreError>>;
    fn about<'a>(&'a self, view: &'a str) -> BoxFuture<'a, Result<SavedDocument, StoreError>>;
    fn set_about<'a>(
        &'a self,
        view: &'a str,
        content: Bytes,
        revision: u64,
    ) -> BoxFuture<'a, Result<u64, SaveError>>;
}

impl<S: ViewStore> DynViews for S {
    fn max_writes(&self) -> usize {
        S::max_writes(self)
    }

    fn name(&self) -> Option<String> {
        S::name(self)
    }

    fn open<'a>(&'a self, projection: &'a ProjectionId) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(S::open(self, projection))
    }

    fn checkpoint<'a>(
        &'a self,
        projection: &'a ProjectionId,
    ) -> BoxFuture<'a, Result<SavedCheckpoint, StoreError>> {
        Box::pin(S::checkpoint(self, projection))
    }

    fn load<'a>(
        &'a self,
        projection: &'a ProjectionId,
        keys: &'a [String],
    ) -> BoxFuture<'a, Result<Vec<SavedDocument>, StoreError>> {
        Box::pin(S::load(self, projection, keys))
    }

    fn notes<'a>(
        &'a self,
        projection: &'a ProjectionId,
        prefix: &'a str,
    ) -> BoxFuture<'a, Result<Vec<(String, Bytes)>, StoreError>> {
        Box::pin(S::notes(self, projection, prefix))
    }

    fn save<'a>(
        &'a self,
        projection: &'a ProjectionId,
        save: Save<'a>,
    ) -> BoxFuture<'a, Result<u64, SaveError>> {
        Box::pin(S::save(self, projection, save))
    }

    fn get<'a>(
        &'a self,
        projection: &'a ProjectionId,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        Box::pin(S::get(self, projection, key))
    }

    fn list<'a>(
        &'a self,
        projection: &'a ProjectionId,
    ) -> BoxFuture<'a, Result<Vec<(String, Bytes)>, StoreError>> {
        Box::pin(S::list(self, projection))
    }

    fn page<'a>(
        &'a self,
        projection: &'a ProjectionId,
        after: Option<&'a str>,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<(String, Bytes)>, StoreError>> {
        Box::pin(S::page(self, projection, after, max))
    }

    fn reached<'a>(
        &'a self,
        projection: &'a ProjectionId,
        sequence: u64,
    ) -> BoxFuture<'a, Result<Reached, StoreError>> {
        Box::pin(S::reached(self, projection, sequence))
    }

    fn remove<'a>(&'a self, projection: &'a ProjectionId) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(S::remove(self, projection))
    }

    fn about<'a>(&'a self, view: &'a str) -> BoxFuture<'a, Result<SavedDocument, StoreError>> {
        Box::pin(S::about(self, view))
    }

    fn set_about<'a>(
        &'a self,
        view: &'a str,
        content: Bytes,
        revision: u64,
    ) -> BoxFuture<'a, Result<u64, SaveError>> {
        Box::pin(S::set_about(self, view, content, revision))
    }
}

#[deny(clippy::missing_trait_methods, reason = "a call that is not passed on has the default's effect")]
impl ViewStore for AnyViews {
    fn max_writes(&self) -> usize {
        self.0.max_writes()
    }

    fn name(&self) -> Option<String> {
        self.0.name()
    }

    async fn open(&self, projection: &ProjectionId) -> Result<(), StoreError> {
        self.0.open(projection).await
    }

    async fn checkpoint(&self, projection: &ProjectionId) -> Result<SavedCheckpoint, StoreError> {
        self.0.checkpoint(projection).await
    }

    async fn load(
        &self,
        projection: &ProjectionId,
        keys: &[String],
    ) -> Result<Vec<SavedDocument>, StoreError> {
        self.0.load(projection, keys).await
    }

    async fn notes(
        &self,
        projection: &ProjectionId,
        prefix: &str,
    ) -> Result<Vec<(String, Bytes)>, StoreError> {
        self.0.notes(projection, prefix).await
    }

    async fn save(&self, projection: &ProjectionId, save: Save<'_>) -> Result<u64, SaveError> {
        self.0.save(projection, save).await
    }

    async fn get(&self, projection: &ProjectionId, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.0.get(projection, key).await
    }

    async fn list(&self, projection: &ProjectionId) -> Result<Vec<(String, Bytes)>, StoreError> {
        self.0.list(projection).await
    }

    async fn page(
        &self,
        projection: &ProjectionId,
        after: Option<&str>,
        max: usize,
    ) -> Result<Vec<(String, Bytes)>, StoreError> {
        self.0.page(projection, after, max).await
    }

    async fn reached(&self, projection: &ProjectionId, sequence: u64) -> Result<Reached, StoreError> {
        self.0.reached(projection, sequence).await
    }

    async fn remove(&self, projection: &ProjectionId) -> Result<(), StoreError> {
        self.0.remove(projection).await
    }

    async fn about(&self, view: &str) -> Result<SavedDocument, StoreError> {
        self.0.about(view).await
    }

    async fn set_about(&self, view: &str, content: Bytes, revision: u64) -> Result<u64, SaveError> {
        self.0.set_about(view, content, revision).await
    }
}
