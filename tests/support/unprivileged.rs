//! PostgreSQL refuses to run as root, while tests often do. A test binary that includes this module becomes the user
//! `postgres` (primary group alone) before its `main` begins, so before there is a second thread: the whole process
//! changes, and libtest's filters and output stay as they are. Run by any other user than root, nothing happens.
//!
//! Use: `#[path = "../support/unprivileged.rs"] mod unprivileged;` in the test's root file. Files and folders are to be
//! made below the system's temporary folder, since the build folder belongs to whoever compiled.

use std::ffi::CString;

/// The dynamic loader calls what stands in this section before `main`; nothing else runs early enough.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = become_postgres;

extern "C" fn become_postgres() {
    // SAFETY: the process has one thread, and the pointer from getpwnam is used before any other call could reuse it.
    unsafe {
        if libc::geteuid() != 0 {
            return;
        }
        let name = CString::new("postgres").expect("no NUL in it");
        let user = libc::getpwnam(name.as_ptr());
        if user.is_null() {
            eprintln!("these tests need a user named postgres, since PostgreSQL refuses to run as root");
            libc::_exit(1);
        }
        let (uid, gid) = ((*user).pw_uid, (*user).pw_gid);
        if libc::setgroups(1, &gid) != 0 || libc::setgid(gid) != 0 || libc::setuid(uid) != 0 {
            eprintln!("cannot become the user postgres: {}", std::io::Error::last_os_error());
            libc::_exit(1);
        }
        // The caller's HOME belongs to root.
        libc::setenv(c"HOME".as_ptr(), c"/tmp".as_ptr(), 1);
    }
}
