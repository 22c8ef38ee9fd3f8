//! Tests that read log lines: a program of their own, since the first statement of a process decides for all its tests
//! whether it is ever heard. So each of these begins with `Lines::collect()`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod minimal_permissions;
mod tracing;
