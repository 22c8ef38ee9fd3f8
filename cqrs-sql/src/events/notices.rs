//! Notices: what is appended while a program listens.

use std::{collections::VecDeque, sync::Arc};

use cqrs_core::{
    StoreError,
    port::{Delivery, Notice, Notices},
};
use tokio::time::sleep;

use super::{SqliteEvents, log::Log, subscription::Feed};
use crate::errors::store_error;

/// How many commits a listener may lag behind before it misses some.
const LAG: i64 = 1_024;

/// The pause after a failure.
const REST: std::time::Duration = std::time::Duration::from_millis(200);

impl Notices for SqliteEvents {
    type Listener = SqliteNotices;

    async fn listen(&self, aggregates: &[&'static str]) -> Result<SqliteNotices, StoreError> {
        let log = Arc::clone(&self.log);
        let end = log.present_end().await;
        let end = end.map_err(|error| store_error(log.about("listening"), error))?;
        let feed = Feed::new(&log, aggregates, end);
        Ok(SqliteNotices { log, aggregates: aggregates.to_vec(), feed, heard: VecDeque::new() })
    }
}

/// Listens to the commits of a log.
#[derive(Debug)]
pub struct SqliteNotices {
    log: Arc<Log>,
    aggregates: Vec<&'static str>,
    feed: Feed,
    heard: VecDeque<Delivery>,
}

impl Notice for SqliteNotices {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            if let Some(delivery) = self.heard.pop_front() {
                return Some(delivery);
            }
            let end = self.feed.end.borrow().last;
            if end - self.feed.seen > LAG {
                self.feed.seen = end;
            }
            match self.feed.next(&self.log, 64).await {
                Ok((deliveries, _)) => self.heard.extend(deliveries),
                // The commits in between are missed, as by a program that does not listen.
                Err(error) => {
                    tracing::debug!(%error, "listening again");
                    sleep(REST).await;
                    if let Ok(end) = self.log.present_end().await {
                        self.feed = Feed::new(&self.log, &self.aggregates, end);
                    }
                }
            }
        }
    }
}
