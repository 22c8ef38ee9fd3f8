//! Waits for a server that comes later.

use std::{error::Error, time::Duration};

use tokio::time::{Instant, sleep};

use crate::connect::ConnectError;

/// The pause before the next attempt.
const PAUSE: Duration = Duration::from_millis(250);

/// How long attempts go on, and whether one has failed already.
pub(super) struct Waiting {
    patience: Duration,
    /// `None`: for ever.
    end: Option<Instant>,
    begun: bool,
}

impl Waiting {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, end: Instant::now().checked_add(patience), begun: false }
    }

    /// Pauses before another attempt after a failure that may pass. The last attempt begins when the time is up. Of
    /// several failures in a row the first one is logged.
    ///
    /// # Errors
    ///
    /// The failure, if there is no other attempt.
    pub(super) async fn after(&mut self, error: ConnectError) -> Result<(), ConnectError> {
        let left = self.end.map(|end| end.saturating_duration_since(Instant::now()));
        if !error.may_pass() || left == Some(Duration::ZERO) {
            return Err(error);
        }
        if !std::mem::replace(&mut self.begun, true) {
            let error = &error as &(dyn Error + 'static);
            tracing::warn!(error, patience = ?self.patience, "waiting for the NATS server");
        }
        sleep(left.map_or(PAUSE, |left| left.min(PAUSE))).await;
        Ok(())
    }

    /// Logs that the server is there, if it was waited for.
    pub(super) fn over(self) {
        if self.begun {
            tracing::info!("the NATS server answers");
        }
    }
}

#[cfg(test)]
mod tests {
    use cqrs_core::port::Source;

    use super::*;

    fn no_answer() -> ConnectError {
        ConnectError::NoAnswer { url: String::new(), source: Source::new(std::fmt::Error) }
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_until_the_time_is_up() {
        for (patience, attempts) in [(0, 1), (100, 2), (250, 2), (1_000, 5)] {
            let (mut tried, begin) = (1, Instant::now());
            let mut waiting = Waiting::new(Duration::from_millis(patience));
            while waiting.after(no_answer()).await.is_ok() {
                tried += 1;
            }
            assert_eq!((tried, begin.elapsed()), (attempts, Duration::from_millis(patience)));
        }
        let mut for_ever = Waiting::new(Duration::MAX);
        for _ in 0..10_000 {
            for_ever.after(no_answer()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_does_not_pass_is_told_at_once() {
        let mut waiting = Waiting::new(Duration::MAX);
        waiting.after(ConnectError::Address { reason: "no" }).await.unwrap_err();
    }
}
