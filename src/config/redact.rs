//! What may be shown of a value: in errors, warnings and the effective configuration.
//!
//! **Invariant:** a value at a secret path is never shown. Values that look as if they held a secret (a URL with a
//! password, a command with a token or a key) are hidden as well: better one line too few than one secret too many.

use serde_json::Value;

pub const HIDDEN: &str = "***";

/// Parts of a name that make it one of a secret.
const PARTS: [&str; 9] =
    ["password", "passwd", "passphrase", "secret", "token", "credential", "auth_data", "authorization", "apikey"];

/// Words that do so as the last of a name: `CIPHER_PASS`, `aws-access-key`, `X-API-Key`; but no file of a key.
const LAST_WORDS: [&str; 4] = ["pass", "pw", "pwd", "key"];

/// Names that hold such a word, and no secret: the first are paths of files.
const OPEN_NAMES: [&str; 5] =
    ["key", "keyfile", "sslkey", "password_encryption", "ssl_passphrase_command_supports_reload"];

/// The keys of a role that are no secret.
const OPEN_ROLE_KEYS: [&str; 10] = [
    "username",
    "sslmode",
    "sslcert",
    "sslkey",
    "sslrootcert",
    "sslcrl",
    "sslcrldir",
    "gssencmode",
    "channel_binding",
    "sslnegotiation",
];

pub(super) fn is_secret(path: &str) -> bool {
    const SECRET: [&str; 4] = ["etcd3.url", "etcd3.proxy", "environment.configuration", "bootstrap.users"];
    if let Some(key) = path.strip_prefix("postgresql.authentication.") {
        let key = key.split_once('.').map_or("", |(_, key)| key);
        return !OPEN_ROLE_KEYS.contains(&key);
    }
    let is_at = |at: &str| path == at || path.strip_prefix(at).is_some_and(|rest| rest.starts_with('.'));
    SECRET.iter().any(|secret| is_at(secret)) || path.split('.').any(names_a_secret)
}

/// The value at this path as people may see it.
pub(super) fn shown(path: &str, value: &Value) -> String {
    if is_hidden(path, value) {
        return HIDDEN.to_owned();
    }
    match value {
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => text.replace('\n', "\\n"),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| shown(path, item)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => {
            let entries = map.iter().map(|(key, value)| format!("{key}: {}", shown(&format!("{path}.{key}"), value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// The value at this path with `HIDDEN` in the place of each secret in it.
pub fn redacted(path: &str, value: &Value) -> Value {
    if is_hidden(path, value) {
        return HIDDEN.into();
    }
    match value {
        Value::Array(items) => items.iter().map(|item| redacted(path, item)).collect(),
        Value::Object(map) => {
            let dot = if path.is_empty() { "" } else { "." };
            map.iter().map(|(key, value)| (key.clone(), redacted(&format!("{path}{dot}{key}"), value))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// Whether this value as a whole is not shown.
pub(super) fn is_hidden(path: &str, value: &Value) -> bool {
    is_secret(path) || value.as_str().is_some_and(looks_secret)
}

/// The same, for an error: quoted, and a map or a list only by what it is.
pub(super) fn given(path: &str, value: &Value) -> String {
    match value {
        Value::Null => "nothing given".to_owned(),
        Value::Object(_) => "a map given".to_owned(),
        Value::Array(_) => "a list given".to_owned(),
        _ if is_hidden(path, value) => "a value that is not shown here given".to_owned(),
        Value::String(text) => format!("{text:?} given"),
        Value::Bool(_) | Value::Number(_) => format!("{value} given"),
    }
}

/// A text that may hold a secret: a URL with a password, or a command or a connection string that names one.
fn looks_secret(text: &str) -> bool {
    let has_user_info = text.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', ' ', '\'', '"']).next().unwrap_or_default();
        authority.contains('@')
    });
    let mut names = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-');
    has_user_info || (text.contains(['=', ':', ' ']) && names.any(|name| names_a_secret(name.trim_start_matches('-'))))
}

/// Whether a setting, a variable, an option or a header of this name holds a secret.
fn names_a_secret(name: &str) -> bool {
    let lower = name.to_ascii_lowercase().replace('-', "_");
    if OPEN_NAMES.contains(&lower.as_str()) {
        return false;
    }
    let last = lower.rsplit('_').next().unwrap_or_default();
    PARTS.iter().any(|part| lower.contains(part)) || LAST_WORDS.contains(&last)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_told_by_their_path_and_by_their_look() {
        let cases = [
            ("postgresql.authentication.superuser.password", json!("x"), "***"),
            ("postgresql.authentication.superuser.passwort", json!("x"), "***"),
            ("postgresql.authentication.superuser", json!("x"), "***"),
            ("postgresql.authentication.superuser.username", json!("postgres"), "postgres"),
            ("restapi.authentication.password", json!("x"), "***"),
            ("restapi.keyfile_password", json!("x"), "***"),
            ("etcd3.url", json!("http://a:2379"), "***"),
            ("etcd3.hosts", json!(["http://u:p@h"]), "[***]"),
            ("postgresql.parameters.password_encryption", json!("scram-sha-256"), "scram-sha-256"),
            ("postgresql.parameters.archive_command", json!("TOKEN=abc wal-push %p"), "***"),
            (
                "bootstrap.dcs.postgresql.recovery_conf",
                json!({"primary_conninfo": "host=a password=b"}),
                "{primary_conninfo: ***}",
            ),
            ("postgresql.parameters.archive_command", json!("CIPHER_PASS=abc pgbackrest %p"), "***"),
            ("postgresql.parameters.archive_command", json!("env PGBACKREST_REPO1_S3_KEY='abc' x %p"), "***"),
            ("postgresql.parameters.archive_command", json!("AWS_SECRET_ACCESS_KEY=abc wal-g %p"), "***"),
            ("postgresql.parameters.archive_command", json!("push --api-key abc %p"), "***"),
            ("postgresql.parameters.archive_command", json!("curl -H 'X-API-Key: abc' %p"), "***"),
            ("postgresql.parameters.archive_command", json!("cp %p /keys/%f"), "cp %p /keys/%f"),
            ("postgresql.callbacks.on_start", json!("/cb --pass abc"), "***"),
            ("restapi.http_extra_headers", json!({"X-API-Key": "abc", "X-A": "b"}), "{X-API-Key: ***, X-A: b}"),
            ("log.static_fields.api_key", json!("abc"), "***"),
            ("tags.DB_PASS", json!("abc"), "***"),
            ("postgresql.parameters.x.cipher_key", json!("abc"), "***"),
            ("etcd3.key", json!("/tls/etcd.key"), "/tls/etcd.key"),
            ("restapi.keyfile", json!("/tls/rest.key"), "/tls/rest.key"),
            ("postgresql.authentication.rewind.sslkey", json!("/tls/a.key"), "/tls/a.key"),
            ("postgresql.parameters.ssl_key_file", json!("/tls/a.key"), "/tls/a.key"),
            ("postgresql.pgpass", json!("/run/pgpass"), "/run/pgpass"),
            ("bootstrap.dcs.ttl", json!(30), "30"),
            ("name", json!("a\nb"), "a\\nb"),
        ];
        for (path, value, expected) in cases {
            assert_eq!(shown(path, &value), expected, "{path}");
        }
    }
}
