//! A process that is stopped for a while, as by SIGSTOP, and continues.

use std::sync::mpsc::{Sender, channel};

use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
};

/// A runtime with one thread in place of a process.
#[derive(Debug)]
pub struct Process(Option<Runtime>);

impl Process {
    /// A running one.
    ///
    /// # Panics
    ///
    /// When there are no more threads.
    #[expect(clippy::new_without_default, reason = "it starts a thread")]
    pub fn new() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self(Some(runtime.expect("a runtime")))
    }

    /// Runs a future in it.
    ///
    /// # Panics
    ///
    /// Never: it runs until it is dropped.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.0.as_ref().expect("it runs").spawn(work)
    }

    /// Stops all of it until the sender is dropped.
    pub fn stop(&self) -> Sender<()> {
        let (go_on, stopped) = channel();
        self.spawn(async move { stopped.recv().is_ok() });
        go_on
    }
}

impl Drop for Process {
    /// Ends it at once.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
