//! Follows the log from a sequence on.

use std::{sync::Arc, time::Duration};

use cqrs_core::{
    StoreError,
    port::{Delivery, Subscribe, Subscription},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    log::{End, Log},
    turn::Turn,
};
use crate::errors::store_error;

/// How often a standby looks whether the turn is free.
const LOOK: Duration = Duration::from_millis(100);

/// How often an idle subscription reads the log, so that it returns the error of a log that cannot be read.
const CHECK: Duration = Duration::from_secs(1);

/// The commits of a log, as they are stored.
#[derive(Debug)]
pub struct SqliteSubscription {
    log: Arc<Log>,
    subscriber: String,
    /// Held while this subscriber is the active one.
    turn: Option<Turn>,
    feed: Feed,
    /// About how many commits come after those that were returned.
    pending: u64,
    /// The last sequence of the log when they were counted.
    counted: i64,
}

impl SqliteSubscription {
    pub(super) async fn open(log: &Arc<Log>, request: Subscribe<'_>) -> Result<Self, StoreError> {
        let (log, subscriber) = (Arc::clone(log), request.subscriber.to_owned());
        let turn = log.turns.take(&subscriber)?;
        let feed = Feed::new(&log, request.aggregates, i64::try_from(request.after).unwrap_or(i64::MAX));
        let counted = feed.end.borrow().last;
        let backlog = log.backlog(request.aggregates, request.after).await;
        let pending = backlog.map_err(|error| store_error(log.about("counting commits"), error))?.commits;
        Ok(Self { log, subscriber, turn, feed, pending, counted })
    }
}

impl Subscription for SqliteSubscription {
    fn pending(&self) -> u64 {
        self.pending
    }

    fn is_standby(&self) -> bool {
        self.turn.is_none()
    }

    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, StoreError> {
        if self.is_standby() {
            while self.log.turns.take(&self.subscriber)?.is_none() {
                sleep(LOOK).await;
            }
            // The former active subscriber may have saved more since: this one begins again from the checkpoint.
            let what = "the worker that was reading has gone".to_owned();
            return Err(StoreError::Interrupted { subscriber: self.subscriber.clone(), what });
        }
        let (deliveries, more) = self.feed.next(&self.log, max).await?;
        let end = self.feed.end.borrow().last;
        let grown = (end - self.counted).max(0).cast_unsigned();
        let left = self.pending.saturating_add(grown).saturating_sub(deliveries.len() as u64);
        (self.pending, self.counted) = (if more { left.max(1) } else { 0 }, end);
        Ok(deliveries)
    }

    /// Nothing is kept: the checkpoint says how far the subscriber is.
    async fn done(&mut self, _: u64) -> Result<(), StoreError> {
        Ok(())
    }

    async fn leave(self) {}
}

/// The commits of some aggregate types after a sequence.
#[derive(Debug)]
pub(super) struct Feed {
    aggregates: Vec<&'static str>,
    /// The last sequence that was returned.
    pub(super) seen: i64,
    pub(super) end: watch::Receiver<End>,
    /// The era in which it began.
    era: u64,
}

impl Feed {
    pub(super) fn new(log: &Arc<Log>, aggregates: &[&'static str], seen: i64) -> Self {
        Self { aggregates: aggregates.to_vec(), seen, end: log.watch(), era: log.identity.number() }
    }

    /// Waits for the next commits, and returns whether there may be more. A call that is dropped has taken none.
    pub(super) async fn next(&mut self, log: &Log, max: usize) -> Result<(Vec<Delivery>, bool), StoreError> {
        loop {
            let known = *self.end.borrow_and_update();
            let (deliveries, more) =
                log.of_types(|| "following the log".to_owned(), &self.aggregates, self.seen, max).await?;
            if log.identity.number() != self.era {
                let what = log.about("following the log, which may be another one and is compared again,");
                return Err(StoreError::Unavailable { what, source: None });
            }
            if let Some(last) = deliveries.last() {
                self.seen = last.as_ref().map_or_else(|it| it.sequence, |it| it.sequence).cast_signed();
                return Ok((deliveries, more));
            }
            // Up to there the log has nothing for this subscriber, so it need not be read again.
            self.seen = self.seen.max(known.last);
            let era = self.era;
            let news = self.end.wait_for(|end| end.last > known.last || end.era != era);
            let _ = timeout(CHECK, news).await;
        }
    }
}
