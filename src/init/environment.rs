//! Which variables stay in the environment that everybody can read, and how the whole of it is kept for the agent.
//!
//! `COPY … FROM PROGRAM` runs as the agent's user and reads the environment of every process of that user. Ours and
//! whatever is named a password therefore leave the environment; the agent gets them through its socket. What others
//! need in PostgreSQL's environment stays there, secret or not: `archive_command` reads `PGBACKREST_*` and `AWS_*`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

pub(super) type Environment = Vec<(OsString, OsString)>;

/// Whether a variable must not reach PostgreSQL, its children, or `/proc/PID/environ` of any process of ours.
pub(super) fn is_withheld(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let begins = [&b"PATRONI_"[..], b"TAMADA_", b"POSTGRES_", b"LISTEN_"];
    begins.iter().any(|prefix| name.starts_with(prefix))
        || name == b"NOTIFY_SOCKET"
        || name.to_ascii_uppercase().windows(8).any(|part| part == b"PASSWORD")
}

/// What the kernel may show of us.
pub(super) fn shown(environment: &Environment) -> Environment {
    environment.iter().filter(|(name, _)| !is_withheld(name)).cloned().collect()
}

/// `NAME=VALUE` pieces, each ended by NUL: what `wire::receive_environment` returns.
pub(super) fn pack(environment: &Environment) -> Vec<u8> {
    let mut packed = Vec::new();
    for (name, value) in environment {
        packed.extend_from_slice(name.as_bytes());
        packed.push(b'=');
        packed.extend_from_slice(value.as_bytes());
        packed.push(0);
    }
    packed
}

/// The reverse of `pack`. A piece without `=` is left out, as `std::env` does.
pub fn unpack(packed: &[u8]) -> Environment {
    let pieces = packed.split(|byte| *byte == 0).filter(|piece| !piece.is_empty());
    let pairs = pieces.filter_map(|piece| {
        // A name may begin with `=`, hence the search from the second byte.
        let equals = 1 + piece.get(1..)?.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&piece[..equals], &piece[equals + 1..]);
        Some((OsStr::from_bytes(name).to_owned(), OsStr::from_bytes(value).to_owned()))
    });
    pairs.collect()
}

/// The value of a variable; `None` when it is unset or empty.
pub(super) fn value<'a>(environment: &'a Environment, name: &str) -> Option<&'a OsStr> {
    let found = environment.iter().find(|(other, _)| other == name);
    found.map(|(_, value)| value.as_os_str()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_and_passwords_are_withheld() {
        let withheld = [
            "PATRONI_SUPERUSER_PASSWORD",
            "PATRONI_SCOPE",
            "TAMADA_STANDALONE",
            "POSTGRES_PASSWORD",
            "POSTGRES_USER",
            "PGPASSWORD",
            "PGPASSWORD_SUPERUSER",
            "my_password",
            "LISTEN_FDS",
            "NOTIFY_SOCKET",
        ];
        for name in withheld {
            assert!(is_withheld(OsStr::new(name)), "{name}");
        }
        for name in ["PATH", "LANG", "PGDATA", "PGBACKREST_STANZA", "AWS_REGION", "KUBERNETES_SERVICE_HOST"] {
            assert!(!is_withheld(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn a_packed_environment_reads_back_byte_for_byte() {
        let odd = OsStr::from_bytes(b"\xff = \n").to_owned();
        let environment = vec![
            ("A".into(), "b=c".into()),
            ("EMPTY".into(), "".into()),
            ("ODD".into(), odd),
            ("=D".into(), "e".into()),
        ];
        assert_eq!(unpack(&pack(&environment)), environment);
    }
}
