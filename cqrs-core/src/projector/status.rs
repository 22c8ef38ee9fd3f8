//! What a projector is doing, and how fast.

use std::time::Duration;

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
    /// Something failed that may pass; it tries again by itself.
    Retrying {
        /// What failed.
        reason: String,
    },
    /// Something failed that will not pass by itself. Nothing is lost: the view stands where it was,
    /// and the projector goes on from there when the service starts again.
    Halted {
        /// What failed.
        reason: String,
    },
    /// It was told to stop.
    Stopped,
    /// Another build is about to take the place of its build, or has done so.
    Replaced,
    /// It is none of this service's, which was started with
    /// [`without_projectors`](crate::Builder::without_projectors).
    Elsewhere,
}

impl ProjectorState {
    /// Whether the projector has ended with it.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Starting | Self::Running | Self::Retrying { .. } => false,
            Self::Halted { .. } | Self::Stopped | Self::Replaced | Self::Elsewhere => true,
        }
    }
}

/// One projector, seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProjectorStatus {
    /// Which projection.
    pub projection: ProjectionId,
    /// What it is doing.
    pub state: ProjectorState,
    /// The last sequence that it saved or found saved.
    pub sequence: u64,
    /// About how many commits it has still to project.
    pub pending: u64,
    /// When the first of them happened, where that is known: [`Cqrs::progress`](crate::Cqrs::progress) asks for it.
    pub pending_since: Option<Timestamp>,
    /// When the last event happened that it has projected.
    pub last_event: Option<Timestamp>,
    /// How many commits it has projected in a second lately; 0 when there was nothing to do for some seconds.
    pub rate: u64,
    /// How many dead letters it has.
    pub dead_letters: usize,
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
            pace: None,
        }
    }

    /// It as it is now: a rate goes down while nothing comes.
    pub(crate) fn at(mut self, now: Instant) -> Self {
        self.rate = self.pace.as_ref().map_or(0, |pace| pace.rate(now));
        self
    }

    /// Where the projection is, for those who wait for it.
    pub(crate) fn reached(&self) -> Reached {
        Reached { sequence: self.sequence, dead_letters: self.dead_letters as u64 }
    }

    /// How far the view is behind in time, at `now`: the age of the first event that it has still to project, or,
    /// where that is not known, of the last one that it has; zero while there are none.
    pub fn lag(&self, now: Timestamp) -> Duration {
        let behind = self.pending_since.or(self.last_event).filter(|_| self.pending > 0);
        behind.map_or(Duration::ZERO, |event| now.duration_since(event).try_into().unwrap_or_default())
    }

    /// How long the rest will take at the present rate; none while that is not known.
    pub fn remaining(&self) -> Option<Duration> {
        if self.pending == 0 {
            return Some(Duration::ZERO);
        }
        (self.rate > 0).then(|| Duration::from_secs(self.pending.div_ceil(self.rate)))
    }
}

/// Over how long a rate is taken.
const WINDOW: Duration = Duration::from_secs(5);

/// How many commits come in a second: those of the last [`WINDOW`] or two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pace {
    from: Instant,
    count: u64,
    /// The window before this one.
    before: Option<(Instant, u64)>,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { from: now, count: 0, before: None }
    }

    pub(crate) fn count(&mut self, commits: usize, now: Instant) {
        if now - self.from > WINDOW {
            // After a long silence the last window says nothing about now.
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
        // What came within a moment says little about a second, so that it is taken as all that came in one.
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
