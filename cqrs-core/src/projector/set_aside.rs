//! Changes the dead letters and intents that a projection has set aside, while its projector may be running.

use std::time::Duration;

use crate::{
    base::{backoff, error::Error, id::ProjectionId, store_error::StoreError},
    port::{
        projection::{AnyProjection, Batch, ProjectError},
        view_store::{Checkpoint, Note, SaveError},
    },
};

/// How often a change is tried while the projector changes the checkpoint in between.
pub(crate) const ATTEMPTS: u32 = 200;

/// A change of the notes.
pub(crate) struct Change<T> {
    pub(crate) notes: Vec<Note>,
    /// The number of dead letters after the change, if it changes.
    pub(crate) dead_letters: Option<usize>,
    /// The value for the caller.
    pub(crate) returned: T,
}

/// Changes the notes of a projection with compare-and-set: the write fails if anything of the projection has changed
/// since the notes were read, and `decide` then reads them again. Returns `None` if `decide` finds nothing to change.
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

/// The checkpoint of the projection and its revision.
pub(crate) async fn checkpoint(
    projection: &dyn AnyProjection,
    id: &ProjectionId,
) -> Result<(Checkpoint, u64), Error> {
    let saved = projection.checkpoint(id).await?;
    if saved.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.sealed.is_some()) {
        let what = format!("another build takes the place of {id}: ask for what that one has set aside");
        return Err(StoreError::Unavailable { what, source: None }.into());
    }
    // If no checkpoint was saved, nothing is set aside either.
    Ok((saved.checkpoint.unwrap_or_default(), saved.revision))
}

/// Pauses after a conflict or a transient failure; returns any other error.
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
