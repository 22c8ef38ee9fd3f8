//! The projection of an announcer: it appends announcements to the public log.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tracing::Instrument as _;

use crate::{
    base::{
        id::{AggregateKey, CommandId, EventId, ProjectionId},
        lanes::{self, lanes},
        metadata::Metadata,
        store_error::StoreError,
    },
    effects::announce::Announce,
    encoding::json,
    log::{
        codec,
        commit::{Commit, Origin, RecordedEvent},
        envelope::Envelope,
        recorded::Recorded,
    },
    model::source::EventSource,
    port::{
        any_events::AnyEvents,
        any_views::AnyViews,
        event_store::EventStore,
        projection::{Batch, ProjectError, Projection, ProjectionSettings},
        view_store::{ViewStore, Write},
    },
    projector::rules::{cannot_apply, save},
    write::{
        append::{self, decisions::Outcome},
        tip::{self, Holds, Tip},
    },
};

/// For how many aggregates announcements are appended at the same time.
const LANES: usize = 16;

/// How long an append is sent again while the public log gives no definite answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The public part of an event's metadata: the distributed trace, so that it continues in other contexts. The other
/// metadata (users, tenants) is private to the context.
const PUBLIC_METADATA: [&str; 2] = ["traceparent", "tracestate"];

/// The announcer `A` with its place for progress, and the public log.
pub(crate) struct Announcer<A> {
    public: AnyEvents,
    views: AnyViews,
    announce: PhantomData<fn() -> A>,
}

/// The end of one aggregate's announcements in the public log, as far as it is known. The log is read from there only
/// after a conflict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct End {
    /// The sequence of the last known announcement in the public log; 0 if there is none.
    sequence: u64,
    /// Its version in the public log.
    version: u64,
    /// The version of the last event that was announced, in the context's own log. If a batch comes again after another
    /// instance of this announcer has saved a later end, the events up to this version are skipped.
    announced: u64,
    /// The id of the last announcement. It shows whether the public log is still the one that has the announcement.
    #[serde(default)]
    event: Option<EventId>,
    /// The public log's era in which the log was known to have the announcement.
    #[serde(skip)]
    era: Option<u64>,
}

/// One event to announce.
struct Announcement {
    /// The version of the event in its aggregate.
    version: u64,
    aggregate: AggregateKey,
    span: tracing::Span,
    event: RecordedEvent,
}

/// The announcements of one aggregate, and how far they were appended.
struct Lane {
    key: String,
    revision: u64,
    end: End,
    /// Each announcement with the index of its event in the batch.
    announcements: Vec<(usize, Announcement)>,
    failure: Option<(usize, StoreError)>,
}

impl<A: Announce> Announcer<A> {
    pub(crate) fn new(public: AnyEvents, views: AnyViews) -> Self {
        Self { public, views, announce: PhantomData }
    }

    /// The announcements of a batch by aggregate, each list with its saved end.
    async fn lanes(&self, id: &ProjectionId, batch: &Batch<'_>) -> Result<Vec<Lane>, ProjectError> {
        let announcements = announcements::<A>(batch)?;
        let sorted = lanes(announcements, |(_, announcement)| announcement.aggregate.clone());
        let keys: Vec<_> = sorted.iter().map(|lane| lane[0].1.aggregate.id().to_owned()).collect();
        let saved = if keys.is_empty() { Vec::new() } else { self.views.load(id, &keys).await? };
        let mut all = Vec::with_capacity(sorted.len());
        for ((announcements, key), saved) in sorted.into_iter().zip(keys).zip(saved) {
            let end = match &saved.document {
                None => End::default(),
                Some(document) => {
                    let (index, _) = announcements[0];
                    let bad = |error| {
                        cannot_apply(
                            index,
                            format!("document {key:?} of announcer {id} cannot be read: {error}"),
                        )
                    };
                    json::decode(document).map_err(bad)?
                }
            };
            all.push(Lane { key, revision: saved.revision, end, announcements, failure: None });
        }
        Ok(all)
    }
}

/// The announcements of a batch, in order.
fn announcements<A: Announce>(batch: &Batch<'_>) -> Result<Vec<(usize, Announcement)>, ProjectError> {
    let told = batch.each(|event| {
        let envelope = event.decode::<<A::Of as EventSource>::Event>()?;
        Ok(announcement::<A>(event, &envelope).transpose())
    })?;
    let named = |(index, told): (usize, Result<_, _>)| match told {
        Ok(announcement) => Ok((index, announcement)),
        Err(reason) => Err(cannot_apply(index, reason)),
    };
    told.into_iter().map(named).collect()
}

fn announcement<A: Announce>(
    event: &Recorded<'_>,
    envelope: &Envelope<<A::Of as EventSource>::Event>,
) -> Result<Option<Announcement>, String> {
    let recorded = &event.stored.commit.events[event.index];
    let Some(mut told) = A::announce(envelope) else { return Ok(None) };
    let derived = |what| CommandId::derived([A::NAME, &recorded.id.to_string(), what]);
    let mut metadata = Metadata::default();
    for name in PUBLIC_METADATA {
        if let Some(value) = envelope.metadata.get(name) {
            metadata.insert(name, value).map_err(|error| error.to_string())?;
        }
    }
    let origin = Arc::new(Origin {
        time: envelope.time,
        command: A::NAME.into(),
        command_id: derived("command"),
        fingerprint: 0,
        correlation_id: envelope.correlation_id,
        causation_id: Some(envelope.id.into()),
        metadata,
    });
    let aggregate = AggregateKey::new(<A::As as EventSource>::NAME, envelope.aggregate.id());
    let aggregate = aggregate.map_err(|error| error.to_string())?;
    let (version, span) = (envelope.version, event.span());
    let announced = codec::encode(&mut told, derived("event").0, &aggregate, &origin);
    let announced = announced.map_err(|error| error.to_string())?;
    Ok(Some(Announcement { version, aggregate, span, event: announced }))
}

/// Appends the announcements of one aggregate in order, up to the first that fails.
async fn append_all(public: AnyEvents, mut lane: Lane) -> Lane {
    for (index, announcement) in &lane.announcements {
        if announcement.version <= lane.end.announced {
            continue;
        }
        let appending = append_one(&public, &mut lane.end, announcement);
        if let Err(error) = appending.instrument(announcement.span.clone()).await {
            lane.failure = Some((*index, error));
            break;
        }
        lane.end.announced = announcement.version;
    }
    lane
}

/// Appends an announcement after `end`, unless the log has it. Another instance, or this one before a crash, may have
/// appended more than the saved end says.
async fn append_one(
    public: &AnyEvents,
    end: &mut End,
    announcement: &Announcement,
) -> Result<(), StoreError> {
    let Announcement { aggregate, event, .. } = announcement;
    loop {
        // The saved end may be of another log.
        let mut tip = Tip { sequence: end.sequence, event: end.event, era: end.era };
        let era = public.era();
        if tip.check(public, aggregate).await? != Holds::Yes {
            return Err(tip::lost(aggregate, end.sequence));
        }
        end.era = Some(era);
        let commit = Commit {
            aggregate: aggregate.clone(),
            first_version: end.version.saturating_add(1),
            source: public.source().into(),
            events: event.clone().into(),
        };
        match append::append(public, &commit, tip, PATIENCE).await {
            Outcome::Stored(sequence) => {
                (end.sequence, end.version) = (sequence, commit.first_version);
                end.event = Some(event.id);
                return Ok(());
            }
            Outcome::Conflict => {
                let before = end.sequence;
                if catch_up(public, end, aggregate, event.id).await? {
                    return Ok(());
                }
                if end.sequence == before {
                    // No commit comes after the known end, and yet it is not the end.
                    return Err(tip::lost(aggregate, before));
                }
            }
            Outcome::Misplaced(_) => return Err(tip::lost(aggregate, end.sequence)),
            Outcome::Failed(error) | Outcome::Unknown(error) => return Err(error),
        }
    }
}

/// Moves the end forward over the commits after it, until one has the announcement. Returns whether one has it.
async fn catch_up(
    public: &AnyEvents,
    end: &mut End,
    aggregate: &AggregateKey,
    id: EventId,
) -> Result<bool, StoreError> {
    while let Some(stored) = public.next_after(aggregate, end.sequence).await? {
        (end.sequence, end.version) = (stored.sequence, stored.commit.last_version());
        end.event = stored.commit.events.last().map(|event| event.id);
        if stored.commit.events.iter().any(|event| event.id == id) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl<A: Announce> Projection for Announcer<A> {
    type Store = AnyViews;

    fn store(&self) -> &AnyViews {
        &self.views
    }

    fn settings(&self) -> ProjectionSettings {
        ProjectionSettings {
            on_failure: A::ON_FAILURE,
            retry: A::RETRY,
            ignored: A::IGNORED,
            start: A::START,
            has_effects: true,
            // Each event changes at most one end, which is one write.
            ..ProjectionSettings::new(vec![<A::Of as EventSource>::NAME], self.views.max_writes())
        }
    }

    async fn project(&self, projection: &ProjectionId, batch: Batch<'_>) -> Result<u64, ProjectError> {
        let lanes = self.lanes(projection, &batch).await?;
        let lanes = lanes.into_iter().map(|lane| vec![lane]).collect();
        let lane = |mut lane: Vec<Lane>| {
            let (public, lane) = (self.public.clone(), lane.pop());
            async move {
                match lane {
                    Some(lane) => Some(append_all(public, lane).await),
                    None => None,
                }
            }
        };
        let mut writes = Vec::new();
        let mut failure: Option<(usize, StoreError)> = None;
        for ended in lanes::run(lanes, LANES, lane).await {
            let ended = ended.map_err(|error| StoreError::unavailable("announcing events", error))?;
            let Some(Lane { key, revision, end, failure: failed, .. }) = ended else { continue };
            // The projector handles the failure of the first event; the others fail again later, or succeed.
            if let Some(failed) = failed
                && failure.as_ref().is_none_or(|(first, _)| failed.0 < *first)
            {
                failure = Some(failed);
            }
            let document = json::encode(&end).map_err(|error| unwritable(projection, &key, error))?;
            writes.push(Write { key, document: Some(document), revision });
        }
        match failure {
            // Only this event cannot be announced. The other announcements are in the public log and stay there.
            Some((index, error @ StoreError::TooLarge { .. })) => {
                return Err(cannot_apply(index, error.to_string()));
            }
            Some((_, error)) => return Err(error.into()),
            None => {}
        }
        save(&self.views, projection, &batch, &writes, batch.notes).await
    }
}

fn unwritable(id: &ProjectionId, key: &str, error: serde_json::Error) -> StoreError {
    StoreError::refused(format!("document {key:?} of announcer {id} cannot be written"), error)
}
