//! Effects of events: policies (sagas), event handlers, announcers and deadlines.
//!
//! Imports all up to `write` and `projector`.

pub(crate) mod policy;
pub(crate) mod policy_projection;
pub(crate) mod intents;
pub(crate) mod carrier;
pub(crate) mod timer;
pub(crate) mod dead_intent;
pub(crate) mod handler;
pub(crate) mod handler_projection;
pub(crate) mod announce;
pub(crate) mod announcer;
