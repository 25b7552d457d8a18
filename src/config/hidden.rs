//! Which variables children must not inherit, and what they get instead. Only std, so that every room can ask.

/// Whether a variable is taken out of the environment of PostgreSQL, its programs, callbacks and other commands: it
/// may hold a secret, or speaks to us and not to them.
pub fn is_hidden_from_children(name: &str) -> bool {
    const PREFIXES: [&str; 5] = ["PATRONI_", "TAMADA_", "KUBERNETES_", "POSTGRES_PASSWORD", "LISTEN_"];
    const NAMES: [&str; 3] = ["NOTIFY_SOCKET", "PG_MALLOC_ARENA_MAX", "PGPASSWORD"];
    PREFIXES.iter().any(|prefix| starts_with_in_any_case(name, prefix)) || NAMES.contains(&name)
}

fn starts_with_in_any_case(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_and_secrets_are_hidden_and_the_rest_is_not() {
        let hidden = [
            "PATRONI_NAME",
            "PATRONI_UNKNOWN",
            "patroni_superuser_password",
            "TAMADA_STANDALONE",
            "KUBERNETES_PORT",
            "POSTGRES_PASSWORD",
            "POSTGRES_PASSWORD_FILE",
            "NOTIFY_SOCKET",
            "LISTEN_FDS",
            "PGPASSWORD",
            "PG_MALLOC_ARENA_MAX",
        ];
        for name in hidden {
            assert!(is_hidden_from_children(name), "{name}");
        }
        for name in ["PATH", "LANG", "PGDATA", "POSTGRES_USER", "AWS_REGION", "PATRONI", "LISTEN", "é"] {
            assert!(!is_hidden_from_children(name), "{name}");
        }
    }
}
