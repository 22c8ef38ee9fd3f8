//! Calls the rules of a user (`project`, `key`, `react`): each call runs in the span of its event, and a failure or a
//! panic is attributed to that event.

use crate::{
    base::{id::ProjectionId, panics::unless_panics, store_error::StoreError},
    log::recorded::Recorded,
    port::{
        any_views::AnyViews,
        projection::{Batch, ProjectError},
        view_store::{Note, Save, ViewStore, Write},
    },
};

impl Batch<'_> {
    /// Calls `decide` for each event, and returns its results with the events' indexes.
    ///
    /// # Errors
    ///
    /// [`ProjectError`] about the first event for which `decide` panics, or fails because the event cannot be
    /// [decoded](Recorded::decode).
    pub fn each<T>(
        &self,
        mut decide: impl FnMut(&Recorded<'_>) -> Result<Option<T>, StoreError>,
    ) -> Result<Vec<(usize, T)>, ProjectError> {
        let mut all = Vec::with_capacity(self.events.len());
        for (index, event) in self.events.iter().enumerate() {
            let decided = event.span().in_scope(|| panicked(|| decide(event)));
            let decided = decided.map_err(|reason| cannot_apply(index, reason))?;
            let decided = decided.map_err(|error| ProjectError::undecodable(index, error))?;
            all.extend(decided.map(|decided| (index, decided)));
        }
        Ok(all)
    }
}

impl Recorded<'_> {
    /// The span in which a projection handles the event, with the ids that logs are searched by.
    pub fn span(&self) -> tracing::Span {
        let event = &self.stored.commit.events[self.index];
        tracing::debug_span!(
            "event",
            event_id = %event.id,
            event_type = &*event.event_type,
            aggregate = self.aggregate(),
            id = self.stored.commit.aggregate.id(),
            version = self.version(),
            sequence = self.stored.sequence,
            command_id = %event.origin.command_id,
            correlation_id = %event.origin.correlation_id,
        )
    }
}

/// Calls a rule and returns its result, or the text of its panic. After a panic, the value that the rule was changing
/// must be discarded: it may be half changed.
pub(crate) fn panicked<T>(rule: impl FnOnce() -> T) -> Result<T, String> {
    unless_panics(rule).map_err(|panic| format!("the rules panicked: {panic}"))
}

/// The error that the event of this index can never be applied.
pub(crate) fn cannot_apply(index: usize, reason: String) -> ProjectError {
    ProjectError::Event { index, reason, transient: false }
}

/// Saves the results of a batch in one write with the checkpoint. More changes than the store takes in one write are an
/// error; the projector then splits the batch.
pub(crate) async fn save(
    views: &AnyViews,
    id: &ProjectionId,
    batch: &Batch<'_>,
    writes: &[Write],
    notes: &[Note],
) -> Result<u64, ProjectError> {
    let (number, limit) = (writes.len() + notes.len(), views.max_writes());
    if number > limit {
        let what = format!("what a commit changes, up to sequence {}", batch.checkpoint.sequence);
        return Err(StoreError::TooMany { what, number, limit }.into());
    }
    let Batch { checkpoint, revision, .. } = *batch;
    Ok(views.save(id, Save { writes, notes, checkpoint, revision }).await?)
}
