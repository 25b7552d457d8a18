//! The API of this container's own member, for local clients such as health checks. The member says where it listens in a file,
//! since `tamada health` must not depend on the configuration: it need not know the YAML file that the member was started
//! with, and a file that was broken meanwhile says nothing about a server that runs well.
//!
//! **Invariant:** root, as whom a health check usually runs, reads what PostgreSQL's user wrote with that user's rights.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, getegid, geteuid, getgroups, setegid, seteuid, setgroups};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::config::{HostPort, ServerTls};

/// On the container's own /run: what an earlier run that was killed has left there names an address where nobody listens.
pub const FOLDER: &str = "/run/postgresql";

/// The file of one member; several can run on one machine. `tamada.SCOPE.NAME.api`.
pub fn file(scope: &str, name: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("tamada.{}.{}.api", encoded(scope), encoded(name)))
}

fn encoded(word: &str) -> String {
    utf8_percent_encode(word, NON_ALPHANUMERIC).to_string()
}

/// The file of the member of this scope and name, as far as they are known; `None` where that leaves several or none.
pub fn find(folder: &Path, scope: Option<&str>, name: Option<&str>) -> Option<PathBuf> {
    let (scope, name) = (scope.map(encoded), name.map(encoded));
    let is_meant = |path: &PathBuf| {
        let words: Vec<&str> = path.file_name().and_then(|file| file.to_str()).unwrap_or_default().split('.').collect();
        matches!(words[..], ["tamada", its_scope, its_name, "api"]
            if scope.as_ref().is_none_or(|scope| scope == its_scope) && name.as_ref().is_none_or(|name| name == its_name))
    };
    let mut found = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).filter(is_meant);
    found.next().filter(|_| found.next().is_none())
}

/// Removes what the member has written there, at its end.
pub fn remove(file: &Path) {
    if let Err(error) = fs::remove_file(file)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!("cannot remove {}: {error}", file.display());
    }
}

/// Does something with no more rights than the owner of the file has; `None` where they cannot be given up.
pub fn as_owner<T>(file: &Path, act: impl FnOnce() -> Option<T>) -> Option<T> {
    // The file itself: a link is its maker's.
    let owner = fs::symlink_metadata(file).ok()?;
    if !geteuid().is_root() || owner.uid() == 0 {
        return act();
    }
    let (group, groups) = (getegid(), getgroups().ok()?);
    setgroups(&[]).ok()?;
    let done = setegid(Gid::from_raw(owner.gid()))
        .and_then(|()| seteuid(Uid::from_raw(owner.uid())))
        .ok()
        .and_then(|()| act());
    // Cannot fail: the real user is still root.
    let _ = seteuid(Uid::from_raw(0));
    let _ = setegid(group);
    let _ = setgroups(&groups);
    done
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnApi {
    pub url: String,
    /// The server's certificate and key, to be shown where it wants one.
    pub(super) certfile: Option<PathBuf>,
    pub(super) keyfile: Option<PathBuf>,
}

impl OwnApi {
    pub fn new(listen: &HostPort, tls: Option<&ServerTls>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        OwnApi {
            url: format!("{scheme}://{}", loopback(listen)),
            certfile: tls.map(|tls| tls.certfile.clone()),
            keyfile: tls.and_then(|tls| tls.keyfile.clone()),
        }
    }

    /// `None`: no member has said anything that can be read.
    pub fn read(file: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(file).ok()?).ok()
    }

    /// Replaces the file as a whole; makes its folder where a tmpfs on /run has none.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        file.parent().map_or(Ok(()), fs::create_dir_all)?;
        let temporary = file.with_extension("api.tmp");
        fs::write(&temporary, serde_json::to_vec(self)?)?;
        fs::rename(&temporary, file)
    }
}

/// The loopback address that reaches a process that listens there.
fn loopback(listen: &HostPort) -> HostPort {
    let host = match listen.host.as_str() {
        "" | "*" | "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        host => host,
    };
    HostPort { host: host.to_owned(), port: listen.port }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_member_finds_its_own_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let find = |scope, name| find(folder.path(), scope, name);
        let write = |scope, name| {
            let path = folder.path().join(file(scope, name).file_name().expect("a name"));
            fs::write(&path, "").expect("written");
            path
        };
        assert_eq!(find(None, None), None);
        let first = write("demo", "n.1/x");
        fs::write(folder.path().join("tamada.pgpass"), "").expect("written");
        fs::write(folder.path().join("tamada.api"), "").expect("written");
        assert_eq!(find(None, None), Some(first.clone()));
        assert_eq!(find(None, Some("n2")), None, "another member's is not its own");
        let second = write("demo", "n2");
        assert_eq!(find(None, None), None, "there are two");
        assert_eq!(find(Some("demo"), Some("n.1/x")), Some(first));
        assert_eq!(find(None, Some("n2")), Some(second.clone()));
        remove(&second);
        assert!(!second.exists());
    }

    #[test]
    fn all_addresses_are_reached_over_loopback() {
        for (host, expected) in [
            ("", "127.0.0.1:8008"),
            ("*", "127.0.0.1:8008"),
            ("0.0.0.0", "127.0.0.1:8008"),
            ("::", "[::1]:8008"),
            ("2001:db8::1", "[2001:db8::1]:8008"),
            ("n1", "n1:8008"),
        ] {
            assert_eq!(loopback(&HostPort { host: host.into(), port: 8008 }).to_string(), expected);
        }
    }
}
