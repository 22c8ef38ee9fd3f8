//! Decides which events of a batch are applied, and which are set aside as dead letters: no input or output.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::{
    base::id::{AggregateKey, Position},
    log::recorded::Recorded,
    port::subscription::Delivery,
    projector::dead_letter::{DeadLetter, Failure, Fault, Parked},
};

/// The plan for a chunk of deliveries.
pub(crate) struct Plan<'a> {
    pub(super) events: Vec<Recorded<'a>>,
    pub(super) letters: Vec<DeadLetter>,
}

/// Divides the events of a chunk. Set aside are: events that are known to fail (`poison`), commits after a gap (`gaps`,
/// by sequence), and all later events of the same aggregate. Ignored events are neither applied nor set aside.
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
                // The missing events may be of any type, so ignored events are set aside as well.
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
                    // One letter covers the rest of the commit: a commit may have more events than one write takes.
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

/// Why an event is set aside; `None` if it is applied.
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
