//! The projection of a view: events become changes of documents, which are loaded, changed and saved together.

use std::{collections::HashMap, marker::PhantomData, sync::Arc};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Batch, OnFailure, ProjectError, Projection, ProjectionId, Reached, Retry, Save, SavedCheckpoint,
    SavedDocument, Sources, StoreError, View, ViewStore, Write, codec, id::check_id, panics, view::Step,
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

    fn retry(&self) -> Retry {
        V::RETRY
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
        let keys: Vec<_> = steps.iter().map(|(_, step)| step.key.clone()).collect();
        let mut documents = Kept::<V>::load(&*self.views, projection, keys).await?;
        let (number, limit) = (documents.len() + batch.notes.len(), self.views.max_writes());
        if number > limit {
            let what = format!("what a commit changes, up to sequence {}", batch.checkpoint.sequence);
            return Err(StoreError::TooMany { what, number, limit }.into());
        }
        if let Err(error) = apply(&mut documents, steps, When::AtTheEnd) {
            // Which of the events is at fault is seen when each is followed by a look.
            documents.reset();
            apply(&mut documents, self::steps::<V>(&batch)?, When::AfterEach)?;
            return Err(error);
        }
        let writes = documents.into_writes();
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
        let step = step.map_err(|error| ProjectError::undecodable(index, error))?;
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
    panics::unless_panics(rule).map_err(|panic| cannot_apply(index, format!("the rules panicked: {panic}")))
}

/// When documents are written down, to see whether they can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    AfterEach,
    AtTheEnd,
}

/// Applies the steps in order. A document that cannot be read or written is the fault of the event that wants to
/// change it.
fn apply<V: View>(
    documents: &mut Kept<V>,
    steps: Vec<(usize, Step<V>)>,
    when: When,
) -> Result<(), ProjectError> {
    for (index, Step { key, project }) in steps {
        let view = documents.get(&key, index)?;
        unless_panics(index, || project(view))?;
        if when == When::AfterEach {
            documents.write_one(&key, V::is_kept)?;
        }
    }
    documents.write(V::is_kept)
}

/// Values that are kept as documents, as they were saved and as events change them: the documents of a view, or the
/// states of a policy.
pub(crate) struct Kept<T> {
    places: HashMap<String, usize>,
    all: Vec<One<T>>,
}

/// One of them.
struct One<T> {
    key: String,
    saved: SavedDocument,
    /// The value, once it was asked for, and the event that changed it last.
    value: Option<(T, usize)>,
    document: Option<Bytes>,
}

impl<T: Default + Serialize + DeserializeOwned> Kept<T> {
    /// Those of some keys.
    pub(crate) async fn load<S: ViewStore>(
        views: &S,
        id: &ProjectionId,
        keys: impl IntoIterator<Item = String>,
    ) -> Result<Self, StoreError> {
        let mut places = HashMap::new();
        let mut distinct = Vec::new();
        for key in keys {
            places.entry(key).or_insert_with_key(|key| {
                distinct.push(key.clone());
                distinct.len() - 1
            });
        }
        let saved = if distinct.is_empty() { Vec::new() } else { views.load(id, &distinct).await? };
        let one = |(key, saved)| One { key, saved, value: None, document: None };
        Ok(Self { places, all: distinct.into_iter().zip(saved).map(one).collect() })
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// As they were saved.
    pub(crate) fn reset(&mut self) {
        self.all.iter_mut().for_each(|one| one.value = None);
    }

    /// The value of a key that was loaded, for the event of this index to change.
    pub(crate) fn get(&mut self, key: &str, index: usize) -> Result<&mut T, ProjectError> {
        let one = &mut self.all[self.places[key]];
        let value = match one.value.take() {
            Some((value, _)) => value,
            None => unless_panics(index, || match &one.saved.document {
                Some(document) => codec::from_json(document),
                None => Ok(T::default()),
            })?
            .map_err(|error| cannot_apply(index, format!("document {key:?} cannot be read: {error}")))?,
        };
        Ok(&mut one.value.insert((value, index)).0)
    }

    /// Writes all of them down. One that could not be read again is the fault of the event that changed it last.
    pub(crate) fn write(&mut self, is_kept: impl Fn(&T) -> bool) -> Result<(), ProjectError> {
        self.all.iter_mut().try_for_each(|one| one.write(&is_kept))
    }

    pub(crate) fn write_one(&mut self, key: &str, is_kept: impl Fn(&T) -> bool) -> Result<(), ProjectError> {
        self.all[self.places[key]].write(&is_kept)
    }

    /// What has to be saved of what was [written down](Self::write).
    pub(crate) fn into_writes(self) -> Vec<Write> {
        let write = |One { key, saved, value, document }: One<T>| {
            // What nobody has asked for stays, and what is not there need not be removed.
            let unchanged = value.is_none() || document.is_none() && saved.document.is_none();
            (!unchanged).then_some(Write { key, document, revision: saved.revision })
        };
        self.all.into_iter().filter_map(write).collect()
    }
}

impl<T: Serialize + DeserializeOwned> One<T> {
    fn write(&mut self, is_kept: impl Fn(&T) -> bool) -> Result<(), ProjectError> {
        let Some((value, index)) = &self.value else { return Ok(()) };
        let written = || is_kept(value).then(|| codec::to_json_that_reads_back(value)).transpose();
        let written = unless_panics(*index, written)?;
        let wrong = |error| cannot_apply(*index, format!("document {:?}: {error}", self.key));
        self.document = written.map_err(wrong)?;
        Ok(())
    }
}
