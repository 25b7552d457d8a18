//! Processes of the operating system, seen through `/proc` and watched through pidfds.
//!
//! A pidfd names one process for ever: unlike a number it never comes to mean another one, and it becomes readable the
//! moment its process ends, even as a zombie that nobody has reaped yet. Nothing here knows PostgreSQL.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::kernel;
use crate::boottime;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::Signal;

/// As many as the kernel follows.
const LINKS_MAX: usize = 40;

/// One process, for as long as this value lives: the number is not reused for another one meanwhile.
#[derive(Debug)]
pub(crate) struct Process {
    pid: i32,
    fd: OwnedFd,
}

impl Process {
    /// `None`: there is no such process, it is a zombie, or it cannot be told.
    pub(crate) fn open(pid: i32) -> Option<Self> {
        Process::find(pid).ok().flatten()
    }

    /// `None`: there is no such process, it is a zombie, or the number is that of a thread. An error says that it cannot be told, as with no descriptor
    /// left.
    pub(crate) fn find(pid: i32) -> io::Result<Option<Self>> {
        match kernel::pidfd_open(pid) {
            Ok(fd) => Ok(Some(Process { pid, fd }).filter(Process::is_alive)),
            // A thread is refused as invalid, by newer kernels as not there.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EINVAL | libc::ENOENT)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A child of ours that was not reaped yet, whether or not it has ended.
    pub(crate) fn of_child(pid: i32) -> io::Result<Self> {
        Ok(Process { pid, fd: kernel::pidfd_open(pid)? })
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Process { pid: self.pid, fd: self.fd.try_clone()? })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// A zombie is not alive.
    pub(crate) fn is_alive(&self) -> bool {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        matches!(nix::poll::poll(&mut fds, PollTimeout::ZERO), Ok(0))
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&self) -> io::Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        let fd = kernel::watch(self.fd.try_clone()?)?;
        fd.readable().await?.retain_ready();
        Ok(())
    }

    /// Whether it ends within a moment. Blocks as long; for what was killed.
    pub(crate) fn ends_at_once(&self) -> bool {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        matches!(nix::poll::poll(&mut fds, PollTimeout::from(10_u8)), Ok(1))
    }

    /// Waits until it has ended, but not longer than `limit`.
    pub(crate) async fn ended_within(&self, limit: Duration) -> bool {
        matches!(tokio::time::timeout(limit, self.ended()).await, Ok(Ok(()))) || !self.is_alive()
    }

    /// An error means that it has ended already or belongs to another user.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        kernel::pidfd_send_signal(self.fd.as_raw_fd(), signal)
    }
}

/// The pids of all processes that can be seen.
pub(crate) fn all_pids() -> io::Result<Vec<i32>> {
    let entries = std::fs::read_dir("/proc")?.collect::<io::Result<Vec<_>>>()?;
    Ok(entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// The executable, without the mark of one that was replaced on disk meanwhile.
pub(crate) fn executable(pid: i32) -> Option<PathBuf> {
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let text = path.to_str()?;
    Some(PathBuf::from(text.strip_suffix(" (deleted)").unwrap_or(text)))
}

/// The command's name, at most 15 bytes of it; told of other users' processes too.
pub(crate) fn command_name(pid: i32) -> Option<String> {
    Some(std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end_matches('\n').to_owned())
}

/// A folder, whatever path leads to it: a process of another container may have one of the same path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Folder {
    device: u64,
    inode: u64,
}

impl Folder {
    pub(crate) fn at(path: &Path) -> Option<Self> {
        Folder::find(path).ok().flatten()
    }

    /// `None`: there is none. An error says that it cannot be told.
    pub(crate) fn find(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::metadata(path) {
            Ok(found) => Ok(Some(Folder { device: found.dev(), inode: found.ino() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

pub(crate) fn working_directory(pid: i32) -> Option<Folder> {
    Folder::at(Path::new(&format!("/proc/{pid}/cwd")))
}

/// Whether it works in a directory that had this path and was removed meanwhile.
pub(crate) fn works_in_removed(pid: i32, path: &Path) -> bool {
    let Ok(link) = std::fs::read_link(format!("/proc/{pid}/cwd")) else { return false };
    link.to_str().and_then(|link| link.strip_suffix(" (deleted)")).is_some_and(|link| Path::new(link) == path)
}

/// Whether a path means the same to it as to us.
pub(crate) fn sees_our_files(pid: i32) -> bool {
    let names_of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    names_of(&pid.to_string()).is_some_and(|names| Some(names) == names_of("self"))
}

/// The arguments, the program's name first. A process that has set its title has that as its only one.
pub(crate) fn arguments(pid: i32) -> Vec<String> {
    let Ok(raw) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return Vec::new() };
    let text = String::from_utf8_lossy(&raw);
    text.trim_end_matches('\0').split('\0').map(str::to_owned).collect()
}

/// Whether the kernel's `syncfs` reports write errors (5.8 and later, `syncfs(2)`). Unknown counts as no.
pub(crate) fn syncfs_reports_errors() -> bool {
    let Ok(release) = std::fs::read_to_string("/proc/sys/kernel/osrelease") else { return false };
    let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(5), Some(8))
}

/// The fields of `/proc/PID/stat` after the command's name: state, parent, …
fn stat_fields(pid: i32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, parentheses and spaces too; what follows the last parenthesis does not.
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// Whether it runs as our own user, by its effective user ID.
pub(crate) fn is_our_users(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let effective = users.and_then(|users| users.split_whitespace().nth(1)?.parse().ok());
    effective == Some(nix::unistd::geteuid().as_raw())
}

pub(crate) fn parent(pid: i32) -> Option<i32> {
    stat_fields(pid)?.get(1)?.parse().ok()
}

/// When it started, in seconds since 1970.
pub(crate) fn started_at(pid: i32) -> Option<i64> {
    let ticks: u64 = stat_fields(pid)?.get(19)?.parse().ok()?;
    let per_second = u64::try_from(kernel::clock_ticks()).ok()?;
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: u64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    i64::try_from(boot + ticks / per_second.max(1)).ok()
}

/// The processes of the session that this one leads, itself not among them. The number means no other session as long as
/// its leader is not reaped.
pub(crate) fn session_of(leader: i32) -> Vec<Process> {
    let session = |pid: i32| stat_fields(pid)?.get(3)?.parse::<i32>().ok();
    let pids = all_pids().unwrap_or_default().into_iter();
    pids.filter(|pid| *pid != leader && session(*pid) == Some(leader)).filter_map(Process::open).collect()
}

/// `root` and everything below it, parents before their children.
pub(crate) fn family(root: i32) -> Vec<i32> {
    let pids = all_pids().unwrap_or_default();
    let parents: Vec<(i32, i32)> = pids.into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(parents.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| *child));
        next += 1;
    }
    found
}

/// Ends a process and all its descendants at once. They are stopped first, so that none can start another meanwhile.
pub(crate) fn kill_family_now(root: &Process) -> Vec<Process> {
    let _ = root.signal(Signal::SIGSTOP);
    let family: Vec<Process> = family(root.pid()).into_iter().filter_map(Process::open).collect();
    for process in &family {
        let _ = process.signal(Signal::SIGKILL);
    }
    family
}

/// The same for the leader of a session: those too whose parents have ended.
pub(crate) fn kill_session_now(leader: &Process) -> Vec<Process> {
    let mut killed = kill_family_now(leader);
    let known: Vec<i32> = killed.iter().map(Process::pid).collect();
    let others = session_of(leader.pid()).into_iter().filter(|process| !known.contains(&process.pid()));
    for process in others {
        let _ = process.signal(Signal::SIGKILL);
        killed.push(process);
    }
    killed
}

/// The same, and waits a moment for the kernel to do it; `false`: some are still there.
pub(crate) async fn kill_family(root: &Process) -> bool {
    kill_all(&kill_family_now(root)).await
}

/// Ends these at once, and waits a moment for the kernel to do it: for all of them together, since one that cannot be
/// killed is not the only one then.
pub(crate) async fn kill_all(processes: &[Process]) -> bool {
    for process in processes {
        let _ = process.signal(Signal::SIGKILL);
    }
    let until = boottime::now() + Duration::from_secs(5);
    let mut all_ended = true;
    for process in processes {
        all_ended &= process.ended_within(until.left(boottime::now())).await;
    }
    all_ended
}

/// The same path without links, also where what the last of them leads to is not there.
pub(crate) fn real_path(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        if let Ok(real) = std::fs::canonicalize(&path) {
            return real;
        }
        let Ok(target) = std::fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("/")).join(target);
    }
    match (path.parent().map(std::fs::canonicalize), path.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        (Some(Err(_)) | None, _) | (_, None) => path,
    }
}
