//! A command as it comes off a wire, and why it got no receipt.

use std::error::Error as StdError;

use bytes::Bytes;

use crate::base::{
    error::Error,
    id::{CausationId, CommandId, CorrelationId},
    metadata::Metadata,
};

/// A command as it comes off a wire.
#[derive(Debug, Clone, Default)]
pub struct CommandMessage {
    /// The command's id; a new one if there is none.
    pub id: Option<CommandId>,
    /// The business transaction; one of its own if there is none.
    pub correlation_id: Option<CorrelationId>,
    /// The message that caused it, if another message did.
    pub causation_id: Option<CausationId>,
    /// What travels with it.
    pub metadata: Metadata,
    /// The command's fields as JSON.
    pub body: Bytes,
}

/// Why a message off a wire got no receipt or answer.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// No command or query has that name.
    #[error("{name:?} is not known here, known are: {known}")]
    Unknown {
        /// The name.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// The body is not what the message's type wants.
    #[error("the body of {name} cannot be read: {reason}")]
    BadBody {
        /// The message's name.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The business said no: the rejection, or a lifecycle that does not fit.
    #[error(transparent)]
    Rejected(Box<dyn StdError + Send + Sync>),
    /// A technical failure.
    #[error(transparent)]
    Failed(#[from] Error),
}
