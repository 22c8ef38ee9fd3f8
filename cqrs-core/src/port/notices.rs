//! The port to notices: a stored commit is announced to the current listeners, at most once.

use std::{collections::VecDeque, future::Future, marker::PhantomData};

use crate::{
    base::{future::BoxFuture, store_error::StoreError},
    log::{envelope::Envelope, recorded::Recorded},
    model::event::Event,
    port::subscription::Delivery,
};

/// Announces stored commits to the current listeners. An event store has this port beside its own.
///
/// The contract in words; `contract::notices` (feature `contract`) is the same as tests:
///
/// - A commit is announced after it is stored, and at most once. A commit that is not stored is never announced.
/// - A program that does not listen, or listens too slowly, misses it. Nothing is kept, nothing is repeated.
pub trait Notices: Send + Sync + 'static {
    /// The type that [`listen`](Notices::listen) returns.
    type Listener: Notice;

    /// Listens to the commits of the aggregate types of these names from now on.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] if the store announces nothing.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn listen(
        &self,
        aggregates: &[&'static str],
    ) -> impl Future<Output = Result<Self::Listener, StoreError>> + Send;
}

/// Commits as they are announced; see [`Notices::listen`].
pub trait Notice: Send + 'static {
    /// Waits for the next commit; `None` when no more can come.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn next(&mut self) -> impl Future<Output = Option<Delivery>> + Send;
}

/// The events of one aggregate type as they are announced; see [`Cqrs::notices`](crate::Cqrs::notices).
pub struct NoticesOf<E> {
    listener: Box<dyn AnyListener>,
    /// The later events of a commit whose first event was returned.
    rest: VecDeque<Result<Envelope<E>, StoreError>>,
    event: PhantomData<fn() -> E>,
}

impl<E: Event> NoticesOf<E> {
    pub(crate) fn new(listener: Box<dyn AnyListener>) -> Self {
        Self { listener, rest: VecDeque::new(), event: PhantomData }
    }

    /// Waits for the next event; `None` when no more can come. Commits that cannot be read are skipped: a program that
    /// must see each event follows the log.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    pub async fn next(&mut self) -> Option<Envelope<E>> {
        loop {
            while let Some(event) = self.rest.pop_front() {
                match event {
                    Ok(event) => return Some(event),
                    Err(error) => tracing::debug!(%error, "a notice cannot be read"),
                }
            }
            if let Ok(stored) = self.listener.next().await? {
                let events = 0..stored.commit.events.len();
                self.rest.extend(events.map(|index| Recorded { stored: &stored, index }.decode()));
            }
        }
    }
}

/// [`Notices`] without its type.
pub(crate) trait AnyNotices: Send + Sync + 'static {
    fn listen<'a>(
        &'a self,
        aggregates: &'a [&'static str],
    ) -> BoxFuture<'a, Result<Box<dyn AnyListener>, StoreError>>;
}

impl<N: Notices> AnyNotices for N {
    fn listen<'a>(
        &'a self,
        aggregates: &'a [&'static str],
    ) -> BoxFuture<'a, Result<Box<dyn AnyListener>, StoreError>> {
        Box::pin(async move { Ok(Box::new(N::listen(self, aggregates).await?) as Box<dyn AnyListener>) })
    }
}

/// [`Notice`] without its type.
pub(crate) trait AnyListener: Send + 'static {
    fn next(&mut self) -> BoxFuture<'_, Option<Delivery>>;
}

impl<L: Notice> AnyListener for L {
    fn next(&mut self) -> BoxFuture<'_, Option<Delivery>> {
        Box::pin(L::next(self))
    }
}
