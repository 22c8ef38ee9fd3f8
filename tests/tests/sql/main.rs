//! Tests that need a database: Postgres, or SQLite in a file. Some need a NATS server beside it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod embedded;
mod embedded_processes;
mod instances;
mod positions;
mod postgres;
mod queries;
mod read_side;
mod rebuild;
mod sql_views;
mod sqlite;
mod takeover;
