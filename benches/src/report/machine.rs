//! The machine of the results.

use std::{fs, process::Command};

use cqrs_core::{Clock as _, port::SystemClock};
use serde::{Deserialize, Serialize};

/// The machine, the versions of the programs, and the load before the run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) time: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory: String,
    pub(crate) kernel: String,
    pub(crate) rustc: String,
    pub(crate) client: String,
    /// The processes that were running or runnable in the last minute before.
    pub(crate) load_before: f64,
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
}

impl Machine {
    pub(crate) fn here(rounds: u32, seconds: f64) -> Self {
        let unknown = || "unknown".to_owned();
        let load = read("/proc/loadavg");
        let load = load.split(' ').next().and_then(|load| load.parse().ok());
        Self {
            time: SystemClock.now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            processor: field("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: field("/proc/meminfo", "MemTotal").unwrap_or_else(unknown),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            rustc: rustc().unwrap_or_else(unknown),
            client: format!("async-nats {}", locked("async-nats").unwrap_or_else(unknown)),
            load_before: load.unwrap_or(f64::NAN),
            rounds,
            seconds,
        }
    }
}

fn read(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

/// The value of the first line `name : value`.
fn field(file: &str, name: &str) -> Option<String> {
    let text = read(file);
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn rustc() -> Option<String> {
    let output = Command::new("rustc").arg("--version").output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// The version of a package that this program was built with.
fn locked(package: &str) -> Option<String> {
    const LOCK: &str = include_str!("../../../Cargo.lock");
    let (_, rest) = LOCK.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    Some(rest.split_once('"')?.0.to_owned())
}
