//! Calls into the kernel and libc that neither `std` nor `nix` offers in the form that PID 1 needs. The only unsafe code
//! of this room.
//!
//! Deliberately not here: any decision. Nothing here allocates but `Program::new`, which comes before the loop.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::unistd::{Gid, getgroups, setegid, setgroups};

/// Takes over a descriptor that was handed down by number through an exec.
///
/// The number must be of a descriptor that nothing else in this process owns: an inherited one, taken once.
pub(super) fn inherited(fd: RawFd) -> OwnedFd {
    // SAFETY: the caller takes an inherited descriptor exactly once; a wrong number only makes later calls fail.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A memory file with this content, which nobody can change any more. It stays open across an exec.
pub(super) fn sealed_memfd(name: &CStr, content: &[u8]) -> io::Result<OwnedFd> {
    let file = memfd(name)?;
    let mut rest = content;
    while !rest.is_empty() {
        match nix::unistd::write(&file, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let seals = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

/// A sealable memory file that survives exec; without the execute bit where the kernel knows that flag (6.3).
fn memfd(name: &CStr) -> io::Result<OwnedFd> {
    const NOEXEC_SEAL: libc::c_uint = 8;
    for flags in [libc::MFD_ALLOW_SEALING | NOEXEC_SEAL, libc::MFD_ALLOW_SEALING] {
        // SAFETY: `name` is a C string; the result is checked and owned at once.
        let fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
        match fd {
            0.. => return Ok(inherited(fd)),
            _ if Errno::last() == Errno::EINVAL => {}
            _ => break,
        }
    }
    Err(io::Error::last_os_error())
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Exited(u8),
    /// By this signal; real-time ones have no name, hence the number.
    Killed(i32),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ended::Exited(code) => write!(f, "exited with {code}"),
            Ended::Killed(signal) => write!(f, "was killed by signal {signal}"),
        }
    }
}

/// Reaps one ended child, whichever it is; `None` when no child has ended or there is none.
pub(super) fn reap() -> Option<(i32, Ended)> {
    let mut status = 0;
    // SAFETY: `status` is valid for the write.
    let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
    if pid <= 0 {
        return None;
    }
    let ended = if libc::WIFSIGNALED(status) {
        Ended::Killed(libc::WTERMSIG(status))
    } else {
        Ended::Exited(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX))
    };
    Some((pid, ended))
}

/// A pidfd: still refers to the same process when its number is reused.
pub(super) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: two integers; the result is checked and owned at once.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match RawFd::try_from(fd) {
        Ok(fd @ 0..) => Ok(inherited(fd)),
        _ => Err(io::Error::last_os_error()),
    }
}

pub(super) fn pidfd_signal(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed and means what kill(2) fills in.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, no_info, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets the effective uid alone. The kernel compares real and effective uid when it judges a signal, so root without
/// CAP_KILL reaches another user's processes by taking that user's uid for a moment.
pub(super) fn set_effective_uid(uid: u32) -> io::Result<()> {
    // SAFETY: three integers; this process has one thread, so that the raw system call's per-thread effect is the
    // process's.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, -1, uid, -1) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A capability, by its number in <linux/capability.h>.
#[derive(Clone, Copy)]
pub(super) struct Capability(u32);

impl Capability {
    pub(super) const KILL: Capability = Capability(5);
    pub(super) const SETGID: Capability = Capability(6);
    pub(super) const SETUID: Capability = Capability(7);
}

/// prctl(2) with small numbers.
fn prctl(option: libc::c_int, argument: libc::c_ulong) -> io::Result<()> {
    const NONE: libc::c_ulong = 0;
    // SAFETY: options that take numbers, never pointers.
    let result = unsafe { libc::prctl(option, argument, NONE, NONE, NONE) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

pub(super) fn set_no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

pub(super) fn clear_ambient_capabilities() {
    // Fails on kernels without them (before 4.3).
    let _ = prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong);
}

/// Without CAP_SETPCAP nothing is taken out; `no_new_privs` holds all the same.
pub(super) fn clear_bounding_set() {
    for capability in 0..64 {
        let _ = prctl(libc::PR_CAPBSET_DROP, capability);
    }
}

/// Gives up every capability of this process but these; one that it does not have is not gained.
pub(super) fn keep_capabilities(kept: &[Capability]) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let kept = kept.iter().fold(0, |mask, capability| mask | 1_u32 << capability.0);
    // As `__user_cap_header_struct` and two of `__user_cap_data_struct`: effective, permitted, inheritable.
    let mut header = [VERSION_3, 0];
    let mut sets = [[0_u32; 3]; 2];
    // SAFETY: the kernel writes two sets of three numbers, as version 3 says; 0 is this process.
    if unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let low = sets[0][1] & kept;
    let sets = [[low, low, 0], [0, 0, 0]];
    // SAFETY: as above, read only.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Does something with the rights of another user, all its groups included, and becomes root again. `Err`: without the
/// capabilities for that nothing was done.
pub(super) fn as_identity<T>(identity: &Identity, act: impl FnOnce() -> T) -> io::Result<T> {
    let ours = (nix::unistd::getegid(), getgroups()?);
    let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups)?;
    let done = setegid(Gid::from_raw(identity.gid)).map_err(io::Error::from).and_then(|()| {
        set_effective_uid(identity.uid)?;
        let done = act();
        set_effective_uid(0)?;
        Ok(done)
    });
    setegid(ours.0)?;
    setgroups(&ours.1)?;
    done
}

/// What a watchdog's driver can do (`WDIOF_*` in <linux/watchdog.h>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WatchdogOptions(u32);

impl WatchdogOptions {
    fn has_set_timeout(self) -> bool {
        self.0 & 0x80 != 0
    }

    pub(super) fn has_magic_close(self) -> bool {
        self.0 & 0x100 != 0
    }
}

/// WDIOC_GETSUPPORT; an error says that this is no watchdog.
pub(super) fn watchdog_options(device: BorrowedFd<'_>) -> nix::Result<WatchdogOptions> {
    // As `struct watchdog_info`: options, firmware version, 32 bytes of a name.
    let mut info = [0_u32; 10];
    // SAFETY: the kernel writes one `struct watchdog_info`, for which there is room.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), nix::request_code_read!(b'W', 0, 40), info.as_mut_ptr()) };
    Errno::result(result).map(|_| WatchdogOptions(info[0]))
}

/// WDIOC_SETTIMEOUT where the driver has it, and what WDIOC_GETTIMEOUT says then: it may be another time. In seconds.
pub(super) fn watchdog_timeout(device: BorrowedFd<'_>, options: WatchdogOptions, timeout: u16) -> nix::Result<u32> {
    let mut seconds = libc::c_int::from(timeout);
    if options.has_set_timeout() {
        // SAFETY: the kernel reads and writes one integer.
        Errno::result(unsafe {
            libc::ioctl(device.as_raw_fd(), nix::request_code_readwrite!(b'W', 6, 4), &mut seconds)
        })?;
    }
    // SAFETY: the kernel writes one integer.
    Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), nix::request_code_read!(b'W', 7, 4), &mut seconds) })?;
    u32::try_from(seconds).map_err(|_| Errno::ERANGE)
}

/// Civil time in the container's time zone. The first call reads the zone's file, later ones do not.
pub(super) fn local_time(seconds: i64) -> libc::tm {
    // SAFETY: all-zero is a valid `tm`; both pointers are valid for the call.
    unsafe {
        let mut broken_down = std::mem::zeroed();
        libc::localtime_r(&seconds, &mut broken_down);
        broken_down
    }
}

/// Reads directory entries into `buffer`; 0 at the end. As `readdir(3)`, without its allocation.
pub(super) fn directory_entries(directory: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`.
    let length =
        unsafe { libc::syscall(libc::SYS_getdents64, directory.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) };
    usize::try_from(length).map_err(|_| io::Error::last_os_error())
}

/// Keeps those pages of a mapping in memory that are there now or come later.
pub(super) fn lock_mapping(start: usize, length: usize) -> io::Result<()> {
    // SAFETY: locking changes no content; a range that is not mapped is an error.
    let result = unsafe { libc::mlock2(start as *const libc::c_void, length, libc::MLOCK_ONFAULT) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Writes to the stack below the caller, so that the loop never needs a new page for it.
#[inline(never)]
pub(super) fn touch_stack() {
    let mut pages = [0_u8; 64 * 1024];
    for page in pages.chunks_mut(4096) {
        // SAFETY: a write to our own array; volatile so that it is not optimised away.
        unsafe { std::ptr::write_volatile(&mut page[0], 1) };
    }
}

/// A program with its arguments, laid out for execv before the loop begins.
pub(super) struct Program {
    path: CString,
    pointers: Vec<*const libc::c_char>,
    /// What the pointers point to.
    _arguments: Vec<CString>,
}

impl Program {
    pub(super) fn new(path: CString, arguments: Vec<CString>) -> Self {
        let pointers = arguments.iter().map(|argument| argument.as_ptr()).chain([std::ptr::null()]).collect();
        Program { path, pointers, _arguments: arguments }
    }
}

/// Whom a child becomes before its exec.
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

/// Starts the program in a session of its own with `stdin`, `kept` under its own number, the given identity, no blocked
/// and no ignored signal. The child ends with 126 or 127 when the program cannot be executed, with 125 when the identity cannot be taken.
pub(super) fn spawn(
    program: &Program,
    stdin: BorrowedFd<'_>,
    kept: BorrowedFd<'_>,
    identity: Option<&Identity>,
) -> io::Result<i32> {
    // SAFETY: this process has one thread; the child calls only async-signal-safe functions until exec or _exit.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => child(program, stdin.as_raw_fd(), kept.as_raw_fd(), identity),
        pid => Ok(pid),
    }
}

fn child(program: &Program, stdin: RawFd, kept: RawFd, identity: Option<&Identity>) -> ! {
    // SAFETY: async-signal-safe calls on valid, prepared arguments only; see `spawn`.
    unsafe {
        libc::setsid();
        libc::dup2(stdin, libc::STDIN_FILENO);
        libc::fcntl(kept, libc::F_SETFD, 0);
        if let Some(identity) = identity {
            let groups = identity.groups.as_ptr();
            if libc::setgroups(identity.groups.len(), groups) != 0
                || libc::setgid(identity.gid) != 0
                || libc::setuid(identity.uid) != 0
            {
                complain(c"cannot change to the agent's user\n");
                libc::_exit(125);
            }
        }
        restore_signals();
        libc::execv(program.path.as_ptr(), program.pointers.as_ptr());
        // The agent's user may not be able to walk the path to our file, or it was replaced; the link leads there still.
        libc::execv(c"/proc/self/exe".as_ptr(), program.pointers.as_ptr());
        let code = if Errno::last() == Errno::ENOENT { 127 } else { 126 };
        complain(c"cannot execute the agent\n");
        libc::_exit(code)
    }
}

/// The mask and the dispositions are inherited through exec; what we block or ignore must not reach PostgreSQL.
unsafe fn restore_signals() {
    // SAFETY: async-signal-safe calls; an all-zero sigaction is SIG_DFL with an empty mask.
    unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        for signal in 1..=64 {
            libc::sigaction(signal, &default, std::ptr::null_mut());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

unsafe fn complain(line: &CStr) {
    // SAFETY: writes our own constant text.
    unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.count_bytes()) };
}
