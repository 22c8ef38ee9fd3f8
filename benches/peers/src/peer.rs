//! What is asked of each peer, in the way its own documentation shows.

use anyhow::Result;
use uuid::Uuid;

use crate::order::Wanted;

/// A framework with its event store.
pub trait Peer: Clone + Send + Sync + Sized + 'static {
    /// What a program holds between two commands on an order.
    type Held: Send;

    /// Connects, and makes what is not there.
    fn open(url: &str) -> impl Future<Output = Result<Self>> + Send;

    /// Takes hold of an order, which may be a new one.
    fn hold(&self, order: Uuid) -> impl Future<Output = Result<Self::Held>> + Send;

    /// Carries out a command; false if the order refuses.
    fn carry_out(&self, held: &mut Self::Held, wanted: Wanted) -> impl Future<Output = Result<bool>> + Send;
}

/// So many connections have all that use a database.
pub const CONNECTIONS: u32 = 64;
