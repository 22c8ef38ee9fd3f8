//! Retries while a store does not answer.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::base::{backoff, store_error::StoreError};

/// A time limit for the retries of an operation that fails transiently.
pub(crate) struct Patience {
    pub(crate) deadline: Instant,
    failed: u32,
}

impl Patience {
    pub(crate) fn of(duration: Duration) -> Self {
        Self { deadline: Instant::now() + duration, failed: 0 }
    }

    /// Returns a success. After a transient failure, pauses and returns `None` if there is time left: then the caller
    /// tries again.
    pub(crate) async fn after<T>(&mut self, tried: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        let error = match tried {
            Ok(done) => return Ok(Some(done)),
            Err(error) => error,
        };
        let pause = backoff::pause(Duration::from_millis(20), Duration::from_millis(200), self.failed);
        if !error.is_transient() || Instant::now() + pause > self.deadline {
            return Err(error);
        }
        self.failed += 1;
        tokio::time::sleep(pause).await;
        Ok(None)
    }
}

/// A time limit that several waits share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    since: Instant,
    pub(crate) whole: Duration,
}

impl Limit {
    pub(crate) fn of(whole: Duration) -> Self {
        Self { since: Instant::now(), whole }
    }

    /// What is left of it.
    pub(crate) fn left(&self) -> Duration {
        self.whole.saturating_sub(self.since.elapsed())
    }
}

/// A store's answer. A transient failure is asked about again, and a store that gives no answer at all fails, both
/// within `duration`; see [`asked_within`].
pub(crate) async fn asked<T, F>(
    duration: Duration,
    what: impl Fn() -> String,
    ask: impl Fn() -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    asked_within(duration, duration, what, ask).await
}

/// A store's answer. A transient failure is asked about again for as long as `again`, and a store that gives no answer
/// at all fails after `silence`: with the last failure, or, if there was none, with `what`, which describes the question.
pub(crate) async fn asked_within<T, F>(
    again: Duration,
    silence: Duration,
    what: impl Fn() -> String,
    ask: impl Fn() -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let (mut patience, mut last) = (Patience::of(again), None);
    let asking = async {
        loop {
            let tried = ask().await;
            last = tried.as_ref().err().cloned();
            if let Some(answer) = patience.after(tried).await? {
                return Ok(answer);
            }
        }
    };
    let answered = timeout(silence, asking).await;
    answered.unwrap_or_else(|late| Err(last.unwrap_or_else(|| StoreError::unavailable(what(), late))))
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::pending};

    use super::*;

    fn fails() -> StoreError {
        StoreError::Unavailable { what: "a call".into(), source: None }
    }

    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn a_transient_failure_is_borne() {
        let calls = Cell::new(0);
        let ask = async || {
            calls.set(calls.get() + 1);
            if calls.get() < 4 { Err(fails()) } else { Ok(calls.get()) }
        };
        assert_eq!(asked(PATIENCE, || "x".into(), ask).await.expect("an answer"), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_in_time_whether_the_store_fails_or_is_silent() {
        let begin = Instant::now();
        let failing = asked(PATIENCE, || "x".into(), async || Err::<(), _>(fails())).await;
        assert!(failing.is_err() && begin.elapsed() <= PATIENCE, "{failing:?}");
        let begin = Instant::now();
        let silent = asked(PATIENCE, || "x".into(), pending::<Result<(), StoreError>>).await;
        assert!(silent.is_err() && begin.elapsed() == PATIENCE, "{silent:?}");
    }

    /// A store that fails, and then does not answer at all: the failure says more than the time.
    #[tokio::test(start_paused = true)]
    async fn the_last_failure_is_what_a_late_call_tells() {
        let calls = Cell::new(0);
        let ask = async || {
            calls.set(calls.get() + 1);
            if calls.get() < 3 { Err::<(), _>(fails()) } else { pending().await }
        };
        let error = asked(PATIENCE, || "x".into(), ask).await.unwrap_err();
        assert_eq!(error.to_string(), fails().to_string());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_told_at_once() {
        let refused = || StoreError::Refused { what: "x".into(), source: None };
        let begin = Instant::now();
        let answer = asked(PATIENCE, || "x".into(), async || Err::<(), _>(refused())).await;
        assert!(matches!(answer, Err(StoreError::Refused { .. })) && begin.elapsed() == Duration::ZERO);
    }
}
