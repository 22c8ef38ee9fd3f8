//! Whether the folder of a database file can be written. SQLite itself says only that it cannot open the file.

use std::{fs, io, path::Path, process};

/// Why no file can be created in a folder; `None` if one can. SQLite creates files beside its database.
pub(crate) fn why_unwritable(folder: &Path) -> Option<io::Error> {
    // Two calls of one process may share the file: each only needs to open it.
    let file = folder.join(format!(".cqrs-{}", process::id()));
    let created = fs::File::options().write(true).create(true).truncate(false).open(&file);
    // Another call may have removed it.
    let _ = fs::remove_file(&file);
    created.err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_tried_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        assert!(why_unwritable(folder.path()).is_none());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let missing = why_unwritable(&folder.path().join("missing")).unwrap();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(why_unwritable(&file).unwrap().kind(), io::ErrorKind::NotADirectory);
    }
}
