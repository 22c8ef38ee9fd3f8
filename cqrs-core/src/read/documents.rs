//! The documents of one view, for reading.

use std::{
    collections::BTreeMap,
    marker::PhantomData,
    ops::Bound::{Excluded, Unbounded},
    time::Duration,
};

use bytes::Bytes;

use crate::{
    base::{
        error::Error,
        id::{ProjectionId, check_id},
        store_error::StoreError,
    },
    encoding::json,
    port::{any_views::AnyViews, view_store::ViewStore},
    read::{
        active_build::ActiveBuild,
        view::{DocumentOf, View},
    },
};

/// The documents of one view, for reading: what an [`Answer`](crate::Answer) of a view gets.
///
/// A test makes them of documents of its own, to call an answer without a service:
///
/// ```
/// # use cqrs_core::{Aggregate, Answer, Apply, Documents, Envelope, Error, Event, Project, Query, View};
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
/// # #[derive(Query)]
/// # #[query(view = CountryOrders, answer = Vec<String>)]
/// # struct BusyCountries { at_least: u64 }
/// # impl Answer<BusyCountries> for CountryOrders {
/// #     async fn answer(query: BusyCountries, documents: &Documents<Self>) -> Result<Vec<String>, Error> {
/// #         let all = documents.all().await?.into_iter();
/// #         Ok(all.filter(|(_, view)| view.orders >= query.at_least).map(|(country, _)| country).collect())
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let documents = Documents::of([("DE", CountryOrders { orders: 5 }), ("NO", CountryOrders { orders: 2 })])?;
/// assert_eq!(CountryOrders::answer(BusyCountries { at_least: 3 }, &documents).await?, ["DE"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Documents<V> {
    place: Place,
    build: ActiveBuild,
    view: PhantomData<fn() -> V>,
}

/// Where the documents are.
#[derive(Debug)]
enum Place {
    Store(AnyViews),
    /// Those of a test.
    Given(BTreeMap<String, Bytes>),
}

impl<V: View> Documents<V> {
    /// The documents of a build in a view store.
    pub(crate) fn stored(store: AnyViews, build: ActiveBuild) -> Self {
        Self { place: Place::Store(store), build, view: PhantomData }
    }

    /// These documents with their keys, for a test of an [`Answer`](crate::Answer). They are kept as a store keeps them,
    /// as JSON.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidId`] for a key that no document can have; [`Error::Encode`] for a document that cannot be written
    /// as JSON.
    pub fn of<K: Into<String>>(documents: impl IntoIterator<Item = (K, V)>) -> Result<Self, Error> {
        let encoded = |(key, view): (K, V)| {
            let key = key.into();
            check_id(&key)?;
            let document: DocumentOf<V> = view.into();
            let failed =
                |source| Error::Encode { what: format!("document {key:?} of view {}", V::NAME), source };
            let document = json::encode(&document).map_err(failed)?;
            Ok((key, document))
        };
        let given = documents.into_iter().map(encoded).collect::<Result<_, Error>>()?;
        let build = ActiveBuild::new(V::projection(), Duration::ZERO);
        Ok(Self { place: Place::Given(given), build, view: PhantomData })
    }

    /// The document of `key`, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidId`] for a key that no document can have, or the store's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn get(&self, key: &str) -> Result<Option<V>, Error> {
        check_id(key)?;
        let found = match &self.place {
            Place::Store(store) => self.build.asked(|| store.get(self.build.id(), key)).await?,
            Place::Given(all) => all.get(key).cloned(),
        };
        Ok(found.map(|document| decode_document(self.build.id(), key, &document)).transpose()?)
    }

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
    pub async fn page(&self, after: Option<&str>, max: usize) -> Result<Vec<(String, V)>, Error> {
        let found = match &self.place {
            Place::Store(store) => self.build.asked(|| store.page(self.build.id(), after, max)).await?,
            Place::Given(all) => {
                let rest = all.range::<str, _>((after.map_or(Unbounded, Excluded), Unbounded));
                rest.take(max).map(|(key, document)| (key.clone(), document.clone())).collect()
            }
        };
        self.decoded(found)
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
    pub async fn all(&self) -> Result<Vec<(String, V)>, Error> {
        let found = match &self.place {
            Place::Store(store) => {
                let mut found = self.build.asked(|| store.list(self.build.id())).await?;
                found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
                found
            }
            Place::Given(all) => all.clone().into_iter().collect(),
        };
        self.decoded(found)
    }

    fn decoded(&self, found: Vec<(String, Bytes)>) -> Result<Vec<(String, V)>, Error> {
        let decoded = |(key, document): (String, Bytes)| {
            let view = decode_document(self.build.id(), &key, &document)?;
            Ok((key, view))
        };
        found.into_iter().map(decoded).collect()
    }
}

fn decode_document<V: View>(build: &ProjectionId, key: &str, document: &[u8]) -> Result<V, StoreError> {
    let document = json::decode::<DocumentOf<V>>(document);
    document.map(Into::into).map_err(|error| StoreError::BadDocument {
        view: build.to_string(),
        key: key.to_owned(),
        reason: error.to_string(),
    })
}
