//! The operations of each peer, in the way of its own documentation.

use anyhow::Result;
use uuid::Uuid;

use crate::order::Wanted;

/// A framework with its event store.
pub trait Peer: Clone + Send + Sync + Sized + 'static {
    /// What a program keeps between two commands on an order.
    type Held: Send;

    /// Connects, and creates its tables or streams if they do not exist.
    fn open(url: &str) -> impl Future<Output = Result<Self>> + Send;

    /// Opens an order, which may be a new one.
    fn hold(&self, order: Uuid) -> impl Future<Output = Result<Self::Held>> + Send;

    /// Carries out a command; false if the order rejects it.
    fn carry_out(&self, held: &mut Self::Held, wanted: Wanted) -> impl Future<Output = Result<bool>> + Send;
}

/// The number of connections of each peer on a database.
pub const CONNECTIONS: u32 = 64;
