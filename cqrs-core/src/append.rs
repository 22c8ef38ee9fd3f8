//! Appending until the answer is definite.
//!
//! A missing answer means "maybe now, maybe later", so neither "it failed" nor "look once and decide
//! again" is right. What is right: send the *same* commit under the *same* expectation until the store
//! says something definite. The expectation makes that harmless, and it makes any second commit at the
//! same place impossible, so the first commit after the expected one tells who won.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{AppendError, Appended, Commit, EventStore, Expected, StoreError, StoredCommit, backoff};

/// What became of an append.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The commit is stored at this sequence.
    Stored(u64),
    /// Another commit stands where this one should: this one is not stored and never will be.
    Conflict,
    /// The store knows the command's id from a commit before the expected one: the command was carried
    /// out longer ago than the aggregate remembers. Nothing is stored now.
    CarriedOut(u64),
    /// Not stored, and never will be.
    Failed(StoreError),
    /// No definite answer in time.
    Unknown(StoreError),
}

/// What the answer to one attempt asks for.
#[derive(Debug)]
enum Next {
    Done(Outcome),
    /// See what stands after the expected commit.
    Look,
    Again {
        after: Duration,
        why: Why,
    },
}

/// Why the same append is sent again.
#[derive(Debug)]
enum Why {
    NotStored(StoreError),
    Unknown(StoreError),
}

/// Appends `commit` after `expected`, trying again for at most `patience`.
pub(crate) async fn append<S: EventStore>(
    store: &S,
    commit: &Commit,
    expected: Expected,
    patience: Duration,
) -> Outcome {
    let deadline = Instant::now() + patience;
    // Once one attempt may have been stored, a later one that was not proves nothing.
    let mut ambiguous = false;
    let mut attempt = 0;
    loop {
        failpoint!(BeforeAppend, &commit.aggregate.to_string());
        let answer = store.append(commit, expected).await;
        failpoint!(AfterAppend, &commit.aggregate.to_string());
        let mut next = after_answer(answer, expected, attempt, ambiguous);
        if let Next::Look = next {
            let found = store.next_after(&commit.aggregate, expected.sequence()).await;
            next = after_look(commit, found, attempt);
        }
        let (after, why) = match next {
            Next::Done(Outcome::Failed(error)) if ambiguous => return Outcome::Unknown(error),
            Next::Done(outcome) => return outcome,
            Next::Look => unreachable!("a look leads to something else"),
            Next::Again { after, why } => (after, why),
        };
        ambiguous |= matches!(why, Why::Unknown(_));
        if Instant::now() + after > deadline {
            let (Why::NotStored(error) | Why::Unknown(error)) = why;
            return if ambiguous { Outcome::Unknown(error) } else { Outcome::Failed(error) };
        }
        sleep(after).await;
        attempt += 1;
    }
}

fn after_answer(
    answer: Result<Appended, AppendError>,
    expected: Expected,
    attempt: u32,
    ambiguous: bool,
) -> Next {
    match answer {
        Ok(Appended { sequence, duplicate: false }) => Next::Done(Outcome::Stored(sequence)),
        Ok(Appended { sequence, .. }) if sequence <= expected.sequence() => {
            Next::Done(Outcome::CarriedOut(sequence))
        }
        Err(AppendError::Conflict) if !ambiguous => Next::Done(Outcome::Conflict),
        // What stands there may be this very commit from an earlier attempt.
        Ok(_) | Err(AppendError::Conflict) => Next::Look,
        Err(AppendError::Busy(error)) => Next::Again { after: short(attempt), why: Why::NotStored(error) },
        Err(AppendError::Unknown(error)) => Next::Again { after: long(attempt), why: Why::Unknown(error) },
        Err(AppendError::Failed(error)) => Next::Done(Outcome::Failed(error)),
    }
}

fn after_look(commit: &Commit, found: Result<Option<StoredCommit>, StoreError>, attempt: u32) -> Next {
    match found {
        Ok(Some(found)) if found.commit.is_same(commit) => Next::Done(Outcome::Stored(found.sequence)),
        Ok(Some(_)) => Next::Done(Outcome::Conflict),
        // Nothing to see yet, although the store says that something is there: ask again.
        Ok(None) => Next::Again { after: short(attempt), why: Why::Unknown(invisible(commit)) },
        Err(error) => Next::Again { after: long(attempt), why: Why::Unknown(error) },
    }
}

/// The store says that something stands there, and does not show it.
fn invisible(commit: &Commit) -> StoreError {
    let what = format!("a commit of {} is there and cannot be seen", commit.aggregate);
    StoreError::Unavailable { what, source: None }
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
    use crate::AppendError::{Busy, Conflict, Failed, Unknown};

    fn unavailable() -> StoreError {
        StoreError::Unavailable { what: "a test".into(), source: None }
    }

    #[expect(clippy::unnecessary_wraps, reason = "it stands for an answer")]
    fn stored(sequence: u64, duplicate: bool) -> Result<Appended, AppendError> {
        Ok(Appended { sequence, duplicate })
    }

    #[test]
    fn every_answer_has_its_next_step() {
        let after =
            |answer, ambiguous| format!("{:?}", after_answer(answer, Expected::Exact(5), 0, ambiguous));
        let next = |answer| after(answer, false);
        assert_eq!(next(stored(6, false)), "Done(Stored(6))");
        assert_eq!(next(stored(6, true)), "Look");
        assert_eq!(next(stored(5, true)), "Done(CarriedOut(5))");
        assert_eq!(next(stored(2, true)), "Done(CarriedOut(2))");
        assert_eq!(next(Err(Conflict)), "Done(Conflict)");
        assert_eq!(after(Err(Conflict), true), "Look");
        assert!(next(Err(Busy(unavailable()))).contains("why: NotStored"));
        assert!(next(Err(Unknown(unavailable()))).contains("why: Unknown"));
        assert!(next(Err(Failed(unavailable()))).starts_with("Done(Failed"));
    }
}
