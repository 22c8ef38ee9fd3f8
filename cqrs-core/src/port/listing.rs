//! Listing the aggregates of a type, page by page.

use serde::{Deserialize, Serialize};

use crate::base::id::AggregateKey;

/// Which page of a listing; see [`EventStore::aggregates`](crate::port::EventStore::aggregates).
#[derive(Debug, Clone, Copy)]
pub struct Listing<'a> {
    /// The stored name of the aggregate type.
    pub aggregate: &'static str,
    /// Where the page before ended; `None` for the first page.
    pub after: Option<&'a ListedUpTo>,
    /// The most aggregates to return, at least 1.
    pub max: usize,
}

impl Listing<'_> {
    /// The page with these keys, in the store's order, and whether there may be more after them.
    pub fn page(&self, keys: Vec<AggregateKey>, more: bool) -> AggregatePage {
        let before = self.after.map_or(0, |after| after.count);
        let up_to = |key: &AggregateKey| {
            let count = before.saturating_add(keys.len() as u64);
            ListedUpTo { key: key.clone(), count }
        };
        let next = keys.last().filter(|_| more).map(up_to);
        AggregatePage { keys, next }
    }
}

/// Where a page of a listing ends and the next one begins. It can be kept, in another process as well, and belongs to
/// one log and one aggregate type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ListedUpTo {
    /// The last aggregate that was listed.
    pub key: AggregateKey,
    /// How many were listed, with this one. With it a store finds the place sooner; a wrong number changes no page.
    pub count: u64,
}

/// Some aggregates of a type, in the store's order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AggregatePage {
    /// The aggregates.
    pub keys: Vec<AggregateKey>,
    /// Where the next page begins; `None` if this is the last one. The next page may turn out to be empty.
    pub next: Option<ListedUpTo>,
}
