//! A segment of the commands that an aggregate has carried out: the last four bytes of their ids, and where they are in
//! the log.
//!
//! A short id that is not in a segment proves that none of its commands is the wanted one. A short id that is there says
//! nothing yet, since two ids can end alike: its commit is read to be certain. A segment has all commands of the commits
//! between two places of the log, so it never changes, and it can be made again from the log at any time.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | the format of what follows, [`FORMAT`] |
//! | 8 | a checksum of all that follows (XXH3, little-endian as all numbers here) |
//! | 8 | the aggregate's version at the segment's end |
//! | 8 | the sequence of its last commit |
//! | 16 | the id of the last event |
//! | 8 each | a short id, and how far its commit is from the end of the segment before, in ascending order |

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::base::id::{CommandId, EventId};

/// How many commands a segment has; it has more where its last commit has several.
///
/// The commands since the last segment are in each snapshot, in at most 64 KiB. A million commands are 122 segments.
pub(crate) const SEGMENT: usize = 8_192;

const FORMAT: u8 = 1;

/// The offset of the part under the checksum.
const CHECKED: usize = 9;

/// The offset of the commands.
const COMMANDS: usize = CHECKED + 32;

/// The end of a segment: a place in the log. The event's id shows whether the log is the one that the segment was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentEnd {
    /// The aggregate's version there.
    pub(crate) version: u64,
    /// The sequence of its last commit.
    pub(crate) sequence: u64,
    /// The id of that commit's last event.
    pub(crate) last_event: EventId,
}

impl SegmentEnd {
    /// Before the first commit.
    pub(crate) const NONE: Self = Self { version: 0, sequence: 0, last_event: EventId(Uuid::nil()) };
}

/// The commands of a part of an aggregate's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Its number, from 0.
    pub(crate) number: u32,
    pub(crate) end: SegmentEnd,
    /// In ascending order.
    commands: Arc<[Short]>,
}

/// A command in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Short {
    /// The end of its id.
    pub(crate) id: u32,
    /// How far its commit is from the end of the segment before, in sequences.
    pub(crate) distance: u32,
}

impl Short {
    /// The command in the commit at `sequence`, after a segment that ends at `begin`.
    ///
    /// A segment ends with a commit that is farther than half of what fits ([`is_far`]). So only its last commit can be
    /// farther than all of it, and that is the next commit after the largest distance.
    pub(crate) fn of(command: CommandId, begin: u64, sequence: u64) -> Self {
        let distance = u32::try_from(sequence.saturating_sub(begin)).unwrap_or(u32::MAX);
        Self { id: short(command), distance }
    }
}

/// Whether a commit is so far from the end of the segment before that the segment must end with it.
pub(crate) fn is_far(begin: u64, sequence: u64) -> bool {
    sequence.saturating_sub(begin) > u64::from(u32::MAX / 2)
}

impl Segment {
    pub(crate) fn new(number: u32, end: SegmentEnd, mut commands: Vec<Short>) -> Self {
        commands.sort_unstable();
        Self { number, end, commands: commands.into() }
    }

    /// The commands that may be this one.
    pub(crate) fn alike(&self, command: CommandId) -> &[Short] {
        let id = short(command);
        let begin = self.commands.partition_point(|one| one.id < id);
        let count = self.commands[begin..].iter().take_while(|one| one.id == id).count();
        &self.commands[begin..begin + count]
    }

    /// About how many bytes it takes in memory.
    pub(crate) fn size(&self) -> u32 {
        u32::try_from(size_of::<Self>() + size_of_val(&*self.commands)).unwrap_or(u32::MAX)
    }

    pub(crate) fn write(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(COMMANDS + size_of_val(&*self.commands));
        bytes.extend([FORMAT]);
        bytes.extend([0; 8]);
        bytes.extend(head(self.end));
        let pairs = self.commands.iter().flat_map(|one| [one.id, one.distance]);
        bytes.extend(pairs.flat_map(u32::to_le_bytes));
        let checksum = xxh3_64(&bytes[CHECKED..]);
        bytes[1..CHECKED].copy_from_slice(&checksum.to_le_bytes());
        bytes.into()
    }

    /// Reads the segment that ends there. `None` if the bytes are damaged, or of another segment.
    pub(crate) fn read(number: u32, end: SegmentEnd, bytes: &[u8]) -> Option<Self> {
        let (start, commands) = bytes.split_at_checked(COMMANDS)?;
        let is_whole = start[0] == FORMAT && start[1..CHECKED] == xxh3_64(&bytes[CHECKED..]).to_le_bytes();
        if !is_whole || start[CHECKED..] != head(end) {
            return None;
        }
        let (numbers, []) = commands.as_chunks() else { return None };
        let (pairs, []) = numbers.as_chunks() else { return None };
        let of = |[id, distance]: &[[u8; 4]; 2]| Short {
            id: u32::from_le_bytes(*id),
            distance: u32::from_le_bytes(*distance),
        };
        let commands: Arc<[Short]> = pairs.iter().map(of).collect();
        commands.is_sorted().then_some(Self { number, end, commands })
    }
}

fn head(end: SegmentEnd) -> [u8; COMMANDS - CHECKED] {
    let mut head = [0; COMMANDS - CHECKED];
    head[..8].copy_from_slice(&end.version.to_le_bytes());
    head[8..16].copy_from_slice(&end.sequence.to_le_bytes());
    head[16..].copy_from_slice(end.last_event.0.as_bytes());
    head
}

/// The last four bytes of an id: they look random in random ids and in derived ones.
pub(crate) fn short(command: CommandId) -> u32 {
    let [.., a, b, c, d] = *command.0.as_bytes();
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_read_back_whole_or_not_at_all() {
        let end = SegmentEnd { version: 9, sequence: 70, last_event: EventId(Uuid::from_u128(5)) };
        let id = |number: u32| CommandId(Uuid::from_u128(number.into()));
        let commands = [9, 1, 7, 7, u32::MAX].map(|number| Short::of(id(number), 60, 70 + u64::from(number)));
        let segment = Segment::new(3, end, commands.to_vec());
        assert_eq!(segment.alike(id(7)), [Short { id: 7, distance: 17 }; 2]);
        assert_eq!(segment.alike(id(u32::MAX)), [Short { id: u32::MAX, distance: u32::MAX }]);
        assert!(segment.alike(id(8)).is_empty() && segment.alike(id(0)).is_empty());
        let bytes = segment.write();
        assert_eq!(bytes.len(), COMMANDS + 40);
        assert_eq!(Segment::read(3, end, &bytes), Some(segment.clone()));
        for shorter in 0..bytes.len() {
            assert_eq!(Segment::read(3, end, &bytes[..shorter]), None);
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Segment::read(3, end, &flipped), None, "bit {bit}");
        }
        let others = [
            SegmentEnd { version: 8, ..end },
            SegmentEnd { sequence: 71, ..end },
            SegmentEnd { last_event: EventId(Uuid::from_u128(6)), ..end },
        ];
        for other in others {
            assert_eq!(Segment::read(3, other, &bytes), None, "it is of another place or log");
        }
    }
}
