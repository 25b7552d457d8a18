//! Whether a folder is empty as a data directory is.

use std::path::Path;

pub(super) enum Contents {
    /// Absent, or nothing but hidden files and `lost+found`.
    Empty,
    Something,
    Unreadable(std::io::Error),
}

pub(super) fn contents(dir: &Path) -> Contents {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Contents::Empty,
        Err(error) => return Contents::Unreadable(error),
    };
    for entry in entries {
        match entry {
            Err(error) => return Contents::Unreadable(error),
            Ok(entry) if is_ignored(&entry.file_name()) => (),
            Ok(_) => return Contents::Something,
        }
    }
    Contents::Empty
}

/// What cannot be read counts as content.
pub(super) fn has_content(dir: &Path) -> bool {
    !matches!(contents(dir), Contents::Empty)
}

/// What does not count as content of a data directory: file systems and mount helpers leave such things.
pub(super) fn is_ignored(name: &std::ffi::OsStr) -> bool {
    name == "lost+found" || name.as_encoded_bytes().starts_with(b".")
}
