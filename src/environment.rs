//! Which variables of the container stay with PID 1 and the agent. Only std, so that every room can ask.
//!
//! `COPY … FROM PROGRAM` runs as the agent's user and reads the environment of every process of that user. Our own
//! variables and passwords therefore reach the agent through its socket alone. Other secrets stay in PostgreSQL's
//! environment on purpose: `archive_command` reads `PGBACKREST_*` and `AWS_*` there.

use std::ffi::OsStr;

/// Every variable that libpq of PostgreSQL 13 to 18 reads (`PQconninfoOptions` and `EnvironmentOptions` in fe-connect.c,
/// fe-auth-oauth.c, `PGSYSCONFDIR` and `PGLOCALEDIR` in src/port/path.c). The server, `walreceiver`, initdb and
/// pg_basebackup would take them as defaults for what we do not say: with `PGSSLMODE=verify-full` no replica is made.
const LIBPQ: [&str; 46] = [
    "PGAPPNAME",
    "PGAUTHTYPE",
    "PGCHANNELBINDING",
    "PGCLIENTENCODING",
    "PGCONNECT_TIMEOUT",
    "PGDATABASE",
    "PGDATESTYLE",
    "PGGEQO",
    "PGGSSDELEGATION",
    "PGGSSENCMODE",
    "PGGSSLIB",
    "PGHOST",
    "PGHOSTADDR",
    "PGKRBSRVNAME",
    "PGLOADBALANCEHOSTS",
    "PGLOCALEDIR",
    "PGMAXPROTOCOLVERSION",
    "PGMINPROTOCOLVERSION",
    "PGOAUTHCAFILE",
    "PGOAUTHDEBUG",
    "PGOPTIONS",
    "PGPASSFILE",
    "PGPASSWORD",
    "PGPORT",
    "PGREQUIREAUTH",
    "PGREQUIREPEER",
    "PGREQUIRESSL",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGSSLCERT",
    "PGSSLCERTMODE",
    "PGSSLCOMPRESSION",
    "PGSSLCRL",
    "PGSSLCRLDIR",
    "PGSSLKEY",
    "PGSSLMAXPROTOCOLVERSION",
    "PGSSLMINPROTOCOLVERSION",
    "PGSSLMODE",
    "PGSSLNEGOTIATION",
    "PGSSLROOTCERT",
    "PGSSLSNI",
    "PGSYSCONFDIR",
    "PGTARGETSESSIONATTRS",
    "PGTTY",
    "PGTZ",
    "PGUSER",
];

/// Whether libpq reads this variable.
pub fn is_of_libpq(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| LIBPQ.binary_search(&name).is_ok())
}

/// Whether a variable must not reach PostgreSQL, its programs, callbacks and other commands, nor `/proc/PID/environ` of
/// any process of ours: it speaks to us, may hold a secret, or is libpq's.
pub fn is_withheld(name: &OsStr) -> bool {
    const PREFIXES: [&[u8]; 5] = [b"PATRONI_", b"TAMADA_", b"POSTGRES_", b"KUBERNETES_", b"LISTEN_"];
    const NAMES: [&str; 2] = ["NOTIFY_SOCKET", "PG_MALLOC_ARENA_MAX"];
    let upper = name.as_encoded_bytes().to_ascii_uppercase();
    PREFIXES.iter().any(|prefix| upper.starts_with(prefix))
        || NAMES.iter().any(|other| name == *other)
        || upper.windows(8).any(|part| part == b"PASSWORD")
        || is_of_libpq(name)
}

/// Whether a variable that is withheld from PostgreSQL reaches callbacks and hooks, as with Patroni: those of a pod tell its
/// scripts where the API server is.
pub fn is_for_hooks_alone(name: &OsStr) -> bool {
    let upper = name.as_encoded_bytes().to_ascii_uppercase();
    upper.starts_with(b"KUBERNETES_") && !upper.windows(8).any(|part| part == b"PASSWORD")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_secrets_and_libpqs_are_withheld_and_the_rest_is_not() {
        let withheld = [
            "PATRONI_NAME",
            "PATRONI_UNKNOWN",
            "PATRONI_SUPERUSER_PASSWORD",
            "patroni_superuser_password",
            "TAMADA_STANDALONE",
            "KUBERNETES_PORT",
            "POSTGRES_USER",
            "POSTGRES_PASSWORD_FILE",
            "NOTIFY_SOCKET",
            "LISTEN_FDS",
            "PGPASSWORD",
            "PGPASSWORD_SUPERUSER",
            "my_password",
            "PG_MALLOC_ARENA_MAX",
            "PGSSLMODE",
            "PGTZ",
            "PGCONNECT_TIMEOUT",
        ];
        for name in withheld {
            assert!(is_withheld(OsStr::new(name)), "{name}");
        }
        let left =
            ["PATH", "LANG", "TZ", "PGDATA", "PGBACKREST_STANZA", "PGHOME", "AWS_REGION", "PATRONI", "LISTEN", "é"];
        for name in left {
            assert!(!is_withheld(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn hooks_get_what_a_pod_is_told_and_nothing_else_that_is_withheld() {
        for name in ["KUBERNETES_SERVICE_HOST", "KUBERNETES_ROLE_LABEL", "kubernetes_port"] {
            assert!(is_for_hooks_alone(OsStr::new(name)), "{name}");
        }
        for name in ["KUBERNETES_PASSWORD", "PATRONI_KUBERNETES_LABELS", "PATRONI_UNKNOWN", "PGPASSWORD", "PATH"] {
            assert!(!is_for_hooks_alone(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn the_list_of_libpqs_variables_is_sorted() {
        assert!(LIBPQ.is_sorted());
    }
}
