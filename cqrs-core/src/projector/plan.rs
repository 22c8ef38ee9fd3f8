//! Which events of a batch are applied, and which are set aside: no input or output.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::{
    base::id::{AggregateKey, Position},
    log::recorded::Recorded,
    port::subscription::Delivery,
    projector::dead_letter::{DeadLetter, Failure, Fault, Parked},
};

/// What to do with a chunk of deliveries.
pub(crate) struct Plan<'a> {
    pub(super) events: Vec<Recorded<'a>>,
    pub(super) letters: Vec<DeadLetter>,
}

/// Which events to apply, and which to set aside: those that are known not to work, commits that do not follow the one
/// before them (by their sequences), and all that come after one of these in the same aggregate. What is ignored is
/// neither.
pub(crate) fn plan<'a>(
    chunk: &'a [Delivery],
    ignored: &[&str],
    parked: &Parked,
    gaps: &HashMap<u64, Failure>,
    poison: &HashMap<Position, Failure>,
    now: impl Fn() -> Timestamp,
) -> Plan<'a> {
    let mut plan = Plan { events: Vec::new(), letters: Vec::new() };
    for delivery in chunk {
        match delivery {
            Ok(stored) => {
                let aggregate = &stored.commit.aggregate;
                // What is missing before it may be of any kind.
                if let Some(gap) = gaps.get(&stored.sequence)
                    && let Some(failure) = fate(&plan.letters, parked, aggregate, Some(gap))
                {
                    plan.letters.push(DeadLetter::of_event(&Recorded { stored, index: 0 }, failure, now()));
                    continue;
                }
                let indexes = 0..stored.commit.events.len();
                for event in indexes.map(|index| Recorded { stored, index }) {
                    if ignored.contains(&event.event_type()) {
                        continue;
                    }
                    let failure = poison.get(&event.position());
                    let Some(failure) = fate(&plan.letters, parked, aggregate, failure) else {
                        plan.events.push(event);
                        continue;
                    };
                    // The rest of the commit is behind it, in one letter: a commit has more events than one write takes.
                    plan.letters.push(DeadLetter::of_event(&event, failure, now()));
                    break;
                }
            }
            Err(unreadable) => {
                let (aggregate, sequence) = (&unreadable.aggregate, unreadable.sequence);
                let failure = Failure::new(Fault::Event, unreadable.reason.clone());
                if let Some(failure) = fate(&plan.letters, parked, aggregate, Some(&failure)) {
                    plan.letters.push(DeadLetter::of_message(aggregate, sequence, failure, now()));
                }
            }
        }
    }
    plan
}

/// Why an event is set aside; none if it is applied.
fn fate(
    letters: &[DeadLetter],
    parked: &Parked,
    aggregate: &AggregateKey,
    failure: Option<&Failure>,
) -> Option<Failure> {
    if parked.has(aggregate) || letters.iter().any(|letter| letter.aggregate == *aggregate) {
        return Some(Failure::behind());
    }
    failure.cloned()
}
