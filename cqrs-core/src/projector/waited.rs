//! How long a projection waits for a failure to pass, before it sets an event aside.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use crate::{base::id::Position, log::recorded::Recorded, model::follow::Retry};

/// After a vain wait for an unknown event type, its other events are set aside without a wait for this long.
const GIVEN_UP: Duration = Duration::from_secs(300);

/// What a projector has waited for so far.
#[derive(Debug)]
pub(crate) struct Waited {
    retry: Retry,
    failing: BTreeMap<Position, (Instant, u32)>,
    /// The unknown event, and since when it is left to other programs.
    unknown: Option<(Position, Instant)>,
    given_up: HashMap<(String, u32), Instant>,
    /// The dead letters that were logged and may not be saved yet.
    logged: BTreeSet<Position>,
}

impl Waited {
    pub(crate) fn new(retry: Retry) -> Self {
        Self {
            retry,
            failing: BTreeMap::new(),
            unknown: None,
            given_up: HashMap::new(),
            logged: BTreeSet::new(),
        }
    }

    /// How often an event that failed transiently was tried before; `None` if it is not tried again.
    pub(crate) fn tries_again(&mut self, position: Position, now: Instant) -> Option<u32> {
        let (since, tries) = self.failing.entry(position).or_insert((now, 0));
        *tries += 1;
        let goes_on = *tries < self.retry.tries || now - *since < self.retry.outage;
        goes_on.then_some(*tries - 1)
    }

    /// Whether an unknown event is still left to another program.
    pub(crate) fn leaves_to_others(&mut self, event: &Recorded<'_>, now: Instant) -> bool {
        let position = event.position();
        let recorded = &event.stored.commit.events[event.index];
        let kind = (recorded.event_type.to_string(), recorded.schema_version);
        if self.given_up.get(&kind).is_some_and(|until| now < *until) {
            return false;
        }
        // At another position, another program has applied the event before: the wait starts again.
        let waiting = self.unknown.filter(|(at, _)| *at == position);
        let (_, since) = *self.unknown.insert(waiting.unwrap_or((position, now)));
        if now - since < self.retry.unknown {
            return true;
        }
        self.unknown = None;
        self.given_up.insert(kind, now + GIVEN_UP);
        false
    }

    /// Whether a dead letter is set aside for the first time, and not again after a save that failed.
    pub(crate) fn is_new(&mut self, letter: Position) -> bool {
        self.logged.insert(letter)
    }

    /// Forgets the failures and dead letters up to `sequence`.
    pub(crate) fn done(&mut self, sequence: u64) {
        self.logged.retain(|letter| letter.sequence > sequence);
        self.failing.retain(|position, _| position.sequence > sequence);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::{
        base::{
            content_type::JSON,
            id::{AggregateKey, CommandId, CorrelationId, EventId},
            metadata::Metadata,
        },
        log::commit::{Commit, Origin, RecordedEvent, StoredCommit},
    };

    /// A commit of one event.
    pub(crate) fn stored(sequence: u64) -> StoredCommit {
        let origin = Origin {
            time: Timestamp::UNIX_EPOCH,
            command: "open".into(),
            command_id: CommandId(Uuid::nil()),
            fingerprint: 0,
            correlation_id: CorrelationId(Uuid::nil()),
            causation_id: None,
            metadata: Metadata::default(),
        };
        let event = RecordedEvent {
            id: EventId(Uuid::nil()),
            origin: Arc::new(origin),
            event_type: "account.renamed".into(),
            schema_version: 1,
            content_type: JSON.into(),
            data: "{}".into(),
        };
        let aggregate = AggregateKey::new("account", "1").unwrap();
        let commit = Commit { aggregate, first_version: 1, source: "/tests".into(), events: event.into() };
        StoredCommit { sequence, commit }
    }

    fn position(sequence: u64) -> Position {
        Position { sequence, index: 0 }
    }

    #[test]
    fn an_event_is_tried_so_often_and_so_long() {
        let start = Instant::now();
        let retry = Retry { outage: Duration::from_secs(10), tries: 3, ..Retry::DEFAULT };
        let mut waited = Waited::new(retry);
        for (seconds, tried) in [(0, Some(0)), (1, Some(1)), (5, Some(2)), (9, Some(3)), (10, None)] {
            assert_eq!(waited.tries_again(position(7), start + Duration::from_secs(seconds)), tried);
        }
        // However long that takes, it has the fewest attempts.
        let mut late = Waited::new(retry);
        for (minutes, tried) in [(0, Some(0)), (1, Some(1)), (2, None)] {
            assert_eq!(late.tries_again(position(7), start + Duration::from_secs(60 * minutes)), tried);
        }
        // Another event has its own time limit.
        assert_eq!(late.tries_again(position(8), start + Duration::from_secs(60 * 2)), Some(0));
        late.done(7);
        assert_eq!(late.tries_again(position(7), start + Duration::from_secs(60 * 3)), Some(0));
        assert_eq!(late.tries_again(position(8), start + Duration::from_secs(60 * 3)), Some(1));
        assert_eq!(Waited::new(Retry::NEVER).tries_again(position(1), start), None);
    }

    #[test]
    fn one_event_of_each_type_waits_for_another_program() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut waited = Waited::new(Retry { unknown: Duration::from_secs(30), ..Retry::DEFAULT });
        let mut leaves = |sequence, now| {
            let stored = stored(sequence);
            waited.leaves_to_others(&Recorded { stored: &stored, index: 0 }, now)
        };
        assert!(leaves(1, after(0)) && leaves(1, after(29)));
        // Another program has applied it: the wait for the next one starts again.
        assert!(leaves(2, after(31)) && leaves(2, after(60)));
        assert!(!leaves(2, after(61)));
        assert!(!leaves(3, after(62)), "nobody knew the type");
        assert!(leaves(4, after(61 + 300)), "somebody may know it by now");
    }
}
