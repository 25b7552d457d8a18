//! SQL for the roles that the agent works as.
//!
//! No password is ever part of it: only its SCRAM-SHA-256 verifier is, and even that is kept out of the server's log
//! by [`SESSION`], which must be sent before and apart (a statement is logged by the settings in force when it begins).

use postgres_protocol::password::scram_sha_256;

use crate::config::{Credentials, Secret};

/// For the session that the role statements run in, each sent by itself, in advance.
pub const SESSION: [&str; 9] = [
    "SET synchronous_commit TO local",
    "SET log_statement TO none",
    "SET log_duration TO off",
    "SET log_min_duration_statement TO -1",
    "SET log_min_duration_sample TO -1",
    "SET log_transaction_sample_rate TO 0",
    "SET log_min_error_statement TO log",
    "SET pg_stat_statements.track_utility TO off",
    "SET pgaudit.log TO none",
];

/// What a role is for, and so what it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Superuser,
    Replication,
    /// May read files through the functions that pg_rewind calls, no more.
    Rewind,
}

impl Purpose {
    fn options(self) -> &'static str {
        match self {
            Purpose::Superuser => "SUPERUSER LOGIN",
            Purpose::Replication => "REPLICATION LOGIN",
            Purpose::Rewind => "LOGIN",
        }
    }
}

/// What happens to a role that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It gets these options and this password; others of its options stay. For a new cluster.
    Alter,
    /// It stays as it is, password and rights included. For data that were there before.
    Keep,
}

/// One statement that brings the role about. Its text is as secret as a verifier is.
pub fn role_statement(credentials: &Credentials, purpose: Purpose, existing: Existing) -> Secret {
    let name = identifier(&credentials.username);
    let password = credentials.password.as_ref().map_or_else(String::new, |password| {
        format!(" PASSWORD {}", literal(&scram_sha_256(password.expose().as_bytes())))
    });
    let definition = format!("ROLE {name} WITH {}{password};", purpose.options());
    let grants = match purpose {
        Purpose::Rewind => rewind_grants(&name),
        Purpose::Superuser | Purpose::Replication => String::new(),
    };
    let absent =
        format!("NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {})", literal(&credentials.username));
    let body = match existing {
        Existing::Alter => format!("IF {absent} THEN CREATE {definition} ELSE ALTER {definition} END IF;{grants}"),
        Existing::Keep => format!("IF {absent} THEN CREATE {definition}{grants} END IF;"),
    };
    Secret::new(format!("DO {}", dollar_quoted(&format!("BEGIN {body} END"))))
}

fn rewind_grants(role: &str) -> String {
    let functions = [
        "pg_ls_dir(text, boolean, boolean)",
        "pg_stat_file(text, boolean)",
        "pg_read_binary_file(text)",
        "pg_read_binary_file(text, bigint, bigint, boolean)",
    ];
    functions.map(|function| format!(" GRANT EXECUTE ON FUNCTION pg_catalog.{function} TO {role};")).concat()
}

/// A name in SQL.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string in SQL, whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// In dollar quotes with a tag that does not occur in the body.
fn dollar_quoted(body: &str) -> String {
    let tag = (0..).map(|n| format!("$body{n}$")).find(|tag| !body.contains(tag.as_str()));
    let tag = tag.expect("a text of finite length holds finitely many tags");
    format!("{tag}{body}{tag}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn statement(name: &str, password: Option<&str>, purpose: Purpose, existing: Existing) -> String {
        let credentials = Credentials {
            username: name.to_owned(),
            password: password.map(Secret::new),
            options: BTreeMap::new(),
            sslpassword: None,
        };
        role_statement(&credentials, purpose, existing).expose().to_owned()
    }

    #[test]
    fn a_role_is_created_or_altered() {
        let expected = "DO $body0$BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'rep''l') THEN \
                        CREATE ROLE \"rep'l\" WITH REPLICATION LOGIN; ELSE ALTER ROLE \"rep'l\" WITH REPLICATION \
                        LOGIN; END IF; END$body0$";
        assert_eq!(statement("rep'l", None, Purpose::Replication, Existing::Alter), expected);
    }

    #[test]
    fn an_existing_role_keeps_its_rights() {
        let sql = statement("rew", Some("x"), Purpose::Rewind, Existing::Keep);
        let (_, created) = sql.split_once("THEN CREATE ROLE \"rew\" WITH LOGIN PASSWORD '").expect("creates");
        assert!(created.ends_with("TO \"rew\"; END IF; END$body0$"), "{sql}");
        assert_eq!(created.matches("GRANT EXECUTE ON FUNCTION pg_catalog.").count(), 4);
        assert!(!sql.contains("ALTER"));
    }

    #[test]
    fn no_password_is_part_of_the_text() {
        let sql = statement("s", Some("sécret '\\$body0$"), Purpose::Superuser, Existing::Alter);
        assert!(!sql.contains("cret"));
        assert_eq!(sql.matches("PASSWORD 'SCRAM-SHA-256$4096:").count(), 2);
    }

    #[test]
    fn names_cannot_leave_their_quotes() {
        let sql = statement("a\"; $body0$ \\'--", None, Purpose::Superuser, Existing::Keep);
        assert!(sql.starts_with("DO $body1$") && sql.ends_with("$body1$"));
        assert!(sql.contains("ROLE \"a\"\"; $body0$ \\'--\" WITH"));
        assert!(sql.contains("rolname =  E'a\"; $body0$ \\\\''--'"));
    }
}
