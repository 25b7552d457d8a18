//! Keys of the cluster's configuration: which are known, which have no effect, and values that PostgreSQL cannot take.

use serde_json::{Map, Value};

use super::reader::as_switch;
use super::{Dynamic, node_settings, slots};
use crate::core::policy::Switch;

const KNOWN: [&str; 25] = [
    "check_timeline",
    "failsafe_mode",
    "ignore_slots",
    "loop_wait",
    "master_start_timeout",
    "master_stop_timeout",
    "max_timelines_history",
    "maximum_lag_on_failover",
    "maximum_lag_on_syncnode",
    "member_slots_ttl",
    "pause",
    "permanent_replication_slots",
    "permanent_slots",
    "postgresql",
    "primary_race_backoff",
    "primary_start_timeout",
    "primary_stop_timeout",
    "retry_timeout",
    "slots",
    "standby_cluster",
    "synchronous_mode",
    "synchronous_mode_strict",
    "synchronous_node_count",
    "synchronous_node_groups",
    "ttl",
];

const KNOWN_OF_POSTGRESQL: [&str; 10] = [
    "before_stop",
    "parameters",
    "pg_hba",
    "pg_ident",
    "pre_promote",
    "recovery_conf",
    "remove_data_directory_on_diverged_timelines",
    "remove_data_directory_on_rewind_failure",
    "use_pg_rewind",
    "use_slots",
];

/// Read from a node's own configuration only, although Patroni takes them from both.
const NODE_ONLY: [&str; 2] = ["create_replica_method", "create_replica_methods"];

/// Not implemented, wherever they stand.
const NOT_IMPLEMENTED: [&str; 9] = [
    "parameters_primary",
    "parameters_replica",
    "parameters_standby_leader",
    "pg_hba_primary",
    "pg_hba_replica",
    "pg_hba_standby_leader",
    "pg_ident_primary",
    "pg_ident_replica",
    "pg_ident_standby_leader",
];

const KNOWN_OF_STANDBY_CLUSTER: [&str; 7] = [
    "archive_cleanup_command",
    "create_replica_methods",
    "host",
    "port",
    "primary_slot_name",
    "recovery_min_apply_delay",
    "restore_command",
];

impl Dynamic {
    /// Warnings about settings in this document that have no effect: those that this version reads from a node's own
    /// configuration only, those that are not implemented, and values that PostgreSQL cannot take.
    pub fn without_effect(document: &Value) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(postgresql) = document.get("postgresql").and_then(Value::as_object) {
            for key in postgresql.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key) {
                if NODE_ONLY.contains(&key.as_str()) {
                    let text = "has no effect in the cluster's configuration; set it in each node's own";
                    warnings.push(format!("postgresql.{key} {text}"));
                } else if NOT_IMPLEMENTED.contains(&key.as_str()) {
                    warnings.push(format!("postgresql.{key} is not implemented and has no effect"));
                }
            }
            warnings.extend(methods_without_effect(postgresql));
            let left_out = node_settings::read(postgresql).1.into_iter();
            warnings.extend(left_out.map(|problem| format!("{problem}; this setting is left out")));
            let parameters = postgresql.get("parameters").and_then(Value::as_object);
            warnings.extend(parameters.into_iter().flat_map(misplaced));
        }
        let standby = document.get("standby_cluster").and_then(Value::as_object);
        if standby.is_some_and(|standby| !custom_methods(standby).is_empty()) {
            let text = "standby_cluster.create_replica_methods: the first copy is made by pg_basebackup only; other \
                        methods have no effect yet";
            warnings.push(text.to_owned());
        }
        if document.get("check_timeline").and_then(as_switch) == Some(Switch::Off) {
            let text = "check_timeline: off has no effect: a member of an older timeline never becomes the leader";
            warnings.push(text.to_owned());
        }
        if document.get("primary_race_backoff").is_some_and(|value| !value.is_null()) {
            warnings.push("primary_race_backoff is not implemented and has no effect".to_owned());
        }
        warnings
    }

    /// All that a person should know of this document, or of a change, which has the same form.
    pub fn warnings(document: &Map<String, Value>) -> Vec<String> {
        let unknown = Dynamic::unknown_keys(document).into_iter();
        let unknown = unknown.map(|key| format!("{key} is not a known setting and has no effect"));
        let slots = slots::problems(document).into_iter();
        let slots = slots.map(|problem| format!("{problem}; this is left out, and a slot of that name is left alone"));
        Dynamic::without_effect(&Value::Object(document.clone())).into_iter().chain(unknown).chain(slots).collect()
    }

    /// Paths of the keys in this document that nobody reads; `null` is absent.
    pub(super) fn unknown_keys(document: &Map<String, Value>) -> Vec<String> {
        let no_methods = Map::new();
        let postgresql = document.get("postgresql").and_then(Value::as_object);
        let methods: Vec<&str> = custom_methods(postgresql.unwrap_or(&no_methods));
        let is_of_postgresql = |key: &str| {
            let lists: [&[&str]; 5] =
                [&KNOWN_OF_POSTGRESQL, &node_settings::KEYS, &NODE_ONLY, &NOT_IMPLEMENTED, &methods];
            lists.iter().any(|list| list.contains(&key))
        };
        let standby = document.get("standby_cluster").and_then(Value::as_object);
        let given = |map: &Map<String, Value>| -> Vec<String> {
            map.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key.clone()).collect()
        };
        let top = given(document).into_iter().filter(|key| !KNOWN.contains(&key.as_str()));
        let below = |name: &'static str, map: Option<&Map<String, Value>>, is_known: &dyn Fn(&str) -> bool| {
            let keys = map.map(given).unwrap_or_default().into_iter().filter(|key| !is_known(key));
            keys.map(|key| format!("{name}.{key}")).collect::<Vec<_>>()
        };
        top.chain(below("postgresql", postgresql, &is_of_postgresql))
            .chain(below("standby_cluster", standby, &|key| KNOWN_OF_STANDBY_CLUSTER.contains(&key)))
            .collect()
    }
}

/// Sections of ways to make a replica besides pg_basebackup.
fn methods_without_effect(postgresql: &Map<String, Value>) -> Vec<String> {
    let sections = custom_methods(postgresql).into_iter().filter(|method| postgresql.contains_key(*method));
    sections
        .map(|method| format!("postgresql.{method} has no effect: replicas are made by pg_basebackup only"))
        .collect()
}

fn custom_methods(postgresql: &Map<String, Value>) -> Vec<&str> {
    let lists = ["create_replica_methods", "create_replica_method"].into_iter().filter_map(|key| postgresql.get(key));
    let methods = lists.filter_map(Value::as_array).flatten().filter_map(Value::as_str);
    methods.filter(|method| *method != "basebackup").collect()
}

/// Parameters that are no text, number or boolean; each with the place where it belongs, if there is one.
pub(super) fn misplaced(parameters: &Map<String, Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, value) in parameters {
        let what = match value {
            Value::Null => "null",
            Value::Array(_) => "a list",
            Value::Object(_) => "a map",
            Value::Bool(_) | Value::Number(_) | Value::String(_) => continue,
        };
        let places: [&[&str]; 3] = [&KNOWN_OF_POSTGRESQL, &node_settings::KEYS, &NODE_ONLY];
        let belongs = places.iter().any(|keys| keys.contains(&name.as_str()));
        let advice = if belongs { format!("; its place is postgresql.{name}") } else { String::new() };
        warnings.push(format!(
            "postgresql.parameters.{name}: {what} given, which is no value of a parameter and is left out{advice}"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_without_effect_are_told() {
        for key in NODE_ONLY {
            let document = json!({"postgresql": {key: "x", "use_slots": true}});
            let expected =
                format!("postgresql.{key} has no effect in the cluster's configuration; set it in each node's own");
            assert_eq!(Dynamic::without_effect(&document), [expected]);
            assert!(Dynamic::without_effect(&json!({"postgresql": {key: null}})).is_empty());
        }
        for key in NOT_IMPLEMENTED {
            assert_eq!(Dynamic::without_effect(&json!({"postgresql": {key: {"a": 1}}})).len(), 1, "{key}");
        }
        let standby = |methods: Value| json!({"standby_cluster": {"host": "a", "create_replica_methods": methods}});
        assert_eq!(Dynamic::without_effect(&standby(json!(["wal_e", "basebackup"]))).len(), 1);
        assert!(Dynamic::without_effect(&standby(json!(["basebackup"]))).is_empty());
        assert_eq!(Dynamic::without_effect(&json!({"check_timeline": "off"})).len(), 1);
        assert_eq!(Dynamic::without_effect(&json!({"primary_race_backoff": 3})).len(), 1);
        assert!(Dynamic::without_effect(&json!({"check_timeline": true, "ttl": 30})).is_empty());
        let method =
            json!({"postgresql": {"create_replica_methods": ["wal_e", "basebackup"], "wal_e": {"command": "x"}}});
        assert_eq!(Dynamic::without_effect(&method).len(), 2);
    }

    #[test]
    fn a_parameter_that_is_no_scalar_is_told_with_its_place() {
        let parameters = json!({"recovery_conf": {"restore_command": "x"}, "a": [1], "b": null, "c": 1, "d": "x"});
        assert_eq!(
            Dynamic::without_effect(&json!({"postgresql": {"parameters": parameters}})),
            [
                "postgresql.parameters.recovery_conf: a map given, which is no value of a parameter and is left out; its \
                 place is postgresql.recovery_conf",
                "postgresql.parameters.a: a list given, which is no value of a parameter and is left out",
                "postgresql.parameters.b: null given, which is no value of a parameter and is left out",
            ]
        );
    }

    #[test]
    fn unknown_keys_are_found_at_every_level() {
        let document = json!({"ttll": 30, "ttl": 30, "postgresql": {"initdb": [], "parameters": {"x.y": 1}, "wal_e": {},
                              "create_replica_methods": ["wal_e"]}, "standby_cluster": {"hots": "x"}});
        let document = document.as_object().unwrap();
        assert_eq!(Dynamic::unknown_keys(document), ["ttll", "postgresql.initdb", "standby_cluster.hots"]);
        let removal = json!({"ttll": null, "postgresql": {"initdb": null}, "standby_cluster": {"hots": null}});
        assert_eq!(Dynamic::unknown_keys(removal.as_object().unwrap()), [""; 0]);
        assert_eq!(
            Dynamic::warnings(document),
            [
                "postgresql.create_replica_methods has no effect in the cluster's configuration; set it in each node's own",
                "postgresql.wal_e has no effect: replicas are made by pg_basebackup only",
                "ttll is not a known setting and has no effect",
                "postgresql.initdb is not a known setting and has no effect",
                "standby_cluster.hots is not a known setting and has no effect",
            ]
        );
    }
}
