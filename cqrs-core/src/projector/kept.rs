//! Values that are kept as documents: the documents of a view, and the states of a policy.
//!
//! The documents that a batch changes are loaded together, changed in memory, event by event, and written together. If
//! a document cannot be read or written, the event that changes it is at fault, so that this event can be set aside.

use std::{borrow::BorrowMut, collections::HashMap};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    base::{
        id::{ProjectionId, check_id},
        store_error::StoreError,
    },
    encoding::json::{self, NotKept},
    port::{
        any_views::AnyViews,
        projection::{Batch, ProjectError},
        view_store::{SavedDocument, ViewStore, Write},
    },
    projector::rules::{cannot_apply, panicked},
};

/// The change that an event makes to the document of a key.
#[doc(hidden)]
pub struct Step<T, R> {
    pub(crate) key: String,
    change: Box<dyn FnOnce(&mut T) -> R + Send>,
}

impl<T, R> Step<T, R> {
    pub(crate) fn new(key: String, change: impl FnOnce(&mut T) -> R + Send + 'static) -> Self {
        Self { key, change: Box::new(change) }
    }
}

/// The properties that all documents of one projection share.
pub(crate) struct Kind<T> {
    /// The words for one document and for what it belongs to, in errors: `document` and `view`.
    pub(crate) what: (&'static str, &'static str),
    /// Whether the document is still wanted; if not, it is removed.
    pub(crate) is_kept: fn(&T) -> bool,
    pub(crate) format: Format<T>,
}

/// How documents are stored.
pub(crate) struct Format<T> {
    /// Reads the document of a key.
    pub(crate) read: fn(&ProjectionId, &str, &[u8]) -> Result<T, Fault>,
    /// Encodes a document, and checks that it can be read back: otherwise the next event would find a document that
    /// cannot be read.
    pub(crate) write: fn(&T) -> Result<Bytes, NotKept>,
}

impl<T: Serialize + DeserializeOwned> Format<T> {
    /// The JSON of the document of a view.
    pub(crate) fn json() -> Self {
        Self { read: read_json, write: json::encode_checked }
    }
}

fn read_json<T: DeserializeOwned>(id: &ProjectionId, key: &str, document: &[u8]) -> Result<T, Fault> {
    let read = panicked(|| json::decode(document)).map_err(Fault::Rule)?;
    read.map_err(|error| Fault::Rule(format!("document {key:?} of view {id} cannot be read: {error}")))
}

/// Why a document could not be changed.
pub(crate) enum Fault {
    /// The event, the rules or the document are at fault.
    Rule(String),
    /// Nothing of the projection can be changed before another program runs.
    Store(StoreError),
}

impl Fault {
    /// The error about the event of this index.
    fn at(self, index: usize) -> ProjectError {
        match self {
            Self::Rule(reason) => cannot_apply(index, reason),
            Self::Store(error) => error.into(),
        }
    }
}

/// Documents with their saved content and their changed values.
pub(crate) struct Kept<T> {
    of: ProjectionId,
    kind: Kind<T>,
    places: HashMap<String, usize>,
    all: Vec<One<T>>,
}

struct One<T> {
    key: String,
    saved: SavedDocument,
    /// The value, once a step has changed it, and the number of the last such step.
    value: Option<(T, usize)>,
}

/// The result of the steps of a batch: what each returns, and the documents to write.
pub(crate) struct Applied<R> {
    pub(crate) returned: Vec<(usize, R)>,
    pub(crate) writes: Vec<Write>,
}

/// Applies the steps of a batch, each with the index of its event, in order. Steps change a `V`, and documents are of the
/// type `T`: one type, under the two names that [`KeepsDocument`](crate::model::required::KeepsDocument) gives it.
///
/// Each document is encoded once, at the end. If that fails, `steps` is called again, and each document is encoded
/// after each step: a later event may have changed the same document, so only that shows which event is at fault.
pub(crate) async fn applied<T, V, R>(
    views: &AnyViews,
    id: &ProjectionId,
    batch: &Batch<'_>,
    kind: Kind<T>,
    steps: impl Fn() -> Result<Vec<(usize, Step<V, R>)>, ProjectError>,
) -> Result<Applied<R>, ProjectError>
where
    T: Default + BorrowMut<V>,
{
    let first = steps()?;
    for (index, Step { key, .. }) in &first {
        let (what, _) = kind.what;
        check_id(key).map_err(|error| cannot_apply(*index, format!("the key of its {what}: {error}")))?;
    }
    let keys: Vec<_> = first.iter().map(|(_, step)| step.key.clone()).collect();
    let mut kept = Kept::load(views, id, kind, keys).await?;
    let applied = kept.apply(batch, first, Look::AtTheEnd);
    let error = match applied {
        Ok(returned) => match kept.writes() {
            Ok(writes) => return Ok(Applied { returned, writes }),
            Err((index, reason)) => cannot_apply(index, reason),
        },
        Err(error) => error,
    };
    kept.reset();
    kept.apply(batch, steps()?, Look::AfterEach)?;
    Err(error)
}

/// When a changed document is encoded as a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    AfterEach,
    AtTheEnd,
}

impl<T: Default> Kept<T> {
    /// Loads the documents of some keys.
    pub(crate) async fn load(
        views: &AnyViews,
        id: &ProjectionId,
        kind: Kind<T>,
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
        let one = |(key, saved)| One { key, saved, value: None };
        Ok(Self { of: id.clone(), kind, places, all: distinct.into_iter().zip(saved).map(one).collect() })
    }

    fn apply<V, R>(
        &mut self,
        batch: &Batch<'_>,
        steps: Vec<(usize, Step<V, R>)>,
        look: Look,
    ) -> Result<Vec<(usize, R)>, ProjectError>
    where
        T: BorrowMut<V>,
    {
        let mut all = Vec::with_capacity(steps.len());
        for (index, Step { key, change }) in steps {
            let span = batch.events[index].span();
            let mut changed = span.in_scope(|| self.change(&key, index, |value| change(value.borrow_mut())));
            if look == Look::AfterEach {
                changed =
                    changed.and_then(|returned| self.document(&key).map(|_| returned).map_err(Fault::Rule));
            }
            all.push((index, changed.map_err(|fault| fault.at(index))?));
        }
        Ok(all)
    }

    /// Changes the document of a loaded key by the step of that number. After an error no document may be saved.
    pub(crate) fn change<R>(
        &mut self,
        key: &str,
        number: usize,
        rule: impl FnOnce(&mut T) -> R,
    ) -> Result<R, Fault> {
        let one = &mut self.all[self.places[key]];
        let value = match one.value.take() {
            Some((value, _)) => value,
            None => match &one.saved.document {
                Some(document) => (self.kind.format.read)(&self.of, key, document)?,
                None => T::default(),
            },
        };
        let (value, _) = one.value.insert((value, number));
        panicked(|| rule(value)).map_err(Fault::Rule)
    }

    /// The document of a key as it would be saved; `None` if it is not kept.
    pub(crate) fn document(&self, key: &str) -> Result<Option<Bytes>, String> {
        let one = &self.all[self.places[key]];
        one.value.as_ref().map_or(Ok(None), |(value, _)| self.kind.document(key, &self.of, value))
    }

    /// The documents that changed; or why one cannot be saved, with the number of the step that changed it last.
    pub(crate) fn writes(&self) -> Result<Vec<Write>, (usize, String)> {
        let mut writes = Vec::with_capacity(self.all.len());
        for One { key, saved, value } in &self.all {
            let Some((value, number)) = value else { continue };
            let document = self.kind.document(key, &self.of, value).map_err(|reason| (*number, reason))?;
            // A document that is not in the store needs no removal.
            if document.is_some() || saved.document.is_some() {
                writes.push(Write { key: key.clone(), document, revision: saved.revision });
            }
        }
        Ok(writes)
    }

    /// Drops all changes.
    fn reset(&mut self) {
        self.all.iter_mut().for_each(|one| one.value = None);
    }
}

impl<T> Kind<T> {
    /// A document, for errors.
    fn named(&self, key: &str, id: &ProjectionId) -> String {
        let (document, view) = self.what;
        format!("{document} {key:?} of {view} {id}")
    }

    /// The encoded document; `None` if it is not kept.
    fn document(&self, key: &str, id: &ProjectionId, value: &T) -> Result<Option<Bytes>, String> {
        let written = panicked(|| (self.is_kept)(value).then(|| (self.format.write)(value)).transpose())?;
        written.map_err(|error| format!("{} cannot be written: {error}", self.named(key, id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        log::recorded::Recorded, memory::views::MemoryViews, port::view_store::Checkpoint,
        projector::waited::tests::stored,
    };

    /// The writes after events that each add a number to one document.
    async fn added(numbers: &[f64]) -> Result<Vec<Write>, ProjectError> {
        let stored = stored(1);
        let events: Vec<_> = numbers.iter().map(|_| Recorded { stored: &stored, index: 0 }).collect();
        let batch = Batch { events: &events, notes: &[], checkpoint: &Checkpoint::default(), revision: 0 };
        let add = |number: f64| Step::new("sum".into(), move |sum: &mut f64| *sum += number);
        let steps = || Ok(numbers.iter().map(|number| add(*number)).enumerate().collect());
        let kind = Kind { what: ("document", "view"), is_kept: |_: &f64| true, format: Format::json() };
        let id = ProjectionId::new("sums", 1);
        let views = AnyViews::new(MemoryViews::default());
        applied(&views, &id, &batch, kind, steps).await.map(|applied| applied.writes)
    }

    #[tokio::test]
    async fn events_change_a_document_in_order_and_it_is_written_once() {
        let writes = added(&[1.0, 2.0, 4.0]).await.unwrap();
        let [Write { document: Some(document), .. }] = writes.as_slice() else { panic!("{writes:?}") };
        assert_eq!(document, "7.0");
    }

    /// The last event to change the document is not at fault; setting it aside would not help.
    #[tokio::test]
    async fn a_document_that_cannot_be_kept_is_the_fault_of_the_first_event_after_which_it_cannot() {
        let error = added(&[1.0, f64::NAN, 2.0, 3.0]).await.unwrap_err();
        let ProjectError::Event { index, reason, transient } = error else { panic!("{error:?}") };
        assert_eq!((index, transient), (1, false));
        let expected = "document \"sum\" of view sums-v1 cannot be written: it could not be read back: ";
        assert!(reason.starts_with(expected), "{reason}");
    }
}
