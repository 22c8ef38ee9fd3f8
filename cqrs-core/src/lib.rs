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
        if crate::base::failpoint::is_any_armed() {
            crate::base::failpoint::reached(crate::base::failpoint::Point::$point, $whom).await
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

mod base;
#[cfg(feature = "contract")]
pub mod contract;
mod effects;
mod encoding;
mod log;
pub mod memory;
mod model;
mod port;
mod projector;
mod read;
mod service;
pub mod testing;
mod write;
/// The decisions of the append protocol, for its model.
#[cfg(feature = "contract")]
#[doc(hidden)]
pub mod decisions {
    pub use crate::write::{append::decisions::*, settle::decisions::*};
}
#[cfg(feature = "failpoints")]
pub use base::failpoint;

pub use base::{
    content_type::{BINCODE, JSON, is_json, media_type},
    error::{CommandError, Error, Refused, Source, StoreError},
    future::BoxFuture,
    id::{
        AggregateKey, CausationId, CommandId, CorrelationId, EventId, InvalidId, MAX_ID_BYTES, Position,
        ProjectionId,
    },
    metadata::{InvalidMetadata, MAX_METADATA_BYTES, Metadata},
};
pub use cqrs_derive::{Aggregate, Command, Event, Query};
pub use effects::{
    announce::Announce,
    dead_intent::{DeadCommand, DeadIntent, DeadIntents, MAX_DEAD_INTENTS, RetriedIntents},
    handler::{Handler, HandlerError, HandlerSources, On},
    intents::{Effects, Refusal},
    policy::{Policy, React, Reactions},
};
pub use log::{
    commit::{Commit, Origin, Receipt, RecordedEvent, StoredCommit},
    envelope::Envelope,
    recorded::Recorded,
};
pub use model::{
    aggregate::{Aggregate, Apply, CommandVisitor, Handle, Handled, replay},
    by_name::{CommandMessage, RouteError},
    command::{Command, Context, Lifecycle},
    event::{Codec, Event, EventType, Events},
    follow::{OnFailure, Retry, Start},
    snapshot::{Snapshots, remembered::REMEMBERED_COMMANDS},
    source::EventSource,
};
pub use port::{
    backend::Backend,
    clock::{Clock, ManualClock, SystemClock},
    deadlines::{Deadline, Deadlines, Due, DueQueue, MAX_DEADLINE_ID_BYTES},
    event_store::{AppendError, Appended, Backlog, EventStore, Expected, Log, Page, Search},
    notices::{Notice, Notices, NoticesOf},
    projection::{Batch, ProjectError, Projection, ProjectionSettings, Waiting},
    subscription::{Delivery, Subscribe, Subscription, Unreadable},
    view_store::{
        Checkpoint, Note, Reached, Save, SaveError, SavedCheckpoint, SavedDocument, ViewStore, Write,
    },
};
pub use projector::{
    dead_letter::{
        DeadLetter, Fault, MAX_DEAD_LETTERS,
        by_hand::{DeadLetters, Retried},
    },
    status::{ProjectorState, ProjectorStatus},
    stopping::Unfinished,
    worker::rebuild::Rebuild,
};
pub use read::{
    query::{Answer, Documents, Query},
    view::{Project, Sources, View},
};
pub use service::{
    Cqrs,
    ask::Ask,
    builder::{Builder, following::Following},
    execute::Execute,
    interceptor::Next,
    interceptor::{Call, CallKind, Interceptor, Outcome},
    lists::{AggregateList, At, HasAggregate, HasView, Push, ViewList},
    router::Router,
    trace::Cause,
    trace::{Trace, TracedCommand, TracedEvent},
};

/// What the fuzz targets reach that nobody else does.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::model::snapshot::fuzzing::{read_framed_snapshot, read_snapshot};
}

/// What the derives' output refers to; not for people.
#[doc(hidden)]
pub mod __private {
    pub use crate::{
        base::panics::awaited_unless_panics,
        encoding::{
            plain::{Field, OfAnyType},
            variant::{deserialize_variant, serialize_variant},
        },
        model::{
            command::deserialize_command,
            upcast::{Upcast, upcast},
        },
    };
    #[cfg(feature = "schema")]
    pub use schemars;
    pub use serde;
}
