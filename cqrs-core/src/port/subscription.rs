//! Following a log from a place on.

use std::future::Future;

use crate::{
    base::{error::StoreError, id::AggregateKey},
    log::commit::StoredCommit,
};

/// What a log delivers: a commit, or a message that is none.
pub type Delivery = Result<StoredCommit, Unreadable>;

/// A message in the log that cannot be read as a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its place in the log.
    pub sequence: u64,
    /// The aggregate that the message's subject names. For a subject that names none, a key with an empty name, and the
    /// place in the log as its id.
    pub aggregate: AggregateKey,
    /// Why it cannot be read.
    pub reason: String,
}

/// Commits as they come, without gaps and in order; see [`EventStore::subscribe`](crate::port::EventStore::subscribe).
pub trait Subscription: Send {
    /// The next commits: waits for one, then returns what is there, at most `max`. A store may stop after
    /// some thousands of which it was not told that they are [`done`](Subscription::done).
    ///
    /// # Errors
    ///
    /// [`StoreError`]; after any error the subscription is over: subscribe again from the checkpoint.
    ///
    /// # Cancel safety
    ///
    /// Commits that a dropped call had taken are missing from the next call, which then fails with
    /// [`StoreError::Interrupted`] rather than skip them.
    fn next(&mut self, max: usize) -> impl Future<Output = Result<Vec<Delivery>, StoreError>> + Send;

    /// About how many messages the log has for this subscription after the last one that was returned.
    fn pending(&self) -> u64;

    /// Whether another worker of the same name reads at the moment, and this one waits for its turn.
    fn is_standby(&self) -> bool {
        false
    }

    /// Tells the store that everything up to `sequence` is done, for its own accounts: the truth about
    /// progress is the checkpoint in the view store.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses at most the account.
    fn done(&mut self, sequence: u64) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Ends the subscription, so that another worker of the same name can go on at once.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the subscription as well; the other worker may have to wait a little.
    fn leave(self) -> impl Future<Output = ()> + Send;
}

/// Who follows what, from where.
#[derive(Debug, Clone, Copy)]
pub struct Subscribe<'a> {
    /// The subscriber's name; one subscriber of a name reads at a time, in a store that several processes
    /// share, and the others wait for their turn.
    pub subscriber: &'a str,
    /// The stored names of the aggregate types to follow.
    pub aggregates: &'a [&'static str],
    /// The last sequence that is done; 0 is from the beginning.
    pub after: u64,
}
