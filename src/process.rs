//! What a process of ours asks of the kernel and of libc for itself, at its start.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::timerfd::TimerFd;

/// Nobody of our own uid may look into our memory, environment or open files, and no core is dumped. `execve` undoes
/// this, so each program of ours calls it first.
pub fn hide() {
    // Fails only for an invalid argument.
    let _ = nix::sys::prctl::set_dumpable(false);
}

/// Whatever was opened for us before our start stays with us: no program that we execute inherits it.
pub fn keep_files() {
    const FIRST: libc::c_uint = 3;
    // SAFETY: marks descriptors, closes none. On a kernel before 5.11 it fails, and the start of each program marks them.
    unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// Takes over a timer that was handed down by number through an exec; no program that we execute inherits it. The number
/// must be of a descriptor that nothing else in this process owns: an inherited one, taken once.
pub fn inherited_timer(number: RawFd) -> nix::Result<TimerFd> {
    if number < 0 {
        return Err(Errno::EBADF);
    }
    // SAFETY: the caller takes an inherited descriptor exactly once, and what is no timer is found out below.
    let timer = unsafe { TimerFd::from_raw_fd(number) };
    timer.get()?;
    fcntl(&timer, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(timer)
}

/// Tunes glibc's allocator for a small footprint: one arena instead of one per thread, free memory returned early. Call it
/// before the first thread starts.
pub fn save_memory() {
    // SAFETY: only sets parameters; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 * 1024);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 64 * 1024);
    }
}
