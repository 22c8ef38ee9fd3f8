//! Finds out whether a command was carried out before, however long ago.
//!
//! A state has the receipts of its last commands. Of the older ones it has the ends of their ids and the places of their
//! commits: those since the last segment in memory, the others in [segments](Segment). An id whose end is nowhere is new.
//! Otherwise the commit in that place is read to be certain. The answer is about the commits up to the state; the
//! condition of the append excludes that another writer has carried out the command since.

use foldhash::fast::RandomState;
use moka::sync::Cache;

use crate::{
    base::{
        id::{AggregateKey, CommandId, EventId},
        patience::Patience,
        store_error::StoreError,
    },
    model::{
        aggregate::Aggregate,
        snapshot::{
            remembered::CarriedOut,
            segment::{Segment, SegmentEnd, Short},
        },
    },
    port::event_store::{EventStore, Page, SnapshotPart},
    write::{
        load::turn,
        pages::{FIRST_PAGE, next_page},
        resources::Shell,
        state::{Loaded, commands_of},
        tip::lost,
    },
};

/// How many bytes the segments of all aggregates take in memory: those of some eight million commands.
const CACHED: u64 = 64 * 1024 * 1024;

/// The segments that were used lately, by the id of the event that each ends with.
pub(crate) struct Segments(Cache<EventId, Segment, RandomState>);

impl Segments {
    pub(crate) fn new() -> Self {
        let sized = Cache::builder().max_capacity(CACHED).weigher(|_, segment: &Segment| segment.size());
        Self(sized.build_with_hasher(RandomState::default()))
    }

    fn keep(&self, segment: &Segment) {
        self.0.insert(segment.end.last_event, segment.clone());
    }
}

/// Keeps the segments that the state has completed: in memory, and beside the aggregate's snapshots if it has any.
pub(crate) fn keep_completed<A: Aggregate>(shell: &Shell, loaded: &mut Loaded<A>) {
    for segment in loaded.take_segments() {
        shell.segments.keep(&segment);
        shell.saver.save_segment::<A>(&shell.events, &loaded.key, segment);
    }
}

/// A search for commands of one aggregate. All of it has one time limit, so that a store that does not answer holds up the
/// aggregate's other commands only once.
pub(crate) struct Search<'a, A: Aggregate> {
    shell: &'a Shell,
    loaded: &'a Loaded<A>,
    patience: Patience,
}

impl<'a, A: Aggregate> Search<'a, A> {
    pub(crate) fn new(shell: &'a Shell, loaded: &'a Loaded<A>) -> Self {
        Self { shell, loaded, patience: Patience::of(shell.limits.patience) }
    }

    /// The receipt of a command, if the aggregate has carried it out: from memory where that is enough.
    pub(crate) async fn carried_out(&mut self, command: CommandId) -> Result<Option<CarriedOut>, StoreError> {
        let recent = self.loaded.remembered.find(command);
        if recent.is_some() || !self.loaded.remembered.has_older() {
            return Ok(recent);
        }
        // On the heap: it is rare, and each command's future would be larger.
        Box::pin(self.older(command)).await
    }

    async fn older(&mut self, command: CommandId) -> Result<Option<CarriedOut>, StoreError> {
        let remembered = &self.loaded.remembered;
        let begin = remembered.last_segment();
        for alike in remembered.alike(command) {
            let found = self.in_commit(begin, alike, command).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        for (number, begin, end) in remembered.segments() {
            for alike in self.segment(number, begin, end).await?.alike(command) {
                let found = self.in_commit(begin, *alike, command).await?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }

    /// The command, if it is in the commit at this distance from `begin`.
    async fn in_commit(
        &mut self,
        begin: SegmentEnd,
        alike: Short,
        command: CommandId,
    ) -> Result<Option<CarriedOut>, StoreError> {
        let key = &self.loaded.key;
        let sequence = begin.sequence.saturating_add(alike.distance.into());
        loop {
            let next = self.shell.events.next_after(key, sequence.saturating_sub(1)).await;
            let Some(next) = self.patience.after(next).await? else { continue };
            return match next {
                Some(stored) if stored.sequence == sequence || alike.distance == u32::MAX => {
                    Ok(commands_of(&stored).find(|one| one.command == command))
                }
                // Any command may have been in the commit that was there.
                _ => Err(lost(key, sequence)),
            };
        }
    }

    /// The segment with this number: from memory, from beside the snapshot, or made again from the log.
    async fn segment(
        &mut self,
        number: u32,
        begin: SegmentEnd,
        end: SegmentEnd,
    ) -> Result<Segment, StoreError> {
        let (shell, loaded) = (self.shell, self.loaded);
        if let Some(cached) = shell.segments.0.get(&end.last_event) {
            return Ok(cached);
        }
        let kept = match A::snapshots() {
            Some(_) => shell.events.load_snapshot(&loaded.key, SnapshotPart::Commands(number)).await,
            None => Ok(None),
        };
        let kept = kept.ok().flatten().and_then(|bytes| Segment::read(number, end, &bytes));
        let found = if let Some(kept) = kept {
            kept
        } else {
            let made = self.made_again(number, begin, end).await?;
            shell.saver.save_segment::<A>(&shell.events, &loaded.key, made.clone());
            made
        };
        shell.segments.keep(&found);
        Ok(found)
    }

    /// Reads the segment's commands from the log. A commit that is missing is an error: its commands would be taken for
    /// new ones.
    async fn made_again(
        &mut self,
        number: u32,
        begin: SegmentEnd,
        end: SegmentEnd,
    ) -> Result<Segment, StoreError> {
        let key = &self.loaded.key;
        let (mut commands, mut reached, mut size) = (Vec::new(), begin, FIRST_PAGE);
        while reached.sequence < end.sequence {
            let turn = turn(&self.shell.cold_loads, key, &self.patience).await?;
            let page = self.shell.events.read(key, reached.sequence, size).await;
            drop(turn);
            let page = self.patience.after(page.and_then(|page| not_empty(page, key))).await?;
            let Some(page) = page else { continue };
            size = next_page(reached.sequence, &page.commits);
            for stored in page.commits.iter().take_while(|stored| stored.sequence <= end.sequence) {
                stored.check_follows(reached.version)?;
                let short = |one: CarriedOut| Short::of(one.command, begin.sequence, stored.sequence);
                commands.extend(commands_of(stored).map(short));
                let last_event = stored.commit.events.last().map_or(reached.last_event, |event| event.id);
                let (version, sequence) = (stored.commit.last_version(), stored.sequence);
                reached = SegmentEnd { version, sequence, last_event };
            }
            if page.commits.last().is_some_and(|last| last.sequence > end.sequence) {
                break;
            }
        }
        if reached == end { Ok(Segment::new(number, end, commands)) } else { Err(lost(key, end.sequence)) }
    }
}

/// The log has more commits: a page without any is of a replica that lags.
fn not_empty(page: Page, aggregate: &AggregateKey) -> Result<Page, StoreError> {
    if !page.commits.is_empty() {
        return Ok(page);
    }
    let what = format!("commits of {aggregate} are there and cannot be seen");
    Err(StoreError::Unavailable { what, source: None })
}
