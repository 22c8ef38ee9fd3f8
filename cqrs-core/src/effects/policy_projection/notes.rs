//! The notes of a policy beside its states: the outbox of intents, and the marks of those that have failed.
//!
//! The note of an intent is stored with its event, and removed when the intent has ended. An intent that fails gets a
//! mark. It then waits, and so do the later intents of the same state.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    base::id::Position,
    effects::{carrier::PendingIntent, intents::Intent},
    encoding::json,
    port::view_store::Note,
};

/// The prefix of the keys of intents: `pending/<place>`.
pub(crate) const PENDING: &str = "pending/";

/// The prefix of the keys of marks: `failed/<place>`.
pub(crate) const MARKS: &str = "failed/";

/// The most refusals in a chain, each of a command that the refusal before has caused: such a chain might never end.
const MAX_CHAIN: u32 = 8;

/// The longest stored reason, in bytes.
const MAX_REASON: usize = 2_000;

/// The mark of an intent that has failed, or must not be executed before an operator retries it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) reason: String,
    /// Whether another program may be able to execute it.
    #[serde(default)]
    pub(crate) other_program: bool,
    /// Whether an operator has retried it.
    #[serde(default)]
    pub(crate) again: bool,
    /// How often an operator has retried it.
    #[serde(default)]
    pub(crate) attempts: u32,
    pub(crate) time: Timestamp,
}

impl Mark {
    pub(crate) fn new(reason: &str, time: Timestamp) -> Self {
        let end = reason.char_indices().map(|(at, _)| at).find(|at| *at >= MAX_REASON);
        let reason = reason[..end.unwrap_or(reason.len())].to_owned();
        Self { reason, other_program: false, again: false, attempts: 0, time }
    }

    pub(crate) fn note(&self, place: &str) -> Result<Note, serde_json::Error> {
        Ok(Note { key: format!("{MARKS}{place}"), content: Some(json::encode(self)?) })
    }

    pub(crate) fn removal(place: &str) -> Note {
        Note { key: format!("{MARKS}{place}"), content: None }
    }
}

pub(crate) fn note(pending: &PendingIntent) -> Result<Note, serde_json::Error> {
    let content = json::encode(&pending.intent)?;
    Ok(Note { key: format!("{PENDING}{}", pending.place), content: Some(content) })
}

pub(crate) fn removal(place: &str) -> Note {
    Note { key: format!("{PENDING}{place}"), content: None }
}

/// Makes an intent with its place in the outbox: `<sequence:020>/<index:010>/<depth:02>/<path>`.
///
/// `sequence` and `index` are the position of the event at the start of the chain of causes, and `depth` is the number
/// of refusals since. `path` is the intent's number among the intents of that event (`:06`); each refusal appends `.`
/// and the number among the intents of that refusal. The lexicographic order of the places is the order of execution.
pub(crate) fn noted(position: Position, number: u32, intent: Intent) -> PendingIntent {
    let Position { sequence, index } = position;
    PendingIntent { place: format!("{sequence:020}/{index:010}/00/{number:06}"), intent, attempts: 0 }
}

/// The position of the event at the start of the chain of causes of the intent at `place`.
pub(crate) fn event_of(place: &str) -> Option<Position> {
    let mut parts = place.split('/');
    let (sequence, index) = (parts.next()?, parts.next()?);
    Some(Position { sequence: sequence.parse().ok()?, index: index.parse().ok()? })
}

/// Makes an intent that follows from the refusal of the intent at `refused`.
pub(crate) fn following(refused: &str, number: u32, intent: Intent) -> Result<PendingIntent, String> {
    let mut parts = refused.rsplitn(3, '/');
    let (path, depth, event) = (parts.next(), parts.next(), parts.next());
    let depth = depth.and_then(|depth| depth.parse::<u32>().ok()).unwrap_or(MAX_CHAIN).saturating_add(1);
    if depth > MAX_CHAIN {
        return Err(format!("{MAX_CHAIN} commands were refused, each sent for the refusal before"));
    }
    let (path, event) = (path.unwrap_or_default(), event.unwrap_or_default());
    Ok(PendingIntent { place: format!("{event}/{depth:02}/{path}.{number:06}"), intent, attempts: 0 })
}

/// An intent as it is noted.
#[derive(Debug)]
pub(crate) struct Noted {
    pub(crate) place: String,
    /// The intent, or why this program cannot read it.
    pub(crate) intent: Result<Intent, String>,
    pub(crate) mark: Option<Mark>,
}

impl Noted {
    /// Whether it has failed and was not retried, or cannot be read.
    pub(crate) fn is_dead(&self) -> bool {
        self.intent.is_err() || self.mark.as_ref().is_some_and(|mark| !mark.again)
    }
}

/// All noted intents, by the keys of their states, in order.
pub(crate) fn read(
    pending: Vec<(String, Bytes)>,
    marks: Vec<(String, Bytes)>,
) -> BTreeMap<String, Vec<Noted>> {
    let place = |key: &str, prefix: &str| key.strip_prefix(prefix).unwrap_or(key).to_owned();
    let marks = marks.into_iter().map(|(key, content)| (place(&key, MARKS), mark(&content)));
    let mut marks: BTreeMap<_, _> = marks.collect();
    let mut all = BTreeMap::<String, Vec<Noted>>::new();
    for (key, content) in pending {
        let place = place(&key, PENDING);
        let intent = json::decode::<Intent>(&content)
            .map_err(|error| format!("this program cannot read what was noted: {error}"));
        let key = match &intent {
            Ok(intent) => intent.key.clone(),
            Err(_) => key_of(&content),
        };
        let mark = marks.remove(&place);
        all.entry(key).or_default().push(Noted { place, intent, mark });
    }
    all
}

/// A mark that cannot be read still marks its intent.
fn mark(content: &[u8]) -> Mark {
    json::decode(content).unwrap_or_else(|error| {
        Mark::new(&format!("this program cannot read why it failed: {error}"), Timestamp::UNIX_EPOCH)
    })
}

/// The state of an intent that cannot be read. If even that cannot be read, the intent gets the empty key.
fn key_of(content: &[u8]) -> String {
    #[derive(Deserialize)]
    struct OfState {
        key: String,
    }
    json::decode::<OfState>(content).map_or_else(|_| String::new(), |of| of.key)
}
