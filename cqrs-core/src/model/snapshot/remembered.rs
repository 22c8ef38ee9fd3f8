//! The commands that an aggregate has carried out, so that a repeat gets the first receipt: the last ones with their
//! receipts, and where the others are in the log.

use std::{collections::VecDeque, fmt};

use bytes::{Buf as _, BufMut as _};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};
use uuid::Uuid;

use crate::{
    base::id::{CommandId, EventId, Position},
    model::snapshot::segment::{SEGMENT, Segment, SegmentEnd, Short, is_far},
};

/// How many commands an aggregate remembers with their receipts. The receipt of an older one is read from the log.
pub(crate) const RECENT: usize = 128;

/// A command that was carried out, as recorded in its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CarriedOut {
    pub(crate) command: CommandId,
    /// The hash of its content; see [`Origin::fingerprint`](crate::log::Origin::fingerprint).
    pub(crate) fingerprint: u64,
    /// The aggregate's version after it.
    pub(crate) version: u64,
    /// How many events it led to.
    pub(crate) events: usize,
    /// The position of the last of them.
    pub(crate) position: Position,
}

/// All commands of an aggregate, as far as they must be in memory: 128 receipts, eight bytes for each command since the
/// last segment, and where each [segment](Segment) ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    recent: Recent,
    /// The ends of the ids of the commands since the last segment, and the distances of their commits; see [`Short`].
    ids: Numbers,
    distances: Numbers,
    segments: Vec<SegmentEnd>,
}

impl Remembered {
    /// Remembers the next command.
    pub(crate) fn push(&mut self, command: CarriedOut) {
        let Short { id, distance } =
            Short::of(command.command, self.last_segment().sequence, command.position.sequence);
        self.ids.0.push(id);
        self.distances.0.push(distance);
        self.recent.push(command);
    }

    /// Ends a commit whose commands were [pushed](Self::push): if a segment is full, it ends with this commit.
    ///
    /// So the segments depend on nothing but the log, and each process makes the same ones.
    pub(crate) fn end_commit(&mut self, version: u64, sequence: u64, last_event: EventId) -> Option<Segment> {
        if self.ids.0.len() < SEGMENT && !is_far(self.last_segment().sequence, sequence) {
            return None;
        }
        let number = u32::try_from(self.segments.len()).ok()?;
        let end = SegmentEnd { version, sequence, last_event };
        let commands = self.open().collect();
        (self.ids, self.distances) = (Numbers::default(), Numbers::default());
        self.segments.push(end);
        Some(Segment::new(number, end, commands))
    }

    /// The receipt of a command, if it is one of the last.
    pub(crate) fn find(&self, command: CommandId) -> Option<CarriedOut> {
        self.recent.0.iter().rev().find(|recent| recent.command == command).copied()
    }

    /// Whether the aggregate has carried out commands whose receipts it does not remember.
    pub(crate) fn has_older(&self) -> bool {
        !self.segments.is_empty() || self.ids.0.len() > self.recent.0.len()
    }

    /// The commands since the last segment that may be this one.
    pub(crate) fn alike(&self, command: CommandId) -> impl Iterator<Item = Short> + '_ {
        let id = Short::of(command, 0, 0).id;
        let some = has(&self.ids.0, id);
        some.then(|| self.open().filter(move |one| one.id == id)).into_iter().flatten()
    }

    fn open(&self) -> impl Iterator<Item = Short> + '_ {
        self.ids.0.iter().zip(&self.distances.0).map(|(&id, &distance)| Short { id, distance })
    }

    /// Where each segment begins and ends, the newest first, with its number. The beginning is the end of the one before.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (u32, SegmentEnd, SegmentEnd)> + '_ {
        let end = |number: usize| self.segments[number];
        (0..self.segments.len()).rev().map(move |number| {
            let begin = number.checked_sub(1).map_or(SegmentEnd::NONE, end);
            (u32::try_from(number).unwrap_or(u32::MAX), begin, end(number))
        })
    }

    /// The end of the last segment.
    pub(crate) fn last_segment(&self) -> SegmentEnd {
        self.segments.last().copied().unwrap_or(SegmentEnd::NONE)
    }
}

/// The last [`RECENT`] commands, the newest last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Recent(VecDeque<CarriedOut>);

impl Recent {
    fn push(&mut self, command: CarriedOut) {
        if self.0.len() == RECENT {
            self.0.pop_front();
        }
        self.0.push_back(command);
    }
}

/// How many bytes a command takes in a binary snapshot.
const RECORD: usize = 48;

impl CarriedOut {
    fn write(&self, out: &mut Vec<u8>) {
        out.put_u128(self.command.0.as_u128());
        out.put_u64(self.fingerprint);
        out.put_u64(self.version);
        out.put_u64(self.position.sequence);
        out.put_u32(self.position.index);
        // A message has no room for more events.
        out.put_u32(u32::try_from(self.events).unwrap_or(u32::MAX));
    }

    /// Reads the command from these [`RECORD`] bytes.
    fn read(mut bytes: &[u8]) -> Self {
        let command = CommandId(Uuid::from_u128(bytes.get_u128()));
        let (fingerprint, version) = (bytes.get_u64(), bytes.get_u64());
        let position = Position { sequence: bytes.get_u64(), index: bytes.get_u32() };
        Self { command, fingerprint, version, events: bytes.get_u32() as usize, position }
    }
}

/// In a binary format all commands are one byte string: they are most of a small snapshot, and reading must be fast.
impl Serialize for Recent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return self.0.serialize(serializer);
        }
        let mut bytes = Vec::with_capacity(RECORD * self.0.len());
        self.0.iter().for_each(|command| command.write(&mut bytes));
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for Recent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut recent = Self::default();
        if deserializer.is_human_readable() {
            for command in Vec::deserialize(deserializer)? {
                recent.push(command);
            }
        } else {
            for record in deserializer.deserialize_bytes(Records::<RECORD>)? {
                recent.push(CarriedOut::read(&record));
            }
        }
        Ok(recent)
    }
}

/// A number for each command since the last segment, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Numbers(Vec<u32>);

/// As one byte string, for the same reason.
impl Serialize for Numbers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return self.0.serialize(serializer);
        }
        let bytes: Vec<u8> = self.0.iter().flat_map(|number| number.to_le_bytes()).collect();
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return Vec::deserialize(deserializer).map(Self);
        }
        let records = deserializer.deserialize_bytes(Records::<4>)?;
        Ok(Self(records.into_iter().map(u32::from_le_bytes).collect()))
    }
}

/// Reads a byte string of records of `N` bytes.
struct Records<const N: usize>;

impl<const N: usize> Visitor<'_> for Records<N> {
    type Value = Vec<[u8; N]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{N} bytes for each command")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        match bytes.as_chunks() {
            (records, []) => Ok(records.to_vec()),
            _ => Err(E::invalid_length(bytes.len(), &self)),
        }
    }
}

/// Compares all elements without an early end, so that the compiler can vectorise it.
fn has(all: &[u32], wanted: u32) -> bool {
    all.iter().fold(0, |found, one| found | u32::from(*one == wanted)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> CommandId {
        CommandId(Uuid::from_u128(number))
    }

    fn carried_out(command: CommandId, sequence: u64) -> CarriedOut {
        let position = Position { sequence, index: 0 };
        CarriedOut { command, fingerprint: 0, version: 1, events: 1, position }
    }

    fn with(ids: impl IntoIterator<Item = u128>) -> (Remembered, Vec<Segment>) {
        let (mut remembered, mut segments) = (Remembered::default(), Vec::new());
        for (sequence, number) in (1..).zip(ids) {
            remembered.push(carried_out(id(number), sequence));
            segments.extend(remembered.end_commit(sequence, sequence, EventId(Uuid::from_u128(number))));
        }
        (remembered, segments)
    }

    fn distances(remembered: &Remembered, number: u128) -> Vec<u32> {
        remembered.alike(id(number)).map(|one| one.distance).collect()
    }

    #[test]
    fn they_come_back_from_json_and_from_their_records() {
        let (mut remembered, _) = with(1..=SEGMENT as u128 + 3);
        remembered.push(CarriedOut {
            command: id(u128::MAX - 5),
            fingerprint: u64::MAX - 1,
            version: 1 << 40,
            events: 3,
            position: Position { sequence: 1 << 50, index: 70_000 },
        });
        let json = serde_json::to_string(&remembered).unwrap();
        assert!(json.contains("70000"), "{json}");
        assert_eq!(serde_json::from_str::<Remembered>(&json).unwrap(), remembered);
        let mut records = Vec::new();
        remembered.recent.0.iter().for_each(|command| command.write(&mut records));
        assert_eq!(records.len(), RECENT * RECORD);
        let read = |bytes: &[u8]| Records::<RECORD>.visit_bytes::<de::value::Error>(bytes);
        let back: Vec<_> = read(&records).unwrap().iter().map(|record| CarriedOut::read(record)).collect();
        assert_eq!(back, Vec::from(remembered.recent.0));
        assert!(read(&records[1..]).is_err());
    }

    #[test]
    fn the_last_ones_have_their_receipts_and_each_has_its_place() {
        let ids = (1..=RECENT as u128 + 10).map(|number| (number << 64) | number);
        let (remembered, _) = with(ids.clone());
        let known: Vec<_> = ids.clone().filter(|number| remembered.find(id(*number)).is_some()).collect();
        assert_eq!(known, ids.clone().skip(10).collect::<Vec<_>>());
        assert!(remembered.has_older());
        for (distance, number) in (1..).zip(ids.clone()) {
            assert_eq!(distances(&remembered, number), [distance]);
        }
        assert!(remembered.find(id(7 << 70)).is_none() && distances(&remembered, 777).is_empty());
        assert_eq!(distances(&remembered, 5 << 90 | 9), [9], "it ends alike");
        assert!(!with(ids.take(RECENT)).0.has_older());
    }

    #[test]
    fn a_segment_ends_with_the_commit_that_fills_it() {
        let (mut remembered, segments) = with(1..SEGMENT as u128);
        assert!(segments.is_empty());
        for number in [1 << 40, 2 << 40, 3 << 40] {
            remembered.push(carried_out(id(number), 20_000));
        }
        let last = EventId(Uuid::from_u128(9));
        let segment = remembered.end_commit(70_000, 20_000, last).expect("a full segment");
        assert_eq!(segment.number, 0);
        assert_eq!(segment.end, SegmentEnd { version: 70_000, sequence: 20_000, last_event: last });
        for number in 1..SEGMENT as u128 {
            assert_eq!(segment.alike(id(number)).len(), 1);
        }
        assert_eq!(segment.alike(id(3 << 40)), [Short { id: 0, distance: 20_000 }; 3]);
        assert!(distances(&remembered, 5).is_empty() && remembered.has_older());
        assert_eq!(remembered.segments().collect::<Vec<_>>(), [(0, SegmentEnd::NONE, segment.end)]);
        assert_eq!(remembered.last_segment(), segment.end);
        remembered.push(carried_out(id(5), 20_007));
        assert_eq!(distances(&remembered, 5), [7], "from the end of the segment");
    }

    #[test]
    fn a_segment_ends_where_a_distance_hardly_fits() {
        let (mut remembered, _) = with([1]);
        let far = u64::from(u32::MAX) * 3;
        remembered.push(carried_out(id(2), far));
        let segment = remembered.end_commit(2, far, EventId(Uuid::nil())).expect("a segment");
        assert_eq!(segment.alike(id(1)), [Short { id: 1, distance: 1 }]);
        // The next commit after that distance is the one.
        assert_eq!(segment.alike(id(2)), [Short { id: 2, distance: u32::MAX }]);
    }
}
