//! The port to the store of views.

use std::future::Future;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::base::{
    id::{EventId, ProjectionId},
    store_error::StoreError,
};

/// Keeps the documents of views, each view with the checkpoint of its projection.
///
/// The contract in words; `contract::view_store` (feature `contract`) is the same as tests:
///
/// - [`save`](ViewStore::save) stores all its documents, its notes and the checkpoint, or nothing.
/// - Of two saves that started from the same checkpoint at most one succeeds (optimistic concurrency).
/// - Keys are opaque: any text of at most [`MAX_ID_BYTES`](crate::model::MAX_ID_BYTES) bytes is a key. Documents and
///   notes have separate keys: the same key may name one of each.
pub trait ViewStore: Send + Sync + 'static {
    /// Creates the place for a projection's documents, if it does not exist.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// It can be called again.
    fn open(&self, projection: &ProjectionId) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The saved checkpoint, with the revision that the next [`save`](ViewStore::save) names. It includes everything
    /// that was saved before the call.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn checkpoint(
        &self,
        projection: &ProjectionId,
    ) -> impl Future<Output = Result<SavedCheckpoint, StoreError>> + Send;

    /// The documents of `keys`, each with its revision, in the order of the keys. For the projector: a save that starts
    /// from this answer never overwrites newer documents.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn load(
        &self,
        projection: &ProjectionId,
        keys: &[String],
    ) -> impl Future<Output = Result<Vec<SavedDocument>, StoreError>> + Send;

    /// The projection's notes whose keys begin with `prefix`, sorted by key. They include everything that was saved
    /// before the call.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn notes(
        &self,
        projection: &ProjectionId,
        prefix: &str,
    ) -> impl Future<Output = Result<Vec<(String, Bytes)>, StoreError>> + Send;

    /// Stores documents, notes and checkpoint in one write, if the checkpoint's revision is still the named one
    /// (compare-and-set). Returns the checkpoint's new revision.
    ///
    /// # Errors
    ///
    /// [`SaveError`]. After any error the caller must read the checkpoint again and continue from there: the write may
    /// be stored.
    ///
    /// # Cancel safety
    ///
    /// A dropped save may be stored, now or later, as a whole or not at all.
    fn save(
        &self,
        projection: &ProjectionId,
        save: Save<'_>,
    ) -> impl Future<Output = Result<u64, SaveError>> + Send;

    /// The most documents and notes that one [`save`](ViewStore::save) takes.
    fn max_writes(&self) -> usize;

    /// A name for this store among all stores that keep views of the same log: at most 32 of `a-z`, `0-9`, `_` and `-`.
    ///
    /// It is part of the consumer's name. Projectors on one store share a consumer, so one of them is active at a time;
    /// projectors on two stores have two consumers, and both are active. `None` only for a store that belongs to the
    /// log and exists once, such as the key-value buckets beside a stream.
    fn name(&self) -> Option<String>;

    /// The document of one key, for queries.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn get(
        &self,
        projection: &ProjectionId,
        key: &str,
    ) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send;

    /// All documents of a projection with their keys, in no particular order, for queries over small views.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn list(
        &self,
        projection: &ProjectionId,
    ) -> impl Future<Output = Result<Vec<(String, Bytes)>, StoreError>> + Send;

    /// At most `max` documents of a projection whose keys are greater than `after`, in the byte order of their keys;
    /// with `None`, the first ones.
    ///
    /// The default reads all documents for each page.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn page(
        &self,
        projection: &ProjectionId,
        after: Option<&str>,
        max: usize,
    ) -> impl Future<Output = Result<Vec<(String, Bytes)>, StoreError>> + Send {
        async move {
            let mut all = self.list(projection).await?;
            all.retain(|(key, _)| after.is_none_or(|after| key.as_str() > after));
            all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            all.truncate(max);
            Ok(all)
        }
    }

    /// Waits, without polling, until the projection's checkpoint is at or after `sequence`. Returns the checkpoint's
    /// sequence and its number of dead letters at that time; it may have moved on since.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn reached(
        &self,
        projection: &ProjectionId,
        sequence: u64,
    ) -> impl Future<Output = Result<Reached, StoreError>> + Send;

    /// Removes everything of a projection: documents, notes and checkpoint. Nothing happens if it does not exist.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// A dropped removal may have happened, or happen later.
    fn remove(&self, projection: &ProjectionId) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The record of the view of this name as a whole, for all its versions and builds, with its revision; at first
    /// `None` and revision 0. It includes everything that was saved before the call.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn about(&self, view: &str) -> impl Future<Output = Result<SavedDocument, StoreError>> + Send;

    /// Replaces the record of the view of this name, if `revision` is still the current one (compare-and-set). Returns
    /// the new revision.
    ///
    /// # Errors
    ///
    /// [`SaveError`]; after any error the record may be replaced all the same.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may be carried out, now or later.
    fn set_about(
        &self,
        view: &str,
        content: Bytes,
        revision: u64,
    ) -> impl Future<Output = Result<u64, SaveError>> + Send;
}

/// How far a projection is in a log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The log; see [`Log::id`](crate::port::Log::id).
    pub log: String,
    /// The last sequence whose events are in the view, or are dead letters.
    pub sequence: u64,
    /// The last event of the commit at that sequence. It shows whether the log has lost its end and has grown again
    /// since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventId>,
    /// The number of dead letters of the projection: with 0, a reader need not look for them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dead_letters: u64,
    /// The number of the attempt to switch, while another build becomes active in place of this one: a sealed build
    /// projects nothing more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<u32>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Checkpoint {
    /// The part of the checkpoint for calls that wait for it.
    pub fn reached(&self) -> Reached {
        Reached { sequence: self.sequence, dead_letters: self.dead_letters }
    }
}

/// The position at which a checkpoint was seen; see [`ViewStore::reached`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reached {
    /// The last sequence whose events are in the view, or are dead letters.
    pub sequence: u64,
    /// The number of dead letters at that time.
    pub dead_letters: u64,
}

/// A checkpoint as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedCheckpoint {
    /// The checkpoint; `None` before the first save.
    pub checkpoint: Option<Checkpoint>,
    /// The revision that the next save names, so that it fails if another save came between; 0 if there is no
    /// checkpoint.
    pub revision: u64,
}

/// A document as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedDocument {
    /// The document; `None` if there is none.
    pub document: Option<Bytes>,
    /// The revision that a save of this key names; 0 if there is no document.
    pub revision: u64,
}

/// One write of a view: documents, notes and checkpoint together.
#[derive(Debug, Clone)]
pub struct Save<'a> {
    /// The changed documents; each key once.
    pub writes: &'a [Write],
    /// The changed notes; each key once.
    pub notes: &'a [Note],
    /// The checkpoint after these changes.
    pub checkpoint: &'a Checkpoint,
    /// The revision of the checkpoint that this one replaces.
    pub revision: u64,
}

/// A changed document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Its key.
    pub key: String,
    /// Its new content; `None` removes it.
    pub document: Option<Bytes>,
    /// The revision of the content that it replaces; 0 if there was none.
    pub revision: u64,
}

/// A changed note: data that a projector keeps beside the documents, such as an event that it could not apply.
///
/// It has no revision of its own: notes change only together with the checkpoint, whose revision is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Its key; at most [`MAX_ID_BYTES`](crate::model::MAX_ID_BYTES) bytes.
    pub key: String,
    /// Its new content; `None` removes it.
    pub content: Option<Bytes>,
}

/// A failed save.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// Another save came between: another instance runs this projection, or an earlier save arrived late.
    #[error("another save of the view came between")]
    Conflict,
    /// The store failed; the save may be stored.
    #[error("the save failed")]
    Failed(#[from] StoreError),
}
