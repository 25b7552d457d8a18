//! How settings are laid over one another: the cluster's and the node's own, and a PATCH on the cluster's document.

use serde_json::{Map, Value};

use super::ServerSettings;

/// Parameters that only the cluster's configuration sets.
pub const CONTROLLED: [&str; 15] = [
    "listen_addresses",
    "port",
    "cluster_name",
    "wal_level",
    "hot_standby",
    "max_connections",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
    "track_commit_timestamp",
    "max_replication_slots",
    "max_worker_processes",
    "wal_log_hints",
    "wal_keep_segments",
    "wal_keep_size",
];

/// Whether only the cluster's configuration sets this parameter, in whatever case it is written.
pub fn is_controlled(parameter: &str) -> bool {
    CONTROLLED.iter().any(|controlled| controlled.eq_ignore_ascii_case(parameter))
}

/// What the server is to run with: the node's own settings win, parameters one by one and whatever their case, the rest
/// as a whole; but never a controlled parameter.
pub fn server_settings(cluster: &ServerSettings, local: &ServerSettings) -> ServerSettings {
    let mut parameters = Map::new();
    let own = local.parameters.iter().filter(|(name, _)| !is_controlled(name));
    for (name, value) in cluster.parameters.iter().chain(own) {
        let same = parameters.keys().find(|known: &&String| known.eq_ignore_ascii_case(name)).cloned();
        parameters.insert(same.unwrap_or_else(|| name.clone()), value.clone());
    }
    let either = |own: &Option<Vec<String>>, cluster: &Option<Vec<String>>| own.clone().or_else(|| cluster.clone());
    ServerSettings {
        parameters,
        pg_hba: either(&local.pg_hba, &cluster.pg_hba),
        pg_ident: either(&local.pg_ident, &cluster.pg_ident),
        recovery_conf: local.recovery_conf.clone().or_else(|| cluster.recovery_conf.clone()),
        use_pg_rewind: local.use_pg_rewind.or(cluster.use_pg_rewind),
        pre_promote: either(&local.pre_promote, &cluster.pre_promote),
        before_stop: either(&local.before_stop, &cluster.before_stop),
    }
}

/// A document after a PATCH.
#[derive(Clone, Debug, PartialEq)]
pub enum Patched {
    /// Nothing to be written.
    Same,
    Changed(Map<String, Value>),
}

/// Merge a PATCH into the cluster's document: maps recursively, `null` removes, a value that
/// reads the same as text as what is there is no change; a map for a new key is stored as it is.
pub fn patch(document: &Map<String, Value>, body: &Map<String, Value>) -> Patched {
    let mut patched = document.clone();
    match merge(&mut patched, body) {
        true => Patched::Changed(patched),
        false => Patched::Same,
    }
}

/// Whether anything has changed.
fn merge(into: &mut Map<String, Value>, body: &Map<String, Value>) -> bool {
    let mut is_changed = false;
    for (key, value) in body {
        is_changed |= match (into.get_mut(key), value) {
            (Some(_), Value::Null) => into.shift_remove(key).is_some(),
            (None, Value::Null) => false,
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            (Some(old), new) if reads_the_same(old, new) => false,
            _ => {
                into.insert(key.clone(), value.clone());
                true
            }
        };
    }
    is_changed
}

/// Whether a PUT of this document would change nothing.
pub fn is_same_document(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let same = |(key, value): (&String, &Value)| other.get(key).is_some_and(|o| is_same_document(value, o));
            one.len() == other.len() && one.iter().all(same)
        }
        _ => reads_the_same(one, other),
    }
}

/// Scalars are compared as the text that Python prints: `101` and `"101"`, `true` and `"True"`.
fn reads_the_same(one: &Value, other: &Value) -> bool {
    let text = |value: &Value| match value {
        Value::Null => Some("None".to_owned()),
        Value::Bool(true) => Some("True".to_owned()),
        Value::Bool(false) => Some("False".to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Array(_) | Value::Object(_) => None,
    };
    match (text(one), text(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::policy::Switch;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn local_settings_win_but_for_controlled_parameters() {
        let cluster = ServerSettings {
            parameters: object(json!({"max_connections": "30.4", "work_mem": "9MB", "shared_buffers": "1GB"})),
            pg_hba: Some(vec!["cluster".into()]),
            pg_ident: Some(vec!["cluster".into()]),
            recovery_conf: None,
            use_pg_rewind: Some(Switch::On),
            pre_promote: Some(vec!["cluster".into()]),
            before_stop: Some(vec!["cluster".into()]),
        };
        let local = ServerSettings {
            parameters: object(json!({"MAX_connections": 500, "work_mem": "1MB", "Shared_Buffers": "2GB", "x.y": 1})),
            pg_hba: Some(vec!["local".into()]),
            use_pg_rewind: Some(Switch::Off),
            pre_promote: Some(vec!["local".into()]),
            ..ServerSettings::default()
        };
        let merged = server_settings(&cluster, &local);
        let expected = json!({"max_connections": "30.4", "work_mem": "1MB", "shared_buffers": "2GB", "x.y": 1});
        assert_eq!(Value::Object(merged.parameters), expected);
        assert_eq!(merged.pg_hba, Some(vec!["local".into()]));
        assert_eq!(merged.pg_ident, Some(vec!["cluster".into()]));
        assert_eq!(merged.use_pg_rewind, Some(Switch::Off));
        assert_eq!(merged.pre_promote, Some(vec!["local".into()]));
        assert_eq!(merged.before_stop, Some(vec!["cluster".into()]));
    }

    #[test]
    fn a_patch_merges_removes_and_leaves_alone_what_reads_the_same() {
        let before =
            json!({"ttl": 30, "pause": true, "postgresql": {"parameters": {"max_connections": 101, "a": "b"}}});
        let cases = [
            (json!({}), None),
            (json!({"ttl": "30", "pause": "True"}), None),
            (json!({"absent": null}), None),
            (json!({"postgresql": {"parameters": {"max_connections": "101"}}}), None),
            (json!({"ttl": 31}), Some(json!({"ttl": 31, "pause": true, "postgresql": before["postgresql"]}))),
            (json!({"pause": null}), Some(json!({"ttl": 30, "postgresql": before["postgresql"]}))),
            (
                json!({"postgresql": {"parameters": {"max_connections": null, "a": null}}}),
                Some(json!({"ttl": 30, "pause": true, "postgresql": {"parameters": {}}})),
            ),
            (json!({"postgresql": [1]}), Some(json!({"ttl": 30, "pause": true, "postgresql": [1]}))),
        ];
        for (body, expected) in cases {
            let patched = patch(&object(before.clone()), &object(body.clone()));
            assert_eq!(patched, expected.map_or(Patched::Same, |after| Patched::Changed(object(after))), "{body}");
        }
        let stored = patch(&Map::new(), &object(json!({"slots": {"a": null}})));
        assert_eq!(stored, Patched::Changed(object(json!({"slots": {"a": null}}))));
    }

    #[test]
    fn documents_are_compared_as_text() {
        assert!(is_same_document(&json!({"a": {"b": 1}}), &json!({"a": {"b": "1"}})));
        assert!(!is_same_document(&json!({"a": 1}), &json!({"a": 1, "b": 2})));
        assert!(!is_same_document(&json!({"a": [1]}), &json!({"a": ["1"]})));
    }
}
