//! Files that must never be seen half written, and the few questions about folders that several callers have.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Which writing of a file was read: its inode, its time of change in seconds and nanoseconds.
pub(super) type Stamp = (u64, i64, i64);

/// `None`: it is absent, or its folder is unreadable.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.ino(), file.mtime(), file.mtime_nsec()))
}

/// A disk may take seconds to make something durable. The loop's thread has a lease to renew meanwhile, so nothing is
/// written on it; in the agent's process that is the main thread.
fn must_not_be_the_loop() {
    debug_assert_ne!(std::thread::current().name(), Some("main"), "a file is written on the loop's thread");
}

/// Replaces a file as a whole: written beside it, made durable, renamed. The permissions are set as given.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    must_not_be_the_loop();
    let beside = beside(path, "tmp");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&beside)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    sync_parent(path)
}

/// The same, unless the file holds exactly this already. Says whether it was written.
pub(crate) fn replace_if_different(path: &Path, content: &[u8], mode: u32) -> io::Result<Written> {
    if std::fs::read(path).is_ok_and(|old| old == content) {
        return Ok(Written::No);
    }
    replace(path, content, mode).map(|()| Written::Yes)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Yes,
    No,
}

/// `name.suffix` in the same folder.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    must_not_be_the_loop();
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir)?.sync_all()
}

/// Removes a file that may not be there.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The permissions of new files in a data directory: readable by the group where the directory is.
pub(crate) fn file_mode(data_dir: &Path) -> u32 {
    let group = std::fs::metadata(data_dir).is_ok_and(|data| data.permissions().mode() & 0o050 == 0o050);
    if group { 0o640 } else { 0o600 }
}

pub(super) fn is_readable(file: &Path) -> bool {
    nix::unistd::access(file, nix::unistd::AccessFlags::R_OK).is_ok()
}

/// Whether files may be made and removed in this folder.
pub(crate) fn is_writable(dir: &Path) -> bool {
    nix::unistd::access(dir, nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK).is_ok()
}
