//! The settings of a projection: where it begins, and what happens with an event that cannot be applied.

use std::time::Duration;

/// What a projector does with an event that cannot be applied, after the retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// Sets it and the later events of its aggregate aside as dead letters, and continues with the others.
    #[default]
    Park,
    /// Halts before it, so that no query is answered from a view without it.
    Halt,
}

/// Where in the log a projection begins when it runs for the first time. Afterwards it continues where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the first event: everything that has ever happened has its effect.
    Beginning,
    /// After the last event that the log has when the projection runs for the first time: only what happens from then
    /// on has its effect. In a new service, whose log is empty, both are the same.
    Now,
}

/// How long a projection waits for a failure that may pass: an outage, or an event that only another program knows.
///
/// Meanwhile no later event of any aggregate is applied, so that order is kept and an outage sets no event aside. The
/// projector reports the cause ([`ProjectorState::Retrying`](crate::operate::ProjectorState)) and continues by itself.
/// After this time the event is set aside, or the projector halts, as [`OnFailure`](crate::OnFailure) says.
///
/// ```
/// # use std::time::Duration;
/// # use cqrs_core::Retry;
/// const RETRY: Retry = Retry { outage: Duration::from_secs(3_600), ..Retry::DEFAULT };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How long an event is retried that fails transiently, such as while a mail server does not answer. An event that
    /// fails for another reason is set aside at once.
    pub outage: Duration,
    /// The fewest attempts, however long they take.
    pub tries: u32,
    /// How long an unknown event waits. During a rolling update an instance of the newer program becomes active in
    /// place of this one, which gives up its subscription. If no instance knows the event, only the first event of its
    /// type and version waits: for five minutes after that, the others are set aside at once.
    pub unknown: Duration,
}

impl Retry {
    /// The default: ten minutes and five attempts, and half a minute for an unknown event.
    pub const DEFAULT: Self =
        Self { outage: Duration::from_secs(600), tries: 5, unknown: Duration::from_secs(30) };

    /// No wait: an event that fails is set aside at once.
    pub const NEVER: Self = Self { outage: Duration::ZERO, tries: 1, unknown: Duration::ZERO };
}

impl Default for Retry {
    fn default() -> Self {
        Self::DEFAULT
    }
}
