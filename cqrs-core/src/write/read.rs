//! Reads one aggregate into its state: the snapshot, pages of commits, and the confirmation by the log's leader.
//!
//! The log may become another one between two reads, such as a restored copy, and a state that was folded from both
//! would be wrong. So each read begins with the store's era. In a new era, the next answer must include the commit that
//! the state ends with: the answer then comes from a log that has the state's history.

use tracing::debug;

use crate::{
    base::{id::AggregateKey, store_error::StoreError},
    model::aggregate::Aggregate,
    port::{
        any_events::AnyEvents,
        event_store::{EventStore, SnapshotPart},
    },
    write::{
        pages::{FIRST_PAGE, FirstPage},
        snapshot_warnings::{Failed, SnapshotWarnings},
        state::Loaded,
    },
};

impl<A: Aggregate> Loaded<A> {
    /// Loads the aggregate from its snapshot, or returns it with nothing read if no usable snapshot exists. The
    /// aggregate's last commit is read at the same time: usually the snapshot ends with it.
    pub(crate) async fn from_snapshot(
        key: AggregateKey,
        store: &AnyEvents,
        warnings: &SnapshotWarnings,
    ) -> Self {
        let Some(snapshots) = A::snapshots() else { return Self::nothing(key) };
        let era = store.era();
        let (bytes, last) = tokio::join!(store.load_snapshot(&key, SnapshotPart::State), store.last(&key));
        match &bytes {
            Ok(_) => warnings.works::<A>(Failed::Load),
            Err(error) => warnings.failed::<A>(Failed::Load, &key, error),
        }
        let mut loaded = Self::of_bytes(key, snapshots, bytes.ok().flatten());
        loaded.era = era;
        match last {
            Ok(last) => loaded.end_with(last.as_ref()),
            Err(error) => debug!(aggregate = %loaded.key, %error, "the last commit could not be read"),
        }
        loaded
    }

    /// Reads the first page of commits of an aggregate that is not in memory.
    pub(crate) async fn probe(&mut self, store: &AnyEvents, first: &FirstPage) -> Result<(), StoreError> {
        let before = self.version;
        self.page = first.size();
        self.read_page(store).await?;
        // A single commit says nothing about the distance to the next one.
        if self.version > before + 1 {
            first.learn(self.page);
        }
        Ok(())
    }

    /// Reads the commits that were stored since.
    pub(crate) async fn catch_up(&mut self, store: &AnyEvents) -> Result<(), StoreError> {
        while self.stale {
            self.read_page(store).await?;
        }
        Ok(())
    }

    /// Reads the next commits.
    async fn read_page(&mut self, store: &AnyEvents) -> Result<(), StoreError> {
        self.is_read_in(store.era());
        let page = store.read(&self.key, self.reads_after(), self.page).await?;
        if self.version > 0 && !self.unproved && store.era() != self.era {
            // The page does not begin with the state's last commit, and may be from another log: it is read again.
            return Ok(());
        }
        self.take(&page)
    }

    /// Makes sure that the state is the current one: asks the log's leader for the last commit, and reads those in
    /// between. If the log has another history, the state is dropped and stale.
    pub(crate) async fn confirm(&mut self, store: &AnyEvents) -> Result<(), StoreError> {
        let era = store.era();
        let last = store.last_confirmed(&self.key).await?;
        let ends_with_last = last.as_ref().is_some_and(|last| self.ends_with(last));
        if self.version > 0 && !ends_with_last {
            let own = store.next_after(&self.key, self.position.sequence - 1).await?;
            if !own.is_some_and(|own| self.ends_with(&own)) {
                self.forget();
                return Ok(());
            }
        }
        self.unproved = false;
        self.era = era;
        let Some(last) = last.filter(|_| !ends_with_last) else {
            self.confirmed = true;
            return Ok(());
        };
        if last.commit.last_version() > self.version + FIRST_PAGE as u64 {
            // Far behind: read pages first, as far as the answering replica has them.
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
            self.is_still_read_in(era, store)?;
            self.fold(&next)?;
        }
        self.is_still_read_in(era, store)?;
        self.confirmed = self.position.sequence >= last.sequence;
        Ok(())
    }

    /// Fails if the answers since `era` may come from two logs: then they cannot be compared with each other.
    fn is_still_read_in(&mut self, era: u64, store: &AnyEvents) -> Result<(), StoreError> {
        if store.era() == era {
            return Ok(());
        }
        self.doubt();
        Err(became_another(&self.key))
    }

    /// The same for an aggregate that was taken for new. If the log has commits of it, there may be many: the state is
    /// then stale, for a normal load.
    pub(crate) async fn confirm_new(&mut self, store: &AnyEvents) -> Result<(), StoreError> {
        self.era = store.era();
        self.stale = store.next_after(&self.key, 0).await?.is_some();
        self.confirmed = !self.stale;
        Ok(())
    }
}

/// The error that the answers about an aggregate may come from two logs.
pub(crate) fn became_another(key: &AggregateKey) -> StoreError {
    let what = format!("the log may have become another one while {key} was read");
    StoreError::Unavailable { what, source: None }
}
