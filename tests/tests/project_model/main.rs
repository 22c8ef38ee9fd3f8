//! A model of the projection protocol.
#![cfg(not(feature = "testcontainers"))]
mod consumer;
mod model;
mod store;
mod worker;

use stateright::{Checker as _, Expectation, HasDiscoveries, Model as _};

use model::{
    AGAIN, BEHIND, BOTH, CAUGHT_UP, EXACT, FORWARD, LATE, ONCE, ORDERED, ORPHANED, PARKED, RECOVERS, RETRIED,
};

/// What is checked: which log is projected by whom, within which bounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    variant: Variant,
    /// The events in order: the letter of their aggregate, a capital if they cannot be applied at first;
    /// `-` is one of another type.
    log: &'static str,
    /// How many of them there are at the start.
    appended: usize,
    /// How often each worker may crash.
    crashes: &'static [usize],
    /// How often something may be delivered again.
    redeliveries: usize,
    /// How often somebody retries what is parked.
    retries: usize,
    /// How many deliveries may wait at a worker.
    inbox: usize,
    /// Whether documents may be read from a replica that lags.
    lags: bool,
    /// Whether each state is tried for whether one worker gets to the end from there.
    recovers: bool,
}

/// The protocol, or the protocol with one step left out or done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    AsWritten,
    FollowsTheName,
    JoinsAnothers,
    ComparesNothing,
    ComparesNoDocuments,
    CheckpointFirst,
    CheckpointLast,
    IgnoresGaps,
    FoldsAgain,
    ResumesAtAckFloor,
    SendsAgain,
    RefreshesRevisions,
    ParksOne,
    ParksBefore,
    ParksAfter,
    RetriesBeside,
    RemembersLetters,
    ReadsLettersFirst,
}

const BASE: Setup = Setup {
    variant: Variant::AsWritten,
    log: "a-ba",
    appended: 3,
    crashes: &[1],
    redeliveries: 1,
    retries: 0,
    inbox: 2,
    lags: false,
    recovers: true,
};
const TWO: Setup = Setup { crashes: &[0, 0], log: "a-b", redeliveries: 0, ..BASE };
const PARKING: Setup = Setup { log: "Aba", appended: 3, crashes: &[0], retries: 2, redeliveries: 0, ..BASE };

#[test]
fn probe() {
    holds(BASE, &[CAUGHT_UP]);
    holds(PARKING, &[CAUGHT_UP, RETRIED]);
    holds(TWO, &[CAUGHT_UP]);
}

fn holds(setup: Setup, reached: &[&'static str]) {
    let start = std::time::Instant::now();
    let checked = setup.checker().spawn_bfs().join();
    println!("{} states of {setup:?} {:?}", checked.unique_state_count(), start.elapsed());
    for property in setup.properties() {
        if property.expectation == Expectation::Always {
            checked.assert_no_discovery(property.name);
        }
    }
    for name in reached {
        checked.assert_any_discovery(name);
    }
}

fn breaks(setup: Setup, property: &'static str) {
    let found = HasDiscoveries::AnyOf([property].into());
    let checked = setup.checker().finish_when(found).spawn_bfs().join();
    println!("{} states of {setup:?}, looking for a case against: {property}", checked.unique_state_count());
    let case = checked.discovery(property);
    if let Some(case) = &case {
        println!("  {:?}", case.clone().into_actions());
    }
    assert!(case.is_some(), "nothing breaks \"{property}\" in {setup:?}");
}
