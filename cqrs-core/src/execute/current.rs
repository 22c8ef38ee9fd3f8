//! The state that a command is decided on: known, loaded or confirmed, and read again while the store does not answer.

use std::time::Duration;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

use super::Shell;
use crate::{Aggregate, AggregateKey, EventStore, StoreError, backoff, load::Loaded};

/// The aggregate's state: the known one as it is, or with what was stored since if it is stale. `behind` says that the
/// last one turned out to be an old one: a replica that lags would show it again, so the leader is asked.
pub(super) async fn load<A: Aggregate, S: EventStore>(
    shell: &Shell<S>,
    key: &AggregateKey,
    known: Option<Box<Loaded<A>>>,
    behind: bool,
) -> Result<Box<Loaded<A>>, StoreError> {
    let mut attempts = Attempts::new(shell.limits.patience);
    let mut loaded = match known {
        Some(loaded) if !loaded.stale => return Ok(loaded),
        Some(mut loaded) => {
            while loaded.stale {
                let read = loaded.catch_up(&*shell.events).await;
                attempts.after(read).await?;
            }
            loaded
        }
        None => Box::new(load_cold(shell, key).await?),
    };
    while behind && !loaded.confirmed {
        let confirmed = loaded.confirm(&*shell.events).await;
        attempts.after(confirmed).await?;
    }
    Ok(loaded)
}

/// An aggregate of which nothing is known: from its snapshot, if it has one, and its commits.
async fn load_cold<A: Aggregate, S: EventStore>(
    shell: &Shell<S>,
    key: &AggregateKey,
) -> Result<Loaded<A>, StoreError> {
    let mut attempts = Attempts::new(shell.limits.patience);
    let mut loaded = Loaded::from_snapshot(key.clone(), &*shell.events).await;
    if loaded.stale && !loaded.unproved {
        attempts.after(loaded.probe(&*shell.events, &shell.first_page).await).await?;
    }
    while loaded.stale {
        let turn = attempts.turn(&shell.cold_loads, key).await?;
        let read = loaded.catch_up(&*shell.events).await;
        drop(turn);
        attempts.after(read).await?;
    }
    Ok(loaded)
}

/// Makes sure that the state is the current one; false when it was not, and has been brought up or has to be loaded.
pub(super) async fn confirm<A: Aggregate, S: EventStore>(
    shell: &Shell<S>,
    loaded: &mut Loaded<A>,
) -> Result<bool, StoreError> {
    let before = loaded.version;
    let mut attempts = Attempts::new(shell.limits.patience);
    while !loaded.confirmed && !loaded.stale {
        let confirmed = match before {
            0 => loaded.confirm_new(&*shell.events).await,
            _ => loaded.confirm(&*shell.events).await,
        };
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
