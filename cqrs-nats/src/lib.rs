//! CQRS and event sourcing on NATS JetStream: the adapters for `cqrs-core`.
//!
//! Events live in one JetStream stream for each bounded context, views and snapshots in key-value buckets. Connect,
//! open a context, and build the service on it:
//!
//! ```no_run
//! # use cqrs_core::Cqrs;
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use cqrs_nats::Nats;
//!
//! let nats = Nats::connect("nats://localhost:4222").await?;
//! let backend = nats.context("orders").await?;
//! let cqrs = Cqrs::builder(backend).start().await?; // with `.aggregate::<…>()` and `.view::<…>()`
//! # cqrs.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! It needs a nats-server of version 2.12.2 or later with JetStream. What is stored, and how readers in other languages
//! read it, is described at [`wire`].
//!
//! | guide | what is in it |
//! |---|---|
//! | [`guide::commands`] | what each answer to a command means, and what survives which failure |
//! | [`guide::operate`] | deployment, probes, permissions, settings, updates, backups, deleting and renaming |
//! | [`guide::scale`] | how much load one server takes, and how to scale further |

// Each module imports only those above it, and names the module that owns what it imports.
mod client;
pub mod wire;
mod topology;
mod permissions;
mod events;
mod views;
mod deadlines;
mod open;
mod connect;

/// Functions for the fuzz targets only.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;

/// The guides, one page each.
pub mod guide {
    #[doc = include_str!("../docs/commands.md")]
    pub mod commands {}

    #[doc = include_str!("../docs/operate.md")]
    pub mod operate {}

    #[doc = include_str!("../docs/scale.md")]
    pub mod scale {}
}

pub use client::{events::ClientEvents, settings::Difference};
pub use connect::{Connect, ConnectError, FromClient, MIN_SERVER};
pub use deadlines::NatsDueQueue;
pub use events::{NatsEvents, notices::NatsNotices, subscription::NatsSubscription};
pub use open::{Nats, NatsBackend};
pub use permissions::Permissions;
pub use topology::{Topology, TopologyError};
pub use views::KvViews;
pub use wire::subject::{BadToken, decode_token, encode_token};
