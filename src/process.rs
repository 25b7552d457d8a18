//! What a process of ours asks of the kernel and of libc for itself, at its start.
#![allow(unsafe_code)]

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
