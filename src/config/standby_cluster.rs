//! `standby_cluster` in the cluster's configuration: what a cluster follows that has no primary of its own.

use serde_json::{Map, Value};

use super::problem::Problem;
use super::reader::scalar;
use super::{redact, units};
use crate::core::units::MemberName;
use crate::core::upstream::{Remote, Source};
use crate::core::view::ClusterView;

/// Of a change it is no problem: the host stands in the document already.
pub(super) const WITHOUT_HOST: &str = "standby_cluster: a port is given, but no host";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandbyCluster {
    pub source: Source,
    pub recovery: StandbyRecovery,
    /// How the first copy is made.
    pub methods: Vec<String>,
}

/// Recovery settings of a standby cluster; they go before the user's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StandbyRecovery {
    pub restore_command: Option<String>,
    pub archive_cleanup_command: Option<String>,
    /// Of the leader alone, as PostgreSQL takes it.
    pub min_apply_delay: Option<String>,
}

/// `None`: the cluster has a primary. A value of the wrong kind is a problem of the whole document: whether a primary stops
/// is not guessed.
pub(super) fn read(map: &Map<String, Value>, problems: &mut Vec<Problem>) -> Option<StandbyCluster> {
    let value = map.get("standby_cluster").filter(|value| !value.is_null())?;
    let Some(section) = value.as_object() else {
        let what = format!("{}, not a map", redact::given("standby_cluster", value));
        problems.push(Problem::new("standby_cluster", what));
        return None;
    };
    let mut given = |key: &str, accepted: &str, read: &dyn Fn(&Value) -> Option<String>| {
        let value = section.get(key).filter(|value| is_given(value))?;
        let text = read(value);
        if text.is_none() {
            let path = format!("standby_cluster.{key}");
            let what = format!("{}; expected: {accepted}", redact::given(&path, value));
            problems.push(Problem { key: path, what });
        }
        text
    };
    let host = given("host", "a name or an address, or several with commas between them", &host);
    let port = given("port", "a port from 1 to 65535", &port);
    let slot = given("primary_slot_name", "text", &text);
    let restore_command = given("restore_command", "a command", &text);
    let archive_cleanup_command = given("archive_cleanup_command", "a command", &text);
    let min_apply_delay =
        given("recovery_min_apply_delay", "milliseconds, or a number with a unit of PostgreSQL's", &delay);
    let methods = section.get("create_replica_methods").filter(|value| !value.is_null());
    let read_methods = methods.map(names);
    if let (Some(None), Some(value)) = (&read_methods, methods) {
        let what = format!("{}; expected: a list of names", redact::given("standby_cluster", value));
        problems.push(Problem::new("standby_cluster.create_replica_methods", what));
    }
    if host.is_none() && port.is_some() && !section.get("host").is_some_and(is_given) {
        let (key, what) = WITHOUT_HOST.split_once(": ").unwrap_or_default();
        problems.push(Problem::new(key, what.to_owned()));
    }
    let source = match host {
        Some(host) => {
            let port = port.and_then(|port| port.parse().ok()).unwrap_or(5432);
            Source::Remote(Remote { host, port, slot: slot.map(|slot| MemberName::new(slot).slot_name()) })
        }
        None if restore_command.is_some() => Source::Archive,
        None => return None,
    };
    let recovery = StandbyRecovery { restore_command, archive_cleanup_command, min_apply_delay };
    Some(StandbyCluster { source, recovery, methods: read_methods.flatten().unwrap_or_default() })
}

/// What is wrong with a document that is about to be written to this cluster; each entry is `key: what is wrong`.
pub fn objections(document: &Map<String, Value>, view: &ClusterView) -> Vec<String> {
    let mut problems = Vec::new();
    let read = read(document, &mut problems);
    let itself = read.and_then(|standby| match standby.source {
        Source::Remote(remote) => remote.member_of(view).map(|member| (remote, member.name.clone())),
        Source::Archive => None,
    });
    problems.extend(itself.map(|(remote, member)| {
        let what = format!("{remote} is {member}, a member of this cluster, which cannot follow itself");
        Problem::new("standby_cluster.host", what)
    }));
    problems.iter().map(Problem::to_string).collect()
}

fn is_given(value: &Value) -> bool {
    !value.is_null() && value.as_str() != Some("")
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.contains(['\0', '\n', '\r'])).map(str::to_owned)
}

fn host(value: &Value) -> Option<String> {
    let text = text(value)?;
    let hosts: Vec<&str> = text.split(',').map(str::trim).collect();
    let is_host = |host: &&str| !host.is_empty() && !host.contains(char::is_whitespace);
    hosts.iter().all(is_host).then(|| hosts.join(","))
}

fn port(value: &Value) -> Option<String> {
    let number = match value {
        Value::Number(number) => number.as_i64()?,
        Value::String(text) => text.trim().parse().ok()?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    (1..=65_535).contains(&number).then(|| number.to_string())
}

fn delay(value: &Value) -> Option<String> {
    if !value.is_number() && !value.is_string() {
        return None;
    }
    let text = scalar(value)?;
    let milliseconds = units::parse_int(&text, Some("ms"))?;
    (0..=i64::from(i32::MAX)).contains(&milliseconds).then_some(text)
}

fn names(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|name| name.as_str().filter(|name| !name.is_empty()).map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::view::{Address, Member};

    fn parsed(section: Value) -> Result<Option<StandbyCluster>, Vec<String>> {
        let mut problems = Vec::new();
        let document = json!({ "standby_cluster": section });
        let read = read(document.as_object().expect("a map"), &mut problems);
        if problems.is_empty() { Ok(read) } else { Err(problems.iter().map(ToString::to_string).collect()) }
    }

    #[test]
    fn every_key_is_read() {
        let section = json!({
            "host": "a, b", "port": "6432", "primary_slot_name": "To-Here", "restore_command": "cp /a/%f %p",
            "archive_cleanup_command": "clean", "recovery_min_apply_delay": "5min",
            "create_replica_methods": ["basebackup"],
        });
        let remote = Remote { host: "a,b".into(), port: 6432, slot: Some("to_here".into()) };
        let expected = StandbyCluster {
            source: Source::Remote(remote),
            recovery: StandbyRecovery {
                restore_command: Some("cp /a/%f %p".into()),
                archive_cleanup_command: Some("clean".into()),
                min_apply_delay: Some("5min".into()),
            },
            methods: vec!["basebackup".into()],
        };
        assert_eq!(parsed(section), Ok(Some(expected)));
        let least = parsed(json!({"host": "a"})).map(|standby| standby.map(|standby| standby.source));
        assert_eq!(least, Ok(Some(Source::Remote(Remote { host: "a".into(), port: 5432, slot: None }))));
        let archive = parsed(json!({"restore_command": "cp"})).map(|standby| standby.map(|standby| standby.source));
        assert_eq!(archive, Ok(Some(Source::Archive)));
    }

    #[test]
    fn what_names_nothing_to_follow_is_no_standby_cluster() {
        for section in [json!(null), json!({}), json!({"host": "", "port": null}), json!({"primary_slot_name": "a"})] {
            assert_eq!(parsed(section.clone()), Ok(None), "{section}");
        }
    }

    #[test]
    fn each_wrong_value_is_told() {
        let wrong = [
            (json!("a"), "standby_cluster: "),
            (json!(["a"]), "standby_cluster: "),
            (json!({"host": 5}), "standby_cluster.host: "),
            (json!({"host": "a b"}), "standby_cluster.host: "),
            (json!({"host": "a,,b"}), "standby_cluster.host: "),
            (json!({"host": "a", "port": 0}), "standby_cluster.port: "),
            (json!({"host": "a", "port": 65536}), "standby_cluster.port: "),
            (json!({"host": "a", "port": "x"}), "standby_cluster.port: "),
            (json!({"port": 5432}), WITHOUT_HOST),
            (json!({"host": "a", "primary_slot_name": 7}), "standby_cluster.primary_slot_name: "),
            (json!({"restore_command": ["cp"]}), "standby_cluster.restore_command: "),
            (json!({"host": "a", "archive_cleanup_command": true}), "standby_cluster.archive_cleanup_command: "),
            (json!({"host": "a", "recovery_min_apply_delay": -1}), "standby_cluster.recovery_min_apply_delay: "),
            (json!({"host": "a", "recovery_min_apply_delay": "5x"}), "standby_cluster.recovery_min_apply_delay: "),
            (json!({"host": "a", "create_replica_methods": "x"}), "standby_cluster.create_replica_methods: "),
        ];
        for (section, told) in wrong {
            let problems = parsed(section.clone()).expect_err("wrong");
            assert!(problems.len() == 1 && problems[0].starts_with(told), "{section}: {problems:?}");
        }
        assert_eq!(parsed(json!({"host": [], "port": "x", "restore_command": 1})).expect_err("wrong").len(), 3);
    }

    #[test]
    fn a_cluster_does_not_follow_itself() {
        let address = Address { host: "N1".into(), port: 5432, database: "postgres".into() };
        let member = Member { address: Some(address), ..Member::empty("n1".into()) };
        let view = ClusterView { members: [(member.name.clone(), member)].into(), ..ClusterView::default() };
        let told = |section: Value| {
            let document = json!({ "standby_cluster": section });
            objections(document.as_object().expect("a map"), &view)
        };
        let itself =
            "standby_cluster.host: elsewhere,n1 port 5432 is n1, a member of this cluster, which cannot follow itself";
        assert_eq!(told(json!({"host": "elsewhere,n1"})), [itself]);
        assert_eq!(told(json!({"host": "n1", "port": 5433})), [""; 0]);
        assert_eq!(told(json!({"port": 5433})), [WITHOUT_HOST], "in the whole document");
    }
}
