//! What a context tells others: the trait.

use crate::{
    log::envelope::Envelope,
    model::{
        follow::{OnFailure, Retry, Start},
        source::EventSource,
    },
};

/// Announces chosen events of an aggregate to other contexts, under stable names of their own, in a public log; see
/// [`Builder::announcer`](crate::Builder::announcer). A running example is at
/// [several contexts](crate::guide::contexts).
///
/// It is effectively once: each event is announced once and in the order of its aggregate, whatever crashes in between.
/// The ids of announcements follow from the events', and each is appended to the public log under the condition that
/// nothing came in between. What it costs is one append for each announcement, and one write for each batch of events.
pub trait Announce: Send + Sync + 'static {
    /// The stored name, such as `shop-announcer`: `a-z`, `0-9`, `_` and `-`. The ids of announcements are derived from
    /// it, and under it progress is kept: it stays as it is.
    const NAME: &'static str;

    /// What becomes of an event that cannot be announced: it cannot be read, or the rule panics.
    const ON_FAILURE: OnFailure = OnFailure::Park;

    /// How long it waits for what may pass by itself, before it does that: a program that knows an event, during a
    /// rolling update.
    const RETRY: Retry = Retry::DEFAULT;

    /// The stored names of events, such as `order.noted`, that the announcer passes over without reading them, in
    /// all versions, also when this program does not know them.
    const IGNORED: &'static [&'static str] = &[];

    /// Where in the log the announcer begins, the first time that it runs.
    const START: Start = Start::Beginning;

    /// The aggregate whose events it looks at.
    type Of: EventSource;

    /// What others see. Each aggregate's announcements stand under its own id.
    type As: EventSource;

    /// What others are told about an event; nothing if it is none of their business. No clock, no randomness, no
    /// input or output.
    fn announce(
        event: &Envelope<<Self::Of as EventSource>::Event>,
    ) -> Option<<Self::As as EventSource>::Event>;
}
