//! CQRS and event sourcing for Rust: the model, the loops and the ports.
//!
//! This crate knows no database and no broker. Events and views live behind two ports, [`EventStore`]
//! and [`ViewStore`]; [`memory`] keeps both in the process, and the crate `cqrs-nats` in NATS JetStream.
//!
//! What a view promises, and what to do when something is wrong with one, is told at
//! [`what_happens_to_an_event`]; what else can follow from an event, and how often it happens, at
//! [`what_follows_from_an_event`]; how stored events change with the program, at [`events_that_live_for_years`].

#[doc = include_str!("../docs/events.md")]
pub mod what_happens_to_an_event {}

#[doc = include_str!("../docs/effects.md")]
pub mod what_follows_from_an_event {}

#[doc = include_str!("../docs/schema.md")]
pub mod events_that_live_for_years {}

#[doc = include_str!("../docs/contexts.md")]
pub mod between_contexts {}

/// Marks a place at which a test can let the process die; see [`failpoint`]. Without the feature it is nothing.
#[cfg(feature = "failpoints")]
macro_rules! failpoint {
    ($point:ident, $whom:expr) => {
        // Whom it concerns is only worth telling where something is armed.
        if crate::failpoint::is_any_armed() {
            crate::failpoint::reached(crate::failpoint::Point::$point, $whom).await
        }
    };
}

#[cfg(not(feature = "failpoints"))]
macro_rules! failpoint {
    ($point:ident, $whom:expr) => {
        if false {
            let _ = $whom;
        }
    };
}

mod aggregate;
mod announce;
mod append;
mod backoff;
mod base;
mod builds;
mod carry_out;
mod clock;
mod codec;
mod command;
mod commit;
#[cfg(feature = "contract")]
pub mod contract;
/// The decisions of the append protocol, for its model.
#[cfg(feature = "contract")]
#[doc(hidden)]
pub mod model {
    pub use crate::{append::decisions::*, execute::decisions::*};
}
mod cqrs;
mod dead_intent;
mod dead_letter;
mod deadline;
mod dispatch;
mod effects;
mod entity;
mod envelope;
mod error;
mod event;
mod event_source;
mod event_store;
mod execute;
#[cfg(feature = "failpoints")]
pub mod failpoint;
mod fingerprint;
mod followed;
mod following;
mod gap;
mod guard;
mod handle_events;
mod handler;
mod id;
mod interceptor;
mod kept;
mod lanes;
mod load;
pub mod memory;
mod metadata;
mod notices;
mod panics;
mod payload;
mod plain;
mod policy;
mod project;
mod projection;
mod query;
mod react;
mod registry;
mod remembered;
mod retry;
mod router;
mod rules;
mod set_aside;
mod snapshot;
mod sources;
mod status;
mod stopping;
pub mod testing;
mod timer;
mod trace;
mod upcast;
mod view;
mod view_projection;
mod view_store;
mod worker;

pub use aggregate::{Aggregate, Apply, CommandVisitor, Handle, Handled, replay};
pub use announce::Announce;
pub use clock::{Clock, ManualClock, SystemClock};
pub use codec::Codec;
pub use command::{Command, Context, Lifecycle};
pub use commit::{
    BINCODE, Commit, JSON, Origin, Position, Receipt, RecordedEvent, StoredCommit, is_json, media_type,
};
pub use cqrs::{Backend, Builder, Cqrs};
pub use cqrs_derive::{Aggregate, Command, Event, Query};
pub use dead_intent::{DeadCommand, DeadIntent, DeadIntents, MAX_DEAD_INTENTS, RetriedIntents};
pub use dead_letter::{DeadLetter, DeadLetters, Fault, MAX_DEAD_LETTERS, Retried};
pub use deadline::{Deadline, Deadlines, Due, DueQueue, MAX_DEADLINE_ID_BYTES};
pub use dispatch::{Ask, Execute};
pub use effects::{Effects, Refusal};
pub use envelope::Envelope;
pub use error::{CommandError, Error, Refused, Source, StoreError};
pub use event::{Event, EventType, Events};
pub use event_source::EventSource;
pub use event_store::{
    AppendError, Appended, Backlog, Delivery, EventStore, Expected, Log, Page, Search, Subscribe,
    Subscription, Unreadable,
};
pub use following::Following;
pub use handler::{Handler, HandlerError, HandlerSources, On};
pub use id::{AggregateKey, CausationId, CommandId, CorrelationId, EventId, InvalidId, MAX_ID_BYTES};
pub use interceptor::{BoxFuture, Call, CallKind, Interceptor, Next, Outcome};
pub use metadata::{InvalidMetadata, MAX_METADATA_BYTES, Metadata};
pub use notices::{Notice, Notices, NoticesOf};
pub use policy::{Policy, React, Reactions};
pub use projection::{
    Batch, OnFailure, ProjectError, Projection, ProjectionSettings, Recorded, Start, Waiting,
};
pub use query::{Answer, Documents, Query};
pub use registry::{AggregateList, At, HasAggregate, HasView, Push, ViewList};
pub use remembered::REMEMBERED_COMMANDS;
pub use retry::Retry;
pub use router::{CommandMessage, RouteError, Router};
pub use snapshot::Snapshots;
pub use status::{ProjectorState, ProjectorStatus};
pub use stopping::Unfinished;
pub use trace::{Cause, Trace, TracedCommand, TracedEvent};
pub use view::{Project, Sources, View};
pub use view_store::{
    Checkpoint, Note, ProjectionId, Reached, Save, SaveError, SavedCheckpoint, SavedDocument, ViewStore,
    Write,
};
pub use worker::Rebuild;

/// What the fuzz targets reach that nobody else does.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::snapshot::fuzzing::{read_framed_snapshot, read_snapshot};
}

/// What the derives' output refers to; not for people.
#[doc(hidden)]
pub mod __private {
    pub use crate::{
        panics::awaited_unless_panics,
        payload::{deserialize_command, deserialize_variant, serialize_variant},
        plain::{Field, OfAnyType},
        upcast::{Upcast, upcast},
    };
    #[cfg(feature = "schema")]
    pub use schemars;
    pub use serde;
}
