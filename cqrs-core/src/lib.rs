//! CQRS and event sourcing for Rust: commands to aggregates, events to a log, and projections of that log.
//!
//! This crate knows no database and no broker. Events and views live behind two ports, [`port::EventStore`] and
//! [`port::ViewStore`]; [`memory`] keeps both in the process, and the crate `cqrs-nats` in NATS JetStream.
//!
//! At the root are the names that a service is written with. The rest is by module:
//!
//! | module | what is in it |
//! |---|---|
//! | [`guide`] | a first service, rules, queries, what a view promises, policies and handlers, schemas, contexts |
//! | [`model`] | what aggregates and events can say of themselves beside the derives |
//! | [`log`] | events as they stand in a log |
//! | [`port`] | what an adapter implements, and projections by hand |
//! | [`read_models`] | what queries are asked of, and how an adapter adds a form of it |
//! | [`operate`] | status, rebuilds, dead letters, dead intents, traces |
//! | [`by_name`] | commands and queries that come off a wire |
//! | [`intercept`] | authorization, validation and logging around every dispatch |
//! | [`announce`] | events for other contexts, and following theirs |
//! | [`memory`], [`testing`] | stores in the process; given/when/then and schema locks |

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
    documents::Documents,
    query::{Answer, Query},
    view::{Project, View},
};

pub use effects::{
    handler::{EventHandler, HandlerError, On},
    intents::{Effects, Refusal},
    policy::{Policy, React},
};
pub use model::follow::{OnFailure, Retry, Start};

pub use base::{
    error::{CommandError, Error},
    store_error::StoreError,
};

/// The guides, one page each.
pub mod guide {
    #[doc = include_str!("../docs/first_service.md")]
    pub mod first_service {}

    #[doc = include_str!("../docs/rules.md")]
    pub mod rules {}

    #[doc = include_str!("../docs/queries.md")]
    pub mod queries {}

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

/// What queries are asked of: views and other read models, alone or several as a tuple.
pub mod read_models {
    pub use crate::read::{
        active_build::ActiveBuild,
        read_model::{ReadModel, ReadModels},
    };
}

/// The futures with settings that [`Cqrs::execute`], [`Cqrs::query`], [`Cqrs::aggregate`], [`Cqrs::history`] and
/// [`Cqrs::aggregates`] return, and what they answer.
pub mod futures {
    pub use crate::{
        log::position::After,
        service::{
            aggregate::{History, ReadHistory, ReadState, Versioned},
            ask::{Answered, Ask, AskWithPosition},
            execute::Execute,
            listing::ListAggregates,
        },
    };
}

/// The types of the lists of registered aggregates and views, for functions that are generic over services; and the
/// traits by which tuples of aggregates are sources of events.
pub mod lists {
    pub use crate::{
        effects::{handler::HandlerSources, policy::Reactions},
        read::view::Sources,
        service::lists::{
            AddedTo, AggregateList, AskedOf, At, HasAggregate, HasView, Push, SentTo, ViewList,
        },
    };
}

/// The decisions of the append protocol, for its model.
#[cfg(feature = "contract")]
#[doc(hidden)]
pub mod decisions {
    pub use crate::write::{append::decisions::*, settle::decisions::*};
}

/// Functions for the fuzz targets only.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::model::snapshot::fuzzing::{read_framed_snapshot, read_snapshot};
}

/// Items for the output of the derives; not for users.
#[doc(hidden)]
pub mod __private {
    /// A test's action during a store's write, before the commit; its argument is the name of the projection, or of the
    /// stream. A wrapper of the store cannot act there.
    #[cfg(feature = "failpoints")]
    pub static IN_SAVE: std::sync::OnceLock<InSave> = std::sync::OnceLock::new();
    #[cfg(feature = "failpoints")]
    pub type InSave = fn(&str) -> Option<crate::port::BoxFuture<'static, ()>>;

    pub use crate::{
        base::panics::awaited_unless_panics,
        encoding::plain::{Field, OfAnyType},
        model::{
            command::{IsIdOf, aggregate_id, deserialize_command},
            required::{
                AsCommand, AsEvent, HasClone, HasDefault, HasSerde, IsShared, KeepsDocument, KeepsState,
                Stored, StoredAs,
            },
            upcast::{Upcast, upcast},
        },
        read::query::{FindsDocument, HasText, MadeOf, document_key, document_of},
    };
    #[cfg(feature = "schema")]
    pub use schemars;
    pub use serde;
}
