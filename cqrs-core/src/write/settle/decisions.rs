//! The rules of group commit, as pure functions without input or output. The model of the append protocol, in
//! `tests/tests/models/append_model`, runs these functions.
#![allow(unreachable_pub, reason = "the model reaches them with the feature `contract`")]

use crate::{base::store_error::StoreError, write::append::decisions::Outcome};

/// The size at which a commit of several commands takes no further command, in bytes of payload; the rest waits for the
/// next append. Far below the largest message that a server takes.
const MAX_BYTES_TOGETHER: usize = 128 * 1024;

/// Whether another command may join a commit that has `accepted` commands with payloads of `bytes` in all. `is_twin`
/// says that the commit already has this command: the repeat waits until the first is remembered.
pub fn may_join(together: bool, accepted: usize, bytes: usize, is_twin: bool) -> bool {
    let is_full = if together { bytes > MAX_BYTES_TOGETHER } else { accepted > 0 };
    !is_full && !is_twin
}

/// The answer to the commands of an append.
#[derive(Debug)]
pub enum Verdict {
    /// All get a receipt for the commit at this sequence. The append has proved that the state was the current one, so
    /// the refusals that were decided on it are final.
    Receipts(u64),
    /// All get the error that their commit, at this sequence, follows another history.
    Misplaced(u64),
    /// The first fails.
    Fails(StoreError),
    /// All get the error that they may have taken effect.
    Unknown(StoreError),
    /// No answer yet: the commands are sent one by one, to find the one that the store refuses.
    OneByOne,
    /// No answer yet: the commands are decided again.
    Again,
}

/// The answer to `accepted` commands after the append of their commit.
pub fn verdict(outcome: Outcome, accepted: usize) -> Verdict {
    match outcome {
        Outcome::Stored(sequence) => Verdict::Receipts(sequence),
        Outcome::Misplaced(sequence) => Verdict::Misplaced(sequence),
        Outcome::Conflict => Verdict::Again,
        Outcome::Failed(_) if accepted > 1 => Verdict::OneByOne,
        Outcome::Failed(error) => Verdict::Fails(error),
        Outcome::Unknown(error) => Verdict::Unknown(error),
    }
}

impl Verdict {
    /// What the answer says about the state.
    pub fn round(&self) -> Round {
        match self {
            Self::Receipts(_) | Self::Fails(_) | Self::OneByOne => Round::Progress,
            Self::Again => Round::Stale,
            Self::Misplaced(_) | Self::Unknown(_) => Round::Lost,
        }
    }
}

/// How one round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// Some commands were settled or are sent apart, and the state is the current one.
    Progress,
    /// Another writer was faster, or the state was stale: catch up and handle again.
    Stale,
    /// It is unknown what the log has after the state: catch up.
    Lost,
}

/// The step after a round, for the commands that are not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// They are handled on the state that the round has left.
    GoOn,
    /// They are handled on the state that the log's leader has.
    CatchUp,
    /// The same as `CatchUp`, after a pause; it counts as another attempt.
    TryAgain,
    /// No attempt is left. The commits of other writers may contain these very commands, sent earlier or by another
    /// instance. Commands that the log's leader has get their receipts, the others a conflict.
    LookOnceMore,
}

/// The step after a round, in the attempt of this number.
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
