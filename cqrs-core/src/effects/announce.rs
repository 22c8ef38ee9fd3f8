//! The trait of announcers: what a context publishes to other contexts.

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
/// Announcing is effectively once: each event is announced once and in the order of its aggregate, also after a crash of
/// the announcer, the server or the view store.
/// The ids of announcements are derived from the events' ids, and each is appended to the public log with
/// compare-and-set. The cost is one append for each announcement, and one write for each batch of events.
pub trait Announce: Send + Sync + 'static {
    /// The stored name, such as `shop-announcer`: `a-z`, `0-9`, `_` and `-`. The ids of announcements are derived from
    /// it, and progress is kept under it, so it must not change.
    const NAME: &'static str;

    /// What happens with an event that cannot be announced: it cannot be read, or the rule panics.
    const ON_FAILURE: OnFailure = OnFailure::Park;

    /// How long the announcer waits for a failure that may pass, before it does that: during a rolling update, a
    /// program that knows the event may start.
    const RETRY: Retry = Retry::DEFAULT;

    /// The stored names of events, such as `order.noted`, that the announcer skips without reading them, in all
    /// versions, also if this program does not know them.
    const IGNORED: &'static [&'static str] = &[];

    /// Where in the log the announcer begins when it runs for the first time.
    const START: Start = Start::Beginning;

    /// The aggregate whose events it announces.
    type Of: EventSource;

    /// The events that other contexts see. The announcements of each aggregate have its id.
    type As: EventSource;

    /// The announcement of an event; `None` if the event is not public. No clock, no randomness, no input or output.
    fn announce(
        event: &Envelope<<Self::Of as EventSource>::Event>,
    ) -> Option<<Self::As as EventSource>::Event>;
}
