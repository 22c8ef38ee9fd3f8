//! The server and its API, without knowledge of what the streams contain.
//!
//! It imports nothing else of this crate; of `cqrs-core` it has the errors of stores, and no port.

pub(crate) mod address;
pub(crate) mod connection;
pub(crate) mod errors;
pub(crate) mod events;
pub(crate) mod api;
pub(crate) mod diagnosis;
pub(crate) mod settings;
pub(crate) mod stream;
pub(crate) mod found;
pub(crate) mod layout;
pub(crate) mod leader_get;
pub(crate) mod direct_get;
pub(crate) mod scan;
pub(crate) mod atomic_batch;
