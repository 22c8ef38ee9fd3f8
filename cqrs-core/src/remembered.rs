//! The commands that an aggregate remembers, so that a repeated one gets its first receipt.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize, Serializer};

use crate::{CommandId, Position};

/// How many commands an aggregate remembers, so that a repeated one gets its first receipt.
///
/// For older ones, see "Idempotency" at [`Cqrs`](crate::Cqrs).
pub const REMEMBERED_COMMANDS: usize = 1_000;

/// A command that was carried out, as its commit tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CarriedOut {
    pub(crate) command: CommandId,
    /// What its content comes to; see [`Origin::fingerprint`](crate::Origin::fingerprint).
    pub(crate) fingerprint: u64,
    /// The aggregate's version after it.
    pub(crate) version: u64,
    /// How many events it led to.
    pub(crate) events: usize,
    /// The place of the last of them.
    pub(crate) position: Position,
}

/// The last commands of an aggregate, the newest last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "VecDeque<CarriedOut>")]
pub(crate) struct Remembered {
    commands: VecDeque<CarriedOut>,
    /// The last 16 bits of each id. Nearly every command is a new one, which these two kilobytes tell faster than the
    /// commands themselves.
    short: VecDeque<u16>,
}

impl Remembered {
    /// Remembers one more, and forgets the oldest if there are too many.
    pub(crate) fn push(&mut self, command: CarriedOut) {
        if self.commands.len() == REMEMBERED_COMMANDS {
            self.commands.pop_front();
            self.short.pop_front();
        }
        self.short.push_back(short(command.command));
        self.commands.push_back(command);
    }

    /// What is remembered of a command.
    pub(crate) fn find(&self, command: CommandId) -> Option<CarriedOut> {
        let wanted = short(command);
        let (one, other) = self.short.as_slices();
        if !(has(one, wanted) || has(other, wanted)) {
            return None;
        }
        self.commands.iter().rev().find(|remembered| remembered.command == command).copied()
    }
}

impl Serialize for Remembered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.commands.serialize(serializer)
    }
}

impl From<VecDeque<CarriedOut>> for Remembered {
    fn from(commands: VecDeque<CarriedOut>) -> Self {
        commands.into_iter().collect()
    }
}

impl FromIterator<CarriedOut> for Remembered {
    fn from_iter<I: IntoIterator<Item = CarriedOut>>(commands: I) -> Self {
        let mut remembered = Self::default();
        commands.into_iter().for_each(|command| remembered.push(command));
        remembered
    }
}

/// Ids made anew and derived ones alike end in bits that look random.
fn short(command: CommandId) -> u16 {
    let [.., a, b] = *command.0.as_bytes();
    u16::from_be_bytes([a, b])
}

/// Looks at all of them, which the compiler does several at a time.
fn has(all: &[u16], wanted: u16) -> bool {
    all.iter().fold(0, |found, short| found | u16::from(*short == wanted)) != 0
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn carried_out(id: u128) -> CarriedOut {
        let (command, position) = (CommandId(Uuid::from_u128(id)), Position::default());
        CarriedOut { command, fingerprint: 0, version: 1, events: 1, position }
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
