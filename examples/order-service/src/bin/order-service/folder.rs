//! The folder of the program's data.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

/// Makes the folder, unless it is there.
pub(crate) fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| unwritable(folder))
}

/// What to do about a folder that cannot be made or written. The path is shown from the root, since the default folder
/// is in the folder in which the program runs.
pub(crate) fn unwritable(folder: &Path) -> String {
    let path = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let shown = path.display();
    format!(
        "the folder {shown} cannot be written: give your user the right to write there, or name another folder with --data"
    )
}
