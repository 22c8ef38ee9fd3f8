//! Queries: questions to views.

use std::{fmt, future::Future, marker::PhantomData, time::Duration};

use bytes::Bytes;

use crate::{
    base::{
        error::Error,
        id::{ProjectionId, check_id},
        patience::asked,
        store_error::StoreError,
    },
    encoding::json,
    port::{any_views::AnyViews, view_store::ViewStore},
    read::view::{DocumentOf, View},
};

/// A question to a view.
///
/// If it is derived with a `#[query(key)]` field, the answer is the document of that key. Otherwise the view answers it
/// with its own [`Answer`]:
///
/// ```
/// use cqrs_core::{Answer, Documents, Error, Query};
/// # use cqrs_core::{Aggregate, Apply, Envelope, Event, Project, View};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, Clone, Serialize, Deserialize, Event)]
/// # #[event(name = "order.created")]
/// # struct OrderCreated;
/// # #[derive(Debug, thiserror::Error)]
/// # enum OrderRejection {}
/// # #[derive(Default, Clone, Aggregate)]
/// # #[aggregate(id = u32, event = OrderCreated, rejection = OrderRejection)]
/// # struct Order;
/// # impl Apply<OrderCreated> for Order { fn apply(&mut self, _: &OrderCreated) {} }
/// # #[derive(Default, Serialize, Deserialize)]
/// # struct CountryOrders { orders: u64 }
/// # impl View for CountryOrders { const NAME: &'static str = "country-orders"; type Of = Order; }
/// # impl Project<OrderCreated> for CountryOrders {
/// #     fn key(_: &Envelope<OrderCreated>) -> Option<String> { None }
/// #     fn project(&mut self, _: &Envelope<OrderCreated>) {}
/// # }
///
/// #[derive(Query)]
/// #[query(view = CountryOrders, answer = Option<CountryOrders>)]
/// struct OrdersOf {
///     #[query(key)]
///     country: String,
/// }
///
/// #[derive(Query)]
/// #[query(view = CountryOrders, answer = Vec<(String, u64)>)]
/// struct BusyCountries {
///     at_least: u64,
/// }
///
/// impl Answer<BusyCountries> for CountryOrders {
///     async fn answer(query: BusyCountries, documents: &impl Documents<Self>) -> Result<Vec<(String, u64)>, Error> {
///         let all = documents.all().await?.into_iter().map(|(country, view)| (country, view.orders));
///         Ok(all.filter(|(_, orders)| *orders >= query.at_least).collect())
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a query",
    note = "add `#[derive(cqrs_core::Query)]` with `#[query(view = …, answer = …)]`"
)]
pub trait Query: Send + Sync + 'static {
    /// The name in messages, such as `get_order`.
    const NAME: &'static str;

    /// The view that answers.
    type View: View;

    /// The type of the answer.
    type Answer: Send;
}

/// The key of a document in the marked field of a query, for the derive.
pub fn document_key<Field: HasText>(field: &Field) -> String {
    field.text()
}

/// [`Display`](fmt::Display).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the key of a document: it does not implement `Display`",
    label = "expected a type with `Display`",
    note = "the key of a document is the text of the field with `#[query(key)]`"
)]
pub trait HasText {
    /// The text.
    fn text(&self) -> String;
}

#[diagnostic::do_not_recommend]
impl<T: fmt::Display> HasText for T {
    fn text(&self) -> String {
        self.to_string()
    }
}

/// The answer of a query by key, for the derive.
pub fn answer_of<V, Answer: MadeOf<V>>(document: Option<V>) -> Answer {
    Answer::made_of(document)
}

/// [`From<Option<V>>`](From).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the answer of a query by key: it does not implement `From<Option<{V}>>`",
    label = "expected `Option<{V}>`, or a type that is made of one by `From`",
    note = "there may be no document of that key; for another answer, leave out `#[query(key)]` and implement `Answer` \
            for `{V}`"
)]
pub trait MadeOf<V>: Sized {
    /// The answer.
    fn made_of(document: Option<V>) -> Self;
}

#[diagnostic::do_not_recommend]
impl<V, T: From<Option<V>>> MadeOf<V> for T {
    fn made_of(document: Option<V>) -> Self {
        document.into()
    }
}

/// Answers one type of query.
#[diagnostic::on_unimplemented(
    message = "the view `{Self}` does not answer `{Q}`",
    note = "mark the field that holds the document's key with `#[query(key)]`, or add `impl Answer<{Q}> for {Self}`"
)]
pub trait Answer<Q: Query<View = Self>>: View {
    /// The answer from the view's documents.
    ///
    /// # Errors
    ///
    /// [`Error`] when the view store fails.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn answer(
        query: Q,
        documents: &impl Documents<Self>,
    ) -> impl Future<Output = Result<Q::Answer, Error>> + Send;
}

/// The documents of one view, for reading.
pub trait Documents<V: View>: Sync {
    /// The document of `key`, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidId`] for a key that no document can have, or the store's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<V>, Error>> + Send;

    /// At most `max` documents with their keys, sorted by key, that come after the key `after`; with `None`, the first
    /// ones. For the next page, pass the last key of this one.
    ///
    /// # Errors
    ///
    /// The store's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn page(
        &self,
        after: Option<&str>,
        max: usize,
    ) -> impl Future<Output = Result<Vec<(String, V)>, Error>> + Send {
        async move {
            let mut all = self.all().await?;
            all.retain(|(key, _)| after.is_none_or(|after| key.as_str() > after));
            all.truncate(max);
            Ok(all)
        }
    }

    /// All documents with their keys, sorted by key. For small views: it reads all of them.
    ///
    /// # Errors
    ///
    /// The store's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn all(&self) -> impl Future<Output = Result<Vec<(String, V)>, Error>> + Send;
}

/// The documents of `V` in a view store.
pub(crate) struct StoredDocuments<'a, V> {
    store: &'a AnyViews,
    /// The active build.
    build: ProjectionId,
    /// How long a failing store is asked again.
    patience: Duration,
    view: PhantomData<fn() -> V>,
}

impl<'a, V> StoredDocuments<'a, V> {
    pub(crate) fn new(store: &'a AnyViews, build: ProjectionId, patience: Duration) -> Self {
        Self { store, build, patience, view: PhantomData }
    }
}

impl<V: View> Documents<V> for StoredDocuments<'_, V> {
    async fn get(&self, key: &str) -> Result<Option<V>, Error> {
        check_id(key)?;
        let found = self.asked(|| self.store.get(&self.build, key)).await?;
        Ok(found.map(|document| decode_document(&self.build, key, &document)).transpose()?)
    }

    async fn page(&self, after: Option<&str>, max: usize) -> Result<Vec<(String, V)>, Error> {
        let found = self.asked(|| self.store.page(&self.build, after, max)).await?;
        found.into_iter().map(|document| self.decode(document)).collect()
    }

    async fn all(&self) -> Result<Vec<(String, V)>, Error> {
        let mut found = self.asked(|| self.store.list(&self.build)).await?;
        found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        found.into_iter().map(|document| self.decode(document)).collect()
    }
}

impl<V: View> StoredDocuments<'_, V> {
    async fn asked<T, F>(&self, ask: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        asked(self.patience, || format!("reading view {}", self.build), ask).await
    }

    fn decode(&self, (key, document): (String, Bytes)) -> Result<(String, V), Error> {
        let view = decode_document(&self.build, &key, &document)?;
        Ok((key, view))
    }
}

pub(crate) fn decode_document<V: View>(
    build: &ProjectionId,
    key: &str,
    document: &[u8],
) -> Result<V, StoreError> {
    let document = json::decode::<DocumentOf<V>>(document);
    document.map(Into::into).map_err(|error| StoreError::BadDocument {
        view: build.to_string(),
        key: key.to_owned(),
        reason: error.to_string(),
    })
}
