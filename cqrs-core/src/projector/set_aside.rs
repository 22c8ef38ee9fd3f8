//! Changing what a projection has set aside, while its projector may be at work.

use std::time::Duration;

use crate::{
    base::{
        backoff,
        error::{Error, StoreError},
        id::ProjectionId,
    },
    port::{
        projection::{AnyProjection, Batch, ProjectError},
        view_store::{Checkpoint, Note, SaveError},
    },
};

/// How often a change is tried while the projector changes the checkpoint in between.
pub(crate) const ATTEMPTS: u32 = 200;

/// A change of what is set aside.
pub(crate) struct Change<T> {
    pub(crate) notes: Vec<Note>,
    /// How many dead letters there are then, if that changes.
    pub(crate) dead_letters: Option<usize>,
    /// What the caller gets.
    pub(crate) returned: T,
}

/// Changes notes of a projection, in a write that fails when anything of the projection has changed since they were
/// read; then `decide` reads them again. None where `decide` finds nothing to change.
pub(crate) async fn change<T, F>(
    projection: &dyn AnyProjection,
    id: &ProjectionId,
    decide: impl Fn() -> F,
) -> Result<Option<T>, Error>
where
    F: Future<Output = Result<Option<Change<T>>, Error>> + Send,
{
    for attempt in 0..ATTEMPTS {
        let (mut checkpoint, revision) = checkpoint(projection, id).await?;
        let Some(Change { notes, dead_letters, returned }) = decide().await? else { return Ok(None) };
        checkpoint.dead_letters = dead_letters.map_or(checkpoint.dead_letters, |number| number as u64);
        let batch = Batch { events: &[], notes: &notes, checkpoint: &checkpoint, revision };
        match projection.project(id, batch).await {
            Ok(_) => return Ok(Some(returned)),
            Err(error) => again(id, error, attempt).await?,
        }
    }
    Err(overtaken(id))
}

/// How far the projection is.
pub(crate) async fn checkpoint(
    projection: &dyn AnyProjection,
    id: &ProjectionId,
) -> Result<(Checkpoint, u64), Error> {
    let saved = projection.checkpoint(id).await?;
    if saved.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.sealed.is_some()) {
        let what = format!("another build takes the place of {id}: ask for what that one has set aside");
        return Err(StoreError::Unavailable { what, source: None }.into());
    }
    // Where nothing was saved yet, nothing is set aside either.
    Ok((saved.checkpoint.unwrap_or_default(), saved.revision))
}

/// Waits a moment after a failure that passes.
pub(crate) async fn again(id: &ProjectionId, error: ProjectError, attempt: u32) -> Result<(), Error> {
    match error {
        ProjectError::Save(SaveError::Failed(error)) if !error.is_transient() => return Err(error.into()),
        ProjectError::Event { reason, .. } | ProjectError::Unknown { reason, .. } => {
            let what = format!("changing what {id} has set aside: {reason}");
            return Err(StoreError::Refused { what, source: None }.into());
        }
        ProjectError::Save(_) => {}
    }
    let longest = Duration::from_millis(100);
    tokio::time::sleep(backoff::pause(Duration::from_millis(1), longest, attempt)).await;
    Ok(())
}

pub(crate) fn overtaken(id: &ProjectionId) -> Error {
    let what = format!("changing what {id} has set aside, which its projector changes all the time");
    StoreError::Unavailable { what, source: None }.into()
}
