//! The projection of a view: events become changes of documents, which are loaded, changed and saved together.

use std::{
    collections::HashMap,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    Batch, OnFailure, ProjectError, Projection, ProjectionId, Reached, Save, SavedCheckpoint, SavedDocument,
    Sources, StoreError, View, ViewStore, Write, codec, id::check_id, lanes::panic_text,
    query::decode_document, view::Step,
};

/// The documents of `V` in the view store `S`.
pub(crate) struct DocumentProjection<V, S> {
    views: Arc<S>,
    view: PhantomData<fn() -> V>,
}

impl<V, S> DocumentProjection<V, S> {
    pub(crate) fn new(views: Arc<S>) -> Self {
        Self { views, view: PhantomData }
    }
}

impl<V: View, S: ViewStore> Projection for DocumentProjection<V, S> {
    fn aggregates(&self) -> Vec<&'static str> {
        V::Of::names()
    }

    fn on_failure(&self) -> OnFailure {
        V::ON_FAILURE
    }

    fn ignored(&self) -> &'static [&'static str] {
        V::IGNORED
    }

    fn max_events(&self) -> usize {
        // Each event changes at most one document.
        self.views.max_writes()
    }

    fn place(&self) -> Option<String> {
        self.views.place()
    }

    async fn open(&self, projection: &ProjectionId) -> Result<(), StoreError> {
        self.views.open(projection).await
    }

    async fn checkpoint(&self, projection: &ProjectionId) -> Result<SavedCheckpoint, StoreError> {
        self.views.checkpoint(projection).await
    }

    async fn notes(
        &self,
        projection: &ProjectionId,
        prefix: &str,
    ) -> Result<Vec<(String, Bytes)>, StoreError> {
        self.views.notes(projection, prefix).await
    }

    async fn project(&self, projection: &ProjectionId, batch: Batch<'_>) -> Result<u64, ProjectError> {
        let steps = steps::<V>(&batch)?;
        let changes = Changes::of(&steps);
        let (number, limit) = (changes.keys.len() + batch.notes.len(), self.views.max_writes());
        if number > limit {
            let what = format!("what a commit changes, up to sequence {}", batch.checkpoint.sequence);
            return Err(StoreError::TooMany { what, number, limit }.into());
        }
        let saved = match changes.keys.as_slice() {
            [] => Vec::new(),
            keys => self.views.load(projection, keys).await?,
        };
        let writes = changes.apply::<V>(steps, saved, projection)?;
        let Batch { notes, checkpoint, revision, .. } = batch;
        let save = Save { writes: &writes, notes, checkpoint, revision };
        Ok(self.views.save(projection, save).await?)
    }

    async fn reached(&self, projection: &ProjectionId, sequence: u64) -> Result<Reached, StoreError> {
        self.views.reached(projection, sequence).await
    }

    async fn remove(&self, projection: &ProjectionId) -> Result<(), StoreError> {
        self.views.remove(projection).await
    }
}

/// What the events of a batch change, each with the event's index.
fn steps<V: View>(batch: &Batch<'_>) -> Result<Vec<(usize, Step<V>)>, ProjectError> {
    let mut steps = Vec::with_capacity(batch.events.len());
    for (index, event) in batch.events.iter().enumerate() {
        let step = unless_panics(index, || V::Of::step(event))?;
        let step = step.map_err(|error| cannot_apply(index, error.to_string()))?;
        let Some(step) = step else { continue };
        check_id(&step.key).map_err(|error| cannot_apply(index, format!("its document's key: {error}")))?;
        steps.push((index, step));
    }
    Ok(steps)
}

pub(crate) fn cannot_apply(index: usize, reason: String) -> ProjectError {
    ProjectError::Event { index, reason, transient: false }
}

/// Runs a rule of a view or policy; a panic is about the event. Whatever it was changing is given up with the batch.
pub(crate) fn unless_panics<T>(index: usize, rule: impl FnOnce() -> T) -> Result<T, ProjectError> {
    catch_unwind(AssertUnwindSafe(rule))
        .map_err(|panic| cannot_apply(index, format!("the rules panicked: {}", panic_text(&*panic))))
}

/// The documents that a batch changes: each key once, and for each step the place of its key.
struct Changes {
    keys: Vec<String>,
    places: Vec<usize>,
}

impl Changes {
    fn of<V>(steps: &[(usize, Step<V>)]) -> Self {
        let (mut keys, mut places) = (Vec::new(), Vec::with_capacity(steps.len()));
        let mut known: HashMap<&str, usize> = HashMap::with_capacity(steps.len());
        for (_, step) in steps {
            let place = *known.entry(&step.key).or_insert(keys.len());
            if place == keys.len() {
                keys.push(step.key.clone());
            }
            places.push(place);
        }
        Self { keys, places }
    }

    /// The documents after all steps.
    fn apply<V: View>(
        self,
        steps: Vec<(usize, Step<V>)>,
        saved: Vec<SavedDocument>,
        projection: &ProjectionId,
    ) -> Result<Vec<Write>, ProjectError> {
        let mut views = Vec::with_capacity(saved.len());
        for (key, saved) in self.keys.iter().zip(&saved) {
            views.push(match &saved.document {
                Some(document) => decode_document::<V>(projection, key, document)?,
                None => V::default(),
            });
        }
        for ((index, step), place) in steps.into_iter().zip(self.places) {
            let view = &mut views[place];
            unless_panics(index, || (step.project)(view))?;
        }
        let write = |((key, saved), view): ((String, SavedDocument), V)| {
            let document = view.is_kept().then(|| encode(projection, &key, &view)).transpose()?;
            // What is not there need not be removed.
            let unchanged = document.is_none() && saved.document.is_none();
            Ok((!unchanged).then_some(Write { key, document, revision: saved.revision }))
        };
        self.keys.into_iter().zip(saved).zip(views).filter_map(|change| write(change).transpose()).collect()
    }
}

fn encode<V: View>(projection: &ProjectionId, key: &str, view: &V) -> Result<Bytes, StoreError> {
    codec::to_json_that_reads_back(view).map_err(|error| StoreError::BadDocument {
        view: projection.to_string(),
        key: key.to_owned(),
        reason: error.to_string(),
    })
}
