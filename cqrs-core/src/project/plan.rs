//! Which events of a batch are applied, and which are set aside: no input or output.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::{
    AggregateKey, Delivery, Position, Recorded,
    dead_letter::{DeadLetter, Parked},
};

/// What to do with a chunk of deliveries.
pub(super) struct Plan<'a> {
    pub(super) events: Vec<Recorded<'a>>,
    pub(super) letters: Vec<DeadLetter>,
}

/// Which events to apply, and which to set aside: those that are known not to work, and all that come after
/// one of these in the same aggregate. What is ignored is neither.
pub(super) fn plan<'a>(
    chunk: &'a [Delivery],
    ignored: &[&str],
    parked: &Parked,
    poison: &HashMap<Position, String>,
    now: impl Fn() -> Timestamp,
) -> Plan<'a> {
    let mut plan = Plan { events: Vec::new(), letters: Vec::new() };
    for delivery in chunk {
        match delivery {
            Ok(stored) => {
                for index in 0..stored.commit.events.len() {
                    let event = Recorded { stored, index };
                    if ignored.contains(&event.event_type()) {
                        continue;
                    }
                    match fate(&plan.letters, parked, &stored.commit.aggregate, poison.get(&event.position()))
                    {
                        Fate::Apply => plan.events.push(event),
                        Fate::SetAside { reason, behind } => {
                            plan.letters.push(DeadLetter::of_event(&event, reason, behind, now()));
                        }
                    }
                }
            }
            Err(unreadable) => {
                let reason = Some(&unreadable.reason);
                if let Fate::SetAside { reason, behind } =
                    fate(&plan.letters, parked, &unreadable.aggregate, reason)
                {
                    let (aggregate, sequence) = (&unreadable.aggregate, unreadable.sequence);
                    plan.letters.push(DeadLetter::of_message(aggregate, sequence, reason, behind, now()));
                }
            }
        }
    }
    plan
}

enum Fate {
    Apply,
    SetAside { reason: String, behind: bool },
}

fn fate(letters: &[DeadLetter], parked: &Parked, aggregate: &AggregateKey, reason: Option<&String>) -> Fate {
    if parked.has(aggregate) || letters.iter().any(|letter| letter.aggregate == *aggregate) {
        let reason = "an earlier event of the aggregate is a dead letter".to_owned();
        return Fate::SetAside { reason, behind: true };
    }
    match reason {
        Some(reason) => Fate::SetAside { reason: reason.clone(), behind: false },
        None => Fate::Apply,
    }
}
