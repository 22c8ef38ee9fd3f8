//! Python with a NATS client, for readers in other languages.

use std::{ffi::OsStr, path::Path, process::Command};

use crate::wheel;

/// The version of `nats-py` that is fetched.
const CLIENT: &str = "2.16.0";

/// Runs a Python program that may use `nats-py`, and returns what it prints.
///
/// # Panics
///
/// When there is no Python or no client, with a text that says what to do about it; or when the program fails.
pub fn run<Argument: AsRef<OsStr>>(program: &Path, arguments: impl IntoIterator<Item = Argument>) -> String {
    let advice =
        "This test needs Python 3 with pip (Debian: apt-get install python3-pip), or uv beside python3";
    let client = wheel::fetch("nats-py", CLIENT).unwrap_or_else(|failure| {
        panic!("nats-py {CLIENT} could not be fetched from PyPI: {failure}.\n{advice}.")
    });
    let output = Command::new("python3")
        .arg(program)
        .args(arguments)
        .env("PYTHONPATH", client)
        .env("PYTHONIOENCODING", "utf-8")
        .output()
        .unwrap_or_else(|error| panic!("python3 does not run: {error}.\n{advice}."));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
    text(&output.stdout)
}
