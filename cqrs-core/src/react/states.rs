//! The states of a policy in the write that they change in.

use std::collections::HashMap;

use bytes::Bytes;

use crate::{
    Policy, ProjectionId, SavedDocument, StoreError, ViewStore, Write, codec, panics::unless_panics,
};

/// The states of some keys, as they were saved and as they become.
pub(super) struct States<P> {
    places: HashMap<String, usize>,
    states: Vec<State<P>>,
}

struct State<P> {
    key: String,
    revision: u64,
    /// The state; else why this program cannot read it.
    now: Result<P, String>,
}

impl<P: Policy> States<P> {
    pub(super) async fn load<S: ViewStore>(
        views: &S,
        id: &ProjectionId,
        keys: Vec<String>,
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
        let state = |(key, saved): (String, SavedDocument)| {
            let state = match &saved.document {
                Some(document) => read(&key, document),
                None => Ok(P::default()),
            };
            State { key, revision: saved.revision, now: state }
        };
        Ok(Self { places, states: distinct.into_iter().zip(saved).map(state).collect() })
    }

    /// Changes the state of a key that was loaded. After an error nothing of the states may be written.
    pub(super) fn change<T>(&mut self, key: &str, rule: impl FnOnce(&mut P) -> T) -> Result<T, String> {
        let state = self.states[self.places[key]].now.as_mut().map_err(|reason| reason.clone())?;
        panicked(|| rule(state))
    }

    /// The document of a key; none for a state that is not kept.
    pub(super) fn document(&self, key: &str) -> Result<Option<Bytes>, String> {
        match &self.states[self.places[key]].now {
            Ok(state) => document(key, state),
            Err(reason) => Err(reason.clone()),
        }
    }

    /// The changed states; else the first key whose state cannot be written, and why.
    pub(super) fn writes(&self) -> Result<Vec<Write>, String> {
        let mut writes = Vec::with_capacity(self.states.len());
        for State { key, revision, now } in &self.states {
            // One that cannot be read was not changed.
            let Ok(state) = now else { continue };
            let document = document(key, state)?;
            // What is not there need not be removed.
            if document.is_some() || *revision > 0 {
                writes.push(Write { key: key.clone(), document, revision: *revision });
            }
        }
        Ok(writes)
    }
}

fn read<P: Policy>(key: &str, document: &[u8]) -> Result<P, String> {
    panicked(|| codec::from_json(document))?
        .map_err(|error| format!("the policy's state {key:?} cannot be read: {error}"))
}

/// What is written must be read back: otherwise the next event would find a state that nobody can read.
fn document<P: Policy>(key: &str, state: &P) -> Result<Option<Bytes>, String> {
    let written = panicked(|| state.is_kept().then(|| codec::to_json_that_reads_back(state)).transpose())?;
    written.map_err(|error| format!("the policy's state {key:?} cannot be written: {error}"))
}

/// What comes of a policy's rule; a panic is a reason like any other.
fn panicked<T>(rule: impl FnOnce() -> T) -> Result<T, String> {
    unless_panics(rule).map_err(|panic| format!("the rules panicked: {panic}"))
}
