//! Saves snapshots beside the commands: in tasks of their own, a few at a time.

use std::{borrow::Borrow, sync::Arc};

use tokio::sync::Semaphore;
use tracing::debug;

use crate::{
    base::id::AggregateKey,
    model::{aggregate::Aggregate, snapshot::segment::Segment},
    port::{
        any_events::AnyEvents,
        event_store::{EventStore, SnapshotPart},
    },
    write::{
        snapshot_warnings::{Failed, SnapshotWarnings},
        state::Loaded,
    },
};

/// How many snapshots are encoded and saved at a time. While all permits are taken, a due snapshot is not saved; it is
/// still due after the aggregate's next command.
const SAVES: usize = 8;

/// Saves snapshots in the background.
#[derive(Debug)]
pub(crate) struct Saver {
    turns: Arc<Semaphore>,
    pub(crate) warnings: SnapshotWarnings,
}

impl Saver {
    pub(crate) fn new() -> Self {
        Self { turns: Arc::new(Semaphore::new(SAVES)), warnings: SnapshotWarnings::default() }
    }

    /// Begins to save the aggregate, whose state is in the log, if a snapshot is due and a permit is free.
    ///
    /// Two saves of one aggregate may overtake each other, and the older snapshot then remains. The only cost is a
    /// longer tail in the next load.
    pub(crate) fn save_if_due<A: Aggregate>(self: &Arc<Self>, store: &AnyEvents, loaded: &mut Loaded<A>) {
        let Some(snapshots) = A::snapshots() else { return };
        if !snapshots.is_due(loaded.version, loaded.saved) {
            return;
        }
        let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() else { return };
        loaded.saved = loaded.version;
        let (key, head, state) = (loaded.key.clone(), loaded.head(), loaded.state.clone());
        let (saver, store) = (Arc::clone(self), store.clone());
        tokio::spawn(async move {
            match snapshots.write(&head, state.borrow()) {
                Ok(bytes) => match store.save_snapshot(&key, SnapshotPart::State, bytes.into()).await {
                    Ok(()) => {
                        saver.warnings.works::<A>(Failed::Save);
                        debug!(aggregate = %key, version = head.version, "saved a snapshot");
                    }
                    Err(error) => saver.warnings.failed::<A>(Failed::Save, &key, &error),
                },
                Err(fault) => saver.warnings.unwritable::<A>(&fault),
            }
            drop(turn);
        });
    }

    /// Begins to save a segment of the aggregate's commands, if the aggregate has snapshots: without them each load reads
    /// the whole log. A segment that was not saved is made again from the log when it is needed.
    pub(crate) fn save_segment<A: Aggregate>(
        self: &Arc<Self>,
        store: &AnyEvents,
        key: &AggregateKey,
        segment: Segment,
    ) {
        if A::snapshots().is_none() {
            return;
        }
        let (saver, store, key) = (Arc::clone(self), store.clone(), key.clone());
        tokio::spawn(async move {
            let turn = saver.turns.acquire().await;
            let part = SnapshotPart::Commands(segment.number);
            match store.save_snapshot(&key, part, segment.write()).await {
                Ok(()) => saver.warnings.works::<A>(Failed::Save),
                Err(error) => saver.warnings.failed::<A>(Failed::Save, &key, &error),
            }
            drop(turn);
        });
    }
}
