//! Log lines, collected for a test to check.
//!
//! `tracing` caches for the whole process whether any subscriber wants a log statement, and asks the subscriber of the
//! thread that reaches the statement first. With a subscriber for each test, a statement that another test's thread
//! reaches first would stay silent for all. So one subscriber serves the process, it is installed before the first
//! statement of each test, and it gives each line to the thread that wrote it.

use std::{cell::RefCell, io, marker::PhantomData, sync::OnceLock};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::dynamic_filter_fn, fmt, layer::SubscriberExt as _, registry};

thread_local! {
    /// The lines of this thread; `None` unless they are collected.
    static COLLECTED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// The lines that this thread logs, from debug level on, until this is dropped.
///
/// Only tests in `tests/tests/lines` collect, and each does so before anything else.
#[derive(Debug)]
pub struct Lines {
    /// It stays on its thread.
    thread: PhantomData<*const ()>,
}

impl Lines {
    /// Collects from now on.
    ///
    /// # Panics
    ///
    /// When the process has a subscriber already, or the thread collects already.
    pub fn collect() -> Self {
        static SUBSCRIBER: OnceLock<()> = OnceLock::new();
        // Other tests wait here, so that no test reaches a statement before the subscriber is installed.
        SUBSCRIBER.get_or_init(install);
        let before = COLLECTED.replace(Some(Vec::new()));
        assert!(before.is_none(), "this thread collects its lines already");
        Self { thread: PhantomData }
    }

    /// All lines so far.
    pub fn text(&self) -> String {
        COLLECTED
            .with_borrow(|lines| String::from_utf8_lossy(lines.as_deref().unwrap_or_default()).into_owned())
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        COLLECTED.take();
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one subscriber")]
fn install() {
    let collects = dynamic_filter_fn(|_, _| COLLECTED.with_borrow(Option::is_some));
    let lines = fmt::layer().with_ansi(false).with_writer(|| ThisThread);
    let subscriber = registry().with(collects.with_max_level_hint(LevelFilter::DEBUG)).with(lines);
    tracing::subscriber::set_global_default(subscriber).expect("no other subscriber");
}

/// Writes to the lines of its thread.
struct ThisThread;

impl io::Write for ThisThread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        COLLECTED.with_borrow_mut(|lines| lines.as_mut().map(|lines| lines.extend_from_slice(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
