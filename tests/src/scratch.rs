//! A folder that is removed with this process.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Removes the folder when its standard input closes. Servers that are being killed at the same time may
/// still write into it, so it tries a few times.
const JANITOR: &str =
    r#"cat > /dev/null; for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$0" && exit; sleep 0.1; done"#;

/// A temporary folder that is removed when it is dropped, and also when the process ends without dropping
/// it: statics are not dropped, and a killed process drops nothing.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// Waits at the other end of a pipe that closes with this process.
    janitor: Child,
}

impl Scratch {
    /// A new, empty folder.
    ///
    /// # Errors
    ///
    /// The operating system's, when the folder or its watchdog process cannot be created.
    pub fn new() -> io::Result<Self> {
        let path = tempfile::tempdir()?.keep();
        let janitor = Command::new("sh").arg("-c").arg(JANITOR).arg(&path).stdin(Stdio::piped()).spawn();
        match janitor {
            Ok(janitor) => Ok(Self { path, janitor }),
            Err(error) => {
                std::fs::remove_dir_all(&path)?;
                Err(error)
            }
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.janitor.stdin.take());
        // Its result does not matter any more.
        let _ = self.janitor.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_goes_with_its_owner() {
        let scratch = Scratch::new().expect("a folder");
        let path = scratch.path().to_owned();
        std::fs::write(path.join("file"), "content").expect("a file");
        drop(scratch);
        assert!(!path.exists());
    }
}
