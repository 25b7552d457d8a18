//! Which variables children must not inherit, and what they get instead. Only std, so that every room can ask.

/// Whether a variable is taken out of the environment of PostgreSQL, its programs, callbacks and other commands: it
/// may hold a secret, or speaks to us and not to them.
pub fn is_hidden_from_children(name: &str) -> bool {
    const PREFIXES: [&str; 4] = ["PATRONI_", "TAMADA_", "KUBERNETES_", "LISTEN_"];
    const NAMES: [&str; 2] = ["NOTIFY_SOCKET", "PG_MALLOC_ARENA_MAX"];
    let upper = name.to_ascii_uppercase();
    PREFIXES.iter().any(|prefix| upper.starts_with(prefix)) || NAMES.contains(&name) || upper.contains("PASSWORD")
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
            "my_password",
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
