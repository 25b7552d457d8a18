//! The lines of a password file (`~/.pgpass` in form): `host:port:database:user:password`.
//!
//! The file is the only way that a password reaches libpq's programs and the server's own connections.

use std::collections::BTreeSet;

use crate::config::Secret;

/// What no password file can say. The value itself is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a password file cannot hold a {0} with a line break or a NUL character in it")]
pub struct Unwritable(pub &'static str);

/// The content for these hosts (one or several, separated by commas). Where a host is a socket's directory, a line for
/// `localhost` is added, by which libpq looks up sockets in its default directory.
pub fn content(hosts: &str, port: u16, user: &str, password: &Secret) -> Result<Secret, Unwritable> {
    let password = field("password", password.expose())?;
    let user = field("user name", user)?;
    let mut hosts: Vec<&str> = hosts.split(',').map(str::trim).collect();
    if hosts.iter().any(|host| host.starts_with('/')) && !hosts.contains(&"localhost") {
        hosts.push("localhost");
    }
    let mut content = String::new();
    for host in hosts {
        let host = if host.is_empty() { "*".to_owned() } else { field("host name", host)? };
        content.push_str(&format!("{host}:{port}:*:{user}:{password}\n"));
    }
    Ok(Secret::new(content))
}

fn field(what: &'static str, text: &str) -> Result<String, Unwritable> {
    if text.contains(['\n', '\r', '\0']) {
        return Err(Unwritable(what));
    }
    Ok(text.replace('\\', "\\\\").replace(':', "\\:"))
}

/// Whether a file has the wanted lines, in whatever order.
pub fn has_same_lines(current: &str, wanted: &Secret) -> bool {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    lines(current) == lines(wanted.expose())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(hosts: &str, user: &str, password: &str) -> Result<String, Unwritable> {
        content(hosts, 5432, user, &Secret::new(password)).map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn colons_and_backslashes_are_escaped_and_nothing_else() {
        assert_eq!(
            lines("localhost", "postgres", "su:per\\pw").as_deref(),
            Ok("localhost:5432:*:postgres:su\\:per\\\\pw\n")
        );
        let odd = "'\"$ #%&?é🐘*";
        assert_eq!(lines("::1", odd, odd), Ok(format!("\\:\\:1:5432:*:{odd}:{odd}\n")));
    }

    #[test]
    fn every_host_has_a_line_and_a_socket_one_for_localhost() {
        assert_eq!(lines("/tmp", "foo", "bar").as_deref(), Ok("/tmp:5432:*:foo:bar\nlocalhost:5432:*:foo:bar\n"));
        assert_eq!(lines("a,localhost", "foo", "bar").as_deref(), Ok("a:5432:*:foo:bar\nlocalhost:5432:*:foo:bar\n"));
        assert_eq!(lines("", "foo", "bar").as_deref(), Ok("*:5432:*:foo:bar\n"));
    }

    #[test]
    fn a_line_break_is_refused_without_telling_the_password() {
        let error = lines("a", "foo", "se\ncret").expect_err("not writable");
        assert_eq!(error, Unwritable("password"));
        assert!(!error.to_string().contains("cret"));
        assert_eq!(lines("a", "fo\ro", "x"), Err(Unwritable("user name")));
    }

    #[test]
    fn files_are_compared_as_sets_of_lines() {
        let wanted = content("/tmp", 5432, "foo", &Secret::new("bar")).expect("writable");
        assert!(has_same_lines("localhost:5432:*:foo:bar\n/tmp:5432:*:foo:bar", &wanted));
        assert!(!has_same_lines("localhost:5432:*:foo:bar", &wanted));
    }
}
