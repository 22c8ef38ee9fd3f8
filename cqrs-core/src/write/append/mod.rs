//! Sends an append until the store's answer is definite.
//!
//! After a missing answer the commit may be stored, now or later. So the append is neither reported as failed nor
//! decided again: the *same* commit is sent with the *same* expected sequence (compare-and-set) until the store gives a
//! definite answer. The expected sequence makes this idempotent, and it excludes a second commit in the same place. So
//! the first commit after the expected one shows which writer won.
//!
//! A sequence means nothing in another log. When the store's era changes during the append, the log must still have the
//! commit that this one is to follow. That is checked before the commit is sent and after it was stored.

pub(crate) mod decisions;

use std::{ops::ControlFlow, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    base::store_error::StoreError,
    log::commit::Commit,
    port::{
        any_events::AnyEvents,
        event_store::{EventStore, Expected},
    },
    write::tip::{self, Holds, Tip},
};

pub(crate) use decisions::Outcome;
use decisions::{Next, Seen, Sent, after_answer, after_look, after_storing, before_sending, conclude};

/// Appends `commit` after `tip`, and sends it again for at most `patience` in all.
pub(crate) async fn append(store: &AnyEvents, commit: &Commit, mut tip: Tip, patience: Duration) -> Outcome {
    let deadline = Instant::now() + patience;
    let mut sent = Sent::default();
    loop {
        let holds = tip.check(store, &commit.aggregate).await.map(|holds| holds == Holds::Yes);
        let lost = || tip::lost(&commit.aggregate, tip.sequence);
        let next = match before_sending(holds, lost, sent) {
            Some(next) => next,
            None => attempt(store, commit, &mut tip, sent).await,
        };
        match conclude(next, &mut sent, |pause| Instant::now() + pause <= deadline) {
            ControlFlow::Break(outcome) => return outcome,
            ControlFlow::Continue(pause) => sleep(pause).await,
        }
    }
}

/// Sends the commit once.
async fn attempt(store: &AnyEvents, commit: &Commit, tip: &mut Tip, sent: Sent) -> Next {
    let expected = Expected::after(tip.sequence);
    let answer = store.append(commit, expected).await;
    let next = match after_answer(answer, sent) {
        Next::Look => {
            let found = store.next_after(&commit.aggregate, expected.sequence()).await;
            if let Ok(None) = found {
                // The store reported a commit there and does not have it: the log may be another one, so the next check
                // reads the tip.
                tip.era = None;
            }
            let seen = found.map(|found| {
                found.map(|found| Seen { sequence: found.sequence, is_ours: found.commit.is_same(commit) })
            });
            after_look(seen, || invisible(commit), sent)
        }
        next => next,
    };
    match next {
        Next::Done(Outcome::Stored(sequence)) => {
            let holds = match tip.check(store, &commit.aggregate).await {
                // The append was accepted, so the expected commit was there. A replica that does not show it lags.
                Ok(Holds::Nothing) => Err(tip::lost(&commit.aggregate, tip.sequence)),
                holds => holds.map(|holds| holds == Holds::Yes),
            };
            after_storing(sequence, holds, sent)
        }
        next => next,
    }
}

/// The store reports a commit in that place, and does not show it.
fn invisible(commit: &Commit) -> StoreError {
    let what = format!("a commit of {} is there and cannot be seen", commit.aggregate);
    StoreError::Unavailable { what, source: None }
}
