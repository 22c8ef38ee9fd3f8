//! Queries: questions to views.

use std::{fmt, future::Future};

use crate::{
    base::error::Error,
    read::{documents::Documents, read_model::ReadModels, view::View},
};

/// A question to a view, or to several: `#[query(view = (OrderSummary, CustomerOrders), …)]`.
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
///     async fn answer(query: BusyCountries, documents: &Documents<Self>) -> Result<Vec<(String, u64)>, Error> {
///         let all = documents.all().await?.into_iter().map(|(country, view)| (country, view.orders));
///         Ok(all.filter(|(_, orders)| *orders >= query.at_least).collect())
///     }
/// }
/// ```
///
/// Queries of rows in a database (`SqlView` in the crate `cqrs-sql`) and of several views are answered in the same way,
/// with another reader: see the [guide](crate::guide::queries#two-views).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a query",
    note = "add `#[derive(cqrs_core::Query)]` with `#[query(view = …, answer = …)]`"
)]
pub trait Query: Send + Sync + 'static {
    /// The name in messages, such as `get_order`.
    const NAME: &'static str;

    /// The view that answers, or a tuple of up to eight views: see [`ReadModels`].
    type View: ReadModels;

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

/// The documents of a view `V`, in which a key finds one: the reader of a view.
#[diagnostic::on_unimplemented(
    message = "`{V}` has no documents that a key could find: it is not a `View`",
    label = "expected a type with `impl View`",
    note = "leave out `#[query(key)]`, and implement `Answer` for `{V}`"
)]
pub trait FindsDocument<V> {
    /// `V`. As a type of this trait it is unknown where the trait is missing, so that nothing more is reported about it.
    type Document;

    /// The document of `key`.
    fn found(&self, key: &str) -> impl Future<Output = Result<Found<Self::Document>, Error>> + Send;
}

impl<V: View> FindsDocument<V> for Documents<V> {
    type Document = V;

    async fn found(&self, key: &str) -> Result<Found<V>, Error> {
        Ok(Found(self.get(key).await?))
    }
}

/// The document of a query by key, for the derive.
///
/// # Errors
///
/// Those of [`Documents::get`].
///
/// # Cancel safety
///
/// Dropping it loses nothing.
pub fn document_of<V: ReadModels>(
    reader: &V::Reader,
    key: &str,
) -> impl Future<Output = Result<Found<<V::Reader as FindsDocument<V>>::Document>, Error>> + Send
where
    V::Reader: FindsDocument<V>,
{
    reader.found(key)
}

/// The document of a query by key, if there is one.
pub struct Found<V>(Option<V>);

impl<V> Found<V> {
    /// The answer that is made of it.
    pub fn answer<Answer: MadeOf<V>>(self) -> Answer {
        Answer::made_of(self.0)
    }
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

/// Answers one type of query. It is implemented for a [`View`], for a tuple of views, or for a view with rows in its
/// database, such as `InSqlite<OrderRows>` of the crate `cqrs-sql`.
#[diagnostic::on_unimplemented(
    message = "the view `{Self}` does not answer `{Q}`",
    note = "mark the field that holds the document's key with `#[query(key)]`, or add `impl Answer<{Q}> for {Self}`"
)]
pub trait Answer<Q: Query<View = Self>>: ReadModels {
    /// The answer, from what the reader reads: the [`Documents`](crate::Documents) of a view, the rows of an `SqlView`,
    /// or, for a tuple, the tuple of these.
    ///
    /// # Errors
    ///
    /// [`Error`] when a store fails.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn answer(query: Q, reader: &Self::Reader) -> impl Future<Output = Result<Q::Answer, Error>> + Send;
}
