//! What root does for the agent before it gives up being root: directories that are there and belong to its user.
//!
//! Repairs what a fresh volume, an image of another user number or a tmpfs on /run needs, and nothing else. Each failure
//! is one warning, unless the agent's user can do the rest itself: with few capabilities it often can.
//!
//! **Invariant:** whoever runs as the agent's user cannot make us give away a directory that is not its own: links are
//! followed only where root made them, and a directory that holds somebody else's files is left alone.

mod sockets;

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, Gid, Uid, faccessat};

use super::environment::{self, Environment};
use super::log::{Level, Log};
use super::sys;
use crate::mounts::{self, Mount};

#[derive(Clone, Copy)]
pub(super) struct Owner {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
}

impl Owner {
    fn owns(self, file: &Metadata) -> bool {
        file.uid() == self.uid.as_raw()
    }

    fn take(self, path: &Path) -> io::Result<()> {
        lchown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
    }

    /// Whether the agent will do without us.
    fn manages(self, purpose: Purpose, path: &Path) -> bool {
        if sys::set_effective_uid(self.uid.as_raw()).is_err() {
            return false;
        }
        let existing = path.ancestors().find(|path| path.exists());
        let can = match purpose {
            Purpose::Data if existing == Some(path) => fs::metadata(path).is_ok_and(|file| self.owns(&file)),
            Purpose::Data | Purpose::Sockets => existing.is_some_and(|path| {
                faccessat(AT_FDCWD, path, AccessFlags::W_OK | AccessFlags::X_OK, AtFlags::AT_EACCESS).is_ok()
            }),
        };
        // Cannot fail: the real uid is still root's.
        let _ = sys::set_effective_uid(0);
        can
    }
}

/// What the agent needs a directory for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// To make sockets in it.
    Sockets,
    /// To own it, as PostgreSQL wants of a data directory.
    Data,
}

/// Directories deeper than this do not occur in a data directory.
const DEPTH_MAX: usize = 64;

/// `wal_folders`: where the configuration puts the WAL outside of the data directory.
pub(super) fn prepare(environment: &Environment, wal_folders: &[PathBuf], owner: Owner, log: &mut Log) {
    let mut attempt = |purpose: Purpose, what: &str, path: &Path, result: io::Result<()>| {
        let Err(error) = result else { return };
        let is_needless = error.kind() == io::ErrorKind::PermissionDenied && owner.manages(purpose, path);
        let level = if is_needless { Level::Debug } else { Level::Warning };
        log.write(level, format_args!("cannot prepare the {what} {}: {error}", path.display()));
    };
    let sockets = Path::new("/var/run/postgresql");
    attempt(Purpose::Sockets, "directory of the sockets", sockets, sockets::prepare(sockets, owner));
    if let Some(data) = data_dir(environment) {
        let prepared = own_directory(&data, owner, holds_only_data).and_then(|()| volume(&data, owner));
        attempt(Purpose::Data, "data directory", &data, prepared);
    }
    for wal in wal_folders.iter().filter(|path| path.is_absolute()) {
        let prepared = own_directory(wal, owner, holds_only_wal).and_then(|()| volume(wal, owner));
        attempt(Purpose::Data, "WAL directory", wal, prepared);
    }
}

fn data_dir(environment: &Environment) -> Option<PathBuf> {
    let named = ["PATRONI_POSTGRESQL_DATA_DIR", "PGDATA"].iter().find_map(|name| environment::value(environment, name));
    named.map(PathBuf::from).filter(|path| path.is_absolute())
}

/// A fresh volume belongs to root, and the agent has to make directories beside the data directory. The volume's root
/// and what lies between it and the data directory are given to the agent, if they hold nothing else.
fn volume(data: &Path, owner: Owner) -> io::Result<()> {
    let mounts = mounts::read()?;
    let Some(mount) = volume_of(data, &mounts) else { return Ok(()) };
    let between: Vec<&Path> = data.ancestors().skip(1).take_while(|path| path.starts_with(&mount)).collect();
    // From the volume's root downwards: what was missing is made by now.
    let mut child = data.strip_prefix(&mount).map_err(io::Error::other)?.components();
    for path in between.into_iter().rev() {
        let Some(next) = child.next() else { break };
        let Ok(file) = fs::symlink_metadata(path) else { break };
        if owner.owns(&file) {
            continue;
        }
        if !file.is_dir() || holds_others(path, next.as_os_str())? {
            break;
        }
        owner.take(path)?;
    }
    Ok(())
}

fn holds_others(path: &Path, ours: &std::ffi::OsStr) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if name != ours && name != "lost+found" && !name.as_encoded_bytes().starts_with(b".") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The nearest mount point above `data`, unless it is the root.
fn volume_of(data: &Path, mounts: &[Mount]) -> Option<PathBuf> {
    let above = mounts::holding(mounts, data.parent()?)?;
    Some(above.point.clone()).filter(|point| point.parent().is_some())
}

fn holds_only_data(folder: &Path) -> io::Result<bool> {
    Ok(folder.join("PG_VERSION").exists() || !holds_others(folder, "".as_ref())?)
}

/// Whether nothing but what PostgreSQL puts into `pg_wal` is in a directory.
fn holds_only_wal(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.as_encoded_bytes();
        let is_segment = name.get(..24).is_some_and(|start| start.iter().all(u8::is_ascii_hexdigit));
        let is_other = [&b"archive_status"[..], b"summaries", b"lost+found"].contains(&name);
        if !(is_segment || is_other || name.ends_with(b".history") || name.starts_with(b".")) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes a directory of the agent's own, or repairs owner and mode of the one that is there. One of somebody else is left
/// alone unless `is_postgresqls` says that its files are PostgreSQL's, or that there are none.
fn own_directory(path: &Path, owner: Owner, is_postgresqls: impl Fn(&Path) -> io::Result<bool>) -> io::Result<()> {
    if fs::symlink_metadata(path).is_err() {
        return create(path, owner);
    }
    // A link made by the agent's user could lead anywhere.
    let leads_away =
        path.ancestors().any(|path| fs::symlink_metadata(path).is_ok_and(|file| file.is_symlink() && file.uid() != 0));
    let path = &path.canonicalize()?;
    let file = fs::metadata(path)?;
    if leads_away && !owner.owns(&file) {
        return Err(io::Error::other("it is reached through a link that is not root's; give it its owner yourself"));
    }
    if !owner.owns(&file) && !is_postgresqls(path)? {
        return Err(io::Error::other("it holds files that are not PostgreSQL's; left as it is"));
    }
    // PostgreSQL accepts 0700 and, since version 11, 0750. Before the change of owner, which needs fewer capabilities.
    if file.mode() & 0o027 != 0 {
        fs::set_permissions(path, Permissions::from_mode(0o700))?;
    }
    if owner.owns(&file) { Ok(()) } else { give(path, &file, owner, DEPTH_MAX) }
}

/// Each directory that is missing on the way becomes the agent's too, the innermost first: without CAP_DAC_OVERRIDE root
/// can make nothing in a directory that is another's.
fn create(path: &Path, owner: Owner) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
    for missing in missing.iter().rev() {
        let mode = if *missing == path { 0o700 } else { 0o755 };
        DirBuilder::new().mode(mode).create(missing)?;
    }
    let given = missing.iter().try_for_each(|path| owner.take(path));
    if given.is_err() {
        // Without CAP_CHOWN: the agent may be able to make it itself, as long as root's is not in the way.
        missing.iter().try_for_each(fs::remove_dir)?;
    }
    given
}

/// Gives a tree to the owner, itself last: a repair that was cut short is begun anew at the next start.
fn give(path: &Path, file: &Metadata, owner: Owner, depth_max: usize) -> io::Result<()> {
    if file.is_dir() {
        let Some(depth_max) = depth_max.checked_sub(1) else {
            return Err(io::Error::other(format!("{} lies too deep", path.display())));
        };
        for entry in fs::read_dir(path)? {
            let entry = entry?.path();
            give(&entry, &fs::symlink_metadata(&entry)?, owner, depth_max)?;
        }
    }
    if owner.owns(file) { Ok(()) } else { owner.take(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_volume_is_the_nearest_mount_above_the_data() {
        let mount = |point: &str| Mount { point: point.into(), root: "/".into(), kind: "ext4".to_owned() };
        let mounts = ["/", "/proc", "/var/lib/postgresql", "/mnt/my disk"].map(mount);
        let volume = |data: &str| volume_of(Path::new(data), &mounts);
        assert_eq!(volume("/var/lib/postgresql/17/docker"), Some("/var/lib/postgresql".into()));
        assert_eq!(volume("/mnt/my disk/data"), Some("/mnt/my disk".into()));
        assert_eq!(volume("/srv/data"), None, "the root file system is nobody's volume");
        assert_eq!(volume("/var/lib/postgresql"), None, "the data directory itself is the mount point");
    }
}
