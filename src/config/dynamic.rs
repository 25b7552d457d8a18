//! The cluster's own configuration, the `config` key: lenient where Patroni is (a bad value means the default) and strict
//! where it rejects a whole document.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use super::lenient::{is_something, whole};
use super::problem::Problem;
use super::reader::{as_lines, as_switch};
use super::{
    NodeSettings, ServerSettings, StandbyCluster, node_settings, redact, slots, standby_cluster, synchronous, words,
};
use crate::core::policy::{IgnoredSlot, Pause, PermanentSlot, Switch, Synchronous, Timing};

/// The `config` key, checked. Unknown keys are kept in the document and ignored here.
#[derive(Clone, Debug, PartialEq)]
pub struct Dynamic {
    pub timing: Timing,
    pub maximum_lag_on_failover: u64,
    pub primary_start_timeout: Duration,
    pub primary_stop_timeout: Duration,
    pub pause: Pause,
    pub max_timelines_history: usize,
    pub member_slots_ttl: Duration,
    pub use_slots: Switch,
    pub synchronous: Synchronous,
    pub failsafe: Switch,
    pub standby_cluster: Option<StandbyCluster>,
    pub permanent_slots: BTreeMap<String, PermanentSlot>,
    pub ignore_slots: Vec<IgnoredSlot>,
    pub server: ServerSettings,
    pub node: NodeSettings,
    /// Where the cluster says so.
    pub remove_diverged_data: Option<Switch>,
    pub remove_data_after_failed_rewind: Option<Switch>,
}

fn as_texts(problems: Vec<Problem>) -> Vec<String> {
    problems.iter().map(Problem::to_string).collect()
}

impl Dynamic {
    /// Read the document. `Err`: members keep the configuration that they had; each entry is `key: what is wrong`.
    pub fn parse(document: &Value) -> Result<Dynamic, Vec<String>> {
        let Value::Object(map) = document else {
            return Err(as_texts(vec![Problem::new("", "not a JSON object".to_owned())]));
        };
        Dynamic::read(map).map_err(as_texts)
    }

    pub(super) fn read(map: &Map<String, Value>) -> Result<Dynamic, Vec<Problem>> {
        let mut problems = Vec::new();
        let timing = timing(map, &mut problems);
        let none = Map::new();
        let postgresql = map.get("postgresql").and_then(Value::as_object).unwrap_or(&none);
        let server = server(postgresql, &mut problems);
        let synchronous = synchronous::read(map, &mut problems);
        let failsafe = failsafe(map, &mut problems);
        let standby_cluster = standby_cluster::read(map, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let slots = slots::read(map, Switch::from(standby_cluster.is_some()));
        let number = |key: &str, default| whole(map.get(key), None).unwrap_or(default);
        let seconds = |key: &str, old_key: &str, default| {
            let given = if map.contains_key(key) { map.get(key) } else { map.get(old_key) };
            Duration::from_secs(whole(given, None).unwrap_or(default))
        };
        Ok(Dynamic {
            timing,
            maximum_lag_on_failover: number("maximum_lag_on_failover", 1_048_576),
            primary_start_timeout: seconds("primary_start_timeout", "master_start_timeout", 300),
            primary_stop_timeout: seconds("primary_stop_timeout", "master_stop_timeout", 0),
            pause: if switch(map.get("pause")).is_on() { Pause::Paused } else { Pause::Running },
            max_timelines_history: usize::try_from(number("max_timelines_history", 0)).unwrap_or(0),
            member_slots_ttl: Duration::from_secs(whole(map.get("member_slots_ttl"), Some("s")).unwrap_or(1800)),
            synchronous,
            failsafe,
            standby_cluster,
            permanent_slots: slots.permanent,
            ignore_slots: slots.ignored,
            use_slots: postgresql.get("use_slots").map_or(Switch::On, |value| switch(Some(value))),
            remove_diverged_data: postgresql.get("remove_data_directory_on_diverged_timelines").map(truthy),
            remove_data_after_failed_rewind: postgresql.get("remove_data_directory_on_rewind_failure").map(truthy),
            server,
            node: node_settings::read(postgresql).0,
        })
    }

    /// Why a PATCH with these keys must be refused; each entry is `key: what is wrong`. Keys that it removes (`null`)
    /// are never a problem.
    pub fn problems_of_patch(body: &Map<String, Value>) -> Vec<String> {
        let mut given = body.clone();
        given.retain(|_, value| !value.is_null());
        let mut problems = Dynamic::problems_of(&given);
        problems.retain(|problem| problem != standby_cluster::WITHOUT_HOST);
        problems
    }

    /// Why a PUT of this document must be refused: it stands there as it is, `null` included.
    pub fn problems_of(document: &Map<String, Value>) -> Vec<String> {
        let parsed = Dynamic::parse(&Value::Object(document.clone()));
        let section = document.get("postgresql").filter(|section| !section.is_null());
        let postgresql = section.and_then(Value::as_object);
        let no_map = section.filter(|section| !section.is_object());
        let no_map = no_map.map(|section| format!("postgresql: {}, not a map", redact::given("", section)));
        let of_node = postgresql.map(|postgresql| {
            let (_, problems) = node_settings::read(postgresql);
            as_texts(problems.into_iter().chain(node_settings::problems_of_server(postgresql)).collect())
        });
        parsed.err().into_iter().chain(of_node).flatten().chain(no_map).collect()
    }
}

impl Default for Dynamic {
    /// What an empty document means.
    fn default() -> Self {
        Dynamic::parse(&Value::Object(Map::new())).expect("an empty document has nothing that could be wrong")
    }
}

fn timing(map: &Map<String, Value>, problems: &mut Vec<Problem>) -> Timing {
    let default = Timing::default();
    let mut timer = |key: &str, default| match map.get(key) {
        None => default,
        Some(value) => timer(value).unwrap_or_else(|| {
            problems.push(Problem::new(key, format!("{}, not a whole number of seconds", redact::given(key, value))));
            default
        }),
    };
    Timing {
        ttl: timer("ttl", default.ttl),
        loop_wait: timer("loop_wait", default.loop_wait),
        retry_timeout: timer("retry_timeout", default.retry_timeout),
        ..default
    }
}

/// Absent is off. Of a value that is neither on nor off nothing is guessed: whether a primary stops depends on it.
fn failsafe(map: &Map<String, Value>, problems: &mut Vec<Problem>) -> Switch {
    let Some(value) = map.get("failsafe_mode").filter(|value| !value.is_null()) else { return Switch::Off };
    as_switch(value).unwrap_or_else(|| {
        problems
            .push(Problem::new("failsafe_mode", format!("{}, not on or off", redact::given("failsafe_mode", value))));
        Switch::Off
    })
}

/// A timer: a number, its fraction cut, or a whole number as text. Below zero is zero, and raised later.
fn timer(value: &Value) -> Option<Duration> {
    /// Longer than any lease can be granted for.
    const SECONDS_MAX: u64 = 1 << 31;
    let seconds = match value {
        Value::Number(number) => number.as_f64()?.trunc(),
        Value::String(text) => text.trim().parse::<i64>().ok()? as f64,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    Some(Duration::from_secs((seconds.max(0.0) as u64).min(SECONDS_MAX)))
}

/// A boolean word or a boolean; anything else is off.
fn switch(value: Option<&Value>) -> Switch {
    value.and_then(as_switch).unwrap_or(Switch::Off)
}

/// A flag that Patroni only tests for being something. Words are read as words all the same: its text `off`
/// means on only by accident.
fn truthy(value: &Value) -> Switch {
    as_switch(value).unwrap_or(Switch::from(is_something(value)))
}

/// Whether this section of the cluster's configuration makes it a standby cluster: it names something to follow.
pub fn is_standby_cluster(section: Option<&Value>) -> bool {
    let section = section.and_then(Value::as_object);
    let is_set = |key: &&str| section.is_some_and(|section| section.get(*key).is_some_and(is_something));
    ["host", "port", "restore_command"].iter().any(is_set)
}

fn server(postgresql: &Map<String, Value>, problems: &mut Vec<Problem>) -> ServerSettings {
    let parameters = match postgresql.get("parameters") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(parameters)) => parameters.clone(),
        Some(other) => {
            problems.push(Problem::new("postgresql.parameters", format!("{}, not a map", redact::given("", other))));
            Map::new()
        }
    };
    let mut command = |key: &str| match postgresql.get(key) {
        None | Some(Value::Null) => None,
        Some(value) => {
            let words = value.as_str().filter(|text| !text.contains('\0')).and_then(words::split);
            if words.is_none() {
                let path = format!("postgresql.{key}");
                problems.push(Problem::new(&path, "no command line in a shell's notation".to_owned()));
            }
            words.filter(|words| !words.is_empty())
        }
    };
    let (pre_promote, before_stop) = (command("pre_promote"), command("before_stop"));
    let lines = |key: &str| postgresql.get(key).and_then(as_lines).filter(|lines| !lines.is_empty());
    ServerSettings {
        parameters,
        pg_hba: lines("pg_hba"),
        pg_ident: lines("pg_ident"),
        recovery_conf: postgresql.get("recovery_conf").and_then(Value::as_object).cloned(),
        use_pg_rewind: postgresql.get("use_pg_rewind").map(truthy),
        pre_promote,
        before_stop,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(document: Value) -> Map<String, Value> {
        document.as_object().cloned().expect("a map")
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_empty_document_means_the_defaults() {
        let dynamic = Dynamic::default();
        assert_eq!(dynamic.timing, Timing::default());
        assert_eq!(dynamic.maximum_lag_on_failover, 1_048_576);
        assert_eq!(dynamic.primary_start_timeout, seconds(300));
        assert_eq!(dynamic.member_slots_ttl, seconds(1800));
        assert_eq!((dynamic.use_slots, dynamic.pause), (Switch::On, Pause::Running));
        assert_eq!(dynamic.server, ServerSettings::default());
    }

    #[test]
    fn spellings_are_taken_as_patroni_takes_them() {
        let dynamic = Dynamic::parse(&json!({
            "ttl": "25", "loop_wait": 5.9, "retry_timeout": -1, "maximum_lag_on_failover": "1MB",
            "master_start_timeout": "7", "member_slots_ttl": "30min", "pause": "Yes",
            "max_timelines_history": "0x10", "unknown": [1],
            "postgresql": {"use_slots": "off", "use_pg_rewind": "on", "pg_hba": "a\nb", "parameters": null,
                           "remove_data_directory_on_diverged_timelines": 1},
        }))
        .unwrap();
        let timing =
            Timing { ttl: seconds(25), loop_wait: seconds(5), retry_timeout: seconds(0), reset_before: Duration::ZERO };
        assert_eq!(dynamic.timing, timing);
        assert_eq!(dynamic.maximum_lag_on_failover, 1_048_576);
        assert_eq!(dynamic.primary_start_timeout, seconds(7));
        assert_eq!(dynamic.member_slots_ttl, seconds(1800));
        assert_eq!(dynamic.pause, Pause::Paused);
        assert_eq!(dynamic.max_timelines_history, 16);
        assert_eq!(dynamic.use_slots, Switch::Off);
        assert_eq!(dynamic.server.use_pg_rewind, Some(Switch::On));
        assert_eq!(dynamic.server.pg_hba, Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(dynamic.remove_diverged_data, Some(Switch::On));
    }

    #[test]
    fn a_document_that_patroni_rejects_is_rejected() {
        let cases = [
            json!([]),
            json!({"ttl": "abc"}),
            json!({"ttl": null}),
            json!({"loop_wait": [1]}),
            json!({"retry_timeout": "30.7"}),
            json!({"postgresql": {"parameters": ["a"]}}),
            json!({"postgresql": {"pre_promote": "/bin/fence 'a"}}),
            json!({"postgresql": {"before_stop": ["/bin/drain"]}}),
        ];
        for document in cases {
            assert_eq!(Dynamic::parse(&document).unwrap_err().len(), 1, "{document}");
        }
        let two = json!({"ttl": "x", "postgresql": {"parameters": 1}});
        assert_eq!(Dynamic::parse(&two).unwrap_err().len(), 2);
    }

    #[test]
    fn a_change_tells_all_that_is_wrong_and_a_document_keeps_what_is_right() {
        let wrong = json!({"ttl": "x", "standby_cluster": {"host": "a"},
                           "postgresql": {"pg_ctl_timeout": 0, "pg_hba": 5, "use_unix_socket": {}, "database": "kept"}});
        let problems = Dynamic::problems_of_patch(&map(wrong.clone()));
        assert_eq!(problems.len(), 4, "{problems:?}");
        let no_map = Dynamic::problems_of(&map(json!({"postgresql": [1]})));
        assert!(no_map.len() == 1 && no_map[0].starts_with("postgresql: "), "{no_map:?}");
        let removed = json!({"postgresql": {"pg_ctl_timeout": null, "pg_hba": null}});
        assert_eq!(Dynamic::problems_of_patch(&map(removed)), [""; 0]);
        let Value::Object(mut document) = wrong else { panic!("a map") };
        document.remove("ttl");
        let read = Dynamic::parse(&Value::Object(document)).unwrap().node;
        assert_eq!((read.database.as_deref(), read.pg_ctl_timeout, read.use_unix_socket), (Some("kept"), None, None));
    }

    #[test]
    fn a_patch_may_remove_anything_and_a_whole_document_stands_as_it_is() {
        let removed = map(json!({"ttl": null, "slots": null}));
        assert!(Dynamic::problems_of_patch(&removed).is_empty());
        assert_eq!(Dynamic::problems_of(&removed), ["ttl: nothing given, not a whole number of seconds"]);
        let both = map(json!({"ttl": "x", "failsafe_mode": "perhaps"}));
        assert_eq!(Dynamic::problems_of_patch(&both).len(), 2);
    }
}
