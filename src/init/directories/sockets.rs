//! The directory of PostgreSQL's sockets. Its path is fixed, so whoever can write above it could lead root elsewhere: the
//! way is walked by descriptors, and only the directory that was looked at is given away.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::fchown;

use super::Owner;

/// As in the official image: any --user may put its socket there, nobody may remove another's.
const MODE: u32 = 0o3777;

const LINKS_MAX: usize = 8;

pub(super) fn prepare(path: &Path, owner: Owner) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = walk(parent)?;
    let is_new = match mkdirat(&parent, name, Mode::from_bits_truncate(0o700)) {
        Ok(()) => true,
        Err(Errno::EEXIST) => false,
        Err(error) => return Err(error.into()),
    };
    let directory = match openat(&parent, name, flags(OFlag::O_RDONLY), Mode::empty()) {
        Err(Errno::ENOTDIR | Errno::ELOOP) => return Err(io::Error::other("it is a link or a file; left as it is")),
        other => other?,
    };
    if is_new {
        fchmod(&directory, Mode::from_bits_truncate(MODE))?;
    }
    if fstat(&directory)?.st_uid == owner.uid.as_raw() {
        return Ok(());
    }
    if !is_new && !is_roots(&fstat(&parent)?) {
        return Err(io::Error::other("others than root can replace it; left as it is"));
    }
    Ok(fchown(&directory, Some(owner.uid), Some(owner.gid))?)
}

fn flags(access: OFlag) -> OFlag {
    access | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

/// Opens a directory; makes what is missing of it; follows links of root's alone (`/var/run` is one).
fn walk(path: &Path) -> io::Result<OwnedFd> {
    let open_root = || open("/", flags(OFlag::O_PATH), Mode::empty());
    let mut folder = open_root()?;
    let mut names: VecDeque<OsString> = names(path).collect();
    let mut links = 0;
    while let Some(name) = names.pop_front() {
        let name = name.as_os_str();
        match openat(&folder, name, flags(OFlag::O_PATH), Mode::empty()) {
            Ok(next) => folder = next,
            Err(Errno::ENOENT) => {
                mkdirat(&folder, name, Mode::from_bits_truncate(0o755))?;
                folder = openat(&folder, name, flags(OFlag::O_PATH), Mode::empty())?;
            }
            Err(Errno::ENOTDIR | Errno::ELOOP) if links < LINKS_MAX => {
                links += 1;
                let target = link(&folder, name)?;
                if Path::new(&target).is_absolute() {
                    folder = open_root()?;
                }
                for name in self::names(Path::new(&target)).collect::<Vec<_>>().into_iter().rev() {
                    names.push_front(name);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(folder)
}

fn names(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// Where a link of root's leads.
fn link(folder: &OwnedFd, name: &OsStr) -> io::Result<OsString> {
    let file = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let is_link = SFlag::from_bits_truncate(file.st_mode) & SFlag::S_IFMT == SFlag::S_IFLNK;
    if !is_link || file.st_uid != 0 || !is_roots(&fstat(folder)?) {
        return Err(io::Error::other(format!("{} on the way is no directory and no link of root's", name.display())));
    }
    Ok(readlinkat(folder, name)?)
}

/// Whether nobody but root can put something else in the place of root's entries of this directory.
fn is_roots(directory: &FileStat) -> bool {
    const OTHERS_WRITE: u32 = 0o022;
    const STICKY: u32 = 0o1000;
    directory.st_uid == 0 && (directory.st_mode & OTHERS_WRITE == 0 || directory.st_mode & STICKY != 0)
}
