//! The mark of a data directory that pg_rewind works on, or was cut short in.

use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;

use super::{PostgresError, files};
use crate::core::units::SystemId;

/// In a data directory while pg_rewind works on it, followed by the system identifier, since the control file may be
/// unreadable afterwards. A named pipe: pg_rewind removes all files, folders and links that the source does not have, and
/// passes over everything else. Nothing opens it.
const MARK: &str = "tamada.rewind.";

/// Before pg_rewind runs: whatever ends it, what it leaves behind is known for what it is.
pub(super) fn set(data_dir: &Path, id: SystemId) -> Result<(), PostgresError> {
    if is_unfinished(data_dir) {
        return Ok(());
    }
    let mark = data_dir.join(format!("{MARK}{id}"));
    nix::unistd::mkfifo(&mark, Mode::from_bits_truncate(0o600))
        .map_err(std::io::Error::from)
        .and_then(|()| files::sync_dir(data_dir))
        .map_err(|cause| PostgresError::failed(format!("make {}", mark.display()), cause))
}

/// Once pg_rewind has succeeded, or has ended without changing anything.
pub(super) fn remove(data_dir: &Path) -> Result<(), PostgresError> {
    let Some(mark) = mark_in(data_dir) else { return Ok(()) };
    files::remove_if_there(&mark)
        .and_then(|()| files::sync_dir(data_dir))
        .map_err(|cause| PostgresError::failed(format!("remove {}", mark.display()), cause))
}

/// The mark of a pg_rewind that was cut short in this data directory.
fn mark_in(data_dir: &Path) -> Option<PathBuf> {
    let names = std::fs::read_dir(data_dir).into_iter().flatten().flatten().map(|entry| entry.path());
    names
        .into_iter()
        .find(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(MARK.as_bytes())))
}

/// Whether pg_rewind was cut short in this data directory.
pub(super) fn is_unfinished(data_dir: &Path) -> bool {
    mark_in(data_dir).is_some()
}

/// The cluster whose data pg_rewind has left unfinished here.
pub(super) fn unfinished_of(data_dir: &Path) -> Option<SystemId> {
    let mark = mark_in(data_dir)?;
    mark.file_name()?.to_str()?.strip_prefix(MARK)?.parse().ok().map(SystemId)
}

/// Nothing but another pg_rewind, or a clone in its place, may be done with such a directory.
pub(super) fn refuse_unfinished(data_dir: &Path, cannot: &str) -> Result<(), PostgresError> {
    match is_unfinished(data_dir) {
        false => Ok(()),
        true => Err(PostgresError::Refused(format!(
            "cannot {cannot}: pg_rewind was interrupted in {}; it must be repeated, or the member cloned anew with \
             `tamada reinit`",
            data_dir.display()
        ))),
    }
}
