//! The port to follow a log from a sequence on.

use std::future::Future;

use crate::{
    base::{id::AggregateKey, store_error::StoreError},
    log::commit::StoredCommit,
};

/// A message of a log: a commit, or a message that cannot be read as one.
pub type Delivery = Result<StoredCommit, Unreadable>;

/// A message in the log that cannot be read as a commit. A projector sets it aside as a dead letter, with the later
/// events of its aggregate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its sequence in the log.
    pub sequence: u64,
    /// The aggregate that the message's subject names. If the subject names no aggregate: a key with an empty name and
    /// an id made of the sequence, which no other message has, so that it sets no other aggregate aside.
    pub aggregate: AggregateKey,
    /// Why it cannot be read.
    pub reason: String,
}

/// Commits as they are stored, without gaps and in order; see
/// [`EventStore::subscribe`](crate::port::EventStore::subscribe).
pub trait Subscription: Send {
    /// Waits for a message, then returns all that have arrived, at most `max`. A store may stop delivering after some
    /// thousands that are not yet [`done`](Subscription::done).
    ///
    /// # Errors
    ///
    /// [`StoreError`]; after any error the subscription has ended: subscribe again from the checkpoint.
    ///
    /// # Cancel safety
    ///
    /// Commits that a dropped call had taken are missing from the next call, which then fails with
    /// [`StoreError::Interrupted`] instead of skipping them.
    fn next(&mut self, max: usize) -> impl Future<Output = Result<Vec<Delivery>, StoreError>> + Send;

    /// About how many messages the log has for this subscription after the last one that was returned.
    fn pending(&self) -> u64;

    /// Whether another subscriber of the same name is active, and this one is a standby.
    fn is_standby(&self) -> bool {
        false
    }

    /// Tells the store that everything up to `sequence` is done, for the store's own record: the checkpoint in the view
    /// store alone says how far the projection is.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses at most this record.
    fn done(&mut self, sequence: u64) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Ends the subscription, so that another subscriber of the same name becomes active at once.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the subscription as well; the other subscriber may have to wait a little.
    fn leave(self) -> impl Future<Output = ()> + Send;
}

/// A request to follow a log.
#[derive(Debug, Clone, Copy)]
pub struct Subscribe<'a> {
    /// The subscriber's name. In a store that several processes share, one subscriber of a name is active at a time,
    /// and the others are standbys.
    pub subscriber: &'a str,
    /// The stored names of the aggregate types to follow.
    pub aggregates: &'a [&'static str],
    /// The last sequence that is done; 0 begins with the first commit.
    pub after: u64,
}
