//! Tests that need no server: everything runs in the process, or is read from the repository's own files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod added_twice;
mod aliases;
mod another_log;
mod brief_outage;
mod clock;
mod command_content;
mod derive_shapes;
mod error_texts;
mod faults;
mod floors;
mod long_ago;
mod operate;
mod patience;
mod repository;
mod retired;
mod same_command;
mod several_views;
mod stop;
mod together;
