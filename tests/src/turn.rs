//! Limits how many tests of a process use servers at the same time to the number of processors, whatever the number of
//! threads.
//!
//! With 32 threads on two processors, 32 services and their servers would all run at once, and answers would take
//! longer than any client waits for them. So a call that asks for a server, or for something that starts one, waits
//! here until the test has a permit.

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

/// A test that has waited for so long continues without a permit, because the tests with permits may wait for it.
const LONGEST: Duration = Duration::from_mins(10);

static TURNS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(available_parallelism().map_or(2, usize::from).max(2)));

thread_local! {
    /// The permit of the test on this thread, which is released with the thread. All parts of the test share it.
    static MINE: Arc<OnceCell<Option<SemaphorePermit<'static>>>> = Arc::default();
}

/// Waits until the test has a permit to use servers, and keeps it until the test's thread ends.
pub(crate) async fn turn() {
    // Tasks and threads that a test has spawned are a part of it. The threads of tests have names.
    if task::try_id().is_some() || thread::current().name().is_none() {
        return;
    }
    let mine = MINE.with(Arc::clone);
    mine.get_or_init(async || timeout(LONGEST, TURNS.acquire()).await.ok().and_then(Result::ok)).await;
}
