//! The projector: events into views, each event once, whatever fails in between.
//!
//! The truth about progress is the checkpoint that is saved with the documents. Whatever goes wrong —
//! a lost delivery, a save that may or may not have been stored, another worker — the answer is the
//! same: read the checkpoint again and go on from there.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, warn};

use crate::{
    Checkpoint, EventStore, ProjectionId, Save, SaveError, Sources, StoreError, StoredCommit, Subscribe,
    Subscription, View, ViewStore, Write, backoff, codec, id::check_id, query::decode_document, view::Step,
};

/// The most commits that one save covers.
const BATCH: usize = 512;

/// How long a projector waits before it tries again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// What a projector is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProjectorState {
    /// It reads its checkpoint and subscribes.
    Starting,
    /// It follows the log.
    Running,
    /// Something failed that may pass; it tries again by itself.
    Retrying {
        /// What failed.
        reason: String,
    },
    /// Something failed that will not pass by itself. Nothing is lost: the view stands where it was,
    /// and the projector goes on from there when the service starts again.
    Halted {
        /// What failed.
        reason: String,
    },
    /// It was told to stop.
    Stopped,
}

/// One projector, seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProjectorStatus {
    /// Which projection.
    pub projection: ProjectionId,
    /// What it is doing.
    pub state: ProjectorState,
    /// The last sequence that it saved or found saved.
    pub sequence: u64,
}

/// How one subscription ended.
enum End {
    Stopped,
    Failed(StoreError),
    /// Another save came between.
    Overtaken,
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// The running projector of one view.
pub(crate) struct Projector<E, S> {
    pub(crate) events: Arc<E>,
    pub(crate) views: Arc<S>,
    pub(crate) status: watch::Sender<ProjectorStatus>,
    pub(crate) stop: CancellationToken,
}

impl<E: EventStore, S: ViewStore> Projector<E, S> {
    /// Projects until it is told to stop or something fails that will not pass.
    pub(crate) async fn run<V: View>(self) {
        let span = tracing::info_span!("project", projection = %V::projection());
        self.supervise::<V>().instrument(span).await;
    }

    async fn supervise<V: View>(&self) {
        let mut failures = 0;
        loop {
            let before = self.status.borrow().sequence;
            let end = self.follow::<V>().await.unwrap_or_else(|end| end);
            if self.status.borrow().sequence > before {
                failures = 0;
            }
            let reason = match end {
                End::Stopped => return self.set(ProjectorState::Stopped),
                End::Failed(error) if !error.is_transient() => {
                    warn!(%error, "the projector has halted");
                    return self.set(ProjectorState::Halted { reason: describe(&error) });
                }
                End::Failed(error) => describe(&error),
                End::Overtaken => "another save of the view came between".to_owned(),
            };
            debug!(reason, "the projector starts again from its checkpoint");
            self.set(ProjectorState::Retrying { reason });
            let pause = tokio::time::sleep(backoff::pause(RETRY.0, RETRY.1, failures));
            failures += 1;
            tokio::select! {
                () = pause => {}
                () = self.stop.cancelled() => return self.set(ProjectorState::Stopped),
            }
        }
    }

    /// From the checkpoint on, until something ends it.
    async fn follow<V: View>(&self) -> Result<End, End> {
        let projection = V::projection();
        let saved = self.views.checkpoint(&projection).await?;
        let aggregates = V::Of::names();
        let log = self.events.log(&aggregates).await?;
        let mut checkpoint = match saved.checkpoint {
            Some(checkpoint) => check_log(&projection, checkpoint, &log)?,
            None => Checkpoint { log: log.id, sequence: 0, event: None },
        };
        let mut revision = saved.revision;
        let mut subscription = self
            .events
            .subscribe(Subscribe {
                subscriber: &projection.to_string(),
                aggregates: &aggregates,
                after: checkpoint.sequence,
            })
            .await?;
        self.progress(checkpoint.sequence);
        info!(from = checkpoint.sequence, "projecting");
        loop {
            let commits = tokio::select! {
                commits = subscription.next(BATCH) => commits?,
                () = self.stop.cancelled() => {
                    subscription.leave().await;
                    return Ok(End::Stopped);
                }
            };
            let mut rest = commits.as_slice();
            while !rest.is_empty() {
                let (steps, taken) = take::<V>(rest, self.views.max_writes())?;
                checkpoint.sequence = rest[taken - 1].sequence;
                revision = self.save(&projection, steps, &checkpoint, revision).await?;
                self.progress(checkpoint.sequence);
                rest = &rest[taken..];
            }
            // Only an account at the store: what is lost here is told again with the next batch.
            if let Err(error) = subscription.done(checkpoint.sequence).await {
                debug!(%error, "the store was not told about progress");
            }
        }
    }

    /// Loads the documents that `steps` change, changes them, and saves them with the checkpoint.
    async fn save<V: View>(
        &self,
        projection: &ProjectionId,
        steps: Vec<Step<V>>,
        checkpoint: &Checkpoint,
        revision: u64,
    ) -> Result<u64, End> {
        let (keys, places) = distinct_keys(&steps);
        let saved = if keys.is_empty() { Vec::new() } else { self.views.load(projection, &keys).await? };
        let mut views = Vec::with_capacity(keys.len());
        for (key, saved) in keys.iter().zip(&saved) {
            views.push(match &saved.document {
                Some(document) => decode_document::<V>(key, document)?,
                None => V::default(),
            });
        }
        for (index, step) in steps.into_iter().enumerate() {
            (step.project)(&mut views[places[index]]);
        }
        let writes = keys
            .into_iter()
            .zip(saved)
            .zip(&views)
            .map(|((key, saved), view)| {
                let document = codec::to_json(view).map_err(|error| StoreError::BadDocument {
                    view: projection.to_string(),
                    key: key.clone(),
                    reason: error.to_string(),
                })?;
                Ok(Write { key, document: Some(document), revision: saved.revision })
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        match self.views.save(projection, Save { writes: &writes, notes: &[], checkpoint, revision }).await {
            Ok(revision) => Ok(revision),
            Err(SaveError::Conflict) => Err(End::Overtaken),
            Err(SaveError::Failed(error)) => Err(End::Failed(error)),
        }
    }

    fn progress(&self, sequence: u64) {
        self.status.send_modify(|status| {
            status.sequence = sequence;
            status.state = ProjectorState::Running;
        });
    }

    fn set(&self, state: ProjectorState) {
        self.status.send_modify(|status| status.state = state);
    }
}

/// A view that was built from another log, or from more of it than there is, must not go on.
fn check_log(
    projection: &ProjectionId,
    checkpoint: Checkpoint,
    log: &crate::Log,
) -> Result<Checkpoint, StoreError> {
    if checkpoint.log == log.id && checkpoint.sequence <= log.last_sequence {
        return Ok(checkpoint);
    }
    Err(StoreError::ForeignLog {
        view: projection.to_string(),
        built_from: format!("{} up to sequence {}", checkpoint.log, checkpoint.sequence),
        found: format!("{} up to sequence {}", log.id, log.last_sequence),
    })
}

/// The steps of as many commits as change at most `max` documents, and how many commits that is.
fn take<V: View>(commits: &[StoredCommit], max: usize) -> Result<(Vec<Step<V>>, usize), StoreError> {
    let mut steps = Vec::with_capacity(commits.len());
    let mut keys = std::collections::HashSet::new();
    for (taken, stored) in commits.iter().enumerate() {
        let before = steps.len();
        V::Of::steps(stored, &mut steps)?;
        for step in &steps[before..] {
            check_id(&step.key).map_err(|error| StoreError::Refused {
                what: format!(
                    "the key of a document of view {} from sequence {}",
                    V::projection(),
                    stored.sequence
                ),
                source: Some(Arc::new(error)),
            })?;
        }
        keys.extend(steps[before..].iter().map(|step| step.key.clone()));
        if keys.len() <= max {
            continue;
        }
        if taken == 0 {
            return Err(StoreError::TooLarge {
                what: format!(
                    "what the commit at sequence {} changes in view {}",
                    stored.sequence,
                    V::projection()
                ),
                bytes: keys.len(),
                limit: max,
            });
        }
        steps.truncate(before);
        return Ok((steps, taken));
    }
    Ok((steps, commits.len()))
}

/// Each key once, and for each step the index of its key.
fn distinct_keys<V>(steps: &[Step<V>]) -> (Vec<String>, Vec<usize>) {
    let mut keys = Vec::new();
    let mut known = HashMap::new();
    let places = steps
        .iter()
        .map(|step| {
            *known.entry(step.key.as_str()).or_insert_with(|| {
                keys.push(step.key.clone());
                keys.len() - 1
            })
        })
        .collect();
    (keys, places)
}

/// An error with its causes, in one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
