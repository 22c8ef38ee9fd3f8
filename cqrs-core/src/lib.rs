//! CQRS and event sourcing for Rust: the model, the loops and the ports.
//!
//! This crate knows no database and no broker. Events and views live behind two ports, [`EventStore`]
//! and [`ViewStore`]; [`memory`] keeps both in the process, and the crate `cqrs-nats` in NATS JetStream.

mod aggregate;
mod append;
mod backoff;
mod clock;
mod codec;
mod command;
mod commit;
#[cfg(feature = "contract")]
pub mod contract;
mod cqrs;
mod dispatch;
mod entity;
mod envelope;
mod error;
mod event;
mod event_store;
mod execute;
mod id;
mod interceptor;
mod load;
pub mod memory;
mod metadata;
mod payload;
mod project;
mod query;
mod registry;
mod router;
mod snapshot;
pub mod testing;
mod view;
mod view_store;

pub use aggregate::{Aggregate, Apply, CommandVisitor, Handle, Handled, replay};
pub use clock::{Clock, ManualClock, SystemClock};
pub use command::{Command, Context, Lifecycle};
pub use commit::{Commit, JSON, Origin, Position, Receipt, RecordedEvent, StoredCommit};
pub use cqrs::{Backend, Builder, Cqrs};
pub use cqrs_derive::{Aggregate, Command, Event, Query};
pub use dispatch::{Ask, Execute};
pub use envelope::Envelope;
pub use error::{CommandError, Error, Refused, Source, StoreError};
pub use event::{Event, EventType, Events};
pub use event_store::{AppendError, Appended, EventStore, Expected, Log, Page, Subscribe, Subscription};
pub use id::{AggregateKey, CausationId, CommandId, CorrelationId, EventId, InvalidId, MAX_ID_BYTES};
pub use interceptor::{BoxFuture, Call, CallKind, Interceptor, Next, Outcome};
pub use load::REMEMBERED_COMMANDS;
pub use metadata::{InvalidMetadata, Metadata};
pub use project::{ProjectorState, ProjectorStatus};
pub use query::{Answer, Documents, Query};
pub use registry::{AggregateList, At, HasAggregate, HasView, Push, ViewList};
pub use router::{CommandMessage, RouteError, Router};
pub use snapshot::Snapshots;
pub use view::{Project, Sources, View};
pub use view_store::{
    Checkpoint, ProjectionId, Save, SaveError, SavedCheckpoint, SavedDocument, ViewStore, Write,
};

/// What the derives' output refers to; not for people.
#[doc(hidden)]
pub mod __private {
    pub use crate::payload::{deserialize_variant, serialize_variant};
    pub use serde;
}
