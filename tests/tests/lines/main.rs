//! Tests that read log lines. They are a program of their own, because the first statement of a process decides for all
//! its tests whether it is ever logged. So each test begins with `Lines::collect()`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod dead_letters;
mod minimal_permissions;
mod outages;
mod stores;
mod tracing;
mod waiting;
