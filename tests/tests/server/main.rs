//! Tests that need a NATS server: the shared one, or their own to kill, damage or configure. Most of them run in memory
//! too, because the tested behaviour is the same for both.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ages;
mod announcements;
mod announcer_crashes;
mod cloudevents;
mod command_enums;
mod connecting;
mod contract;
mod corruption;
mod dead_intents;
mod deadlines;
mod deliveries;
mod domains;
mod effects;
mod expecting;
mod harness;
mod ids;
mod limits;
mod listing;
mod long_ago;
mod names;
mod one_aggregate;
mod permissions;
mod poison;
mod policies;
mod policy_deadlines;
mod policy_versions;
mod projections;
mod readers;
mod refusals;
mod replaced;
mod service;
mod settings;
mod settled;
mod slices;
mod snapshots;
mod tls;
mod traces;
mod unreadable;
mod waiting;
