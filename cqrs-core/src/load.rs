//! Loading an aggregate: its commits, folded, with the checks that the log is whole.

use std::collections::VecDeque;

use crate::{
    Aggregate, AggregateKey, CommandId, EventStore, Position, StoreError, StoredCommit, aggregate::AppliesTo,
    codec,
};

/// How many commands an aggregate remembers, so that a repeated one gets its first receipt.
///
/// For older ones, see "Idempotency" at [`Cqrs`](crate::Cqrs).
pub const REMEMBERED_COMMANDS: usize = 1_000;

/// How many commits are read at once.
const PAGE: usize = 256;

/// An aggregate's state with its place in the log.
pub(crate) struct Loaded<A> {
    pub(crate) key: AggregateKey,
    pub(crate) state: A,
    /// The number of its events.
    pub(crate) version: u64,
    /// The place of its last event; sequence 0 when there is none.
    pub(crate) position: Position,
    /// Whether the state is certain to have been current when it was read.
    pub(crate) confirmed: bool,
    /// Whether there is known to be more than this, or nothing has been read yet.
    pub(crate) stale: bool,
    remembered: VecDeque<CarriedOut>,
}

/// A command that was carried out, as its commit tells.
#[derive(Debug, Clone, Copy)]
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

impl<A: Aggregate> Loaded<A> {
    /// An aggregate of which nothing has been read yet.
    pub(crate) fn nothing(key: AggregateKey) -> Self {
        Self {
            key,
            state: A::default(),
            version: 0,
            position: Position::default(),
            confirmed: false,
            stale: true,
            remembered: VecDeque::new(),
        }
    }

    /// Reads what was stored since.
    pub(crate) async fn catch_up<S: EventStore>(&mut self, store: &S) -> Result<(), StoreError> {
        loop {
            let page = store.read(&self.key, self.position.sequence, PAGE).await?;
            for stored in &page.commits {
                self.fold(stored)?;
            }
            if !page.more {
                self.confirmed = page.confirmed;
                self.stale = false;
                return Ok(());
            }
        }
    }

    /// Makes sure that the state is the current one: asks the log's leader for what came since.
    pub(crate) async fn confirm<S: EventStore>(&mut self, store: &S) -> Result<(), StoreError> {
        while let Some(stored) = store.next_after(&self.key, self.position.sequence).await? {
            self.fold(&stored)?;
        }
        self.confirmed = true;
        Ok(())
    }

    fn fold(&mut self, stored: &StoredCommit) -> Result<(), StoreError> {
        let commit = &stored.commit;
        if commit.first_version != self.version + 1 {
            return Err(StoreError::Gap {
                aggregate: self.key.clone(),
                expected: self.version + 1,
                found: commit.first_version,
                sequence: stored.sequence,
            });
        }
        // Decoded before any is applied, so that a bad event leaves the state as it was.
        let events: Vec<A::Event> =
            (0..commit.events.len()).map(|index| codec::decode(stored, index)).collect::<Result<_, _>>()?;
        for event in &events {
            event.apply_to(&mut self.state);
        }
        self.remember(stored);
        Ok(())
    }

    /// Takes on the state after a commit that has just been stored.
    pub(crate) fn advance(&mut self, state: A, stored: &StoredCommit) {
        self.state = state;
        self.remember(stored);
    }

    fn remember(&mut self, stored: &StoredCommit) {
        for command in commands_of(stored) {
            if self.remembered.len() == REMEMBERED_COMMANDS {
                self.remembered.pop_front();
            }
            self.version = command.version;
            self.position = command.position;
            self.remembered.push_back(command);
        }
    }

    /// What is remembered of a command.
    pub(crate) fn carried_out(&self, command: CommandId) -> Option<CarriedOut> {
        self.remembered.iter().rev().find(|remembered| remembered.command == command).copied()
    }
}

/// The commands whose events are in a commit, in order.
pub(crate) fn commands_of(stored: &StoredCommit) -> impl Iterator<Item = CarriedOut> {
    let commit = &stored.commit;
    let mut events = 0;
    commit.events.chunk_by(|a, b| a.origin.command_id == b.origin.command_id).map(move |of_one| {
        events += of_one.len();
        CarriedOut {
            command: of_one[0].origin.command_id,
            fingerprint: of_one[0].origin.fingerprint,
            version: commit.first_version + events as u64 - 1,
            events: of_one.len(),
            position: Position {
                sequence: stored.sequence,
                index: u32::try_from(events - 1).unwrap_or(u32::MAX),
            },
        }
    })
}
