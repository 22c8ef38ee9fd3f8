//! One aggregate, read by its id: its state, now or at a point of its history, and its events page by page.

use std::{
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
};

use jiff::Timestamp;

use crate::{
    base::{
        error::Error,
        id::{AggregateKey, InvalidId, Position, with_text},
    },
    log::envelope::Envelope,
    model::{aggregate::Aggregate, event::Event},
    service::{
        Cqrs,
        deferred::Deferred,
        lists::{AggregateList, HasAggregate, ViewList},
        runtime::Runtime,
    },
    write::history::{Point, events_after, state_at},
};

/// How many events a page of a history has, unless the caller sets another number.
const PAGE: usize = 100;

impl<A: AggregateList, V: ViewList> Cqrs<A, V> {
    /// Reads an aggregate's state, with its version; `None` if the aggregate does not exist. Set its options, then await
    /// the returned value.
    ///
    /// It reads the log: from the aggregate's snapshot on if it has [snapshots](crate::model::Snapshots), else from its
    /// first event, as a command does on an aggregate that is not in memory. It is for a page about one aggregate, for
    /// [`expecting`](crate::futures::Execute::expecting), for support and tests. For lists, for other shapes and for what
    /// is read all the time, make a [view](crate::View).
    ///
    /// Interceptors do not see it: it is a call of the program itself.
    ///
    /// ```
    #[doc = include_str!("../../examples/one_aggregate.rs")]
    /// ```
    ///
    /// # Errors
    ///
    /// The event store's, if it fails for as long as a command would wait; an event that cannot be read;
    /// [`Error::InvalidId`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub fn aggregate<T, Index>(&self, id: &T::Id) -> ReadState<T>
    where
        T: Aggregate,
        A: HasAggregate<T, Index>,
    {
        let settings = Settings::of::<T>(self.runtime(), id, Point::Now);
        ReadState(Deferred::Prepared(settings, |settings| Box::pin(read_state(settings))))
    }

    /// Reads an aggregate's events, page by page, the oldest first. Set its options, then await the returned value; see
    /// [`aggregate`](Self::aggregate) for an example.
    ///
    /// An event that cannot be read, or a version that is missing, ends the page before it, and is the error of the page
    /// that would begin there. Then the events that follow can be read from a later [`Position`] on:
    /// `Position { sequence, index: u32::MAX }` is behind all events of the commit at that sequence.
    ///
    /// # Errors
    ///
    /// Those of [`aggregate`](Self::aggregate).
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub fn history<T, Index>(&self, id: &T::Id) -> ReadHistory<T>
    where
        T: Aggregate,
        A: HasAggregate<T, Index>,
    {
        let page = Page { after: Position::default(), max: PAGE };
        let settings = Settings::of::<T>(self.runtime(), id, page);
        ReadHistory(Deferred::Prepared(settings, |settings| Box::pin(read_history(settings))))
    }
}

/// An aggregate's state with its place in the log; see [`Cqrs::aggregate`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Versioned<A> {
    /// The state.
    pub state: A,
    /// The number of events that it follows from, at least 1. For
    /// [`Execute::expecting`](crate::futures::Execute::expecting).
    pub version: u64,
    /// The position of the last of these events.
    pub position: Position,
}

/// Some events of an aggregate in order; see [`Cqrs::history`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct History<E> {
    /// The events.
    pub events: Vec<Envelope<E>>,
    /// Where the next page begins, for [`ReadHistory::after`]; `None` if this page ends with the last event.
    pub next: Option<Position>,
}

/// The read of an aggregate's state, when it is awaited; see [`Cqrs::aggregate`]. It borrows nothing.
#[must_use = "the state is read when it is awaited"]
pub struct ReadState<A: Aggregate>(Deferred<Settings<Point>, Result<Option<Versioned<A>>, Error>>);

impl<A: Aggregate> ReadState<A> {
    /// The state after the event of this version; `None` if the aggregate never had so many events, or for version 0. It
    /// is read from the first event on, without a snapshot. Of this setting and [`at`](Self::at), the last one counts.
    pub fn at_version(self, version: u64) -> Self {
        Self(self.0.with(|settings| settings.at = Point::Version(version)))
    }

    /// The state at a time, the time itself included; `None` if the aggregate did not exist then. It follows from the
    /// events before the first one with a later time. The times are those of the clocks of the processes that handled
    /// the commands. It is read from the first event on, without a snapshot.
    pub fn at(self, time: Timestamp) -> Self {
        Self(self.0.with(|settings| settings.at = Point::Time(time)))
    }

    /// The log's leader confirms that the state includes everything that was stored before the call, in one more request.
    /// Without it, the answer may come from a replica that lags for a moment. A store in one place has no replicas, and
    /// asks no more.
    pub fn confirmed(self) -> Self {
        Self(self.0.with(|settings| settings.confirmed = true))
    }
}

impl<A: Aggregate> Future for ReadState<A> {
    type Output = Result<Option<Versioned<A>>, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

/// The read of a page of an aggregate's events, when it is awaited; see [`Cqrs::history`]. It borrows nothing.
#[must_use = "the events are read when it is awaited"]
pub struct ReadHistory<A: Aggregate>(Deferred<Settings<Page>, Result<History<A::Event>, Error>>);

impl<A: Aggregate> ReadHistory<A> {
    /// Only events after this position: that of an event, or [`History::next`].
    pub fn after(self, position: Position) -> Self {
        Self(self.0.with(|settings| settings.at.after = position))
    }

    /// At most so many events, at least 1; 100 by default.
    pub fn max(self, events: usize) -> Self {
        Self(self.0.with(|settings| settings.at.max = events.max(1)))
    }

    /// The log's leader confirms the end of the history; see [`ReadState::confirmed`]. A page that is not the last one
    /// needs no confirmation.
    pub fn confirmed(self) -> Self {
        Self(self.0.with(|settings| settings.confirmed = true))
    }
}

impl<A: Aggregate> Future for ReadHistory<A> {
    type Output = Result<History<A::Event>, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

/// Which aggregate is read, and at which place in its history.
struct Settings<At> {
    runtime: Arc<Runtime>,
    key: Result<AggregateKey, InvalidId>,
    at: At,
    confirmed: bool,
}

impl<At> Settings<At> {
    fn of<A: Aggregate>(runtime: &Arc<Runtime>, id: &A::Id, at: At) -> Self {
        let key = with_text(id, |id| AggregateKey::new(A::NAME, id));
        Self { runtime: Arc::clone(runtime), key, at, confirmed: false }
    }
}

/// Which events a page has.
struct Page {
    after: Position,
    max: usize,
}

async fn read_state<A: Aggregate>(settings: Settings<Point>) -> Result<Option<Versioned<A>>, Error> {
    let Settings { runtime, key, at, confirmed } = settings;
    let loaded = state_at::<A>(&runtime.shell, &key?, at, confirmed).await?;
    Ok(loaded.map(|loaded| Versioned {
        version: loaded.version,
        position: loaded.position,
        state: loaded.state.into(),
    }))
}

async fn read_history<E: Event>(settings: Settings<Page>) -> Result<History<E>, Error> {
    let Settings { runtime, key, at: Page { after, max }, confirmed } = settings;
    let (events, more) = events_after(&runtime.shell, &key?, after, max, confirmed).await?;
    let next = events.last().filter(|_| more).map(|last: &Envelope<E>| last.position);
    Ok(History { events, next })
}
