//! Kills everything below PID 1 at once.
//!
//! Backends call setsid, so a signal to the postmaster's process group does not reach them. PID 1 uses `kill(-1)`: the
//! kernel signals the whole namespace but the caller, under the lock that fork takes too. When not PID 1, this process is a
//! child subreaper, so all descendants can be found by walking /proc until none is left.
//!
//! **Invariant:** nothing here waits or allocates; a process that cannot be killed is skipped.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};

use super::sys;

/// Whether this process is PID 1 of its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// PID 1 of its namespace.
    Init,
    /// A child subreaper: orphaned descendants are reparented to it.
    SubReaper,
}

impl Place {
    pub(super) fn find() -> Self {
        if getpid() == Pid::from_raw(1) { Place::Init } else { Place::SubReaper }
    }
}

/// Walks of the process tree; each kills all that it finds, so a few are enough unless somebody forks without end.
const WALKS_MAX: u32 = 100;

pub(super) struct Fence {
    place: Place,
    /// Set when the agent runs as another user than we do.
    uid: Option<u32>,
    /// Opened before the loop: at the time of need there may be no descriptor to be had.
    processes: File,
}

impl Fence {
    pub(super) fn new(place: Place, uid: Option<u32>) -> std::io::Result<Self> {
        Ok(Fence { place, uid, processes: File::open("/proc")? })
    }

    pub(super) fn kill_all(&self) {
        self.kill();
        // `kill(-1)` reports success when it reached anybody, so the second attempt does not depend on its result.
        self.as_user(|| self.kill());
    }

    /// Sends a signal to the process behind a pidfd. What cannot be signalled has ended, or meets the fence later.
    pub(super) fn signal(&self, process: BorrowedFd<'_>, signal: Signal) {
        if sys::pidfd_signal(process, signal as i32).is_err() {
            self.as_user(|| drop(sys::pidfd_signal(process, signal as i32)));
        }
    }

    /// Kills a child that has not been reaped, so that its number is still its own.
    pub(super) fn kill_child(&self, pid: i32) {
        if kill(Pid::from_raw(pid), Signal::SIGKILL).is_err() {
            self.as_user(|| {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            });
        }
    }

    /// Root without CAP_KILL, as in a container with few capabilities, signals other users' processes in vain.
    fn as_user(&self, act: impl Fn()) {
        if let Some(uid) = self.uid
            && sys::set_effective_uid(uid).is_ok()
        {
            act();
            // Cannot fail: the real uid is still root's.
            let _ = sys::set_effective_uid(0);
        }
    }

    fn kill(&self) {
        match self.place {
            Place::Init => {
                // Fails only when there is nobody to be killed.
                let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
            }
            Place::SubReaper => {
                for _ in 0..WALKS_MAX {
                    if self.kill_descendants() == 0 {
                        return;
                    }
                }
            }
        }
    }

    /// One walk; returns how many processes were killed that had not been killed before.
    fn kill_descendants(&self) -> usize {
        let mut killed = 0;
        let mut buffer = [0; 4096];
        if nix::unistd::lseek(&self.processes, 0, nix::unistd::Whence::SeekSet).is_err() {
            return 0;
        }
        while let Ok(length @ 1..) = sys::directory_entries(self.processes.as_fd(), &mut buffer) {
            for pid in pids(&buffer[..length]) {
                if is_descendant(pid) && kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok() {
                    killed += 1;
                }
            }
        }
        killed
    }
}

/// The process numbers among a directory's entries (`struct linux_dirent64`: the record's length at 16, the name at 19).
fn pids(mut entries: &[u8]) -> impl Iterator<Item = i32> + '_ {
    std::iter::from_fn(move || {
        loop {
            let length = usize::from(u16::from_ne_bytes(*entries.get(16..)?.first_chunk()?));
            let (entry, rest) = entries.split_at_checked(length)?;
            entries = rest;
            let name = entry.get(19..)?.split(|byte| *byte == 0).next()?;
            if let Some(pid) = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok()) {
                return Some(pid);
            }
        }
    })
}

/// Whether a process that still runs has us among its ancestors. A zombie has nothing left to be killed.
fn is_descendant(pid: i32) -> bool {
    const DEPTH_MAX: usize = 1000;
    let us = getpid().as_raw();
    let Some((state, mut parent)) = stat(pid) else { return false };
    if state == b'Z' || state == b'X' {
        return false;
    }
    for _ in 0..DEPTH_MAX {
        match parent {
            0 | 1 => return parent == us,
            _ if parent == us => return true,
            other => match stat(other) {
                Some((_, above)) => parent = above,
                // It ended meanwhile, and its children have become ours: the next walk sees them.
                None => return false,
            },
        }
    }
    false
}

/// The effective user of a process, from `/proc/PID/status`.
pub(super) fn user_of(pid: u32) -> Option<u32> {
    let mut content = [0; 512];
    let length = read_of(i32::try_from(pid).ok()?, "status", &mut content)?;
    parse_user(&content[..length])
}

fn parse_user(content: &[u8]) -> Option<u32> {
    let line = content.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:\t"))?;
    std::str::from_utf8(line.split(|byte| *byte == b'\t').nth(1)?).ok()?.parse().ok()
}

/// State and parent of a process, from `/proc/PID/stat`. The name in it may hold anything, hence the search for its end.
fn stat(pid: i32) -> Option<(u8, i32)> {
    let mut content = [0; 256];
    let length = read_of(pid, "stat", &mut content)?;
    parse_stat(&content[..length])
}

/// The beginning of a file that the kernel has of a process.
fn read_of(pid: i32, file: &str, content: &mut [u8]) -> Option<usize> {
    let mut path = [0; 32];
    let mut rest = &mut path[..];
    write!(rest, "/proc/{pid}/{file}").ok()?;
    let free = rest.len();
    let path = std::str::from_utf8(&path[..path.len() - free]).ok()?;
    File::open(path).ok()?.read_at(content, 0).ok()
}

fn parse_stat(content: &[u8]) -> Option<(u8, i32)> {
    let end = content.iter().rposition(|byte| *byte == b')')?;
    let mut words = content.get(end + 2..)?.split(|byte| *byte == b' ');
    let state = *words.next()?.first()?;
    let parent = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    Some((state, parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_state_and_parent_past_any_name() {
        assert_eq!(parse_stat(b"12 (postgres) S 7 12 12 0 -1"), Some((b'S', 7)));
        assert_eq!(parse_stat(b"12 (a) R 1 (b) Z 34 12 12"), Some((b'Z', 34)));
        assert_eq!(parse_stat(b"12 (cut off"), None);
    }

    #[test]
    fn finds_itself_in_the_directory_of_processes() {
        let directory = File::open("/proc").expect("mounted");
        let us = getpid().as_raw();
        let mut buffer = [0; 4096];
        let mut found = false;
        while let Ok(length @ 1..) = sys::directory_entries(directory.as_fd(), &mut buffer) {
            found |= pids(&buffer[..length]).any(|pid| pid == us);
        }
        assert!(found);
        let parent = std::os::unix::process::parent_id();
        assert_eq!(stat(us).map(|(_, parent)| parent), i32::try_from(parent).ok());
        assert_eq!(user_of(us.cast_unsigned()), Some(nix::unistd::geteuid().as_raw()));
    }
}
