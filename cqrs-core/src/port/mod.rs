//! The traits that adapters implement, and the clock.
//!
//! Imports `base`, `model` and `log`.

pub(crate) mod backend;
pub(crate) mod clock;
pub(crate) mod event_store;
pub(crate) mod listing;
pub(crate) mod subscription;
pub(crate) mod view_store;
pub(crate) mod projection;
pub(crate) mod deadlines;
pub(crate) mod notices;
pub(crate) mod any_events;
pub(crate) mod any_views;
pub(crate) mod capabilities;

pub use crate::base::{
    future::BoxFuture,
    id::ProjectionId,
    outage::{OutagePart, Outages},
    source::{Source, describe},
};
pub use any_events::{AnyEvents, AnySubscription};
pub use any_views::AnyViews;
pub use capabilities::Capabilities;
pub use clock::SystemClock;
pub use deadlines::{Deadline, Deadlines, Due, DueQueue, MAX_DEADLINE_ID_BYTES};
pub use event_store::{AppendError, Backlog, EventStore, Expected, Log, Page, Search, SnapshotPart};
pub use listing::{AggregatePage, ListedUpTo, Listing};
pub use notices::{Notice, Notices, NoticesOf};
pub use projection::{Batch, ProjectError, Projection, ProjectionSettings, Waiting};
pub use subscription::{Delivery, Subscribe, Subscription, Unreadable};
pub use view_store::{
    Checkpoint, Note, Reached, Save, SaveError, SavedCheckpoint, SavedDocument, ViewStore, Write,
};
