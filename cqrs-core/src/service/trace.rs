//! The trace of one business transaction: its commands, their events, and the commands that followed from these.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    base::id::{AggregateKey, CommandId, CorrelationId, EventId, Position},
    log::commit::StoredCommit,
};

/// The most commits in a trace.
pub(crate) const MAX_COMMITS: usize = 10_000;

/// How far the clock that made an id may be ahead of the store's clock before the whole log is read.
const CLOCKS_APART: Duration = Duration::from_secs(600);

/// The deepest indentation of a trace.
const DEEPEST: usize = 32;

/// Everything in the log that belongs to one business transaction, as a tree: a command leads to events, an event to
/// commands of policies and handlers. See [`Cqrs::trace`](crate::Cqrs::trace).
///
/// Its `Display` writes each command and event as a line, indented below its cause:
///
/// ```text
/// submit_order on order/7, 2026-03-01T12:00:00Z
///   order.submitted, version 2 at 17
///     reserve_stock on stock/coffee, 2026-03-01T12:00:00.02Z
///       stock.reserved, version 5 at 18
/// ```
///
/// A refused command leaves nothing in the log and is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trace {
    /// The business transaction.
    pub correlation_id: CorrelationId,
    /// Its commands, in the order of the log.
    pub commands: Vec<TracedCommand>,
    /// Whether the trace is complete: the transaction's beginning was found or the whole log was read, all matching
    /// commits could be read, and there were no more than 10,000 of them.
    pub is_complete: bool,
    /// Whether the transaction cannot have an earlier commit.
    is_from_its_beginning: bool,
}

/// A command that led to events.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TracedCommand {
    /// Its id.
    pub id: CommandId,
    /// Its name, such as `pay_order`.
    pub name: String,
    /// The aggregate that it changed.
    pub aggregate: AggregateKey,
    /// The time at which it was handled.
    pub time: Timestamp,
    /// Its cause, if that is in the trace.
    pub cause: Option<Cause>,
    /// Its events; never empty.
    pub events: Vec<TracedEvent>,
}

/// An event of a [`TracedCommand`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TracedEvent {
    /// Its id.
    pub id: EventId,
    /// The stored name of its type, such as `order.paid`.
    pub event_type: String,
    /// Its version: its number among the aggregate's events, from 1.
    pub version: u64,
    /// Its position in the whole log.
    pub position: Position,
}

/// The cause of a command: an earlier command of the trace, or one of its events. The numbers are indexes in
/// [`Trace::commands`] and [`TracedCommand::events`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// A command.
    Command(usize),
    /// An event of a command.
    Event(usize, usize),
}

impl Trace {
    /// Makes a trace of commits in the order of the log. The caller says whether `all` of the log was searched, and
    /// whether there are `more` matching commits.
    pub(crate) fn of(correlation_id: CorrelationId, commits: &[StoredCommit], all: bool, more: bool) -> Self {
        let commands = Vec::new();
        let mut trace = Self { correlation_id, commands, is_complete: false, is_from_its_beginning: all };
        let mut causes = HashMap::new();
        for stored in commits {
            trace.add(stored, &mut causes);
        }
        // A transaction is named after the command that it begins with.
        trace.is_from_its_beginning |= trace.commands.iter().any(|command| command.id.0 == correlation_id.0);
        trace.is_complete = trace.is_from_its_beginning && !more;
        trace
    }

    /// Whether the transaction cannot have an earlier commit.
    pub(crate) fn has_beginning(&self) -> bool {
        self.is_from_its_beginning
    }

    /// Adds the events of a commit that belong to the transaction. Only an earlier commit counts as a cause, so
    /// forged or repeated ids cannot make a cycle.
    fn add(&mut self, stored: &StoredCommit, causes: &mut HashMap<Uuid, Cause>) {
        let commit = &stored.commit;
        let begin = self.commands.len();
        for (index, event) in (0..).zip(&commit.events) {
            let origin = &event.origin;
            if origin.correlation_id != self.correlation_id {
                continue;
            }
            let place = self.commands[begin..].iter().position(|command| command.id == origin.command_id);
            let place = place.map_or(self.commands.len(), |place| begin + place);
            if place == self.commands.len() {
                let cause = origin.causation_id.and_then(|cause| causes.get(&cause.0).copied());
                self.commands.push(TracedCommand {
                    id: origin.command_id,
                    name: origin.command.to_string(),
                    aggregate: commit.aggregate.clone(),
                    time: origin.time,
                    cause,
                    events: Vec::new(),
                });
                causes.entry(origin.command_id.0).or_insert(Cause::Command(place));
            }
            let events = &mut self.commands[place].events;
            causes.entry(event.id.0).or_insert(Cause::Event(place, events.len()));
            events.push(TracedEvent {
                id: event.id,
                event_type: event.event_type.to_string(),
                version: commit.version_of(index as usize),
                position: Position { sequence: stored.sequence, index },
            });
        }
    }

    /// The indexes of the commands whose cause is not in the trace.
    pub fn roots(&self) -> impl Iterator<Item = usize> {
        (0..self.commands.len()).filter(|place| self.commands[*place].cause.is_none())
    }

    /// The indexes of the commands that `cause` has caused.
    pub fn caused_by(&self, cause: Cause) -> impl Iterator<Item = usize> {
        (0..self.commands.len()).filter(move |place| self.commands[*place].cause == Some(cause))
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut caused: BTreeMap<Option<Cause>, Vec<usize>> = BTreeMap::new();
        for (place, command) in self.commands.iter().enumerate() {
            caused.entry(command.cause).or_default().push(place);
        }
        let mut caused = |cause| caused.remove(&cause).unwrap_or_default();
        // A stack of what is left to write, in place of recursion: a chain may be as long as the trace.
        let later = |places: Vec<usize>, depth| {
            places.into_iter().rev().map(move |place| (Cause::Command(place), depth))
        };
        let mut untold: Vec<_> = later(caused(None), 0).collect();
        while let Some((next, depth)) = untold.pop() {
            let indent = 2 * depth.min(DEEPEST);
            match next {
                Cause::Command(place) => {
                    let TracedCommand { name, aggregate, time, events, .. } = &self.commands[place];
                    writeln!(f, "{:indent$}{name} on {aggregate}, {time}", "")?;
                    untold.extend(later(caused(Some(next)), depth + 1));
                    let events = (0..events.len()).rev();
                    untold.extend(events.map(|event| (Cause::Event(place, event), depth + 1)));
                }
                Cause::Event(place, event) => {
                    let TracedEvent { event_type, version, position, .. } =
                        &self.commands[place].events[event];
                    writeln!(f, "{:indent$}{event_type}, version {version} at {}", "", position.sequence)?;
                    untold.extend(later(caused(Some(next)), depth + 1));
                }
            }
        }
        if self.is_complete { Ok(()) } else { writeln!(f, "… and there may be more") }
    }
}

/// The time before which the log has nothing of the transaction, if the clock that made its id was right. Generated ids
/// contain their time (they are UUIDs of version 7); for other ids the time is unknown.
pub(crate) fn begin_of(correlation_id: CorrelationId) -> Timestamp {
    let known = correlation_id.0.get_timestamp().filter(|_| correlation_id.0.get_version_num() == 7);
    let known = known.and_then(|time| {
        let (seconds, nanoseconds) = time.to_unix();
        Timestamp::new(seconds.try_into().ok()?, nanoseconds.try_into().ok()?).ok()
    });
    known.and_then(|time| time.checked_sub(CLOCKS_APART).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        base::{content_type::JSON, id::CausationId, metadata::Metadata},
        log::commit::{Commit, Origin, RecordedEvent},
    };

    const TRANSACTION: CorrelationId = CorrelationId(Uuid::from_u128(1));

    /// A commit of commands, each with its id, its cause and the ids of its events.
    fn commit(sequence: u64, aggregate: &'static str, commands: &[(u128, u128, &[u128])]) -> StoredCommit {
        let id = Uuid::from_u128;
        let mut events = Vec::new();
        for (command, cause, ids) in commands {
            let origin = Arc::new(Origin {
                time: Timestamp::UNIX_EPOCH,
                command: format!("do_{command}").into(),
                command_id: CommandId(id(*command)),
                fingerprint: 0,
                correlation_id: TRANSACTION,
                causation_id: Some(CausationId(id(*cause))),
                metadata: Metadata::default(),
            });
            events.extend(ids.iter().map(|event| RecordedEvent {
                id: EventId(id(*event)),
                origin: Arc::clone(&origin),
                event_type: format!("done.{event}").into(),
                schema_version: 1,
                content_type: JSON.into(),
                data: bytes::Bytes::new(),
            }));
        }
        let aggregate = AggregateKey::new(aggregate, "1").unwrap();
        StoredCommit {
            sequence,
            commit: Commit { aggregate, first_version: 1, source: "/test".into(), events: events.into() },
        }
    }

    #[test]
    fn each_command_stands_below_what_caused_it() {
        let commits = [
            commit(3, "order", &[(10, 999, &[100, 101])]),
            commit(4, "stock", &[(20, 101, &[200])]),
            // Two commands that shared an append: one that follows from an event, one from a command.
            commit(7, "mail", &[(30, 100, &[300]), (31, 10, &[310])]),
            commit(8, "order", &[(40, 200, &[400])]),
        ];
        let trace = Trace::of(TRANSACTION, &commits, true, false);
        let time = "1970-01-01T00:00:00Z";
        let expected = format!(
            "do_10 on order/1, {time}
  done.100, version 1 at 3
    do_30 on mail/1, {time}
      done.300, version 1 at 7
  done.101, version 2 at 3
    do_20 on stock/1, {time}
      done.200, version 1 at 4
        do_40 on order/1, {time}
          done.400, version 1 at 8
  do_31 on mail/1, {time}
    done.310, version 2 at 7
"
        );
        assert_eq!(trace.to_string(), expected);
        assert_eq!(trace.roots().collect::<Vec<_>>(), [0]);
        assert_eq!(trace.caused_by(Cause::Event(0, 1)).collect::<Vec<_>>(), [1]);
        assert!(Trace { is_complete: false, ..trace }.to_string().ends_with("there may be more\n"));
    }

    #[test]
    fn it_is_complete_if_it_has_its_beginning_and_nothing_is_missing() {
        let later = [commit(3, "stock", &[(20, 10, &[200])])];
        let whole = [commit(2, "order", &[(1, 999, &[10])]), later[0].clone()];
        let is_complete =
            |commits: &[StoredCommit], all, more| Trace::of(TRANSACTION, commits, all, more).is_complete;
        assert!(is_complete(&whole, false, false), "it has the command that it is named after");
        assert!(is_complete(&later, true, false), "there is nothing else in the log");
        assert!(is_complete(&[], true, false));
        assert!(!is_complete(&later, false, false), "what came before was not looked for");
        assert!(!is_complete(&[], false, false));
        assert!(!is_complete(&whole, true, true), "some of it was left out");
    }

    #[test]
    fn causes_that_go_in_circles_end_and_long_chains_are_told() {
        let circle = [commit(1, "a", &[(1, 20, &[10])]), commit(2, "b", &[(2, 10, &[20])])];
        assert_eq!(Trace::of(TRANSACTION, &circle, true, false).to_string().lines().count(), 4);
        let one = |number: u64| {
            commit(number, "a", &[(number.into(), (number + 99_999).into(), &[u128::from(number) + 100_000])])
        };
        let chain: Vec<_> = (1..=10_000).map(one).collect();
        let trace = Trace::of(TRANSACTION, &chain, true, false);
        assert_eq!(trace.roots().count(), 1);
        assert_eq!(trace.to_string().lines().count(), 20_000);
    }

    #[test]
    fn an_id_with_a_time_tells_where_to_begin() {
        let time = uuid::Timestamp::from_unix(uuid::NoContext, 1_767_225_600, 0);
        let begin = begin_of(CorrelationId(Uuid::new_v7(time)));
        assert_eq!(begin.to_string(), "2025-12-31T23:50:00Z");
        for without in [CommandId::derived(["an order"]).into(), CorrelationId(Uuid::new_v4())] {
            assert_eq!(begin_of(without), Timestamp::UNIX_EPOCH);
        }
    }
}
