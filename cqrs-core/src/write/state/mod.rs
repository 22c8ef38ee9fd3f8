//! An aggregate's state, folded from its commits, with the checks that the log is whole. No input or output.

use std::{borrow::BorrowMut, slice};

use bytes::Bytes;
use tracing::{debug, warn};
use uuid::Uuid;

use crate::{
    base::{
        id::{AggregateKey, EventId, Position},
        store_error::StoreError,
    },
    log::{codec, commit::StoredCommit, recorded::Recorded},
    model::{
        aggregate::{Aggregate, AppliesTo, StateOf},
        event::Events,
        snapshot::{
            Snapshots,
            bytes::Head,
            fault::ReadFault,
            remembered::{CarriedOut, Remembered},
            segment::Segment,
        },
    },
    port::event_store::Page,
    write::{
        pages::{FIRST_PAGE, next_page},
        tip::Tip,
    },
};

/// An aggregate's state with its place in the log.
pub(crate) struct Loaded<A: Aggregate> {
    pub(crate) key: AggregateKey,
    pub(crate) state: StateOf<A>,
    /// The number of its events.
    pub(crate) version: u64,
    /// The position of its last event; sequence 0 if it has none.
    pub(crate) position: Position,
    /// Whether the state was certainly the current one when it was read.
    pub(crate) confirmed: bool,
    /// Whether the log is known to have more commits, or nothing has been read yet.
    pub(crate) stale: bool,
    /// The version of the last snapshot that was loaded or saved; 0 if there is none.
    pub(crate) saved: u64,
    /// Whether the last commit of this state must still be compared with the log: the state comes from a snapshot,
    /// another writer was faster, or the log may be another one.
    pub(crate) unproved: bool,
    /// How many commits to read next.
    pub(crate) page: usize,
    /// The store's [era](crate::port::EventStore::era) in which the state was known to be in the log.
    pub(crate) era: u64,
    /// The id of the last event; nil if there is none.
    last_event: EventId,
    pub(crate) remembered: Remembered,
    /// Segments of its commands that were completed since [`take_segments`](Self::take_segments).
    completed: Vec<Segment>,
}

impl<A: Aggregate> Loaded<A> {
    /// An aggregate of which nothing has been read yet.
    pub(crate) fn nothing(key: AggregateKey) -> Self {
        Self {
            key,
            state: StateOf::<A>::default(),
            version: 0,
            position: Position::default(),
            confirmed: false,
            stale: true,
            saved: 0,
            unproved: false,
            page: FIRST_PAGE,
            era: 0,
            last_event: EventId(Uuid::nil()),
            remembered: Remembered::default(),
            completed: Vec::new(),
        }
    }

    /// An aggregate of which nothing has been read, because the append will prove that it has no commit.
    pub(crate) fn taken_for_new(key: AggregateKey) -> Self {
        Self { stale: false, ..Self::nothing(key) }
    }

    /// The state that the bytes of a snapshot contain. A missing or bad snapshot is no error: the log has all events.
    pub(crate) fn of_bytes(key: AggregateKey, snapshots: Snapshots<A>, bytes: Option<Bytes>) -> Self {
        let Some(bytes) = bytes else { return Self::nothing(key) };
        match snapshots.read(&bytes) {
            Ok((head, state)) => Self::unproved(key, head, state.into()),
            Err(reason) => {
                if let ReadFault::Damaged = reason {
                    warn!(aggregate = %key, "the snapshot is damaged, replaying the log");
                } else {
                    debug!(aggregate = %key, %reason, "discarding the snapshot, replaying the log");
                }
                Self::nothing(key)
            }
        }
    }

    /// Skips reading the log if no commit can lie between the known state and `last`, the aggregate's last commit.
    pub(crate) fn end_with(&mut self, last: Option<&StoredCommit>) {
        let is_all = match last {
            None => self.version == 0,
            Some(last) if self.unproved => self.proved_by(slice::from_ref(last)).is_some(),
            // A commit that cannot be folded stays to be read by the load, which reports the error.
            Some(last) => self.fold(last).is_ok(),
        };
        if is_all {
            self.unproved = false;
            self.stale = false;
        }
    }

    fn unproved(key: AggregateKey, head: Head, state: StateOf<A>) -> Self {
        Self {
            state,
            version: head.version,
            position: head.position,
            saved: head.version,
            unproved: true,
            last_event: head.last_event,
            remembered: head.remembered,
            ..Self::nothing(key)
        }
    }

    /// The last commit of this state.
    pub(crate) fn tip(&self) -> Tip {
        Tip { sequence: self.position.sequence, event: Some(self.last_event), era: Some(self.era) }
    }

    /// Marks that the state's last commit must be compared with the log again.
    pub(crate) fn doubt(&mut self) {
        self.unproved = self.version > 0;
        self.confirmed = false;
    }

    /// Notes in which era of the store the next answer comes. In another one than that of the state, the state's last
    /// commit must be compared with the log again.
    pub(crate) fn is_read_in(&mut self, era: u64) {
        if self.era != era {
            self.era = era;
            self.doubt();
        }
    }

    /// The fields of a snapshot beside the state.
    pub(crate) fn head(&self) -> Head {
        Head {
            version: self.version,
            position: self.position,
            last_event: self.last_event,
            remembered: self.remembered.clone(),
        }
    }

    /// The sequence after which the next commits are read. While the state is in doubt, its own last commit is read
    /// again.
    pub(crate) fn reads_after(&self) -> u64 {
        self.position.sequence.saturating_sub(self.unproved.into())
    }

    /// Folds the commits that were read after [`reads_after`](Self::reads_after).
    pub(crate) fn take(&mut self, page: &Page) -> Result<(), StoreError> {
        let after = self.reads_after();
        let mut commits = page.commits.as_slice();
        if self.unproved {
            if commits.is_empty() && !page.confirmed {
                // The answering replica may not have the commit yet: the leader is asked.
                self.stale = false;
                return Ok(());
            }
            let Some(tail) = self.proved_by(commits) else {
                self.forget();
                return Ok(());
            };
            commits = tail;
            self.unproved = false;
        }
        for stored in commits {
            self.fold(stored)?;
        }
        if !page.more {
            self.confirmed = page.confirmed;
            self.stale = false;
        }
        self.page = next_page(after, &page.commits);
        Ok(())
    }

    /// Drops the state. After a power cut or a restore from a backup the log may have fewer commits than this process
    /// has seen, and other commits at the same sequences.
    pub(crate) fn forget(&mut self) {
        warn!(
            aggregate = %self.key,
            version = self.version,
            sequence = self.position.sequence,
            "the log does not have what was known of the aggregate, replaying it"
        );
        *self = Self::nothing(self.key.clone());
    }

    /// The commits after the last one of this state, if `commits` begins with it: that proves that the state was folded
    /// from this log.
    fn proved_by<'a>(&self, commits: &'a [StoredCommit]) -> Option<&'a [StoredCommit]> {
        let (first, tail) = commits.split_first()?;
        self.ends_with(first).then_some(tail)
    }

    pub(crate) fn ends_with(&self, stored: &StoredCommit) -> bool {
        self.tip().is_end_of(stored) && stored.commit.last_version() == self.version
    }

    pub(crate) fn fold(&mut self, stored: &StoredCommit) -> Result<(), StoreError> {
        self.fold_first(stored, stored.commit.events.len())
    }

    /// Folds the first `count` events of a commit. If these are not all of them, the state can only be looked at: no
    /// other commit follows it.
    pub(crate) fn fold_first(&mut self, stored: &StoredCommit, count: usize) -> Result<(), StoreError> {
        stored.check_follows(self.version)?;
        let commit = &stored.commit;
        // Decoded before any is applied: a bad event leaves the state as it was.
        let events: Events<A::Event> =
            (0..count).map(|index| codec::decode(stored, index)).collect::<Result<_, _>>()?;
        for event in &events {
            event.apply_to(self.state.borrow_mut());
        }
        if count == commit.events.len() {
            self.remember(stored);
        } else if let Some(last) = count.checked_sub(1) {
            self.version = commit.version_of(last);
            self.position = Recorded { stored, index: last }.position();
        }
        Ok(())
    }

    /// Replaces the state with that after a commit that was just stored.
    pub(crate) fn advance(&mut self, state: StateOf<A>, stored: &StoredCommit) {
        self.state = state;
        self.remember(stored);
    }

    fn remember(&mut self, stored: &StoredCommit) {
        self.last_event = stored.commit.events.last().map_or(self.last_event, |event| event.id);
        for command in commands_of(stored) {
            self.version = command.version;
            self.position = command.position;
            self.remembered.push(command);
        }
        let completed = self.remembered.end_commit(self.version, stored.sequence, self.last_event);
        self.completed.extend(completed);
    }

    /// Segments of its commands that were completed since the last call.
    pub(crate) fn take_segments(&mut self) -> Vec<Segment> {
        std::mem::take(&mut self.completed)
    }
}

/// The commands that have events in a commit, in order.
pub(crate) fn commands_of(stored: &StoredCommit) -> impl Iterator<Item = CarriedOut> {
    let commit = &stored.commit;
    let mut events = 0;
    commit.events.chunk_by(|a, b| a.origin.command_id == b.origin.command_id).map(move |of_one| {
        events += of_one.len();
        CarriedOut {
            command: of_one[0].origin.command_id,
            fingerprint: of_one[0].origin.fingerprint,
            version: commit.version_of(events - 1),
            events: of_one.len(),
            position: Position {
                sequence: stored.sequence,
                index: u32::try_from(events - 1).unwrap_or(u32::MAX),
            },
        }
    })
}

#[cfg(test)]
mod tests;
