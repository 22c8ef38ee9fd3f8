//! How many tests of a process use servers at a time: as many as there are processors, whatever the number of threads.
//!
//! With 32 threads on two processors, 32 services and their servers would all run at once, and answers would take longer
//! than any client waits for them. So whoever asks for a server, or for what starts one, waits for the test's turn here.

use std::{
    sync::{Arc, LazyLock},
    thread::{self, available_parallelism},
    time::Duration,
};

use tokio::{
    sync::{OnceCell, Semaphore, SemaphorePermit},
    task,
    time::timeout,
};

/// A test that has waited for so long goes on without a turn, since those before it may wait for it.
const LONGEST: Duration = Duration::from_mins(10);

static TURNS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(available_parallelism().map_or(2, usize::from).max(2)));

thread_local! {
    /// The turn of the test that runs on this thread, which ends with it. All parts of the test wait for this one.
    static MINE: Arc<OnceCell<Option<SemaphorePermit<'static>>>> = Arc::default();
}

/// Waits until the test may use servers; it has its turn until its thread ends.
pub(crate) async fn turn() {
    // Tasks and threads that a test has spawned are a part of it. The threads of tests have names.
    if task::try_id().is_some() || thread::current().name().is_none() {
        return;
    }
    let mine = MINE.with(Arc::clone);
    mine.get_or_init(async || timeout(LONGEST, TURNS.acquire()).await.ok().and_then(Result::ok)).await;
}
