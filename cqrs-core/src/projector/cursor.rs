//! The progress of a projector: read when it starts, and compared with the log that it is to follow.

use jiff::Timestamp;

use crate::{
    base::store_error::StoreError,
    model::follow::Start,
    port::{
        event_store::{EventStore, Log},
        projection::{Batch, ProjectError},
        view_store::{Checkpoint, SaveError},
    },
    projector::{
        dead_letter::{self, Parked},
        deliveries::{last_event, time},
        gap::Versions,
        projector::{End, Projector},
    },
};

/// The progress of a projector, as of its last save.
pub(super) struct Cursor {
    pub(super) checkpoint: Checkpoint,
    pub(super) revision: u64,
    /// The log's era in which the log was compared with the checkpoint.
    pub(super) era: u64,
    /// The time of the checkpoint's last event, if known.
    pub(super) last_event: Option<Timestamp>,
    pub(super) parked: Parked,
    /// Whether an aggregate's first dead letter is an event that was unknown to the program that set it aside.
    pub(super) has_unknown: bool,
    pub(super) versions: Versions,
}

impl Projector {
    /// Reads the saved progress, and checks that the log is the one that it was saved for.
    pub(super) async fn cursor(&self, aggregates: &[&'static str]) -> Result<Cursor, End> {
        let saved = self.projection.checkpoint(&self.id).await?;
        if let Some(sealed) = saved.checkpoint.as_ref().filter(|checkpoint| checkpoint.sealed.is_some()) {
            self.status.send_modify(|status| status.sequence = sealed.sequence);
            return Err(End::Replaced);
        }
        let era = self.log.events.era();
        let log = self.log.events.log(aggregates).await?;
        let (begun, last_event) = match saved.checkpoint {
            Some(checkpoint) => {
                let last_event = self.check_log(&checkpoint, &log).await?;
                ((checkpoint, saved.revision), last_event)
            }
            None => (self.begin(log, saved.revision).await?, None),
        };
        let (checkpoint, revision) = begun;
        let letters = match checkpoint.dead_letters {
            0 => Vec::new(),
            _ => dead_letter::read(&*self.projection, &self.id).await?,
        };
        let mut parked = Parked::default();
        parked.add(&letters);
        let has_unknown = !dead_letter::unknown(&letters).is_empty();
        Ok(Cursor {
            checkpoint,
            revision,
            era,
            last_event,
            parked,
            has_unknown,
            versions: Versions::default(),
        })
    }

    /// The position at which a projection begins that was never saved. A projection that begins at the end saves that
    /// at once, so that a restart does not begin later.
    async fn begin(&self, log: Log, revision: u64) -> Result<(Checkpoint, u64), End> {
        let nothing = Checkpoint { log: log.id, ..Checkpoint::default() };
        if self.settings.start == Start::Beginning || log.last_sequence == 0 {
            return Ok((nothing, revision));
        }
        let checkpoint = Checkpoint { sequence: log.last_sequence, ..nothing };
        let batch = Batch { events: &[], notes: &[], checkpoint: &checkpoint, revision };
        match self.projection.project(&self.id, batch).await {
            Ok(revision) => Ok((checkpoint, revision)),
            Err(ProjectError::Save(SaveError::Failed(error))) => Err(End::Failed(error)),
            Err(_) => Err(End::Overtaken),
        }
    }

    /// Fails if the view was built from another log, from more of the log than exists, or from an end that the log has
    /// lost before it grew again. Returns the time of the checkpoint's last event, if it names one.
    async fn check_log(&self, checkpoint: &Checkpoint, log: &Log) -> Result<Option<Timestamp>, StoreError> {
        let mut last = None;
        let mut same = checkpoint.log == log.id && checkpoint.sequence <= log.last_sequence;
        if let Some(event) = checkpoint.event.filter(|_| same) {
            let there = self.log.events.commit_at(checkpoint.sequence).await?;
            last = there.as_ref().and_then(time);
            same = there.is_some_and(|there| last_event(&there) == Some(event));
        }
        if same {
            return Ok(last);
        }
        Err(StoreError::ForeignLog {
            view: self.id.to_string(),
            built_from: format!("{} up to sequence {}", checkpoint.log, checkpoint.sequence),
            found: format!("{} up to sequence {}", log.id, log.last_sequence),
        })
    }
}
