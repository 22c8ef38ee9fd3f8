//! An event with all that is known about it.

use std::sync::Arc;

use jiff::Timestamp;

use crate::{
    base::{
        id::{AggregateKey, CausationId, CommandId, CorrelationId, EventId, Position},
        metadata::Metadata,
    },
    model::event::{Event, EventType},
};

/// An event as it stands in the log: what happened, to what, when, and because of what.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Envelope<E> {
    /// The event's own id.
    pub id: EventId,
    /// The stored type of the event.
    pub event_type: EventType,
    /// The context that recorded it, such as `/orders`.
    pub source: Arc<str>,
    /// The aggregate that it happened to.
    pub aggregate: AggregateKey,
    /// Its place among the aggregate's events, from 1.
    pub version: u64,
    /// Its place in the whole log.
    pub position: Position,
    /// When the command was handled that led to it.
    pub time: Timestamp,
    /// The command that led to it.
    pub command_id: CommandId,
    /// The business transaction that it belongs to.
    pub correlation_id: CorrelationId,
    /// The message that caused the command, if another message did.
    pub causation_id: Option<CausationId>,
    /// What travelled with the command.
    pub metadata: Metadata,
    /// The fact itself.
    pub data: E,
}

impl<E: Event> Envelope<E> {
    /// The aggregate's id as text, which CloudEvents calls the subject.
    pub fn subject(&self) -> &str {
        self.aggregate.id()
    }
}
