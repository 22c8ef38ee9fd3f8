//! What becomes of commands that are carried out together: no input or output. The model of the append protocol, in
//! `tests/tests/models/append_model`, runs these functions.
#![allow(unreachable_pub, reason = "the model reaches them with the feature `contract`")]

use crate::{base::error::StoreError, write::append::decisions::Outcome};

/// How large the payloads of commands that are carried out together may become; what is over waits for
/// the next append. Far below what a server takes in one message.
const MAX_BYTES_TOGETHER: usize = 128 * 1024;

/// Whether one more command may join those that were `accepted` for a commit, with payloads of so many `bytes`.
/// `is_twin` says that the same command is among them: it waits until the first is remembered.
pub fn may_join(together: bool, accepted: usize, bytes: usize, is_twin: bool) -> bool {
    let is_full = if together { bytes > MAX_BYTES_TOGETHER } else { accepted > 0 };
    !is_full && !is_twin
}

/// What the commands behind an append are told.
#[derive(Debug)]
pub enum Verdict {
    /// All have a receipt for the commit at this sequence. It has proved that the state was the current one, so those
    /// that the state refuses are refused.
    Receipts(u64),
    /// All are told that their commit, at this sequence, follows another history.
    Misplaced(u64),
    /// The first was carried out before, in the commit at this sequence.
    FirstReceipt(u64),
    /// The first has failed.
    Fails(StoreError),
    /// All may have taken effect.
    Unknown(StoreError),
    /// Nothing yet: they are sent one by one, so that the one which the store does not take is found.
    OneByOne,
    /// Nothing yet: they are decided again.
    Again,
}

/// What `accepted` commands are told about the append of their commit.
pub fn verdict(outcome: Outcome, accepted: usize) -> Verdict {
    match outcome {
        Outcome::Stored(sequence) => Verdict::Receipts(sequence),
        Outcome::Misplaced(sequence) => Verdict::Misplaced(sequence),
        Outcome::Conflict => Verdict::Again,
        Outcome::CarriedOut(sequence) => Verdict::FirstReceipt(sequence),
        Outcome::Failed(_) if accepted > 1 => Verdict::OneByOne,
        Outcome::Failed(error) => Verdict::Fails(error),
        Outcome::Unknown(error) => Verdict::Unknown(error),
    }
}

impl Verdict {
    /// What it says about the state.
    pub fn round(&self) -> Round {
        match self {
            Self::Receipts(_) | Self::FirstReceipt(_) | Self::Fails(_) | Self::OneByOne => Round::Progress,
            Self::Again => Round::Stale,
            Self::Misplaced(_) | Self::Unknown(_) => Round::Lost,
        }
    }
}

/// What one round led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// Some commands were settled or set apart, and the state is the current one.
    Progress,
    /// Another writer was faster, or the state was an old one: catch up and handle again.
    Stale,
    /// It is not known what the log holds after the state: catch up.
    Lost,
}

/// What follows a round, for the commands that are not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// They are handled on the state that the round has left.
    GoOn,
    /// They are handled on the state that the log's leader has.
    CatchUp,
    /// The same, after a pause; it counts as another attempt.
    TryAgain,
    /// The end: what others appended may be these very commands, sent before or elsewhere, so those that the log's
    /// leader has get their receipts, and the others a conflict.
    LookOnceMore,
}

/// What follows a round, in the attempt of this number.
pub fn after_round(round: Round, attempt: u32, attempts: u32) -> Step {
    match round {
        Round::Progress => Step::GoOn,
        Round::Lost => Step::CatchUp,
        Round::Stale if attempt >= attempts => Step::LookOnceMore,
        Round::Stale => Step::TryAgain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_takes_what_fits_and_no_command_twice() {
        assert!(may_join(true, 0, 0, false) && may_join(true, 63, MAX_BYTES_TOGETHER, false));
        assert!(!may_join(true, 1, MAX_BYTES_TOGETHER + 1, false));
        assert!(!may_join(true, 1, 10, true));
        assert!(may_join(false, 0, 0, false) && !may_join(false, 1, 10, false), "one by one");
    }

    #[test]
    fn every_outcome_has_its_verdict_and_every_round_its_step() {
        let error = || StoreError::Unavailable { what: "a test".into(), source: None };
        let told = |outcome, accepted| {
            let verdict = verdict(outcome, accepted);
            let text = format!("{verdict:?}");
            (text.split([' ', '{']).next().unwrap_or_default().to_owned(), verdict.round())
        };
        let is = |text: &str, round| (text.to_owned(), round);
        assert_eq!(told(Outcome::Stored(7), 2), is("Receipts(7)", Round::Progress));
        assert_eq!(told(Outcome::Misplaced(7), 2), is("Misplaced(7)", Round::Lost));
        assert_eq!(told(Outcome::CarriedOut(3), 2), is("FirstReceipt(3)", Round::Progress));
        assert_eq!(told(Outcome::Conflict, 2), is("Again", Round::Stale));
        assert_eq!(told(Outcome::Failed(error()), 2), is("OneByOne", Round::Progress));
        assert_eq!(told(Outcome::Failed(error()), 1), is("Fails(Unavailable", Round::Progress));
        assert_eq!(told(Outcome::Unknown(error()), 2), is("Unknown(Unavailable", Round::Lost));
        assert_eq!(after_round(Round::Progress, 16, 16), Step::GoOn);
        assert_eq!(after_round(Round::Lost, 16, 16), Step::CatchUp);
        assert_eq!(after_round(Round::Stale, 15, 16), Step::TryAgain);
        assert_eq!(after_round(Round::Stale, 16, 16), Step::LookOnceMore);
    }
}
