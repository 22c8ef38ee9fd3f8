//! Checks whether the log agrees with the observations of callers.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use cqrs_core::CommandId;

use super::{Call, Entry, Outcome, Stored};

/// A violation, about one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What kind.
    pub kind: Kind,
    /// The account.
    pub account: String,
    /// The details.
    pub what: String,
}

/// The kinds of violations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A command has a receipt and is not in the log.
    Lost,
    /// A command is in the log at another place than its receipt says.
    Misplaced,
    /// A command is in the log more than once.
    Doubled,
    /// A command was refused or had failed, and is in the log.
    Unwanted,
    /// The log has a command that no caller sent to that account.
    Foreign,
    /// The events of a command in the log are not those that it leads to.
    Torn,
    /// Versions or sequences are not consecutive.
    Gap,
    /// A command that ended before another one began comes after it.
    Order,
    /// A command was carried out that the account had to reject.
    Unlawful,
    /// A rejection does not fit any state that the account had during the call.
    WrongRefusal,
}

/// A command's events in the log.
struct Placed<'a> {
    entry: Option<&'a Entry>,
    command: CommandId,
    sequence: u64,
    last_index: usize,
    last_version: u64,
    events: Vec<&'a str>,
}

/// All violations in `history` and `log` (in the order of the log).
pub fn check(history: &[Entry], log: &[Stored]) -> Vec<Violation> {
    let mut accounts: BTreeMap<&str, (Vec<&Entry>, Vec<&Stored>)> = BTreeMap::new();
    for entry in history {
        accounts.entry(&entry.account).or_default().0.push(entry);
    }
    for stored in log {
        accounts.entry(&stored.account).or_default().1.push(stored);
    }
    let mut violations = Vec::new();
    for (account, (entries, log)) in accounts {
        let mut report = |kind, what| violations.push(Violation { kind, account: account.to_owned(), what });
        check_gaps(&log, &mut report);
        let placed = place(&entries, &log);
        check_entries(&entries, &placed, &mut report);
        check_log(&placed, &mut report);
        check_order(&placed, &mut report);
        check_states(&entries, &placed, &mut report);
    }
    violations
}

fn check_gaps(log: &[&Stored], report: &mut impl FnMut(Kind, String)) {
    let (mut version, mut sequence) = (1, 0);
    for stored in log {
        if stored.first_version != version || stored.sequence <= sequence || stored.events.is_empty() {
            let what = format!("after version {} at sequence {sequence} comes {stored:?}", version - 1);
            report(Kind::Gap, what);
        }
        version = stored.first_version + stored.events.len() as u64;
        sequence = stored.sequence;
    }
}

fn place<'a>(entries: &[&'a Entry], log: &[&'a Stored]) -> Vec<Placed<'a>> {
    let by_id: HashMap<CommandId, &Entry> = entries.iter().map(|entry| (entry.id, *entry)).collect();
    let mut placed = Vec::new();
    for stored in log {
        let mut count = 0;
        for events in stored.events.chunk_by(|a, b| a.0 == b.0) {
            count += events.len();
            placed.push(Placed {
                entry: by_id.get(&events[0].0).copied(),
                command: events[0].0,
                sequence: stored.sequence,
                last_index: count - 1,
                last_version: stored.first_version + count as u64 - 1,
                events: events.iter().map(|(_, what)| what.as_str()).collect(),
            });
        }
    }
    placed
}

/// Each command is in the log as often as its receipt says, and at that position.
fn check_entries(entries: &[&Entry], placed: &[Placed<'_>], report: &mut impl FnMut(Kind, String)) {
    let mut by_id: HashMap<CommandId, Vec<&Placed<'_>>> = HashMap::new();
    for place in placed {
        by_id.entry(place.command).or_default().push(place);
    }
    for entry in entries {
        let found_at = by_id.get(&entry.id).map_or(&[][..], Vec::as_slice);
        if found_at.len() > 1 {
            let at: Vec<u64> = found_at.iter().map(|place| place.sequence).collect();
            report(Kind::Doubled, format!("at sequences {at:?}: {entry}"));
        }
        match (entry.outcome(), found_at.first()) {
            (Outcome::Done { .. }, None) => report(Kind::Lost, entry.to_string()),
            (Outcome::Done { version, events, position, .. }, Some(place)) => {
                let receipt = (*version, *events, position.sequence, position.index as usize);
                let found = (place.last_version, place.events.len(), place.sequence, place.last_index);
                if receipt != found {
                    let what = format!("(version, events, sequence, index) are {found:?}: {entry}");
                    report(Kind::Misplaced, what);
                }
            }
            (Outcome::Refused(_) | Outcome::Failed(_), Some(place)) => {
                report(Kind::Unwanted, format!("at sequence {}: {entry}", place.sequence));
            }
            _ => {}
        }
    }
}

/// Each command in the log was sent, and is there as a whole.
fn check_log(placed: &[Placed<'_>], report: &mut impl FnMut(Kind, String)) {
    for place in placed {
        let at = |what: &str| format!("{what} at sequence {}: {:?}", place.sequence, place.events);
        match place.entry {
            None => report(Kind::Foreign, at(&place.command.to_string())),
            Some(entry) if entry.request.events() != place.events => {
                report(Kind::Torn, at(&entry.to_string()));
            }
            Some(_) => {}
        }
    }
}

/// From the last to the first: no command begins after a later one has ended.
fn check_order(placed: &[Placed<'_>], report: &mut impl FnMut(Kind, String)) {
    let mut earliest: Option<&Entry> = None;
    for entry in placed.iter().rev().filter_map(|place| place.entry) {
        if let Some(later) = earliest.filter(|later| later.window().1 < entry.window().0) {
            report(Kind::Order, format!("{later} is stored after {entry}"));
        }
        if earliest.is_none_or(|earliest| entry.window().1 < earliest.window().1) {
            earliest = Some(entry);
        }
    }
}

/// Each command was possible in the state before it, and each rejection in a state at some time during the call.
fn check_states(entries: &[&Entry], placed: &[Placed<'_>], report: &mut impl FnMut(Kind, String)) {
    let mut balances = vec![None];
    for place in placed {
        let before = balances.last().copied().flatten();
        let after = place.entry.map(|entry| (entry, entry.request.decide(before)));
        if let Some((entry, Err(refusal))) = after {
            report(Kind::Unlawful, format!("{refusal:?} at sequence {}: {entry}", place.sequence));
        }
        balances.push(after.and_then(|(_, after)| after.ok()).or(before));
    }
    for entry in entries {
        let Outcome::Refused(refusal) = entry.last().outcome else { continue };
        let Call { start, end, .. } = *entry.last();
        // The state after `first` commits existed when the call began, or later commits had come.
        let ended = |place: &Placed<'_>| place.entry.is_some_and(|entry| entry.window().1 < start);
        let begun = |place: &Placed<'_>| place.entry.is_none_or(|entry| entry.window().0 <= end);
        let first = placed.iter().rposition(ended).map_or(0, |last| last + 1);
        let last = placed.iter().position(|place| !begun(place)).unwrap_or(placed.len());
        let fits = |balance: &Option<u64>| entry.request.decide(*balance) == Err(refusal);
        if !balances.get(first..=last).is_some_and(|balances| balances.iter().any(fits)) {
            report(Kind::WrongRefusal, format!("between commits {first} and {last}: {entry}"));
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} in account {}: {}", self.kind, self.account, self.what)
    }
}
