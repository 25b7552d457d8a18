//! What root does for the agent before it gives up being root: directories that are there and belong to its user.
//!
//! Repairs what a fresh volume, an image of another user number or a tmpfs on /run needs, and nothing else. Each failure
//! is one warning: with few capabilities, or on a file system that is read-only on purpose, the agent may still do; when
//! it cannot, it says so.
//!
//! **Invariant:** whoever runs as the agent's user cannot make us give away a directory that is not its own: links are
//! followed only where root made them, and a data directory that is none is left alone.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid};

use super::environment::{self, Environment};
use super::log::{Level, Log};

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
}

/// Directories deeper than this do not occur in a data directory.
const DEPTH_MAX: usize = 64;

pub(super) fn prepare(environment: &Environment, owner: Owner, log: &mut Log) {
    let mut attempt = |what: &str, path: &Path, result: io::Result<()>| {
        if let Err(error) = result {
            log.write(Level::Warning, format_args!("cannot {what} {}: {error}", path.display()));
        }
    };
    // As in the official image: any --user may put its socket there, nobody may remove another's.
    let sockets = Path::new("/var/run/postgresql");
    attempt("prepare the directory of the sockets", sockets, directory(sockets, 0o3777, owner));
    let Some(data) = data_dir(environment) else { return };
    attempt("prepare the volume of", &data, volume(&data, owner));
    attempt("prepare the data directory", &data, data_directory(&data, owner));
}

fn data_dir(environment: &Environment) -> Option<PathBuf> {
    let named = ["PATRONI_POSTGRESQL_DATA_DIR", "PGDATA"].iter().find_map(|name| environment::value(environment, name));
    named.map(PathBuf::from).filter(|path| path.is_absolute())
}

fn directory(path: &Path, mode: u32, owner: Owner) -> io::Result<()> {
    if !path.exists() {
        DirBuilder::new().recursive(true).create(path)?;
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    if owner.owns(&fs::metadata(path)?) { Ok(()) } else { owner.take(&path.canonicalize()?) }
}

/// A fresh volume belongs to root, and the agent has to make directories beside the data directory. The volume's root
/// and what lies between it and the data directory are given to the agent, if they hold nothing else.
fn volume(data: &Path, owner: Owner) -> io::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let Some(mount) = volume_of(data, &mounts) else { return Ok(()) };
    let between: Vec<&Path> = data.ancestors().skip(1).take_while(|path| path.starts_with(&mount)).collect();
    // From the volume's root downwards: whatever is not there yet is made by `data_directory`.
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

/// The longest mount point that leads to `data` without being it or the root; from the fifth field of mountinfo.
fn volume_of(data: &Path, mountinfo: &str) -> Option<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let leading = points.filter(|point| data.starts_with(point) && point != data);
    leading.max_by_key(|point| point.components().count()).filter(|point| point.parent().is_some())
}

/// Space, tab, newline and backslash are octal in mountinfo.
fn unescape(field: &str) -> PathBuf {
    let pairs = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    PathBuf::from(pairs.iter().fold(field.to_owned(), |text, (escape, plain)| text.replace(escape, plain)))
}

/// Makes the data directory, or repairs owner and mode of the one that is there.
fn data_directory(data: &Path, owner: Owner) -> io::Result<()> {
    if fs::symlink_metadata(data).is_err() {
        return create(data, owner);
    }
    // A link made by the agent's user could lead anywhere.
    let leads_away =
        data.ancestors().any(|path| fs::symlink_metadata(path).is_ok_and(|file| file.is_symlink() && file.uid() != 0));
    let data = &data.canonicalize()?;
    let file = fs::metadata(data)?;
    if leads_away && !owner.owns(&file) {
        return Err(io::Error::other("it is reached through a link that is not root's; give it its owner yourself"));
    }
    if !owner.owns(&file) {
        if !data.join("PG_VERSION").exists() && holds_others(data, "".as_ref())? {
            return Err(io::Error::other("it holds files, but no PostgreSQL data; left as it is"));
        }
        give(data, &file, owner, DEPTH_MAX)?;
    }
    // PostgreSQL accepts 0700 and, since version 11, 0750.
    if file.mode() & 0o027 == 0 { Ok(()) } else { fs::set_permissions(data, Permissions::from_mode(0o700)) }
}

/// Each directory that is missing on the way becomes the agent's too.
fn create(data: &Path, owner: Owner) -> io::Result<()> {
    let missing: Vec<&Path> = data.ancestors().take_while(|path| !path.exists()).collect();
    for path in missing.into_iter().rev() {
        let mode = if path == data { 0o700 } else { 0o755 };
        DirBuilder::new().mode(mode).create(path)?;
        owner.take(path)?;
    }
    Ok(())
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

    const MOUNTS: &str = "\
        22 1 0:20 / / rw - overlay overlay rw\n\
        23 22 0:21 / /proc rw - proc proc rw\n\
        24 22 0:22 / /var/lib/postgresql rw - ext4 /dev/sdb rw\n\
        25 22 0:23 / /mnt/my\\040disk rw - ext4 /dev/sdc rw\n";

    #[test]
    fn the_volume_is_the_nearest_mount_above_the_data() {
        let volume = |data: &str| volume_of(Path::new(data), MOUNTS);
        assert_eq!(volume("/var/lib/postgresql/17/docker"), Some("/var/lib/postgresql".into()));
        assert_eq!(volume("/mnt/my disk/data"), Some("/mnt/my disk".into()));
        assert_eq!(volume("/srv/data"), None, "the root file system is nobody's volume");
        assert_eq!(volume("/var/lib/postgresql"), None, "the data directory itself is the mount point");
    }
}
