//! What PID 1 reads of the configuration.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Source;
use crate::config::Config;

/// Where the configuration puts WAL outside of the data directory. For PID 1, which runs as root: a file that others can
/// write says nothing to it, and neither does a configuration that is wrong, which the agent will tell.
pub fn wal_folders(environment: &[(OsString, OsString)], arguments: &[OsString]) -> Vec<PathBuf> {
    let file = arguments.get(1).map(PathBuf::from);
    if file.as_ref().is_some_and(|file| !is_roots(file).unwrap_or(false)) {
        return Vec::new();
    }
    // The agent looks at certificates: PID 1 stays small without OpenSSL.
    let host = Source::host(|_, _| Vec::new());
    let read = Config::from_environment(environment.iter().cloned(), file.as_deref(), &host);
    let Ok(config) = read else { return Vec::new() };
    let options = config.bootstrap.initdb.iter().chain(&config.postgres.basebackup);
    options.filter_map(|option| option.strip_prefix("--waldir=")).map(PathBuf::from).collect()
}

/// Whether nobody but root can have written a file, or the files of a folder.
fn is_roots(file: &Path) -> std::io::Result<bool> {
    const OTHERS_WRITE: u32 = 0o022;
    const STICKY: u32 = 0o1000;
    let file = file.canonicalize()?;
    let within = if file.is_dir() { std::fs::read_dir(&file)?.collect::<Result<_, _>>()? } else { Vec::new() };
    let paths = within.iter().map(std::fs::DirEntry::path).chain(file.ancestors().map(Path::to_owned));
    for path in paths {
        let found = path.metadata()?;
        let others = found.mode() & OTHERS_WRITE != 0 && !(found.is_dir() && found.mode() & STICKY != 0);
        if found.uid() != 0 || others {
            return Ok(false);
        }
    }
    Ok(true)
}
