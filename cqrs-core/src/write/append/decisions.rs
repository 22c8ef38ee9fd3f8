//! The next step of an append, as pure functions without input or output. The model of the protocol, in
//! `tests/tests/models/append_model`, runs these functions.
#![allow(unreachable_pub, reason = "the model reaches them with the feature `contract`")]

use std::{ops::ControlFlow, time::Duration};

use crate::{
    base::{backoff, store_error::StoreError},
    port::event_store::AppendError,
};

/// The result of an append.
#[derive(Debug)]
pub enum Outcome {
    /// The commit is stored at this sequence.
    Stored(u64),
    /// The commit is stored at this sequence, but the commit that it was to follow is not in the log.
    Misplaced(u64),
    /// Another commit is stored in the expected place: this commit is not stored and never will be.
    Conflict,
    /// The commit is not stored and never will be.
    Failed(StoreError),
    /// The store gave no definite answer in time: the commit may be stored.
    Unknown(StoreError),
}

/// The attempts so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Sent {
    /// How often the append was sent again.
    pub attempt: u32,
    /// Whether an earlier attempt may have been stored. Then a later refusal does not prove that the commit is not
    /// stored.
    pub ambiguous: bool,
}

/// The step that follows the answer to one attempt.
#[derive(Debug)]
pub enum Next {
    /// The append has ended.
    Done(Outcome),
    /// Read the first commit after the expected one.
    Look,
    /// Send the same append again, after a pause.
    Again {
        /// The pause.
        after: Duration,
        /// Why it is sent again.
        why: Why,
    },
}

/// Why the same append is sent again.
#[derive(Debug)]
pub enum Why {
    /// The store did not store the attempt.
    NotStored(StoreError),
    /// It is unknown whether the store stored the attempt.
    Unknown(StoreError),
}

/// The first commit after the expected one.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Its sequence in the log.
    pub sequence: u64,
    /// Whether it is the commit that was sent.
    pub is_ours: bool,
}

/// The step that follows the store's answer.
pub fn after_answer(answer: Result<u64, AppendError>, sent: Sent) -> Next {
    match answer {
        Ok(sequence) => Next::Done(Outcome::Stored(sequence)),
        Err(AppendError::Conflict) if !sent.ambiguous => Next::Done(Outcome::Conflict),
        // The commit in that place may be this commit, stored by an earlier attempt.
        Err(AppendError::Conflict) => Next::Look,
        Err(AppendError::Busy(error)) => {
            Next::Again { after: short(sent.attempt), why: Why::NotStored(error) }
        }
        Err(AppendError::Unknown(error)) => {
            Next::Again { after: long(sent.attempt), why: Why::Unknown(error) }
        }
        Err(AppendError::Failed(error)) => Next::Done(Outcome::Failed(error)),
    }
}

/// The step after the first commit behind the expected one was read. `invisible` makes the error for a commit that the
/// store reported and does not show.
pub fn after_look(
    found: Result<Option<Seen>, StoreError>,
    invisible: impl FnOnce() -> StoreError,
    sent: Sent,
) -> Next {
    match found {
        Ok(Some(Seen { sequence, is_ours: true })) => Next::Done(Outcome::Stored(sequence)),
        Ok(Some(_)) => Next::Done(Outcome::Conflict),
        // The store reported a commit there but does not show it yet: send again.
        Ok(None) => Next::Again { after: short(sent.attempt), why: Why::Unknown(invisible()) },
        Err(error) => Next::Again { after: long(sent.attempt), why: Why::Unknown(error) },
    }
}

/// The step that replaces sending, given whether the log has the commit that the append is to follow. `None`: the
/// append is sent.
pub fn before_sending(
    tip: Result<bool, StoreError>,
    lost: impl FnOnce() -> StoreError,
    sent: Sent,
) -> Option<Next> {
    match tip {
        Ok(true) => None,
        // The append would stand behind a history that it was not decided on.
        Ok(false) if sent.ambiguous => Some(Next::Done(Outcome::Unknown(lost()))),
        Ok(false) => Some(Next::Done(Outcome::Conflict)),
        Err(error) => Some(Next::Again { after: long(sent.attempt), why: Why::NotStored(error) }),
    }
}

/// The step after the append was stored at `sequence`, given whether the log has the commit that it was to follow.
pub fn after_storing(sequence: u64, tip: Result<bool, StoreError>, sent: Sent) -> Next {
    match tip {
        Ok(true) => Next::Done(Outcome::Stored(sequence)),
        Ok(false) => Next::Done(Outcome::Misplaced(sequence)),
        // The next attempt is a conflict with the stored commit, and checks the place again.
        Err(error) => Next::Again { after: long(sent.attempt), why: Why::Unknown(error) },
    }
}

/// The result of the append, or the pause before it is sent again.
pub fn conclude(
    next: Next,
    sent: &mut Sent,
    has_time: impl FnOnce(Duration) -> bool,
) -> ControlFlow<Outcome, Duration> {
    let (after, why) = match next {
        Next::Done(Outcome::Failed(error)) if sent.ambiguous => {
            return ControlFlow::Break(Outcome::Unknown(error));
        }
        Next::Done(outcome) => return ControlFlow::Break(outcome),
        Next::Look => unreachable!("a look leads to something else"),
        Next::Again { after, why } => (after, why),
    };
    sent.ambiguous |= matches!(why, Why::Unknown(_));
    if !has_time(after) {
        let (Why::NotStored(error) | Why::Unknown(error)) = why;
        let end = if sent.ambiguous { Outcome::Unknown(error) } else { Outcome::Failed(error) };
        return ControlFlow::Break(end);
    }
    sent.attempt += 1;
    ControlFlow::Continue(after)
}

fn short(attempt: u32) -> Duration {
    backoff::pause(Duration::from_millis(2), Duration::from_millis(50), attempt)
}

fn long(attempt: u32) -> Duration {
    backoff::pause(Duration::from_millis(20), Duration::from_millis(200), attempt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::event_store::AppendError::{Busy, Conflict, Failed, Unknown};

    fn unavailable() -> StoreError {
        StoreError::Unavailable { what: "a test".into(), source: None }
    }

    const CLEAR: Sent = Sent { attempt: 0, ambiguous: false };
    const AMBIGUOUS: Sent = Sent { attempt: 1, ambiguous: true };

    #[test]
    fn every_answer_has_its_next_step() {
        let after = |answer, sent| format!("{:?}", after_answer(answer, sent));
        let next = |answer| after(answer, CLEAR);
        assert_eq!(next(Ok(6)), "Done(Stored(6))");
        assert_eq!(next(Err(Conflict)), "Done(Conflict)");
        assert_eq!(after(Err(Conflict), AMBIGUOUS), "Look");
        assert!(next(Err(Busy(unavailable()))).contains("why: NotStored"));
        assert!(next(Err(Unknown(unavailable()))).contains("why: Unknown"));
        assert!(next(Err(Failed(unavailable()))).starts_with("Done(Failed"));
    }

    #[test]
    fn a_look_believes_only_in_the_commit_that_was_sent() {
        let after = |found| format!("{:?}", after_look(found, unavailable, AMBIGUOUS));
        let seen = |is_ours| Ok(Some(Seen { sequence: 6, is_ours }));
        assert_eq!(after(seen(true)), "Done(Stored(6))");
        assert_eq!(after(seen(false)), "Done(Conflict)");
        assert!(after(Ok(None)).contains("why: Unknown"));
        assert!(after(Err(unavailable())).contains("why: Unknown"));
    }

    #[test]
    fn an_append_that_has_lost_its_base_is_not_sent_and_not_reported_as_stored() {
        let before = |tip, sent| format!("{:?}", before_sending(tip, unavailable, sent));
        assert_eq!(before(Ok(true), CLEAR), "None");
        assert_eq!(before(Ok(false), CLEAR), "Some(Done(Conflict))");
        assert!(before(Ok(false), AMBIGUOUS).starts_with("Some(Done(Unknown"));
        assert!(before(Err(unavailable()), CLEAR).contains("why: NotStored"));
        let after = |tip| format!("{:?}", after_storing(6, tip, CLEAR));
        assert_eq!(after(Ok(true)), "Done(Stored(6))");
        assert_eq!(after(Ok(false)), "Done(Misplaced(6))");
        assert!(after(Err(unavailable())).contains("why: Unknown"));
    }

    #[test]
    fn what_may_have_been_stored_is_never_called_a_failure() {
        let end = |next, mut sent, has_time| format!("{:?}", conclude(next, &mut sent, |_| has_time));
        let failed = || Next::Done(Outcome::Failed(unavailable()));
        let again =
            |why: fn(StoreError) -> Why| Next::Again { after: Duration::ZERO, why: why(unavailable()) };
        assert!(end(failed(), CLEAR, true).starts_with("Break(Failed"));
        assert!(end(failed(), AMBIGUOUS, true).starts_with("Break(Unknown"));
        assert!(end(again(Why::NotStored), CLEAR, false).starts_with("Break(Failed"));
        assert!(end(again(Why::NotStored), AMBIGUOUS, false).starts_with("Break(Unknown"));
        assert!(end(again(Why::Unknown), CLEAR, false).starts_with("Break(Unknown"));
        let mut sent = CLEAR;
        assert!(conclude(again(Why::Unknown), &mut sent, |_| true).is_continue());
        assert_eq!(sent, AMBIGUOUS);
    }
}
