//! Reads one aggregate's history for callers outside of the write side: its state at a point, or a page of its events.
//!
//! Nothing of this is kept: neither is the aggregate cached, nor is a snapshot saved.

use jiff::Timestamp;

use crate::{
    base::{
        id::{AggregateKey, Position},
        patience::Patience,
        store_error::StoreError,
    },
    log::{commit::StoredCommit, envelope::Envelope, recorded::Recorded},
    model::{aggregate::Aggregate, event::Event},
    port::event_store::EventStore,
    write::{
        load::{load, turn},
        pages::{FIRST_PAGE, next_page},
        read::became_another,
        resources::Shell,
        state::Loaded,
    },
};

/// A point in an aggregate's history.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Point {
    /// After its last event.
    Now,
    /// After the event of this version.
    Version(u64),
    /// Before the first event of a later time.
    Time(Timestamp),
}

impl Point {
    /// Whether the history up to this point has the event of this version and time, which follows the others.
    fn includes(self, version: u64, time: Timestamp) -> bool {
        match self {
            Self::Now => true,
            Self::Version(last) => version <= last,
            Self::Time(last) => time <= last,
        }
    }
}

/// The aggregate's state at a point; `None` if it did not exist then, or never had that version.
pub(crate) async fn state_at<A: Aggregate>(
    shell: &Shell,
    key: &AggregateKey,
    point: Point,
    confirmed: bool,
) -> Result<Option<Box<Loaded<A>>>, StoreError> {
    if let Point::Now = point {
        let loaded = load(shell, key, None, confirmed).await?;
        return Ok(Some(loaded).filter(|loaded| loaded.version > 0));
    }
    let mut patience = Patience::of(shell.limits.patience);
    loop {
        let era = shell.events.era();
        let loaded = replay(shell, key, point, confirmed).await?;
        if shell.events.era() == era {
            return Ok(loaded);
        }
        patience.after::<()>(Err(became_another(key))).await?;
    }
}

/// Folds the events up to a point.
async fn replay<A: Aggregate>(
    shell: &Shell,
    key: &AggregateKey,
    point: Point,
    confirmed: bool,
) -> Result<Option<Box<Loaded<A>>>, StoreError> {
    let mut loaded = Box::new(Loaded::nothing(key.clone()));
    // A caller that names a version has seen it, so the leader is asked if a replica does not have it.
    let asks_leader = confirmed || matches!(point, Point::Version(_));
    let mut commits = Commits::after(shell, key, 0, asks_leader);
    loop {
        if let Point::Version(last) = point
            && loaded.version == last
        {
            return Ok(Some(loaded).filter(|_| last > 0));
        }
        let page = commits.next(usize::MAX).await?;
        if page.is_empty() {
            let is_there = matches!(point, Point::Time(_)) && loaded.version > 0;
            return Ok(Some(loaded).filter(|_| is_there));
        }
        for stored in &page {
            let events = (stored.commit.first_version..).zip(&stored.commit.events);
            let included =
                events.take_while(|(version, event)| point.includes(*version, event.origin.time)).count();
            loaded.fold_first(stored, included)?;
            if included < stored.commit.events.len() {
                return Ok(Some(loaded).filter(|loaded| loaded.version > 0));
            }
        }
    }
}

/// Up to `max` events after a position, and whether there are more.
///
/// An event that cannot be read, or a lost commit, ends the page before it, and fails the page that would begin there.
pub(crate) async fn events_after<E: Event>(
    shell: &Shell,
    key: &AggregateKey,
    after: Position,
    max: usize,
    confirmed: bool,
) -> Result<(Vec<Envelope<E>>, bool), StoreError> {
    // The commit at that sequence may have more events, unless the position is behind all of them.
    let is_behind = after.index == u32::MAX;
    let sequence = if is_behind { after.sequence } else { after.sequence.saturating_sub(1) };
    let mut commits = Commits::after(shell, key, sequence, confirmed);
    let mut events = Vec::new();
    // The version before the next commit; `None` if the position does not tell.
    let mut version = Some(0).filter(|_| after.sequence == 0);
    let failed = |events: Vec<_>, error| if events.is_empty() { Err(error) } else { Ok((events, true)) };
    loop {
        let page = match commits.next(max.saturating_sub(events.len()).saturating_add(1)).await {
            Ok(page) if page.is_empty() => return Ok((events, false)),
            Ok(page) => page,
            Err(error) => return failed(events, error),
        };
        for stored in &page {
            if let Some(version) = version
                && let Err(error) = stored.check_follows(version)
            {
                return failed(events, error);
            }
            version = Some(stored.commit.last_version());
            let recorded = (0..stored.commit.events.len()).map(|index| Recorded { stored, index });
            for event in recorded.filter(|event| event.position() > after) {
                if events.len() == max {
                    return Ok((events, true));
                }
                match event.decode() {
                    Ok(event) => events.push(event),
                    Err(error) => return failed(events, error),
                }
            }
        }
    }
}

/// The commits of an aggregate in order, page by page.
struct Commits<'a> {
    shell: &'a Shell,
    key: &'a AggregateKey,
    /// The sequence of the last commit that was read.
    after: u64,
    /// How many to read next.
    size: usize,
    /// Whether a page could not be read: the commits before the one that cannot be read are read one by one.
    one_by_one: bool,
    /// Whether the log's leader is asked for what a replica may lack.
    asks_leader: bool,
    /// Whether the replicas have no more.
    is_end: bool,
}

impl<'a> Commits<'a> {
    fn after(shell: &'a Shell, key: &'a AggregateKey, after: u64, asks_leader: bool) -> Self {
        Self { shell, key, after, size: FIRST_PAGE, one_by_one: false, asks_leader, is_end: false }
    }

    /// The next commits, at most `max`; none at the end.
    async fn next(&mut self, max: usize) -> Result<Vec<StoredCommit>, StoreError> {
        let mut patience = Patience::of(self.shell.limits.patience);
        let mut page = Vec::new();
        while page.is_empty() && !self.is_end {
            page = self.read(max, &mut patience).await?;
        }
        while page.is_empty() && self.asks_leader {
            let next = self.shell.events.next_after(self.key, self.after).await;
            let Some(next) = patience.after(next).await? else { continue };
            self.asks_leader = next.is_some();
            page.extend(next);
        }
        self.after = page.last().map_or(self.after, |last| last.sequence);
        Ok(page)
    }

    /// A page from any replica. Empty after a failure that passes, and perhaps at the end.
    async fn read(&mut self, max: usize, patience: &mut Patience) -> Result<Vec<StoredCommit>, StoreError> {
        let size = if self.one_by_one { 1 } else { self.size.min(max) };
        let turn = turn(&self.shell.cold_loads, self.key, patience).await?;
        let read = self.shell.events.read(self.key, self.after, size).await;
        drop(turn);
        if let Err(error) = &read
            && size > 1
            && !error.is_transient()
        {
            self.one_by_one = true;
            return Ok(Vec::new());
        }
        let Some(page) = patience.after(read).await? else { return Ok(Vec::new()) };
        self.size = next_page(self.after, &page.commits);
        self.is_end = !page.more;
        self.asks_leader &= !(self.is_end && page.confirmed);
        Ok(page.commits)
    }
}
