//! What callers saw, and whether the log agrees.
//!
//! A recorder notes of each command when it was called, what came back and when. After the faults,
//! [`check`] compares that with everything in the log, and names what does not fit.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use cqrs_core::{CommandId, Position, StoredCommit};

/// What a command asks of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// To open it with a first deposit of this amount.
    Open(u64),
    /// To pay in.
    Deposit(u64),
    /// To pay out.
    Withdraw(u64),
}

/// Why an account refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is not there.
    Missing,
    /// It is there already.
    Exists,
    /// This is all that there is.
    Insufficient(u64),
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With a receipt.
    Done {
        /// The account's version after it.
        version: u64,
        /// How many events the command led to.
        events: usize,
        /// The place of the last of them.
        position: Position,
        /// Whether an earlier call had done it.
        repeat: bool,
    },
    /// The account said no.
    Refused(Refusal),
    /// Without effect, the service says.
    Failed(String),
    /// With or without effect, nobody says.
    Unknown(String),
}

/// One call of a command, with the times since the beginning of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// When the caller began to wait.
    pub start: Duration,
    /// When the caller stopped waiting.
    pub end: Duration,
    /// How it ended.
    pub outcome: Outcome,
}

/// One command: its calls under the same id, one after the other, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The command's id.
    pub id: CommandId,
    /// The account.
    pub account: String,
    /// What it asks.
    pub request: Request,
    /// The calls.
    pub calls: Vec<Call>,
}

/// A commit of the log, with of each event its command's id, its type and its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The account.
    pub account: String,
    /// Its place in the log.
    pub sequence: u64,
    /// The version of its first event.
    pub first_version: u64,
    /// Its events.
    pub events: Vec<(CommandId, String)>,
}

/// Something that must not be, about one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What kind.
    pub kind: Kind,
    /// The account.
    pub account: String,
    /// What exactly.
    pub what: String,
}

/// What must not be.
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
    /// The log holds a command that nobody sent to that account.
    Foreign,
    /// The events of a command in the log are not those that it leads to.
    Torn,
    /// Versions or sequences do not follow each other.
    Gap,
    /// A command that ended before another one began comes after it.
    Order,
    /// A command was carried out that the account had to refuse.
    Unlawful,
    /// A refusal does not fit to any state that the account had during the call.
    WrongRefusal,
}

impl Request {
    /// The events that it leads to, as the log holds them.
    pub fn events(self) -> Vec<String> {
        let deposited = |amount| format!("account.deposited {{\"amount\":{amount}}}");
        match self {
            Self::Open(amount) => vec!["account.opened {\"owner\":\"anna\"}".into(), deposited(amount)],
            Self::Deposit(amount) => vec![deposited(amount)],
            Self::Withdraw(amount) => vec![format!("account.withdrawn {{\"amount\":{amount}}}")],
        }
    }

    /// The balance after it, or the refusal; a balance of `None` is an account that is not there.
    fn decide(self, balance: Option<u64>) -> Result<u64, Refusal> {
        match (self, balance) {
            (Self::Open(amount), None) => Ok(amount),
            (Self::Open(_), Some(_)) => Err(Refusal::Exists),
            (_, None) => Err(Refusal::Missing),
            (Self::Deposit(amount), Some(balance)) => Ok(balance + amount),
            (Self::Withdraw(amount), Some(balance)) => {
                balance.checked_sub(amount).ok_or(Refusal::Insufficient(balance))
            }
        }
    }
}

impl From<&StoredCommit> for Stored {
    fn from(stored: &StoredCommit) -> Self {
        let commit = &stored.commit;
        let events = commit.events.iter().map(|event| {
            let what = format!("{} {}", event.event_type, String::from_utf8_lossy(&event.data));
            (event.origin.command_id, what)
        });
        Self {
            account: commit.aggregate.id().to_owned(),
            sequence: stored.sequence,
            first_version: commit.first_version,
            events: events.collect(),
        }
    }
}

impl Entry {
    /// The last call, which the others led to.
    pub fn last(&self) -> &Call {
        self.calls.last().expect("an entry has a call")
    }

    /// What is known of the command: a call that failed says nothing about earlier ones of unknown end.
    fn outcome(&self) -> &Outcome {
        let unknown = self.calls.iter().find(|call| matches!(call.outcome, Outcome::Unknown(_)));
        match (&self.last().outcome, unknown) {
            (Outcome::Failed(_), Some(unknown)) => &unknown.outcome,
            (outcome, _) => outcome,
        }
    }

    /// When its effect can have come about.
    fn window(&self) -> (Duration, Duration) {
        match self.last().outcome {
            Outcome::Done { repeat: false, .. } => (self.last().start, self.last().end),
            Outcome::Done { .. } => (self.calls[0].start, self.last().end),
            // What is stored though nobody heard of it may have been stored at any later time.
            _ => (self.calls[0].start, Duration::MAX),
        }
    }
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

/// Everything in `history` and in `log` (in the order of the log) that does not fit together.
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

/// Each command is in the log as often and where it says.
fn check_entries(entries: &[&Entry], placed: &[Placed<'_>], report: &mut impl FnMut(Kind, String)) {
    let mut places: HashMap<CommandId, Vec<&Placed<'_>>> = HashMap::new();
    for place in placed {
        places.entry(place.command).or_default().push(place);
    }
    for entry in entries {
        let places = places.get(&entry.id).map_or(&[][..], Vec::as_slice);
        if places.len() > 1 {
            let at: Vec<u64> = places.iter().map(|place| place.sequence).collect();
            report(Kind::Doubled, format!("at sequences {at:?}: {entry}"));
        }
        match (entry.outcome(), places.first()) {
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

/// From the last to the first: none begins after a later one has ended.
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

/// Each command was possible in the state that it came upon, and each refusal in one that was there at
/// some time during the call.
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
        // The state after `first` commits was there when the call began, or later ones had come.
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

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.request, self.id)?;
        self.calls.iter().try_for_each(|call| {
            write!(f, " [{:.3}–{:.3} {:?}]", call.start.as_secs_f64(), call.end.as_secs_f64(), call.outcome)
        })
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} in account {}: {}", self.kind, self.account, self.what)
    }
}

/// All that is known of one account, in order of time and of the log, for a person to read.
pub fn story(account: &str, history: &[Entry], log: &[Stored]) -> String {
    let mut entries: Vec<&Entry> = history.iter().filter(|entry| entry.account == account).collect();
    entries.sort_by_key(|entry| entry.calls[0].start);
    let told = entries.iter().map(|entry| format!("  called  {entry}\n"));
    let stored = log.iter().filter(|stored| stored.account == account);
    told.chain(stored.map(|stored| format!("  stored  {stored:?}\n"))).collect()
}
