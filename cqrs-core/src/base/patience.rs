//! Retries while a store does not answer.

use std::time::Duration;

use tokio::time::Instant;

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
