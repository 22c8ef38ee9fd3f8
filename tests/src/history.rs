//! The observations of callers, to compare with the log.
//!
//! A recorder notes for each command when it was called, the answer, and when the answer came. After the faults,
//! [`check`] compares that with everything in the log, and returns the violations.

mod check;

use std::{fmt, time::Duration};

use cqrs_core::{
    CommandId,
    log::{Position, StoredCommit},
};

pub use check::{Kind, Violation, check};

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

/// Why an account rejects a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The account does not exist.
    Missing,
    /// The account exists already.
    Exists,
    /// This is the balance.
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
        /// The position of the last of them.
        position: Position,
        /// Whether an earlier call had done it.
        repeat: bool,
    },
    /// The account rejected the command.
    Refused(Refusal),
    /// The service says: without effect.
    Failed(String),
    /// It is unknown whether it had an effect.
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

/// A commit of the log: for each event its command's id, its type and its payload.
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

    /// The balance after it, or the rejection; a balance of `None` is an account that does not exist.
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

impl Call {
    /// How long the caller waited.
    pub fn length(&self) -> Duration {
        self.end.saturating_sub(self.start)
    }
}

impl Entry {
    /// The last call, which the others led to.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn last(&self) -> &Call {
        self.calls.last().expect("an entry has a call")
    }

    /// The outcome of the command: a failed call says nothing about earlier calls with unknown outcomes.
    fn outcome(&self) -> &Outcome {
        let unknown = self.calls.iter().find(|call| matches!(call.outcome, Outcome::Unknown(_)));
        match (&self.last().outcome, unknown) {
            (Outcome::Failed(_), Some(unknown)) => &unknown.outcome,
            (outcome, _) => outcome,
        }
    }

    /// The time within which its effect can have happened.
    fn window(&self) -> (Duration, Duration) {
        match self.last().outcome {
            Outcome::Done { repeat: false, .. } => (self.last().start, self.last().end),
            Outcome::Done { .. } => (self.calls[0].start, self.last().end),
            // The effect of a call with unknown outcome may have happened at any later time.
            _ => (self.calls[0].start, Duration::MAX),
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

/// Everything about one account, in order of time and of the log, for a developer.
pub fn story(account: &str, history: &[Entry], log: &[Stored]) -> String {
    let mut entries: Vec<&Entry> = history.iter().filter(|entry| entry.account == account).collect();
    entries.sort_by_key(|entry| entry.calls[0].start);
    let told = entries.iter().map(|entry| format!("  called  {entry}\n"));
    let stored = log.iter().filter(|stored| stored.account == account);
    told.chain(stored.map(|stored| format!("  stored  {stored:?}\n"))).collect()
}
