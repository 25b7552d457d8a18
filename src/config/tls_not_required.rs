//! Where TLS is configured and connections do without it: warnings by name. What requires it is for people to set, since a
//! cluster whose members disagree about it falls apart.

use std::collections::BTreeMap;

use super::reader::as_switch;
use super::{Credentials, PostgresConfig, ServerSettings};

/// The role's `sslmode`, where it allows connections without TLS.
fn lax_mode(options: &BTreeMap<String, String>) -> Option<&str> {
    // What libpq does where nothing is said.
    let mode = options.get("sslmode").map_or("prefer", String::as_str);
    matches!(mode, "disable" | "allow" | "prefer").then_some(mode)
}

fn variable(role: &str) -> String {
    format!("PATRONI_{}_SSLMODE", role.to_ascii_uppercase())
}

/// Authorities that no connection of this role is verified against.
pub(super) fn authorities_without_use(role: &str, options: &BTreeMap<String, String>) -> Option<String> {
    let mode = lax_mode(options).filter(|_| options.contains_key("sslrootcert"))?;
    Some(format!(
        "{}: {mode} does not verify the server's certificate although sslrootcert is set, and allows connections without \
         TLS; use verify-full",
        variable(role)
    ))
}

/// A server with TLS to which connections without it are accepted, or made by members. `server`: what it runs with.
pub fn clear_text_warning(postgres: &PostgresConfig, server: &ServerSettings) -> Option<String> {
    let ssl = server.parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case("ssl")).map(|(_, value)| value);
    ssl.and_then(as_switch).filter(|ssl| ssl.is_on())?;
    let of_members = match &postgres.rewind {
        Some(rewind) => ("rewind", rewind),
        None => ("superuser", &postgres.superuser),
    };
    let roles = [("replication", &postgres.replication), of_members];
    let problems: Vec<String> = hba(server).into_iter().chain(roles.into_iter().filter_map(role)).collect();
    let told = format!("ssl is on, but connections without TLS are possible: {}", problems.join("; "));
    (!problems.is_empty()).then_some(told)
}

fn role((role, credentials): (&str, &Credentials)) -> Option<String> {
    let mode = lax_mode(&credentials.options)?;
    Some(format!("{} is {mode} (verify-full requires TLS and verifies the server)", variable(role)))
}

fn hba(server: &ServerSettings) -> Option<String> {
    let what = match &server.pg_hba {
        Some(lines) if !lines.iter().any(|line| accepts_clear_text(line)) => return None,
        Some(_) => "has",
        None => "is not set, and a new cluster's has",
    };
    Some(format!("pg_hba {what} host lines (hostssl requires TLS)"))
}

/// Whether a line lets other machines in without TLS.
fn accepts_clear_text(line: &str) -> bool {
    const THIS_MACHINE: [&str; 4] = ["127.0.0.1/32", "::1/128", "localhost", "samehost"];
    let words: Vec<&str> = line.split_whitespace().collect();
    let [kind, _database, _user, address, rest @ ..] = &words[..] else { return false };
    matches!(*kind, "host" | "hostnossl") && !THIS_MACHINE.contains(address) && !rest.contains(&"reject")
}
