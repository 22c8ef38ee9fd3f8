//! Log lines, collected for a test to check.
//!
//! `tracing` caches for the whole process whether any subscriber wants a log statement, and asks the subscriber of the
//! thread that reaches the statement first. With a subscriber for each test, a statement that another test's thread
//! reaches first would stay silent for all. So one subscriber serves the process, it is installed before the first
//! statement of each test, and it gives each line to the thread that wrote it.

use std::{cell::RefCell, fmt as text, io, marker::PhantomData, sync::OnceLock};

use tracing::{Event, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    filter::dynamic_filter_fn,
    fmt::{
        self, FmtContext,
        format::{FormatEvent, FormatFields, Writer},
    },
    layer::SubscriberExt as _,
    registry::LookupSpan,
};

thread_local! {
    /// The lines of this thread; `None` unless they are collected.
    static COLLECTED: RefCell<Option<Collected>> = const { RefCell::new(None) };
}

#[derive(Default)]
struct Collected {
    with_spans: Vec<u8>,
    without_spans: Vec<u8>,
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
        let before = COLLECTED.replace(Some(Collected::default()));
        assert!(before.is_none(), "this thread collects its lines already");
        Self { thread: PhantomData }
    }

    /// All lines so far.
    pub fn text(&self) -> String {
        read(|collected| &collected.with_spans)
    }

    /// The lines so far of these levels from our own crates, as a filter that leaves all spans out shows them.
    pub fn without_spans(&self, levels: &[&str]) -> Vec<String> {
        let ours = |line: &&str| {
            let (level, rest) = line.split_once(' ').unwrap_or_default();
            levels.contains(&level) && rest.starts_with("cqrs_")
        };
        read(|collected| &collected.without_spans).lines().filter(ours).map(str::to_owned).collect()
    }
}

fn read(lines: impl FnOnce(&Collected) -> &Vec<u8>) -> String {
    COLLECTED.with_borrow(|collected| {
        collected.as_ref().map(|all| String::from_utf8_lossy(lines(all)).into_owned()).unwrap_or_default()
    })
}

impl Drop for Lines {
    fn drop(&mut self) {
        COLLECTED.take();
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one subscriber")]
fn install() {
    let collects = dynamic_filter_fn(|_, _| COLLECTED.with_borrow(Option::is_some));
    let with_spans = fmt::layer().with_ansi(false).with_writer(|| ThisThread(|all| &mut all.with_spans));
    let alone = fmt::layer().with_ansi(false).event_format(Alone);
    let alone = alone.with_writer(|| ThisThread(|all| &mut all.without_spans));
    let subscriber = tracing_subscriber::registry().with(collects.with_max_level_hint(LevelFilter::DEBUG));
    let subscriber = subscriber.with(with_spans).with(alone);
    tracing::subscriber::set_global_default(subscriber).expect("no other subscriber");
}

/// Writes an event without its spans: `WARN crate::module: field=value message`.
struct Alone;

impl<S, N> FormatEvent<S, N> for Alone
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> text::Result {
        write!(writer, "{} {}: ", event.metadata().level(), event.metadata().target())?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Writes to the lines of its thread.
struct ThisThread(fn(&mut Collected) -> &mut Vec<u8>);

impl io::Write for ThisThread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        COLLECTED.with_borrow_mut(|all| all.as_mut().map(|all| (self.0)(all).extend_from_slice(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
