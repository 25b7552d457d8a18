//! A password file that somebody keeps for PostgreSQL's account (`~/.pgpass`). libpq reads it by itself; our own sessions
//! do the same where the configuration has no password.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::unistd::{User, geteuid};

use crate::config::Secret;

/// Larger files are no password files.
const SIZE_MAX: u64 = 1 << 20;

/// The password for this connection, if the file has one. A host has several names: libpq's word for the socket is
/// `localhost`.
pub(super) fn password(hosts: &[String], port: u16, database: &str, user: &str) -> Option<Secret> {
    let text = read(&place()?)?;
    let port = port.to_string();
    hosts.iter().find_map(|host| find(&text, [host, &port, database, user]))
}

/// PID 1 sets HOME to the same.
fn place() -> Option<PathBuf> {
    Some(User::from_uid(geteuid()).ok().flatten()?.dir.join(".pgpass"))
}

/// As libpq: a file that others may read is none.
fn read(path: &Path) -> Option<String> {
    let facts = fs::metadata(path).ok()?;
    if !facts.is_file() || facts.len() > SIZE_MAX || facts.permissions().mode() & 0o077 != 0 {
        return None;
    }
    fs::read_to_string(path).ok()
}

/// Of the first line that fits: `host:port:database:user:password`, each `*` or a text in which `\` escapes.
fn find(text: &str, wanted: [&str; 4]) -> Option<Secret> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut rest = line;
        for wanted in wanted {
            let (field, after) = field(rest)?;
            (field == "*" || unescaped(field) == wanted).then_some(())?;
            rest = after;
        }
        Some(Secret::new(unescaped(rest)))
    })
}

/// Up to a colon that is not escaped, and what comes after it.
fn field(text: &str) -> Option<(&str, &str)> {
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            ':' => return Some((&text[..at], &text[at + 1..])),
            _ => {}
        }
    }
    None
}

fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        plain.extend(if c == '\\' { characters.next() } else { Some(c) });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_counts() {
        let text = "# db1:5432:*:*:comment\nbroken\ndb1:5432:app:*:of app\ndb1:*:*:repl:with \\: and \\\\\n\
                    *:5433:*:repl:anywhere\n";
        let find = |wanted| find(text, wanted).map(|secret| secret.expose().to_owned());
        assert_eq!(find(["db1", "5432", "app", "repl"]).as_deref(), Some("of app"));
        assert_eq!(find(["db1", "5432", "postgres", "repl"]).as_deref(), Some("with : and \\"));
        assert_eq!(find(["db2", "5433", "postgres", "repl"]).as_deref(), Some("anywhere"));
        assert_eq!(find(["db2", "5432", "postgres", "repl"]), None);
    }

    #[test]
    fn a_file_that_others_may_read_is_none() {
        let dir = tempfile::tempdir().expect("/tmp is writable");
        let file = dir.path().join(".pgpass");
        fs::write(&file, "*:*:*:*:x\n").expect("writable");
        for (mode, is_read) in [(0o644, false), (0o640, false), (0o600, true)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("ours");
            assert_eq!(read(&file).is_some(), is_read, "{mode:o}");
        }
        assert!(read(dir.path()).is_none() && read(&dir.path().join("none")).is_none());
    }
}
