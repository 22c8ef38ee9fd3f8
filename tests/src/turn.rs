//! How many tests of a process use servers at a time: as many as there are processors, whatever the number of threads.
//!
//! With 32 threads on two processors, 32 services and their servers would all run at once, and answers would take longer
//! than any client waits for them.

use std::{
    cell::RefCell,
    sync::{Arc, LazyLock, Weak},
    thread::available_parallelism,
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// A test that has waited for so long goes on without a turn, since those before it may wait for it.
const LONGEST: Duration = Duration::from_mins(10);

static TURNS: LazyLock<Arc<Semaphore>> =
    LazyLock::new(|| Arc::new(Semaphore::new(available_parallelism().map_or(2, usize::from).max(2))));

thread_local! {
    /// The turn of the test that runs on this thread.
    static MINE: RefCell<Weak<OwnedSemaphorePermit>> = const { RefCell::new(Weak::new()) };
}

/// What a test holds while it uses servers; the parts of one test share it.
#[derive(Debug, Clone)]
pub(crate) struct Turn(#[expect(dead_code, reason = "it is held")] Option<Arc<OwnedSemaphorePermit>>);

/// Waits until the test may use servers.
pub(crate) async fn turn() -> Turn {
    if let Some(mine) = MINE.with_borrow(Weak::upgrade) {
        return Turn(Some(mine));
    }
    let Ok(Ok(permit)) = timeout(LONGEST, Arc::clone(&TURNS).acquire_owned()).await else {
        return Turn(None);
    };
    let permit = Arc::new(permit);
    MINE.set(Arc::downgrade(&permit));
    Turn(Some(permit))
}
