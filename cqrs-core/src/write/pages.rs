//! How many commits to read at a time.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::log::commit::StoredCommit;

/// How many commits one request reads when their distances in the log are unknown.
pub(crate) const FIRST_PAGE: usize = 16;

/// How many commits one request reads when they are close together in the log.
const LARGEST_PAGE: u64 = 512;

/// About how many small messages are in one block of JetStream's file store (8 MB). A server reads whole blocks, so
/// commits that are this far apart cost one block each.
///
/// This and [`SCATTERED`] are the two constants of a cost model for [`next_page`], and no limits: with other blocks,
/// pages are only larger or smaller than they could be.
const PIECE: u64 = 16_384;

/// The cost of a commit in a block of its own; the unit is the cost of a further commit in the same block.
const SCATTERED: u64 = 64;

/// The size of the first page of a cold load: the load of an aggregate that is not in the cache.
///
/// The number of concurrent cold loads is limited, but the first page is read outside of that limit: a new or a short
/// aggregate fits into it and never waits. Where commits are close together, a large page saves a round trip; where
/// they are scattered, each commit in it costs the server a block. So the size follows the loads before, between 4 and
/// 128: it falls at once, and at most doubles with each load.
pub(crate) struct FirstPage(AtomicUsize);

impl FirstPage {
    /// The smallest and the largest size.
    const SIZES: (usize, usize) = (4, 128);

    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(Self::SIZES.0))
    }

    pub(crate) fn size(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Learns how large a page of some aggregate's commits should be. Scattered commits shrink the size at once; close
    /// ones at most double it.
    pub(crate) fn learn(&self, page: usize) {
        let (least, most) = Self::SIZES;
        self.0.store((page / 2).min(2 * self.size()).clamp(least, most), Ordering::Relaxed);
    }
}

/// How many commits to read next, after a page of `commits` that were found after the sequence `after`.
///
/// A JetStream server keeps a stream in blocks, and holds the stream's lock while it answers a page. A page of commits
/// from one block is quick; a page of commits that are scattered over the stream is slow.
pub(crate) fn next_page(after: u64, commits: &[StoredCommit]) -> usize {
    let (Some(first), Some(last)) = (commits.first(), commits.last()) else { return FIRST_PAGE };
    // The distance from sequence 0 to the aggregate's first commit says nothing about the distances between its
    // commits.
    let (begin, steps) =
        if after == 0 { (first.sequence, commits.len() - 1) } else { (after, commits.len()) };
    if steps == 0 {
        return FIRST_PAGE;
    }
    let apart = (last.sequence.saturating_sub(begin) / steps as u64).min(PIECE);
    let cost = 1 + (SCATTERED - 1) * apart / PIECE;
    usize::try_from(LARGEST_PAGE / cost).unwrap_or(FIRST_PAGE)
}
