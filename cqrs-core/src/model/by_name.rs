//! A command as a message, and the errors of its dispatch by name.

use std::error::Error as StdError;

use bytes::Bytes;

use crate::base::{
    error::Error,
    id::{CausationId, CommandId, CorrelationId},
    metadata::Metadata,
};

/// A command as a message, for dispatch by name.
#[derive(Debug, Clone, Default)]
pub struct CommandMessage {
    /// The command's id; `None` for a new one.
    pub id: Option<CommandId>,
    /// The business transaction; `None` for a new one.
    pub correlation_id: Option<CorrelationId>,
    /// The message that caused it, if another message did.
    pub causation_id: Option<CausationId>,
    /// The metadata of the command.
    pub metadata: Metadata,
    /// The version of the aggregate on which the sender has decided, if it must be the current one; see
    /// [`Execute::expecting`](crate::futures::Execute::expecting).
    pub expecting: Option<u64>,
    /// The command's fields as JSON.
    pub body: Bytes,
}

/// Why a message got no receipt or answer.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// No command or query has that name.
    #[error("{name:?} is not known here, known are: {known}")]
    Unknown {
        /// The name.
        name: String,
        /// The known names.
        known: String,
    },
    /// The body does not fit the message's type.
    #[error("the body of {name} cannot be read: {reason}")]
    BadBody {
        /// The message's name.
        name: &'static str,
        /// Why it does not fit.
        reason: String,
    },
    /// The business refused: a rejection, an error of the lifecycle, or another version than the expected one.
    #[error(transparent)]
    Rejected(Box<dyn StdError + Send + Sync>),
    /// A technical failure.
    #[error(transparent)]
    Failed(#[from] Error),
}
