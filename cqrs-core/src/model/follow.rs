//! What a projection says of itself: where it begins, and what happens to an event that cannot be applied.

use std::time::Duration;

/// What a projector does with an event that cannot be applied, once trying again has not helped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// Sets it and the later events of its aggregate aside as dead letters, and goes on with the others.
    #[default]
    Park,
    /// Halts before it, so that nobody reads a view in which it is missing.
    Halt,
}

/// Where in the log a projection begins, the first time that it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// With the first event.
    #[default]
    Beginning,
    /// After the last event that is there when it runs for the first time.
    Now,
}

/// How long a projection waits for what may pass by itself: an outage of what it needs, or a program that knows an event.
///
/// Meanwhile nothing behind the event is applied, of no aggregate, so that order is kept and nobody is set aside for what
/// is nobody's fault. The projector says what it waits for ([`ProjectorState::Retrying`](crate::operate::ProjectorState)) and
/// goes on by itself. Only then the event is set aside, or the projector halts, as
/// [`OnFailure`](crate::OnFailure) says.
///
/// ```
/// # use std::time::Duration;
/// # use cqrs_core::Retry;
/// const RETRY: Retry = Retry { outage: Duration::from_secs(3_600), ..Retry::DEFAULT };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How long an event is tried again that fails for a reason which may pass, such as a mail server that does not
    /// answer. What fails for another reason is set aside at once.
    pub outage: Duration,
    /// How often it is tried at least, however long that takes.
    pub tries: u32,
    /// How long an event waits that this program does not know. During a rolling update an instance of the newer program
    /// takes its place, since this one gives up its turn. Where no instance knows it, one event of each type waits.
    pub unknown: Duration,
}

impl Retry {
    /// What holds unless a projection says otherwise: ten minutes and five tries, and half a minute for what is unknown.
    pub const DEFAULT: Self =
        Self { outage: Duration::from_secs(600), tries: 5, unknown: Duration::from_secs(30) };

    /// Waits for nothing: what fails is set aside at once.
    pub const NEVER: Self = Self { outage: Duration::ZERO, tries: 1, unknown: Duration::ZERO };
}

impl Default for Retry {
    fn default() -> Self {
        Self::DEFAULT
    }
}
