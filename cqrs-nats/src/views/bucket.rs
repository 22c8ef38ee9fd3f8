//! The bucket of a projection: the subjects of its documents, notes and checkpoint, and the messages of a save.

use bytes::Bytes;
use cqrs_core::{
    StoreError,
    port::{Note, ProjectionId, Save, Write},
};

use crate::{
    client::atomic_batch,
    wire::{names::Bucket, subject::encode_token},
};

/// The prefix of the keys of documents.
pub(super) const DOCUMENTS: &str = "d.";

/// The prefix of the keys of notes.
pub(super) const NOTES: &str = "n.";

impl Bucket {
    pub(super) fn checkpoint(&self) -> String {
        format!("{}checkpoint", self.prefix)
    }

    pub(super) fn document(&self, key: &str) -> String {
        format!("{}{DOCUMENTS}{}", self.prefix, encode_token(key))
    }

    pub(super) fn note(&self, key: &str) -> String {
        format!("{}{NOTES}{}", self.prefix, encode_token(key))
    }

    pub(super) fn what(&self, doing: &str) -> String {
        format!("{doing} bucket {}", self.name)
    }

    /// The documents, the notes and the checkpoint as messages of a batch. The checkpoint is the last one: a consumer
    /// sees the messages of a batch one by one, so a reader that sees the checkpoint can read the documents.
    pub(super) fn messages(
        &self,
        projection: &ProjectionId,
        save: &Save<'_>,
        limit: usize,
    ) -> Result<Vec<atomic_batch::Message>, StoreError> {
        let checkpoint = serde_json::to_vec(save.checkpoint)
            .map_err(|error| StoreError::refused("writing a checkpoint as JSON", error))?;
        let mut messages = Vec::with_capacity(save.writes.len() + save.notes.len() + 1);
        for Write { key, document, revision } in save.writes {
            check_size(limit, document.as_ref(), || format!("document {key:?} of view {projection}"))?;
            let (subject, payload) = (self.document(key), document.clone());
            messages.push(atomic_batch::Message { subject, payload, expected: Some(*revision) });
        }
        for Note { key, content } in save.notes {
            check_size(limit, content.as_ref(), || format!("note {key:?} of view {projection}"))?;
            let (subject, payload) = (self.note(key), content.clone());
            messages.push(atomic_batch::Message { subject, payload, expected: None });
        }
        messages.push(atomic_batch::Message {
            subject: self.checkpoint(),
            payload: Some(checkpoint.into()),
            expected: Some(save.revision),
        });
        Ok(messages)
    }
}

/// Fails if the content does not fit into one message of a batch.
fn check_size(limit: usize, content: Option<&Bytes>, what: impl Fn() -> String) -> Result<(), StoreError> {
    // The headers of a message in a batch are far smaller than this.
    let bytes = content.map_or(0, Bytes::len) + 1_024;
    if bytes > limit { Err(StoreError::TooLarge { what: what(), bytes, limit }) } else { Ok(()) }
}
