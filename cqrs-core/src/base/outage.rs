//! The outages of a service's stores in the log: one line when one begins and one when it is over, however many parts of
//! the service notice it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::time::Instant;

use crate::base::{source::describe, store_error::StoreError};

/// How often in a row a part of a service has to fail until that is an outage: a single failure is usual, as when
/// another instance becomes active.
const OFTEN: u32 = 2;

/// The outages of the stores of a service. Clones share them.
///
/// Each part of a service that fails without its stores reports here, as do adapters that know of a lost connection
/// ([`Capabilities::outages`](crate::port::Capabilities::outages)). The first report of an outage is a warning in the log.
/// When all parts work again, that is one more line. An error of another kind meanwhile, such as a full disk after a
/// store that did not answer, is another warning.
///
/// When all services that had these outages have stopped, nothing is logged: their stores may be stopped, too.
#[derive(Clone, Default)]
pub struct Outages(Arc<Mutex<State>>);

/// A part that depends on a store, and reports whether it works. Dropping it ends its reports.
pub struct OutagePart {
    outages: Outages,
    number: u64,
    name: String,
    /// Whether its last report was a failure, so that a success need not lock.
    fails: AtomicBool,
}

/// A running service. Dropping it says that the service has stopped.
pub(crate) struct Serving(Outages);

#[derive(Default)]
struct State {
    /// The number of the next part.
    next: u64,
    /// How often in a row each failing part has failed.
    failing: BTreeMap<u64, u32>,
    /// The kinds of errors that were logged. It is not empty while an outage lasts.
    logged: Vec<Kind>,
    begun: Option<Instant>,
    services: Services,
}

/// The running services, if there was one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Services {
    #[default]
    NoneYet,
    Running(usize),
}

/// The errors that one line of an outage tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    NoAnswer,
    Stalled,
    Full,
    Missing,
    Disabled,
    Refused,
}

impl Kind {
    fn of(error: &StoreError) -> Self {
        match error {
            StoreError::Stalled { .. } => Self::Stalled,
            StoreError::Full { .. } => Self::Full,
            StoreError::Missing { .. } => Self::Missing,
            StoreError::Disabled { .. } => Self::Disabled,
            error if error.is_transient() => Self::NoAnswer,
            _ => Self::Refused,
        }
    }
}

impl Outages {
    /// A part of a service, with its name for the log.
    pub fn part(&self, name: impl Into<String>) -> OutagePart {
        let mut state = self.lock();
        state.next += 1;
        let (outages, number) = (self.clone(), state.next);
        OutagePart { outages, number, name: name.into(), fails: AtomicBool::new(false) }
    }

    /// A service that runs from now on.
    pub(crate) fn serve(&self) -> Serving {
        let mut state = self.lock();
        state.services = match state.services {
            Services::NoneYet => Services::Running(1),
            Services::Running(number) => Services::Running(number + 1),
        };
        Serving(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Outages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outages").field("logged", &self.lock().logged).finish_non_exhaustive()
    }
}

impl OutagePart {
    /// The outages that it reports to.
    pub fn outages(&self) -> &Outages {
        &self.outages
    }

    /// Reports a failure that is an outage, such as a lost connection.
    pub fn lost(&self, error: &StoreError) {
        self.report(error, OFTEN);
    }

    /// Reports a failure that may be the first of an outage, or pass at once.
    pub fn failed(&self, error: &StoreError) {
        self.report(error, 1);
    }

    /// Reports a success.
    pub fn works(&self) {
        if !self.fails.swap(false, Ordering::AcqRel) {
            return;
        }
        let mut state = self.outages.lock();
        let begun = state.begun;
        // Logged under the lock, so that the lines are in order.
        if state.works(self.number) && !state.is_silent() {
            let lasted = begun.map(|begun| begun.elapsed()).unwrap_or_default();
            tracing::info!(?lasted, "the outage is over, and everything goes on");
        }
    }

    fn report(&self, error: &StoreError, weight: u32) {
        self.fails.store(true, Ordering::Release);
        let mut state = self.outages.lock();
        if state.fails(self.number, weight, Kind::of(error)) && !state.is_silent() {
            let (noticed_by, error) = (&self.name, describe(error));
            tracing::warn!(noticed_by, error, "an outage: what needs the store waits, and goes on by itself");
        } else {
            tracing::debug!(part = self.name, error = describe(error), "it fails and tries again");
        }
    }
}

impl Drop for OutagePart {
    fn drop(&mut self) {
        self.outages.lock().works(self.number);
    }
}

impl fmt::Debug for OutagePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutagePart").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if let Services::Running(number) = &mut state.services {
            *number -= 1;
        }
    }
}

impl State {
    /// Whether all services have stopped.
    fn is_silent(&self) -> bool {
        self.services == Services::Running(0)
    }

    /// Notes a failure; returns whether it is a new line in the log.
    fn fails(&mut self, part: u64, weight: u32, kind: Kind) -> bool {
        let failures = self.failing.entry(part).or_default();
        *failures = failures.saturating_add(weight);
        let is_outage = *failures >= OFTEN || !self.logged.is_empty();
        let is_new = is_outage && !self.logged.contains(&kind);
        if is_new {
            self.logged.push(kind);
            self.begun.get_or_insert_with(Instant::now);
        }
        is_new
    }

    /// Notes that a part works; returns whether an outage is over.
    fn works(&mut self, part: u64) -> bool {
        self.failing.remove(&part);
        let is_over = self.failing.is_empty() && !self.logged.is_empty();
        if is_over {
            self.logged.clear();
            self.begun = None;
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: [u64; 3] = [1, 2, 3];

    #[test]
    fn an_outage_is_one_line_for_all_parts_and_one_when_all_work() {
        let mut state = State::default();
        assert!(!PARTS.into_iter().any(|part| state.fails(part, 1, Kind::NoAnswer)), "a single failure");
        assert!(state.fails(2, 1, Kind::NoAnswer));
        for _ in 0..10 {
            assert!(!PARTS.into_iter().any(|part| state.fails(part, 1, Kind::NoAnswer)));
        }
        assert!(!state.works(1) && !state.works(3));
        assert!(!state.fails(1, 1, Kind::NoAnswer), "it is the same outage as long as one part fails");
        assert!(!state.works(2));
        assert!(state.works(1));
        assert!(!state.works(1) && !state.works(2), "it is over once");
        assert!(!state.fails(1, 1, Kind::NoAnswer) && state.fails(1, 1, Kind::NoAnswer), "the next one");
    }

    #[test]
    fn a_lost_connection_is_one_at_once_and_what_passes_is_none() {
        let mut state = State::default();
        assert!(state.fails(1, OFTEN, Kind::NoAnswer));
        assert!(!state.fails(2, 1, Kind::NoAnswer));
        assert!(!state.works(1) && state.works(2));
        for _ in 0..3 {
            assert!(!state.fails(2, 1, Kind::NoAnswer));
            assert!(!state.works(2));
        }
    }

    #[test]
    fn each_kind_of_error_is_a_line() {
        let mut state = State::default();
        assert!(state.fails(1, OFTEN, Kind::NoAnswer));
        assert!(state.fails(2, 1, Kind::Full), "what an operator has to do is not hidden");
        assert!(!state.fails(1, 1, Kind::Full) && !state.fails(2, 1, Kind::NoAnswer));
        assert!(!state.works(1) && state.works(2));
    }

    #[test]
    fn services_that_have_stopped_say_nothing() {
        let outages = Outages::default();
        assert!(!outages.lock().is_silent(), "a connection without a service");
        let first = outages.serve();
        let second = outages.serve();
        drop(first);
        assert!(!outages.lock().is_silent());
        drop(second);
        assert!(outages.lock().is_silent());
        let _third = outages.serve();
        assert!(!outages.lock().is_silent());
    }
}
