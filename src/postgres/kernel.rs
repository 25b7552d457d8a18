//! Calls into the kernel that neither `std` nor `nix` offers safely. The only unsafe code of this room.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

fn result(returned: libc::c_long) -> io::Result<libc::c_long> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

/// pidfd_open(2): Linux 5.3.
pub(super) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and returns a new descriptor that nobody else owns.
    unsafe {
        let fd = result(libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// pidfd_send_signal(2): Linux 5.1. Never reaches another process than the one the descriptor was opened for.
pub(super) fn pidfd_send_signal(fd: RawFd, signal: Signal) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: integers and a null pointer, which the call allows.
    result(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal as libc::c_int, no_info, 0) }).map(drop)
}

/// Registers a descriptor with the runtime, for its being readable.
pub(super) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is open and stays the same for as long as its owner lives, and the result owns it.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}

pub(super) fn clock_ticks() -> i64 {
    // SAFETY: the call takes an integer and has no side effect.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) }
}

/// What a child of ours may keep of our streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Streams {
    /// As the command says.
    AsSet,
    /// Standard error goes where our standard output goes: PostgreSQL's log is the container's output.
    ErrorToOutput,
}

/// Has the kernel kill the command's process when ours ends, however that comes about.
pub(super) fn end_with_us(command: &mut Command) {
    let us = std::process::id();
    // SAFETY: between fork and exec the closure makes only async-signal-safe calls and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 {
                return Err(io::Error::last_os_error());
            }
            // We may have ended before.
            if libc::getppid() as u32 != us {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}

/// Makes the command's process the leader of a session of its own, with default signal handlers, no blocked signals
/// (std sees to those) and, besides the three streams, no descriptor but those of `keep`.
pub(super) fn detach(command: &mut Command, streams: Streams, keep: Vec<RawFd>) {
    // SAFETY: between fork and exec the closure makes only async-signal-safe calls and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            if libc::setsid() < 0 {
                return Err(io::Error::last_os_error());
            }
            for signal in 1..=64 {
                // Fails for SIGKILL, SIGSTOP and the library's own signals, which cannot be ignored anyway.
                libc::signal(signal, libc::SIG_DFL);
            }
            if streams == Streams::ErrorToOutput && libc::dup2(1, 2) < 0 {
                return Err(io::Error::last_os_error());
            }
            // Marked rather than closed, since std reports a failing exec through one of them. On a kernel before 5.11
            // the call fails, and what the program opened itself is marked already.
            libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
            for fd in &keep {
                libc::fcntl(*fd, libc::F_SETFD, 0);
            }
            Ok(())
        });
    }
}

/// A socket on the runtime that we are on, which listens for nothing but this.
pub(super) fn watched(socket: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    // SAFETY: the socket owns its descriptor and closes it when it is dropped, after tokio has let go of it.
    unsafe { AsyncFd::register_with_interest(socket, interest) }.map_err(io::Error::from)
}
