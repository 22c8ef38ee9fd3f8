//! Notices: the stream republishes stored messages on core NATS.

use async_nats::{Message, Subscriber, header::NATS_SEQUENCE};
use cqrs_core::{
    StoreError,
    port::{Delivery, Notice, Notices},
};
use futures_util::{StreamExt, stream::SelectAll};
use tokio::time::sleep;

use crate::{
    client::{
        connection::LAST_WORD,
        errors::{no_answer, unavailable},
    },
    events::NatsEvents,
    wire::{stored::delivered, subject::Subjects},
};

/// The header with the subject of the stored message.
const STORED_UNDER: &str = "Nats-Subject";

impl Notices for NatsEvents {
    type Listener = NatsNotices;

    async fn listen(&self, aggregates: &[&'static str]) -> Result<NatsNotices, StoreError> {
        let context = self.topology.context();
        if !self.topology.has_notices() {
            let what = format!("context {context} announces nothing: open it with `Topology::notices`");
            return Err(StoreError::Refused { what, source: None });
        }
        let what = || format!("listening to the notices of context {context}");
        let (client, subjects) = (&self.connection.client, self.topology.subjects());
        let before = self.connection.before();
        let mut subscribers = SelectAll::new();
        for aggregate in aggregates {
            let subscriber = client.subscribe(subjects.notices_of(aggregate)).await;
            subscribers.push(subscriber.map_err(|error| unavailable(what(), error))?);
        }
        // The server answers in order: after this answer the subscription is active, or the server has reported that it
        // is not permitted.
        let settled = async {
            let log = self.topology.log_id(&self.connection).await;
            sleep(LAST_WORD).await;
            log
        };
        let log = self.connection.answer_since(before, &[subjects.notices()], settled).await;
        log.map_err(|why| no_answer(what(), why))?.map_err(|error| unavailable(what(), error))?;
        Ok(NatsNotices { subjects: subjects.clone(), subscribers })
    }
}

/// Commits as the server announces them.
pub struct NatsNotices {
    subjects: Subjects,
    subscribers: SelectAll<Subscriber>,
}

impl Notice for NatsNotices {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            let message = self.subscribers.next().await?;
            // Any user with the permission can publish to this subject; only messages with the stream's headers are
            // notices.
            if let Some(delivery) = delivery(&self.subjects, message) {
                return Some(delivery);
            }
        }
    }
}

fn delivery(subjects: &Subjects, message: Message) -> Option<Delivery> {
    let headers = message.headers?;
    let sequence = headers.get_last(NATS_SEQUENCE)?.as_str().parse().ok()?;
    let subject = headers.get_last(STORED_UNDER)?.as_str().to_owned();
    Some(delivered(subjects, &[], &subject, sequence, &headers, message.payload))
}
