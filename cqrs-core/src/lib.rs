//! CQRS and event sourcing for Rust: commands to aggregates, events to a log, and projections of that log.
//!
//! This crate knows no database and no broker. Events and views live behind two ports, [`port::EventStore`] and
//! [`port::ViewStore`]; [`memory`] keeps both in the process, and the crate `cqrs-nats` in NATS JetStream.
//!
//! At the root are the names that a service is written with. The rest is by module:
//!
//! | module | what is in it |
//! |---|---|
//! | [`guide`] | what a view promises, policies and event handlers, schema evolution, several contexts |
//! | [`model`] | what aggregates and events can say of themselves beside the derives |
//! | [`log`] | events as they stand in a log |
//! | [`port`] | what an adapter implements, and projections by hand |
//! | [`operate`] | status, rebuilds, dead letters, dead intents, traces |
//! | [`by_name`] | commands and queries that come off a wire |
//! | [`intercept`] | authorization, validation and logging around every dispatch |
//! | [`announce`] | events for other contexts, and following theirs |
//! | [`memory`], [`testing`] | stores in the process; given/when/then and schema locks |

/// Marks a point at which a test can abort the process; see [`failpoint`]. Without the feature it does nothing.
#[cfg(feature = "failpoints")]
macro_rules! failpoint {
    ($point:ident, $whom:expr) => {
        // The subject is computed only if a point is armed.
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
mod encoding;
pub mod model;
pub mod log;
pub mod port;
mod write;
mod projector;
pub mod memory;
#[cfg(feature = "contract")]
pub mod contract;
mod read;
mod effects;
mod service;
pub mod testing;

pub use cqrs_derive::{Aggregate, Command, Event, Query};

pub use model::{
    aggregate::{Aggregate, Apply, Handle, Handled},
    command::{Command, Context, Lifecycle},
    event::{Event, Events},
};

pub use base::id::{AggregateKey, CausationId, CommandId, CorrelationId, EventId};
pub use base::metadata::Metadata;
pub use log::{commit::Receipt, envelope::Envelope};

pub use port::{backend::Backend, clock::Clock};
pub use service::{Cqrs, builder::Builder};

pub use read::{
    query::{Answer, Documents, Query},
    view::{Project, View},
};

pub use effects::{
    handler::{EventHandler, HandlerError, On},
    intents::{Effects, Refusal},
    policy::{Policy, React},
};
pub use model::follow::{OnFailure, Retry, Start};

pub use base::error::{CommandError, Error, StoreError};

/// The guides, one page each.
pub mod guide {
    #[doc = include_str!("../docs/events.md")]
    pub mod events {}

    #[doc = include_str!("../docs/effects.md")]
    pub mod effects {}

    #[doc = include_str!("../docs/schema.md")]
    pub mod schema {}

    #[doc = include_str!("../docs/contexts.md")]
    pub mod contexts {}
}

/// The operator's interface: the status of projectors, rebuilds, dead letters, dead intents, traces.
pub mod operate {
    pub use crate::{
        effects::dead_intent::{DeadCommand, DeadIntent, DeadIntents, MAX_DEAD_INTENTS, RetriedIntents},
        projector::{
            dead_letter::{
                DeadLetter, Fault, MAX_DEAD_LETTERS,
                by_hand::{DeadLetters, Retried},
            },
            status::{ProjectorState, ProjectorStatus},
            stopping::Unfinished,
            worker::rebuild::Rebuild,
        },
        service::trace::{Cause, Trace, TracedCommand, TracedEvent},
    };
}

/// Commands and queries by their names and JSON bodies, for transports.
pub mod by_name {
    pub use crate::{
        model::by_name::{CommandMessage, RouteError},
        service::router::Router,
    };
}

/// Interceptors around every dispatch: authorization, validation, logging.
pub mod intercept {
    pub use crate::{
        base::error::Refused,
        service::interceptor::{Call, CallKind, Interceptor, Next, Outcome},
    };
}

/// Events for other contexts, in a public log; and following the public log of another context.
pub mod announce {
    pub use crate::{effects::announce::Announce, service::builder::following::Following};
}

/// The futures with settings that [`Cqrs::execute`] and [`Cqrs::query`] return.
pub mod futures {
    pub use crate::service::{ask::Ask, execute::Execute};
}

/// The types of the lists of registered aggregates and views, for functions that are generic over services; and the
/// traits by which tuples of aggregates are sources of events.
pub mod lists {
    pub use crate::{
        effects::{handler::HandlerSources, policy::Reactions},
        read::view::Sources,
        service::lists::{AggregateList, AskedOf, At, HasAggregate, HasView, Push, SentTo, ViewList},
    };
}

/// The decisions of the append protocol, for its model.
#[cfg(feature = "contract")]
#[doc(hidden)]
pub mod decisions {
    pub use crate::write::{append::decisions::*, settle::decisions::*};
}

#[cfg(feature = "failpoints")]
pub use base::failpoint;

/// Functions for the fuzz targets only.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::model::snapshot::fuzzing::{read_framed_snapshot, read_snapshot};
}

/// Items for the output of the derives; not for users.
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
