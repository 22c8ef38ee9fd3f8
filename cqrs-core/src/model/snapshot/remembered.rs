//! The commands that an aggregate remembers, so that a repeat gets the first receipt.

use std::{collections::VecDeque, fmt};

use bytes::{Buf as _, BufMut as _};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};
use uuid::Uuid;

use crate::base::id::{CommandId, Position};

/// How many commands an aggregate remembers, so that a repeat gets the first receipt.
///
/// For older commands, see "Idempotency" at [`Cqrs`](crate::Cqrs).
pub const REMEMBERED_COMMANDS: usize = 1_000;

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

/// The last commands of an aggregate, the newest last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Remembered {
    commands: VecDeque<CarriedOut>,
    /// The last 16 bits of each id. Nearly every command is new, and these two kilobytes show that faster than the
    /// commands themselves.
    short: VecDeque<u16>,
}

impl Remembered {
    /// Remembers a command, and forgets the oldest if there are too many.
    pub(crate) fn push(&mut self, command: CarriedOut) {
        if self.commands.len() == REMEMBERED_COMMANDS {
            self.commands.pop_front();
            self.short.pop_front();
        }
        self.short.push_back(short(command.command));
        self.commands.push_back(command);
    }

    /// The record of a command, if it is remembered.
    pub(crate) fn find(&self, command: CommandId) -> Option<CarriedOut> {
        let wanted = short(command);
        let (one, other) = self.short.as_slices();
        if !(has(one, wanted) || has(other, wanted)) {
            return None;
        }
        self.commands.iter().rev().find(|remembered| remembered.command == command).copied()
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

/// In a binary format all commands are one byte string: a thousand commands are most of a snapshot, and reading must be
/// fast.
impl Serialize for Remembered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return self.commands.serialize(serializer);
        }
        let mut bytes = Vec::with_capacity(RECORD * self.commands.len());
        self.commands.iter().for_each(|command| command.write(&mut bytes));
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for Remembered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return Ok(Vec::<CarriedOut>::deserialize(deserializer)?.into_iter().collect());
        }
        deserializer.deserialize_bytes(Records)
    }
}

struct Records;

impl Visitor<'_> for Records {
    type Value = Remembered;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{RECORD} bytes for each command")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Remembered, E> {
        let records = bytes.chunks_exact(RECORD);
        if !records.remainder().is_empty() {
            return Err(E::invalid_length(bytes.len(), &self));
        }
        Ok(records.map(CarriedOut::read).collect())
    }
}

impl FromIterator<CarriedOut> for Remembered {
    fn from_iter<I: IntoIterator<Item = CarriedOut>>(commands: I) -> Self {
        let mut remembered = Self::default();
        commands.into_iter().for_each(|command| remembered.push(command));
        remembered
    }
}

/// The last bits of random ids and of derived ids look random.
fn short(command: CommandId) -> u16 {
    let [.., a, b] = *command.0.as_bytes();
    u16::from_be_bytes([a, b])
}

/// Compares all elements without an early end, so that the compiler can vectorise it.
fn has(all: &[u16], wanted: u16) -> bool {
    all.iter().fold(0, |found, short| found | u16::from(*short == wanted)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried_out(id: u128) -> CarriedOut {
        let (command, position) = (CommandId(Uuid::from_u128(id)), Position::default());
        CarriedOut { command, fingerprint: 0, version: 1, events: 1, position }
    }

    #[test]
    fn they_come_back_from_json_and_from_their_records() {
        let remembered: Remembered = (1..=5)
            .map(|number| CarriedOut {
                command: CommandId(Uuid::from_u128(number << 100)),
                fingerprint: u64::MAX - 1,
                version: 1 << 40,
                events: 3,
                position: Position { sequence: 1 << 50, index: 70_000 },
            })
            .collect();
        let json = serde_json::to_string(&remembered).unwrap();
        assert!(json.starts_with("[{") && json.contains("70000"), "{json}");
        assert_eq!(serde_json::from_str::<Remembered>(&json).unwrap(), remembered);
        let mut records = Vec::new();
        remembered.commands.iter().for_each(|command| command.write(&mut records));
        assert_eq!(records.len(), 5 * RECORD);
        let read = |bytes: &[u8]| Records.visit_bytes::<de::value::Error>(bytes);
        assert_eq!(read(&records).unwrap(), remembered);
        assert!(read(&records[1..]).is_err());
    }

    #[test]
    fn the_last_ones_are_remembered_also_where_ids_end_alike() {
        let ids = (1..=REMEMBERED_COMMANDS as u128 + 10).map(|number| (number << 64) | (number % 3));
        let remembered: Remembered = ids.clone().map(carried_out).collect();
        let found = |id| remembered.find(CommandId(Uuid::from_u128(id))).is_some();
        let known: Vec<_> = ids.clone().filter(|id| found(*id)).collect();
        assert_eq!(known, ids.skip(10).collect::<Vec<_>>());
        assert!(!found(1) && !found(7 << 70), "one that was never there");
    }
}
