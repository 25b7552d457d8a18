//! What a data directory holds, what its links lead to, and the removal of either.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::postgres::contents::is_ignored;

/// Folders outside a data directory that its links lead to: WAL, tablespaces.
pub(in crate::postgres) fn outside_folders(data_dir: &Path) -> Vec<PathBuf> {
    links_of(data_dir).iter().filter_map(|link| fs::read_link(link).ok()).filter(|to| to.is_absolute()).collect()
}

/// The links that PostgreSQL makes in a data directory.
pub(super) fn links_of(data_dir: &Path) -> Vec<PathBuf> {
    let tablespaces = content(&data_dir.join("pg_tblspc")).unwrap_or_default();
    let tablespaces = tablespaces.iter().map(|name| data_dir.join("pg_tblspc").join(name));
    std::iter::once(data_dir.join("pg_wal")).chain(tablespaces).filter(|path| path.is_symlink()).collect()
}

/// The names of what counts as content, as for an empty directory.
pub(super) fn content(dir: &Path) -> io::Result<Vec<OsString>> {
    Ok(names(dir)?.into_iter().filter(|name| !is_ignored(name)).collect())
}

/// The names of what does not.
pub(super) fn ignored(dir: &Path) -> io::Result<Vec<OsString>> {
    Ok(names(dir)?.into_iter().filter(|name| is_ignored(name)).collect())
}

fn names(dir: &Path) -> io::Result<Vec<OsString>> {
    fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
}

pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

pub(super) fn remove_content_of(dir: &Path) -> io::Result<()> {
    let names = match content(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        names => names?,
    };
    let mut names = names;
    names.sort_by_key(|name| name != "global");
    names.iter().map(|name| remove_tree(&dir.join(name))).fold(Ok(()), io::Result::and)
}

/// Removes a file, a link or a folder with all in it; what is not there, or goes meanwhile, is fine.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
