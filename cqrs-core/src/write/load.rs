//! Loads the state that a command is decided on: cold load, catch-up, confirmation. While the store does not answer, it
//! is asked again.

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout_at,
};

use crate::{
    base::{id::AggregateKey, patience::Patience, store_error::StoreError},
    model::aggregate::Aggregate,
    port::event_store::EventStore,
    write::{resources::Shell, state::Loaded},
};

/// Returns the aggregate's state: the known state as it is, or, if it is stale, with the commits that were stored
/// since. `behind` says that the last state was stale. A lagging replica would return the same state again, so the
/// leader is asked. A state from another era of the store is first compared with the log.
pub(crate) async fn load<A: Aggregate>(
    shell: &Shell,
    key: &AggregateKey,
    mut known: Option<Box<Loaded<A>>>,
    behind: bool,
) -> Result<Box<Loaded<A>>, StoreError> {
    let era = shell.events.era();
    match &mut known {
        // No check is needed: the append, or `confirm`, proves that the aggregate has no commit.
        Some(loaded) if !loaded.stale && loaded.version == 0 => loaded.era = era,
        Some(loaded) if loaded.stale => loaded.doubt(),
        Some(loaded) => loaded.is_read_in(era),
        None => {}
    }
    if let Some(loaded) = known.take_if(|loaded| !loaded.stale && !loaded.unproved) {
        return Ok(loaded);
    }
    let mut patience = Patience::of(shell.limits.patience);
    let mut cold = known.is_none();
    let mut loaded = match known {
        Some(loaded) => loaded,
        None => Box::new(begin(shell, key, &mut patience).await?),
    };
    while loaded.stale || (!loaded.confirmed && (behind || loaded.unproved)) {
        if loaded.stale {
            let turn = if cold { Some(turn(&shell.cold_loads, key, &patience).await?) } else { None };
            let read = loaded.catch_up(&shell.events).await;
            drop(turn);
            patience.after(read).await?;
        } else {
            let confirmed = loaded.confirm(&shell.events).await;
            patience.after(confirmed).await?;
            // The log has another history: `confirm` dropped the state, so what follows is a cold load.
            cold |= loaded.stale;
        }
    }
    Ok(loaded)
}

/// Begins the load of an aggregate that is not in memory: with its snapshot, or else with its first page of commits.
async fn begin<A: Aggregate>(
    shell: &Shell,
    key: &AggregateKey,
    patience: &mut Patience,
) -> Result<Loaded<A>, StoreError> {
    let mut loaded = Loaded::from_snapshot(key.clone(), &shell.events, &shell.saver.warnings).await;
    if loaded.stale && !loaded.unproved {
        patience.after(loaded.probe(&shell.events, &shell.first_page).await).await?;
    }
    Ok(loaded)
}

/// Makes sure that the state is the current one. Returns false if it was not: it was caught up, or has to be loaded
/// again.
pub(crate) async fn confirm<A: Aggregate>(shell: &Shell, loaded: &mut Loaded<A>) -> Result<bool, StoreError> {
    let before = loaded.version;
    let mut patience = Patience::of(shell.limits.patience);
    while !loaded.confirmed && !loaded.stale {
        let confirmed = match before {
            0 => loaded.confirm_new(&shell.events).await,
            _ => loaded.confirm(&shell.events).await,
        };
        patience.after(confirmed).await?;
    }
    Ok(loaded.version == before && !loaded.stale)
}

/// Waits for a permit to read (one of `Limits::cold_loads`), until `patience` ends.
pub(crate) async fn turn<'a>(
    turns: &'a Semaphore,
    key: &AggregateKey,
    patience: &Patience,
) -> Result<SemaphorePermit<'a>, StoreError> {
    let turn = timeout_at(patience.deadline, turns.acquire()).await;
    turn.ok().and_then(Result::ok).ok_or_else(|| {
        let what = format!("too many others are being read before {key}");
        StoreError::Unavailable { what, source: None }
    })
}
