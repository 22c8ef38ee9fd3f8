//! The documents of a view in a bucket, with the client alone: reads and writes them in batches.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use async_nats::{
    HeaderMap,
    header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_SEQUENCE, NATS_SUBJECT},
    jetstream::{message::PublishMessage, stream},
};
use cqrs_benches::domain::OrderSummary;
use serde::Serialize;
use uuid::Uuid;

use super::Raw;
use crate::rounds::as_f64;

/// How many documents one batch has, beside the checkpoint: the framework's maximum.
const TOGETHER: u64 = 500;

impl Raw {
    /// Applies one event after the other to the documents of so many orders, until there were so many events or time is
    /// up: reads the documents of a batch, and writes them with a checkpoint. Returns the events per second.
    pub(crate) async fn documents(
        self,
        bucket: String,
        orders: u64,
        all: u64,
        time: Duration,
    ) -> Result<f64> {
        let stream = stream::Config {
            name: format!("KV_{bucket}"),
            subjects: vec![format!("$KV.{bucket}.>")],
            max_messages_per_subject: 1,
            allow_direct: true,
            allow_atomic_publish: true,
            ..stream::Config::default()
        };
        self.jetstream.create_stream(stream).await?;
        let document = serde_json::to_vec(&OrderSummary { total: 129_900, paid: 12_990, parcels: 1 })?;
        let (mut written, mut checkpoint) = (0, 0);
        let begin = Instant::now();
        while written < all && begin.elapsed() < time {
            let numbers = (written..written + TOGETHER).map(|event| event % orders);
            let subjects: Vec<_> = numbers.map(|order| format!("$KV.{bucket}.d.{order}")).collect();
            let last = self.last_of(&bucket, &subjects).await?;
            checkpoint = self.write(&bucket, &subjects, &last, document.clone(), checkpoint).await?;
            written += TOGETHER;
        }
        Ok(as_f64(written) / begin.elapsed().as_secs_f64())
    }

    /// The sequences of the existing documents.
    async fn last_of(&self, bucket: &str, subjects: &[String]) -> Result<HashMap<String, u64>> {
        #[derive(Serialize)]
        struct Get<'a> {
            multi_last: &'a [String],
            batch: usize,
        }
        let get = Get { multi_last: subjects, batch: subjects.len() };
        let found = self.direct_get(&format!("KV_{bucket}"), &get).await?;
        let place = |message: async_nats::Message| {
            let headers = message.headers.context("a message without headers")?;
            let header = |name| headers.get(name).context("a message without its place");
            Ok((header(NATS_SUBJECT)?.as_str().to_owned(), header(NATS_SEQUENCE)?.as_str().parse()?))
        };
        found.into_iter().map(place).collect()
    }

    /// Writes the documents and then the checkpoint, each with the check that it is unchanged since the read. Returns
    /// the checkpoint's sequence.
    async fn write(
        &self,
        bucket: &str,
        subjects: &[String],
        last: &HashMap<String, u64>,
        document: Vec<u8>,
        checkpoint: u64,
    ) -> Result<u64> {
        let (id, document) = (Uuid::new_v4().simple().to_string(), bytes::Bytes::from(document));
        let headers = |number: usize, expected: u64| {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Batch-Id", id.as_str());
            headers.insert("Nats-Batch-Sequence", number.to_string());
            headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
            headers
        };
        for (number, subject) in (1..).zip(subjects) {
            let headers = headers(number, last.get(subject).copied().unwrap_or(0));
            self.client.publish_with_headers(subject.clone(), headers, document.clone()).await?;
        }
        let mut headers = headers(subjects.len() + 1, checkpoint);
        headers.insert("Nats-Batch-Commit", "1");
        let commit = PublishMessage::build().headers(headers).payload(document);
        let ack = self.jetstream.send_publish(format!("$KV.{bucket}.checkpoint"), commit).await?.await?;
        ensure!(ack.sequence > checkpoint, "sequence {} after {checkpoint}", ack.sequence);
        Ok(ack.sequence)
    }
}
