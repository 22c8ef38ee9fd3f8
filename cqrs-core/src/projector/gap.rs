//! Finds gaps: commits whose first version does not follow the last version before them in their aggregate.

use std::{collections::HashMap, hash::BuildHasher as _};

use foldhash::fast::RandomState;

use crate::{
    base::{
        id::{AggregateKey, ProjectionId},
        store_error::StoreError,
    },
    log::commit::StoredCommit,
    port::{any_events::AnyEvents, event_store::EventStore, subscription::Delivery},
    projector::dead_letter::{Failure, Fault, Parked},
};
use std::collections::HashSet;

/// When the young half is full with this many aggregates (16 bytes each), the old half is dropped. So the projector
/// remembers at least this many of the aggregates that it has seen, and at most twice as many.
const REMEMBERED: usize = 250_000;

/// The last versions of the aggregates that were seen last. For the others the log is asked.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    hasher: RandomState,
    young: HashMap<u64, u64, RandomState>,
    /// The aggregates that were not seen since the young half was last full.
    old: HashMap<u64, u64, RandomState>,
}

impl Versions {
    /// Remembers an aggregate's last version; returns the one that was known before.
    pub(crate) fn replace(&mut self, aggregate: &AggregateKey, version: u64) -> Option<u64> {
        // If two aggregates have the same hash, the check suspects a gap, and the log's leader refutes it.
        let key = self.hasher.hash_one(aggregate);
        if self.young.len() >= REMEMBERED && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        let before = self.young.insert(key, version);
        before.or_else(|| self.old.remove(&key))
    }

    pub(crate) fn forget(&mut self, aggregate: &AggregateKey) {
        let key = self.hasher.hash_one(aggregate);
        self.young.remove(&key);
        self.old.remove(&key);
    }
}

/// The last message of an aggregate before some commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    Nothing,
    /// A commit, with its last version.
    Version(u64),
    /// A message that is not a commit. Any version may follow it.
    Unreadable,
}

impl Before {
    pub(crate) fn of(last: Option<Delivery>) -> Self {
        match last {
            None => Self::Nothing,
            Some(Ok(stored)) => Self::Version(stored.commit.last_version()),
            Some(Err(_)) => Self::Unreadable,
        }
    }

    /// Whether a commit whose first version is `version` may follow.
    pub(crate) fn is_followed_by(self, version: u64) -> bool {
        match self {
            Self::Nothing => version == 1,
            Self::Version(last) => last.checked_add(1) == Some(version),
            Self::Unreadable => true,
        }
    }
}

/// Finds the delivered commits that do not follow the commit before them in their aggregate, by sequence.
///
/// For aggregates that were seen recently, the check uses the remembered versions. For the others it asks the log, with
/// one request for some dozens of aggregates, unless their first event is among the deliveries. A gap is reported only
/// after the log's leader has confirmed it.
pub(crate) async fn find(
    events: &AnyEvents,
    follower: &ProjectionId,
    after: u64,
    versions: &mut Versions,
    parked: &Parked,
    deliveries: &[Delivery],
) -> Result<HashMap<u64, Failure>, StoreError> {
    let (mut unseen, mut suspects) = (Vec::new(), Vec::new());
    let mut passed_over: HashSet<&AggregateKey> = HashSet::new();
    for delivery in deliveries {
        let commit = match delivery {
            Ok(stored) => &stored.commit,
            Err(unreadable) => {
                // No version is known after it, so the commits of this aggregate are not checked in this batch.
                versions.forget(&unreadable.aggregate);
                passed_over.insert(&unreadable.aggregate);
                continue;
            }
        };
        let known = versions.replace(&commit.aggregate, commit.last_version());
        if parked.has(&commit.aggregate) || passed_over.contains(&commit.aggregate) {
            continue;
        }
        match known.map_or(Before::Nothing, Before::Version) {
            before if before.is_followed_by(commit.first_version) => {}
            Before::Nothing => unseen.extend(delivery),
            _ => suspects.extend(delivery),
        }
    }
    let mut gaps = HashMap::new();
    if !unseen.is_empty() {
        let aggregates: Vec<_> = unseen.iter().map(|stored| stored.commit.aggregate.clone()).collect();
        let known = events.last_before(&aggregates, after + 1).await?;
        for (stored, known) in unseen.into_iter().zip(known) {
            if !Before::of(known).is_followed_by(stored.commit.first_version)
                && let Some(gap) = before(events, stored).await?
            {
                gaps.insert(stored.sequence, Failure::new(Fault::Gap, gap.to_string()));
            }
        }
    }
    for stored in suspects {
        let Some(gap) = before(events, stored).await? else {
            let (subscriber, aggregate) = (follower.to_string(), &stored.commit.aggregate);
            let what = format!("the log has more of {aggregate} before sequence {}", stored.sequence);
            return Err(StoreError::Interrupted { subscriber, what });
        };
        gaps.insert(stored.sequence, Failure::new(Fault::Gap, gap.to_string()));
    }
    Ok(gaps)
}

/// The gap before a commit, if the commit does not follow what the log's leader has before it in the aggregate.
pub(crate) async fn before(
    events: &AnyEvents,
    stored: &StoredCommit,
) -> Result<Option<StoreError>, StoreError> {
    let first = stored.commit.first_version;
    let before = confirmed(events, &stored.commit.aggregate, stored.sequence).await?;
    Ok((!before.is_followed_by(first)).then(|| StoreError::Gap {
        aggregate: stored.commit.aggregate.clone(),
        expected: match before {
            Before::Version(last) => last.saturating_add(1),
            Before::Nothing | Before::Unreadable => 1,
        },
        found: first,
        sequence: stored.sequence,
    }))
}

/// What the log's leader has of an aggregate right before `sequence`. `last_before` may be answered by a replica that
/// lags, so the leader is asked for the commits after that answer.
pub(crate) async fn confirmed(
    events: &AnyEvents,
    aggregate: &AggregateKey,
    sequence: u64,
) -> Result<Before, StoreError> {
    let known = events.last_before(std::slice::from_ref(aggregate), sequence).await?;
    let known = known.into_iter().next().flatten();
    let mut after = match &known {
        None => 0,
        Some(Ok(stored)) => stored.sequence,
        Some(Err(unreadable)) => unreadable.sequence,
    };
    let mut before = Before::of(known);
    loop {
        match events.next_after(aggregate, after).await {
            Ok(Some(stored)) if stored.sequence < sequence => {
                (after, before) = (stored.sequence, Before::Version(stored.commit.last_version()));
            }
            Err(StoreError::NotACommit { sequence: there, .. }) if there > after && there < sequence => {
                (after, before) = (there, Before::Unreadable);
            }
            Ok(_) | Err(StoreError::NotACommit { .. }) => return Ok(before),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> AggregateKey {
        AggregateKey::new("account", number.to_string()).unwrap()
    }

    #[test]
    fn what_was_seen_lately_is_remembered_and_the_rest_is_bounded() {
        let mut versions = Versions::default();
        assert_eq!(versions.replace(&key(0), 1), None);
        for number in 1..=3 * REMEMBERED {
            versions.replace(&key(number), 1);
            // An aggregate that is seen now and then is never forgotten.
            if number % 100_000 == 0 {
                assert!(versions.replace(&key(0), 1).is_some());
            }
        }
        assert!(versions.young.len() + versions.old.len() <= 2 * REMEMBERED);
        assert_eq!(versions.replace(&key(1), 2), None);
        assert_eq!(versions.replace(&key(3 * REMEMBERED), 2), Some(1));
    }

    #[test]
    fn versions_follow_one_another() {
        assert!(Before::Nothing.is_followed_by(1) && !Before::Nothing.is_followed_by(2));
        assert!(Before::Version(3).is_followed_by(4));
        assert!(!Before::Version(3).is_followed_by(3) && !Before::Version(3).is_followed_by(5));
        assert!(!Before::Version(u64::MAX).is_followed_by(0));
        assert!(Before::Unreadable.is_followed_by(7));
    }
}
