//! The API of this container's own member, for whoever asks from beside it. The member says where it listens in a file,
//! since `tamada health` must not depend on the configuration: it need not know the YAML file that the member was started
//! with, and a file that was broken meanwhile says nothing about a server that runs well.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{HostPort, ServerTls};

/// On the container's own /run: what stands there from an earlier run names an address where nobody listens.
pub const FILE: &str = "/run/postgresql/tamada.api";

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
        serde_json::from_slice(&std::fs::read(file).ok()?).ok()
    }

    /// Replaces the file as a whole; makes its folder where a tmpfs on /run has none.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        file.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        let beside = file.with_extension("api.tmp");
        std::fs::write(&beside, serde_json::to_vec(self)?)?;
        std::fs::rename(&beside, file)
    }
}

/// Where a process listens, as it is reached from beside it.
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
