//! The timer: sends the commands of deadlines that are due.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    base::{backoff, outage::OutagePart, store_error::StoreError},
    effects::{
        carrier::{Carrier, Hope, SendFailure, Sent},
        intents::Request,
    },
    encoding::json,
    port::{
        clock::Clock,
        deadlines::{AnyDeadlines, Due},
    },
};

/// How many commands are sent at the same time.
const AT_ONCE: usize = 16;

/// The pause before the timer asks a failing store again, at first and at most. It bounds how late the timer notices
/// that the failure has passed.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The pause before a command is sent again after a transient failure, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The pause before a command comes again that this program cannot send, at first and at most: for a program that can.
const HOPELESS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(600));

/// Sends the commands of deadlines that are due, until the service stops.
pub(crate) async fn run(
    deadlines: Arc<dyn AnyDeadlines>,
    carrier: Arc<Carrier>,
    clock: Arc<dyn Clock>,
    part: OutagePart,
    stop: CancellationToken,
) {
    let mut failures = 0;
    loop {
        let followed = tokio::select! {
            followed = follow(&*deadlines, &carrier, &clock, &part, &mut failures) => followed,
            () = stop.cancelled() => return,
        };
        if let Err(error) = followed {
            part.failed(&error);
        }
        tokio::select! {
            () = tokio::time::sleep(backoff::pause(RETRY.0, RETRY.1, failures)) => failures += 1,
            () = stop.cancelled() => return,
        }
    }
}

async fn follow(
    deadlines: &dyn AnyDeadlines,
    carrier: &Arc<Carrier>,
    clock: &Arc<dyn Clock>,
    part: &OutagePart,
    failures: &mut u32,
) -> Result<(), StoreError> {
    let mut queue = deadlines.due(Arc::clone(clock)).await?;
    part.works();
    let mut sending = JoinSet::new();
    loop {
        if sending.len() >= AT_ONCE {
            sending.join_next().await;
        }
        let due = queue.next().await?;
        *failures = 0;
        let carrier = Arc::clone(carrier);
        sending.spawn(async move {
            let id = due.id().to_owned();
            if let Err(error) = send(&carrier, due).await {
                debug!(%error, deadline = id, "the store was not told about a deadline, which comes again");
            }
        });
        while sending.try_join_next().is_some() {}
    }
}

/// Sends the command of a deadline. A refusal by the business ends the deadline: the command came too late.
async fn send(carrier: &Carrier, due: Due) -> Result<(), StoreError> {
    let request: Request = match json::decode(due.payload()) {
        Ok(request) => request,
        Err(error) => {
            let reason = format!("it cannot be read by this program: {error}");
            return put_off(due, HOPELESS, "a deadline", &reason).await;
        }
    };
    match carrier.send(&request).await {
        Sent::Done => {
            info!(deadline = due.id(), command = request.command, "a deadline has passed");
            due.done().await
        }
        Sent::Refused(_) => due.done().await,
        Sent::Failed(SendFailure { reason, hope: Hope::Passes }) => {
            put_off(due, AGAIN, &request.shown(), &reason).await
        }
        Sent::Failed(SendFailure { reason, .. }) => put_off(due, HOPELESS, &request.shown(), &reason).await,
    }
}

/// Delays a deadline, longer each time (backoff). It stays armed, for a program that can send its command, and holds up
/// no other deadline. Only the first failure is a warning in the log.
async fn put_off(due: Due, pauses: (Duration, Duration), what: &str, reason: &str) -> Result<(), StoreError> {
    let pause = backoff::pause(2 * pauses.0, pauses.1, due.put_off());
    if due.put_off() == 0 {
        warn!(deadline = due.id(), what, reason, ?pause, "a deadline's command was not sent and comes again");
    } else {
        debug!(
            deadline = due.id(),
            what,
            reason,
            ?pause,
            "a deadline's command was not sent and comes again"
        );
    }
    due.later(pause).await
}
