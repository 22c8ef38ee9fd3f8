//! Listing the aggregates of a type, page by page.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    base::error::Error,
    model::aggregate::Aggregate,
    port::{
        event_store::EventStore,
        listing::{AggregatePage, ListedUpTo, Listing},
    },
    service::{
        Cqrs,
        deferred::Deferred,
        lists::{AggregateList, HasAggregate, ViewList},
        runtime::Runtime,
    },
};

/// How many aggregates a page has, unless the caller sets another number: as many as a NATS server tells at once.
const PAGE: usize = 100_000;

impl<A: AggregateList, V: ViewList> Cqrs<A, V> {
    /// Lists the aggregates of type `T`, page by page: all that have an event. Set its options, then await the returned
    /// value.
    ///
    /// It is for operators, for exports, and for a script that sends a command to every aggregate; not for each request.
    /// A page costs far more than a query: a NATS server goes through all aggregates of the type for every page, however
    /// small it is, and holds up the writes to the stream meanwhile. So ask for large pages, and make a
    /// [view](crate::View) for lists that people look at.
    ///
    /// The order is the store's own, always the same, and says nothing: neither when an aggregate was created nor how
    /// ids compare. Every aggregate that existed when the first page was asked for is listed once. One that is created
    /// during the listing is listed once or not at all.
    ///
    /// ```
    #[doc = include_str!("../../examples/all_aggregates.rs")]
    /// ```
    ///
    /// # Errors
    ///
    /// The event store's, also when it does not answer within the service's [`patience`](crate::Builder::patience).
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub fn aggregates<T, Index>(&self) -> ListAggregates
    where
        T: Aggregate,
        A: HasAggregate<T, Index>,
    {
        let runtime = Arc::clone(self.runtime());
        let settings = Settings { runtime, aggregate: T::NAME, after: None, max: PAGE };
        ListAggregates(Deferred::Prepared(settings, |settings| Box::pin(list(settings))))
    }
}

/// The listing of a page of aggregates, when it is awaited; see [`Cqrs::aggregates`]. It borrows nothing.
#[must_use = "the aggregates are listed when it is awaited"]
pub struct ListAggregates(Deferred<Settings, Result<AggregatePage, Error>>);

impl ListAggregates {
    /// The page after this place: the [`next`](AggregatePage::next) of the page before. It can be kept, so a listing that
    /// was interrupted goes on where it was. It belongs to one log and one type.
    pub fn after(self, place: ListedUpTo) -> Self {
        Self(self.0.with(|settings| settings.after = Some(place)))
    }

    /// At most so many aggregates, at least 1; 100,000 by default, which take about 10 MB. A page may have fewer and
    /// still be followed by another one.
    pub fn max(self, aggregates: usize) -> Self {
        Self(self.0.with(|settings| settings.max = aggregates.max(1)))
    }
}

impl Future for ListAggregates {
    type Output = Result<AggregatePage, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

/// Which page is listed.
struct Settings {
    runtime: Arc<Runtime>,
    aggregate: &'static str,
    after: Option<ListedUpTo>,
    max: usize,
}

async fn list(settings: Settings) -> Result<AggregatePage, Error> {
    let Settings { runtime, aggregate, after, max } = settings;
    let listing = Listing { aggregate, after: after.as_ref(), max };
    let what = || format!("listing the aggregates of type {aggregate}");
    Ok(runtime.asked(what, || runtime.shell.events.aggregates(listing)).await?)
}
