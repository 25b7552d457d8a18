//! A name for a user that has none (`--user 12345`): initdb insists on one and takes it from the system's list of users.
//! Where nss_wrapper is installed, initdb is shown a list that holds just this user. Nothing else needs it.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{getegid, geteuid};

use super::programs::Run;

const LIBRARY: &str = "libnss_wrapper.so";

/// The program with a list of users that has this one, and what must stay open until it has ended. Where the library is
/// not installed the program is left to say itself what it misses.
pub(super) fn with_user_entry(run: Run) -> std::io::Result<(Run, Vec<OwnedFd>)> {
    let Some(library) = library() else { return Ok((run, Vec::new())) };
    let (uid, gid) = (geteuid(), getegid());
    let users = in_memory(c"passwd", &format!("postgres:x:{uid}:{gid}:PostgreSQL:/:/bin/false\n"))?;
    let groups = in_memory(c"group", &format!("postgres:x:{gid}:\n"))?;
    let path = |list: &OwnedFd| format!("/proc/self/fd/{}", list.as_raw_fd());
    let run = run
        .env("LD_PRELOAD", library)
        .env("NSS_WRAPPER_PASSWD", path(&users))
        .env("NSS_WRAPPER_GROUP", path(&groups))
        .keeping(users.as_raw_fd())
        .keeping(groups.as_raw_fd());
    Ok((run, vec![users, groups]))
}

/// In the folder that Debian names after the machine's architecture, or in the common one.
fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    folders
        .chain([PathBuf::from("/usr/lib64"), PathBuf::from("/usr/lib")])
        .map(|dir| dir.join(LIBRARY))
        .find(|path| path.is_file())
}

fn in_memory(name: &CStr, text: &str) -> std::io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    Ok(file.into())
}
