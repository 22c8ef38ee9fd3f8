//! The view store in memory: a map for each projection, with its checkpoint.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    base::{id::ProjectionId, store_error::StoreError},
    memory::{lock, random},
    port::view_store::{Checkpoint, Reached, Save, SaveError, SavedCheckpoint, SavedDocument, ViewStore},
};

/// A view store in memory. Clones share the same documents.
#[derive(Clone)]
pub struct MemoryViews {
    id: Arc<str>,
    places: Arc<Mutex<HashMap<ProjectionId, Arc<Mutex<Bucket>>>>>,
    about: Arc<Mutex<HashMap<String, (Bytes, u64)>>>,
}

/// The stored data of one projection.
#[derive(Default)]
struct Bucket {
    documents: HashMap<String, (Bytes, u64)>,
    notes: BTreeMap<String, Bytes>,
    checkpoint: Option<Checkpoint>,
    /// The number of saves: the revision of the checkpoint, and of the documents saved with it.
    revision: u64,
    reached: watch::Sender<Reached>,
}

impl Default for MemoryViews {
    fn default() -> Self {
        let id = format!("{:x}", Uuid::from_u128(random()).simple()).into();
        Self { id, places: Arc::default(), about: Arc::default() }
    }
}

impl MemoryViews {
    fn of(&self, projection: &ProjectionId) -> Arc<Mutex<Bucket>> {
        Arc::clone(lock(&self.places).entry(projection.clone()).or_default())
    }
}

impl fmt::Debug for MemoryViews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryViews").field("projections", &lock(&self.places).len()).finish_non_exhaustive()
    }
}

impl ViewStore for MemoryViews {
    async fn open(&self, projection: &ProjectionId) -> Result<(), StoreError> {
        self.of(projection);
        Ok(())
    }

    async fn checkpoint(&self, projection: &ProjectionId) -> Result<SavedCheckpoint, StoreError> {
        let bucket = self.of(projection);
        let bucket = lock(&bucket);
        Ok(SavedCheckpoint { checkpoint: bucket.checkpoint.clone(), revision: bucket.revision })
    }

    async fn load(
        &self,
        projection: &ProjectionId,
        keys: &[String],
    ) -> Result<Vec<SavedDocument>, StoreError> {
        let bucket = self.of(projection);
        let bucket = lock(&bucket);
        Ok(keys.iter().map(|key| saved(bucket.documents.get(key))).collect())
    }

    async fn notes(
        &self,
        projection: &ProjectionId,
        prefix: &str,
    ) -> Result<Vec<(String, Bytes)>, StoreError> {
        let bucket = self.of(projection);
        let bucket = lock(&bucket);
        let after = bucket.notes.range(prefix.to_owned()..);
        let found = after.take_while(|(key, _)| key.starts_with(prefix));
        Ok(found.map(|(key, content)| (key.clone(), content.clone())).collect())
    }

    async fn save(&self, projection: &ProjectionId, save: Save<'_>) -> Result<u64, SaveError> {
        let bucket = self.of(projection);
        let mut bucket = lock(&bucket);
        let current = |key: &String| bucket.documents.get(key).map_or(0, |(_, revision)| *revision);
        let overtaken = save.writes.iter().any(|write| current(&write.key) != write.revision);
        if bucket.revision != save.revision || overtaken {
            return Err(SaveError::Conflict);
        }
        bucket.revision += 1;
        let revision = bucket.revision;
        for write in save.writes {
            match write.document.clone() {
                Some(document) => bucket.documents.insert(write.key.clone(), (document, revision)),
                None => bucket.documents.remove(&write.key),
            };
        }
        for note in save.notes {
            match note.content.clone() {
                Some(content) => bucket.notes.insert(note.key.clone(), content),
                None => bucket.notes.remove(&note.key),
            };
        }
        bucket.checkpoint = Some(save.checkpoint.clone());
        bucket.reached.send_replace(save.checkpoint.reached());
        Ok(revision)
    }

    fn max_writes(&self) -> usize {
        usize::MAX
    }

    /// Another process has its own views, which only its own projectors can keep current.
    fn name(&self) -> Option<String> {
        Some(self.id.to_string())
    }

    async fn get(&self, projection: &ProjectionId, key: &str) -> Result<Option<Bytes>, StoreError> {
        let bucket = self.of(projection);
        let bucket = lock(&bucket);
        Ok(bucket.documents.get(key).map(|(document, _)| document.clone()))
    }

    async fn list(&self, projection: &ProjectionId) -> Result<Vec<(String, Bytes)>, StoreError> {
        let bucket = self.of(projection);
        let bucket = lock(&bucket);
        Ok(bucket.documents.iter().map(|(key, (document, _))| (key.clone(), document.clone())).collect())
    }

    async fn reached(&self, projection: &ProjectionId, sequence: u64) -> Result<Reached, StoreError> {
        let bucket = self.of(projection);
        let mut reached = lock(&bucket).reached.subscribe();
        // The sender lives in `bucket`, which is held here, so the wait ends only with the sequence.
        let waited = reached.wait_for(|reached| reached.sequence >= sequence).await;
        Ok(waited.map(|reached| *reached).unwrap_or_default())
    }

    async fn remove(&self, projection: &ProjectionId) -> Result<(), StoreError> {
        lock(&self.places).remove(projection);
        Ok(())
    }

    async fn about(&self, view: &str) -> Result<SavedDocument, StoreError> {
        Ok(saved(lock(&self.about).get(view)))
    }

    async fn set_about(&self, view: &str, content: Bytes, revision: u64) -> Result<u64, SaveError> {
        let mut about = lock(&self.about);
        let current = about.get(view).map_or(0, |(_, revision)| *revision);
        if current != revision {
            return Err(SaveError::Conflict);
        }
        about.insert(view.to_owned(), (content, revision + 1));
        Ok(revision + 1)
    }
}

fn saved(found: Option<&(Bytes, u64)>) -> SavedDocument {
    match found {
        Some((document, revision)) => SavedDocument { document: Some(document.clone()), revision: *revision },
        None => SavedDocument { document: None, revision: 0 },
    }
}
