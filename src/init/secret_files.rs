//! Files of secrets that only root can read: what the agent needs of them reaches it through inherited memory files.
//!
//! What PostgreSQL's user can read, `pg_read_file` and `COPY` show to everybody who may call them. A secret that is
//! root's own is out of their reach, and of the agent's too: PID 1 reads it once, at the container's start, and puts
//! `/proc/self/fd/N` in the place of its path. Files that the agent's user can read are left to the agent, which reads
//! them anew at each reload.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::log::{Level, Log};
use super::sys::{self, Identity};

/// Paths that the agent alone reads. Those of `PATRONI_*_SSLKEY` are PostgreSQL's programs' too.
const OF_THE_AGENT: [&[u8]; 9] = [
    b"PATRONI_CTL_CACERT",
    b"PATRONI_CTL_CERTFILE",
    b"PATRONI_CTL_KEYFILE",
    b"PATRONI_ETCD3_CACERT",
    b"PATRONI_ETCD3_CERT",
    b"PATRONI_ETCD3_KEY",
    b"PATRONI_RESTAPI_CAFILE",
    b"PATRONI_RESTAPI_CERTFILE",
    b"PATRONI_RESTAPI_KEYFILE",
];

/// As for any file of a secret; larger ones are the agent's to complain about.
const SIZE_MAX: u64 = 1 << 20;

/// Replaces the paths in the environment. The memory files are to stay open across the exec.
pub(super) fn take_over(environment: &mut Environment, agent: &Identity, log: &mut Log) -> Vec<OwnedFd> {
    let mut files = Vec::new();
    for (name, value) in environment.iter_mut().filter(|(name, _)| names_a_file(name.as_bytes())) {
        let path = PathBuf::from(&*value);
        if !path.is_absolute() || sys::as_identity(agent, || File::open(&path)).is_ok_and(|file| file.is_ok()) {
            continue;
        }
        match content(&path).and_then(|content| sealed(&content)) {
            Ok(file) => {
                *value = OsString::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
                files.push(file);
                log.write(Level::Debug, format_args!("{} is read by PID 1 for the agent", name.display()));
            }
            // The agent tells what is wrong, with all else that is.
            Err(error) => log.write(Level::Debug, format_args!("{}: {error}", name.display())),
        }
    }
    files
}

fn names_a_file(name: &[u8]) -> bool {
    let is_ours = name.starts_with(b"PATRONI_") || name.starts_with(b"POSTGRES_");
    (is_ours && name.ends_with(b"_FILE")) || OF_THE_AGENT.contains(&name)
}

fn content(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > SIZE_MAX {
        return Err(io::Error::other("no file of at most 1 MiB"));
    }
    let mut content = Vec::new();
    file.take(SIZE_MAX).read_to_end(&mut content)?;
    Ok(content)
}

fn sealed(content: &[u8]) -> io::Result<OwnedFd> {
    sys::sealed_memfd(c"secret", content)
}
