//! Loading an aggregate: its commits, folded, with the checks that the log is whole.

use std::{
    slice,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use tracing::{debug, warn};
use uuid::Uuid;

use crate::{
    Aggregate, AggregateKey, CommandId, EventId, EventStore, Events, Position, Snapshots, StoreError,
    StoredCommit,
    aggregate::AppliesTo,
    base::Base,
    codec,
    remembered::{CarriedOut, Remembered},
    snapshot::{Head, Unreadable},
};

/// How many commits are read at once when nothing is known about where they lie.
const FIRST_PAGE: usize = 16;

/// How many commits are read at once when they lie close together.
const LARGEST_PAGE: u64 = 256;

/// About how many small messages are in one block of JetStream's file store (8 MB). A server reads whole blocks, so
/// commits that are this far apart cost one block each.
///
/// This and [`SCATTERED`] are the two constants of a cost model for [`next_page`], and no limits: with other blocks, pages
/// are only larger or smaller than they could be.
const PIECE: u64 = 16_384;

/// What a commit in a block of its own costs; the unit is a commit beside another one in the same block.
const SCATTERED: u64 = 32;

/// The size of the first page of a cold load: the load of an aggregate that is not in the cache.
///
/// The number of concurrent cold loads is limited, but the first page is read outside of that limit: a new or a short
/// aggregate fits into it and never waits. Where commits are close together, a large page saves a round trip; where they
/// are scattered, each commit in it costs the server a block. So the size follows the loads before, between 4 and 128: it
/// falls at once, and at most doubles with each load.
pub(crate) struct FirstPage(AtomicUsize);

impl FirstPage {
    /// The fewest and the most.
    const SIZES: (usize, usize) = (4, 128);

    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(Self::SIZES.0))
    }

    fn size(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Learns how large a page of some aggregate's commits should be. A scattered one counts at once, those that lie
    /// together little by little.
    fn learn(&self, page: usize) {
        let (least, most) = Self::SIZES;
        self.0.store((page / 2).min(2 * self.size()).clamp(least, most), Ordering::Relaxed);
    }
}

/// An aggregate's state with its place in the log.
pub(crate) struct Loaded<A> {
    pub(crate) key: AggregateKey,
    pub(crate) state: A,
    /// The number of its events.
    pub(crate) version: u64,
    /// The place of its last event; sequence 0 when there is none.
    pub(crate) position: Position,
    /// Whether the state is certain to have been current when it was read.
    pub(crate) confirmed: bool,
    /// Whether there is known to be more than this, or nothing has been read yet.
    pub(crate) stale: bool,
    /// The version of the last snapshot that was loaded or saved; 0 when there is none.
    pub(crate) saved: u64,
    /// Whether the commit that this state ends with still has to be compared with the log: the state comes from a
    /// snapshot, another writer was faster, or the log may have become another one.
    pub(crate) unproved: bool,
    /// The store's [era](EventStore::era) in which that was known.
    pub(crate) era: u64,
    /// The id of the last event; nil when there is none.
    last_event: EventId,
    remembered: Remembered,
}

impl<A: Aggregate> Loaded<A> {
    /// An aggregate of which nothing has been read yet.
    pub(crate) fn nothing(key: AggregateKey) -> Self {
        Self {
            key,
            state: A::default(),
            version: 0,
            position: Position::default(),
            confirmed: false,
            stale: true,
            saved: 0,
            unproved: false,
            era: 0,
            last_event: EventId(Uuid::nil()),
            remembered: Remembered::default(),
        }
    }

    /// An aggregate of which nothing has been read, since what follows proves that there is nothing.
    pub(crate) fn taken_for_new(key: AggregateKey) -> Self {
        Self { stale: false, ..Self::nothing(key) }
    }

    /// The aggregate as its snapshot has it, or of which nothing has been read yet when there is none that
    /// will do. Its last commit is read at the same time: mostly it is the one that the snapshot ends with.
    pub(crate) async fn from_snapshot<S: EventStore>(key: AggregateKey, store: &S) -> Self {
        let Some(snapshots) = A::snapshots() else { return Self::nothing(key) };
        let (bytes, last) = tokio::join!(store.load_snapshot(&key), store.last(&key));
        let mut loaded = Self::of_bytes(key, snapshots, bytes);
        match last {
            Ok(last) => loaded.end_with(last.as_ref()),
            Err(error) => debug!(aggregate = %loaded.key, %error, "the last commit could not be read"),
        }
        loaded
    }

    /// What the bytes of a snapshot say. Whatever is wrong with them, the log has it all.
    fn of_bytes(
        key: AggregateKey,
        snapshots: Snapshots<A>,
        bytes: Result<Option<Bytes>, StoreError>,
    ) -> Self {
        let bytes = match bytes {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Self::nothing(key),
            Err(error) => {
                warn!(aggregate = %key, %error, "no snapshot could be read, replaying the log");
                return Self::nothing(key);
            }
        };
        match snapshots.read(&bytes) {
            Ok((head, state)) => Self::unproved(key, head, state),
            Err(reason) => {
                if let Unreadable::Damaged = reason {
                    warn!(aggregate = %key, "the snapshot is damaged, replaying the log");
                } else {
                    debug!(aggregate = %key, %reason, "discarding the snapshot, replaying the log");
                }
                Self::nothing(key)
            }
        }
    }

    /// Takes the last commit for all that is to be read, if nothing can lie between it and what is known.
    fn end_with(&mut self, last: Option<&StoredCommit>) {
        let is_all = match last {
            None => self.version == 0,
            Some(last) if self.unproved => self.proved_by(slice::from_ref(last)).is_some(),
            // One that cannot be read is read again, with whatever comes of it.
            Some(last) => self.fold(last).is_ok(),
        };
        if is_all {
            self.unproved = false;
            self.stale = false;
        }
    }

    fn unproved(key: AggregateKey, head: Head, state: A) -> Self {
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

    /// The commit that this ends with.
    pub(crate) fn base(&self) -> Base {
        Base { sequence: self.position.sequence, event: Some(self.last_event), era: Some(self.era) }
    }

    /// Takes the state for one of which it is not known that it is in the log.
    pub(crate) fn doubt(&mut self) {
        self.unproved = self.version > 0;
        self.confirmed = false;
    }

    /// What a snapshot says beside the state.
    pub(crate) fn head(&self) -> Head {
        Head {
            version: self.version,
            position: self.position,
            last_event: self.last_event,
            remembered: self.remembered.clone(),
        }
    }

    /// Reads the first commits of an aggregate of which nothing is known.
    pub(crate) async fn probe<S: EventStore>(
        &mut self,
        store: &S,
        first: &FirstPage,
    ) -> Result<(), StoreError> {
        let before = self.version;
        let next = self.read_page(store, first.size()).await?;
        // A single commit tells nothing about where the next one would be.
        if self.version > before + 1 {
            first.learn(next);
        }
        Ok(())
    }

    /// Reads what was stored since.
    pub(crate) async fn catch_up<S: EventStore>(&mut self, store: &S) -> Result<(), StoreError> {
        let mut size = FIRST_PAGE;
        while self.stale {
            size = self.read_page(store, size).await?;
        }
        Ok(())
    }

    /// Reads the next commits; says how many to read after them.
    async fn read_page<S: EventStore>(&mut self, store: &S, size: usize) -> Result<usize, StoreError> {
        // Its own last commit is read again where it is in doubt.
        let after = self.position.sequence.saturating_sub(self.unproved.into());
        let page = store.read(&self.key, after, size).await?;
        let mut commits = page.commits.as_slice();
        if self.unproved {
            if commits.is_empty() && !page.confirmed {
                // It may be a replica that does not have it yet: the leader is asked.
                self.stale = false;
                return Ok(FIRST_PAGE);
            }
            let Some(tail) = self.proved_by(commits) else {
                self.forget();
                return Ok(FIRST_PAGE);
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
        Ok(next_page(after, &page.commits))
    }

    /// Begins again with nothing: after a power cut or from a backup the log may hold less than this has seen, and
    /// something else at the same sequences.
    pub(crate) fn forget(&mut self) {
        warn!(
            aggregate = %self.key,
            version = self.version,
            sequence = self.position.sequence,
            "the log does not have what was known of the aggregate, replaying it"
        );
        *self = Self::nothing(self.key.clone());
    }

    /// The commits after the one that this ends with, if that is the first: then the log is the one that this was
    /// folded from.
    fn proved_by<'a>(&self, commits: &'a [StoredCommit]) -> Option<&'a [StoredCommit]> {
        let (first, tail) = commits.split_first()?;
        self.ends_with(first).then_some(tail)
    }

    fn ends_with(&self, stored: &StoredCommit) -> bool {
        self.base().is_end_of(stored) && stored.commit.last_version() == self.version
    }

    /// Makes sure that the state is the current one: asks the log's leader for the last commit, and for what lies
    /// between. If that is another history, nothing is known any more, and the state is stale.
    pub(crate) async fn confirm<S: EventStore>(&mut self, store: &S) -> Result<(), StoreError> {
        let last = store.last_confirmed(&self.key).await?;
        if self.version > 0 && !last.as_ref().is_some_and(|last| self.ends_with(last)) {
            let own = store.next_after(&self.key, self.position.sequence - 1).await?;
            if !own.is_some_and(|own| self.ends_with(&own)) {
                self.forget();
                return Ok(());
            }
        }
        self.unproved = false;
        let Some(last) = last else {
            self.confirmed = true;
            return Ok(());
        };
        if last.commit.last_version() > self.version + FIRST_PAGE as u64 {
            // Far behind: in pages, as far as whoever answers knows.
            self.stale = true;
            self.catch_up(store).await?;
        }
        while self.position.sequence < last.sequence {
            let next = if last.commit.first_version == self.version + 1 {
                Some(last.clone())
            } else {
                store.next_after(&self.key, self.position.sequence).await?
            };
            let Some(next) = next else { break };
            self.fold(&next)?;
        }
        self.confirmed = self.position.sequence >= last.sequence;
        Ok(())
    }

    /// The same for an aggregate that was taken for new. If it is there after all, it may be a long one, and is stale.
    pub(crate) async fn confirm_new<S: EventStore>(&mut self, store: &S) -> Result<(), StoreError> {
        self.stale = store.next_after(&self.key, 0).await?.is_some();
        self.confirmed = !self.stale;
        Ok(())
    }

    fn fold(&mut self, stored: &StoredCommit) -> Result<(), StoreError> {
        let commit = &stored.commit;
        let expected = self.version.saturating_add(1);
        if commit.first_version != expected {
            return Err(StoreError::Gap {
                aggregate: self.key.clone(),
                expected,
                found: commit.first_version,
                sequence: stored.sequence,
            });
        }
        // Decoded before any is applied, so that a bad event leaves the state as it was.
        let events: Events<A::Event> =
            (0..commit.events.len()).map(|index| codec::decode(stored, index)).collect::<Result<_, _>>()?;
        for event in &events {
            event.apply_to(&mut self.state);
        }
        self.remember(stored);
        Ok(())
    }

    /// Takes on the state after a commit that has just been stored.
    pub(crate) fn advance(&mut self, state: A, stored: &StoredCommit) {
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
    }

    /// What is remembered of a command.
    pub(crate) fn carried_out(&self, command: CommandId) -> Option<CarriedOut> {
        self.remembered.find(command)
    }
}

/// The commands whose events are in a commit, in order.
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

/// How many commits to read next, after a page of `commits` that were found after the sequence `after`.
///
/// A server keeps a stream in large pieces, and holds the whole stream up while it answers a page: with commits
/// from one piece that is short, with as many that are scattered over the stream it is long.
fn next_page(after: u64, commits: &[StoredCommit]) -> usize {
    let (Some(first), Some(last)) = (commits.first(), commits.last()) else { return FIRST_PAGE };
    // Where the first commit of all lies tells nothing about those that follow it.
    let (begin, steps) =
        if after == 0 { (first.sequence, commits.len() - 1) } else { (after, commits.len()) };
    if steps == 0 {
        return FIRST_PAGE;
    }
    let apart = (last.sequence.saturating_sub(begin) / steps as u64).min(PIECE);
    let cost = 1 + (SCATTERED - 1) * apart / PIECE;
    usize::try_from(LARGEST_PAGE / cost).unwrap_or(FIRST_PAGE)
}

#[cfg(test)]
mod tests;
