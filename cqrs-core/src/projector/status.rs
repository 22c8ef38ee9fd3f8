//! The status of a projector and its rate.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

use crate::{base::id::ProjectionId, port::view_store::Reached};

/// What a projector is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProjectorState {
    /// It reads its checkpoint and subscribes.
    Starting,
    /// It follows the log.
    Running,
    /// A failure that may pass; the projector tries again by itself.
    Retrying {
        /// What failed.
        reason: String,
    },
    /// A failure that will not pass by itself. Nothing is lost: the view stays as it was, and the projector continues
    /// from its checkpoint when the service starts again.
    Halted {
        /// What failed.
        reason: String,
    },
    /// The service stopped it.
    Stopped,
    /// Another build is about to become active in place of its build, or has done so.
    Replaced,
    /// The service runs no projectors: it was started with [`without_projectors`](crate::Builder::without_projectors).
    Elsewhere,
}

impl ProjectorState {
    /// Whether the projector has ended in this state.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Starting | Self::Running | Self::Retrying { .. } => false,
            Self::Halted { .. } | Self::Stopped | Self::Replaced | Self::Elsewhere => true,
        }
    }
}

/// The status of one projector. Its `Debug` is one short line: the times are there if they are known.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProjectorStatus {
    /// The projection.
    pub projection: ProjectionId,
    /// Its state.
    pub state: ProjectorState,
    /// The last sequence that it saved, or found saved.
    pub sequence: u64,
    /// About how many commits it has still to project.
    pub pending: u64,
    /// The time of the first of these commits, if known: [`Cqrs::progress`](crate::Cqrs::progress) asks for it.
    pub pending_since: Option<Timestamp>,
    /// The time of the last event that it has projected.
    pub last_event: Option<Timestamp>,
    /// How many commits per second it projected in the last 5 to 10 seconds; 0 if it had nothing to project.
    pub rate: u64,
    /// The number of its dead letters.
    pub dead_letters: usize,
    /// Whether a process follows the log for it, this one or another: [`Cqrs::progress`](crate::Cqrs::progress) asks for
    /// it. `None` if the event store cannot tell, or was not asked.
    pub active: Option<bool>,
    pub(crate) pace: Option<Pace>,
}

impl ProjectorStatus {
    pub(crate) fn starting(projection: ProjectionId) -> Self {
        Self {
            projection,
            state: ProjectorState::Starting,
            sequence: 0,
            pending: 0,
            pending_since: None,
            last_event: None,
            rate: 0,
            dead_letters: 0,
            active: None,
            pace: None,
        }
    }

    /// The status with the rate at `now`: the rate falls while no commits arrive.
    pub(crate) fn at(mut self, now: Instant) -> Self {
        self.rate = self.pace.as_ref().map_or(0, |pace| pace.rate(now));
        self
    }

    /// The position, for calls that wait for it.
    pub(crate) fn reached(&self) -> Reached {
        Reached { sequence: self.sequence, dead_letters: self.dead_letters as u64 }
    }

    /// How far the view is behind in time, at `now`: the age of the first event that it has still to project or, if
    /// that is unknown, of the last event that it has projected. Zero if no commits are pending.
    pub fn lag(&self, now: Timestamp) -> Duration {
        let behind = self.pending_since.or(self.last_event).filter(|_| self.pending > 0);
        behind.map_or(Duration::ZERO, |event| now.duration_since(event).try_into().unwrap_or_default())
    }

    /// The estimated time for the pending commits at the present rate; `None` while the rate is 0.
    pub fn remaining(&self) -> Option<Duration> {
        if self.pending == 0 {
            return Some(Duration::ZERO);
        }
        (self.rate > 0).then(|| Duration::from_secs(self.pending.div_ceil(self.rate)))
    }
}

#[expect(clippy::missing_fields_in_debug, reason = "of the pace the rate is shown")]
impl fmt::Debug for ProjectorStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ProjectorStatus");
        shown.field("projection", &format_args!("{}", self.projection)).field("state", &self.state);
        shown.field("sequence", &self.sequence).field("pending", &self.pending);
        for (name, time) in [("pending_since", self.pending_since), ("last_event", self.last_event)] {
            if let Some(time) = time {
                shown.field(name, &format_args!("{time}"));
            }
        }
        shown.field("rate", &self.rate).field("dead_letters", &self.dead_letters).finish()
    }
}

/// The length of the window in which commits are counted.
const WINDOW: Duration = Duration::from_secs(5);

/// The rate of commits per second, over the last one or two [`WINDOW`]s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pace {
    from: Instant,
    count: u64,
    /// The window before the current one.
    before: Option<(Instant, u64)>,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { from: now, count: 0, before: None }
    }

    pub(crate) fn count(&mut self, commits: usize, now: Instant) {
        if now - self.from > WINDOW {
            // After a longer silence the last window says nothing about the present rate.
            let recent = now - self.from < 2 * WINDOW;
            self.before = recent.then_some((self.from, self.count));
            (self.from, self.count) = (now, 0);
        }
        self.count += commits as u64;
    }

    pub(crate) fn rate(&self, now: Instant) -> u64 {
        if now - self.from > 2 * WINDOW {
            return 0;
        }
        let (from, before) = self.before.unwrap_or((self.from, 0));
        // The shortest time that is divided by is a second: the commits of an instant count as those of a whole second.
        let seconds = (now - from).as_secs_f64().max(1.0);
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let rate = ((self.count + before) as f64 / seconds).ceil() as u64;
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_follows_what_comes() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for second in 1..=20 {
            pace.count(100, start + Duration::from_secs(second));
        }
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!((80..=120).contains(&pace.rate(after(20))), "{}", pace.rate(after(20)));
        assert!(pace.rate(after(25)) < pace.rate(after(20)), "it goes down while nothing comes");
        assert_eq!(pace.rate(after(40)), 0, "and is over some seconds later");
        pace.count(10, after(1_000));
        assert_eq!(pace.rate(after(1_000)), 10, "a moment is no measure");
    }

    #[test]
    fn a_status_is_shown_without_what_it_is_computed_from() {
        let mut status =
            ProjectorStatus::starting(ProjectionId { build: 2, ..ProjectionId::new("board", 1) });
        status.pace = Some(Pace::new(Instant::now()));
        (status.state, status.sequence) = (ProjectorState::Running, 17);
        assert_eq!(
            format!("{status:?}"),
            "ProjectorStatus { projection: board-v1-b2, state: Running, sequence: 17, pending: 0, rate: 0, \
             dead_letters: 0 }"
        );
        status.state = ProjectorState::Retrying { reason: "no answer".to_owned() };
        status.last_event = Timestamp::new(0, 0).ok();
        assert_eq!(
            format!("{status:?}"),
            "ProjectorStatus { projection: board-v1-b2, state: Retrying { reason: \"no answer\" }, sequence: 17, \
             pending: 0, last_event: 1970-01-01T00:00:00Z, rate: 0, dead_letters: 0 }"
        );
    }

    #[test]
    fn the_rest_is_estimated_from_the_rate() {
        let mut status = ProjectorStatus::starting(ProjectionId::new("view", 1));
        assert_eq!(status.remaining(), Some(Duration::ZERO));
        status.pending = 1_001;
        assert_eq!(status.remaining(), None);
        status.rate = 100;
        assert_eq!(status.remaining(), Some(Duration::from_secs(11)));
        status.last_event = Timestamp::new(100, 0).ok();
        assert_eq!(status.lag(Timestamp::new(130, 0).unwrap()), Duration::from_secs(30));
        status.pending_since = Timestamp::new(129, 0).ok();
        assert_eq!(status.lag(Timestamp::new(130, 0).unwrap()), Duration::from_secs(1));
        status.pending = 0;
        assert_eq!(status.lag(Timestamp::new(130, 0).unwrap()), Duration::ZERO);
    }
}
