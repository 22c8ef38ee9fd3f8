//! The state that a command is decided on (cold load, catch-up, confirmation), read again while the store does not answer.

use std::time::Duration;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

use crate::{
    base::{backoff, error::StoreError, id::AggregateKey},
    model::aggregate::Aggregate,
    port::event_store::EventStore,
    write::{resources::Shell, state::Loaded},
};

/// The aggregate's state: the known one as it is, or with what was stored since if it is stale. `behind` says that the
/// last one turned out to be an old one: a replica that lags would show it again, so the leader is asked. A state from
/// another era of the store is compared with the log first.
pub(crate) async fn load<A: Aggregate, S: EventStore>(
    shell: &Shell<S>,
    key: &AggregateKey,
    mut known: Option<Box<Loaded<A>>>,
    behind: bool,
) -> Result<Box<Loaded<A>>, StoreError> {
    let mut era = shell.events.era();
    match &mut known {
        // That there is no commit is proved by the append itself, or confirmed.
        Some(loaded) if !loaded.stale && loaded.version == 0 => loaded.era = era,
        Some(loaded) if loaded.stale || loaded.era != era => loaded.doubt(),
        _ => {}
    }
    if let Some(loaded) = known.take_if(|loaded| !loaded.stale && !loaded.unproved) {
        return Ok(loaded);
    }
    let mut attempts = Attempts::new(shell.limits.patience);
    loop {
        let mut cold = known.is_none();
        let mut loaded = match known.take() {
            Some(loaded) => loaded,
            None => Box::new(begin(shell, key, &mut attempts).await?),
        };
        while loaded.stale || (!loaded.confirmed && (behind || loaded.unproved)) {
            if loaded.stale {
                let turn = if cold { Some(attempts.turn(&shell.cold_loads, key).await?) } else { None };
                let read = loaded.catch_up(&*shell.events).await;
                drop(turn);
                attempts.after(read).await?;
            } else {
                let confirmed = loaded.confirm(&*shell.events).await;
                attempts.after(confirmed).await?;
                // It was another history.
                cold |= loaded.stale;
            }
        }
        let now = shell.events.era();
        if now == era {
            loaded.era = era;
            return Ok(loaded);
        }
        // Some of it may be from one log and the rest from another.
        let what = format!("the log may have become another one while {key} was read");
        attempts.after(Err(StoreError::Unavailable { what, source: None })).await?;
        era = now;
    }
}

/// An aggregate of which nothing is known: its snapshot, if it has one, or its first commits.
async fn begin<A: Aggregate, S: EventStore>(
    shell: &Shell<S>,
    key: &AggregateKey,
    attempts: &mut Attempts,
) -> Result<Loaded<A>, StoreError> {
    let mut loaded = Loaded::from_snapshot(key.clone(), &*shell.events).await;
    if loaded.stale && !loaded.unproved {
        attempts.after(loaded.probe(&*shell.events, &shell.first_page).await).await?;
    }
    Ok(loaded)
}

/// Makes sure that the state is the current one; false when it was not, and has been brought up or has to be loaded.
pub(crate) async fn confirm<A: Aggregate, S: EventStore>(
    shell: &Shell<S>,
    loaded: &mut Loaded<A>,
) -> Result<bool, StoreError> {
    let before = loaded.version;
    let mut attempts = Attempts::new(shell.limits.patience);
    while !loaded.confirmed && !loaded.stale {
        let era = shell.events.era();
        let confirmed = match before {
            0 => loaded.confirm_new(&*shell.events).await,
            _ => loaded.confirm(&*shell.events).await,
        };
        if loaded.version != before && shell.events.era() != era {
            // Some of it may be from one log and the rest from another.
            loaded.forget();
        }
        loaded.era = era;
        attempts.after(confirmed).await?;
    }
    Ok(loaded.version == before && !loaded.stale)
}

/// Reads that are tried again while the store does not answer.
struct Attempts {
    deadline: Instant,
    failed: u32,
}

impl Attempts {
    fn new(patience: Duration) -> Self {
        Self { deadline: Instant::now() + patience, failed: 0 }
    }

    /// Waits for a turn to read, while there is time.
    async fn turn<'a>(
        &self,
        turns: &'a Semaphore,
        key: &AggregateKey,
    ) -> Result<SemaphorePermit<'a>, StoreError> {
        let turn = timeout_at(self.deadline, turns.acquire()).await;
        turn.ok().and_then(Result::ok).ok_or_else(|| {
            let what = format!("too many others are being read before {key}");
            StoreError::Unavailable { what, source: None }
        })
    }

    /// Lets a success pass, and pauses after a failure that may pass by itself, if there is time.
    async fn after(&mut self, read: Result<(), StoreError>) -> Result<(), StoreError> {
        let Err(error) = read else { return Ok(()) };
        let pause = backoff::pause(Duration::from_millis(20), Duration::from_millis(200), self.failed);
        if !error.is_transient() || Instant::now() + pause > self.deadline {
            return Err(error);
        }
        self.failed += 1;
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
